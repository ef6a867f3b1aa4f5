import numpy as np

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
