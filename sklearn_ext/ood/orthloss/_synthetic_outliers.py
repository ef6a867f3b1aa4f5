"""Outliers made from in-distribution rows, for users who have none."""

import numpy as np

KINDS = ("permute", "mix", "uniform")


def permuted_rows(X, rng):
    """Shuffle the values within each row: what a row holds stays, where it stands does not.

    Parameters
    ----------
    X : ndarray of shape (n, ...)
    rng : RandomState

    Returns
    -------
    ndarray of shape (n, ...)
    """
    flat = X.reshape(len(X), -1)
    order = rng.random_sample(flat.shape).argsort(axis=1)
    return np.take_along_axis(flat, order, axis=1).reshape(X.shape)


def mixed_rows(X, codes, rng):
    r"""Mix each row with one of another class, :math:`\lambda x + (1 - \lambda) x'`.

    :math:`\lambda` is uniform on [0.35, 0.65], so that no class has a claim to the mixture.

    Parameters
    ----------
    X : ndarray of shape (n, ...)
    codes : ndarray of shape (n,)
        Classes, at least two.
    rng : RandomState

    Returns
    -------
    ndarray of shape (n, ...)
    """
    partner = np.empty(len(X), dtype=np.intp)
    for code in np.unique(codes):
        members = codes == code
        partner[members] = rng.choice(np.flatnonzero(~members), size=members.sum())
    share = rng.uniform(0.35, 0.65, size=(len(X), *[1] * (X.ndim - 1))).astype(X.dtype)
    return share * X + (1 - share) * X[partner]


def uniform_rows(X, rng):
    """Draw rows uniformly from the bounding box of X.

    Parameters
    ----------
    X : ndarray of shape (n, ...)
    rng : RandomState

    Returns
    -------
    ndarray of shape (n, ...)
    """
    low, high = X.min(axis=0).astype(np.float64), X.max(axis=0)  # their difference may overflow
    return (low + (high - low) * rng.random_sample(X.shape)).astype(X.dtype)


def synthetic_outliers(X, codes, kind, rng):
    """Make outliers of one kind, or equal parts of all.

    Parameters
    ----------
    X : ndarray of shape (n, ...)
    codes : ndarray of shape (n,)
        Classes, at least two.
    kind : {"auto", "permute", "mix", "uniform"}
        "auto" is all of them.
    rng : RandomState

    Returns
    -------
    ndarray of shape (n, ...) or (3 n, ...)
        An outlier of each kind for every row.
    """
    makers = {
        "permute": lambda: permuted_rows(X, rng),
        "mix": lambda: mixed_rows(X, codes, rng),
        "uniform": lambda: uniform_rows(X, rng),
    }
    return np.concatenate([makers[name]() for name in (KINDS if kind == "auto" else (kind,))])
