"""Rows kept from training, and the threshold that they set."""

import numpy as np


def held_out_mask(codes, fraction, rng):
    """Choose rows to keep from training, in proportion from every class.

    Each class keeps a row for training, and at least one row is held out.

    Parameters
    ----------
    codes : int ndarray of shape (n,)
        Classes of the rows.
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
            "A row must be held out to set the threshold, but no class has two rows "
            f"(n_samples={len(codes)})."
        )
    n_held_out = min(max(1, round(fraction * len(codes))), available)
    held_out = np.zeros(len(codes), dtype=bool)
    held_out[np.argsort(position, kind="stable")[:n_held_out]] = True
    return held_out


def rejection_threshold(scores, rate):
    r"""Threshold below which new in-distribution rows fall with a given probability.

    The :math:`k`-th smallest of n exchangeable scores exceeds the next one with probability
    :math:`k / (n + 1)`, so the quantile is taken at :math:`k = \rho (n + 1)`, linear in between
    and never outside of the scores seen.

    Parameters
    ----------
    scores : ndarray of shape (n,)
        Scores of in-distribution rows that the detector was not fitted on.
    rate : float in (0, 1)
        :math:`\rho`.

    Returns
    -------
    float
    """
    return float(np.quantile(scores, rate, method="weibull"))
