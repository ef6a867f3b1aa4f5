"""Samples and entries that are held out from training."""

import numpy as np


def held_out_mask(codes, fraction, rng):
    """Choose rows to keep from training, in proportion from every class.

    Each class keeps a row for training, and at least one row is held out.

    Parameters
    ----------
    codes : int ndarray of shape (n,)
        Classes of the rows; all equal where there are none.
    fraction : float in (0, 1)
    rng : RandomState

    Returns
    -------
    bool ndarray of shape (n,)

    Raises
    ------
    ValueError
        If no class has two rows.
    """
    # Each row stands at the share of its class that comes before it; a random offset a class
    # decides which classes give the odd rows. The last row of a class never goes.
    position = np.empty(len(codes))
    for code in np.unique(codes):
        members = rng.permutation(np.flatnonzero(codes == code))
        position[members] = (np.arange(len(members)) + rng.random_sample()) / len(members)
        position[members[-1]] = np.inf
    available = int(np.isfinite(position).sum())
    if available == 0:
        raise ValueError(
            f"A row must be held out of training, but no class has two (n_samples={len(codes)})."
        )
    n_held_out = min(max(1, round(fraction * len(codes))), available)
    held_out = np.zeros(len(codes), dtype=bool)
    held_out[np.argsort(position, kind="stable")[:n_held_out]] = True
    return held_out


_LEFT = 2  # a column's mean and spread need so many


def hide_entries(X, fraction, rng):
    """Choose observed entries to hide, at random, but leave two a column.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Holes are NaN.
    fraction : float
        Share of the observed entries.
    rng : RandomState

    Returns
    -------
    bool ndarray of shape (n, d)
        The entries to hide.
    """
    observed = ~np.isnan(X)
    rank = np.where(observed, rng.random_sample(X.shape), np.inf)
    hidden = np.zeros(X.shape, dtype=bool)
    hidden.flat[np.argsort(rank, axis=None)[: round(fraction * observed.sum())]] = True
    keep = np.argsort(-np.where(observed, rank, -np.inf), axis=0)[:_LEFT]
    np.put_along_axis(hidden, keep, False, axis=0)
    return hidden
