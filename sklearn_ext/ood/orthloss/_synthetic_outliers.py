"""Outliers made from in-distribution samples, for users who have none."""

import numpy as np

from ...utils._random import local_random_state
from ...utils._typing import Array, FloatArray, RandomState

KINDS = ("permute", "mix", "uniform")


def make_synthetic_outliers(
    X: FloatArray, y: Array, kind: str = "auto", random_state: RandomState = None
) -> FloatArray:
    """Make outliers of one kind, or equal parts of all kinds.

    Parameters
    ----------
    X : ndarray of shape (n, ...)
        In-distribution samples.
    y : ndarray of shape (n,)
        Class labels, of at least two classes.
    kind : {"auto", "permute", "mix", "uniform"}, default="auto"
        "permute" shuffles the values within each sample. "mix" mixes each sample with one of
        another class. "uniform" draws uniformly from the bounding box of X. "auto" makes all three.
    random_state : int, RandomState instance or None, default=None
        Source of the randomness.

    Returns
    -------
    ndarray of shape (n, ...) or (3 n, ...)
        One outlier of each kind per sample.

    See Also
    --------
    OrthLossOODDetector : The detector that trains with outliers.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext.ood import make_synthetic_outliers
    >>> X, y = np.array([[1.0, 2.0, 3.0], [7.0, 8.0, 9.0]]), np.array([0, 1])
    >>> np.sort(make_synthetic_outliers(X, y, "permute", random_state=0), axis=1)
    array([[1., 2., 3.],
           [7., 8., 9.]])
    >>> make_synthetic_outliers(X, y, random_state=0).shape
    (6, 3)
    """
    rng = local_random_state(random_state)
    made = []
    for name in KINDS if kind == "auto" else (kind,):
        if name == "permute":
            made.append(_permute(X, rng))
        elif name == "mix":
            made.append(_mix(X, y, rng))
        elif name == "uniform":
            made.append(_draw_uniformly(X, rng))
        else:
            raise ValueError(f"kind must be 'auto' or one of {KINDS}, got {kind!r}.")
    return np.concatenate(made)


def _permute(X: FloatArray, rng: np.random.RandomState) -> FloatArray:
    """Shuffle the values within each sample."""
    flat = X.reshape(len(X), -1)
    order = rng.random_sample(flat.shape).argsort(axis=1)
    return np.take_along_axis(flat, order, axis=1).reshape(X.shape)


def _mix(X: FloatArray, y: Array, rng: np.random.RandomState) -> FloatArray:
    r"""Mix each sample with one of another class, :math:`\lambda x + (1 - \lambda) x'`.

    :math:`\lambda` is uniform on [0.35, 0.65], so that neither class dominates the mixture.
    """
    partner = np.empty(len(X), dtype=np.intp)
    for label in np.unique(y):
        members = y == label
        partner[members] = rng.choice(np.flatnonzero(~members), size=members.sum())
    weight = rng.uniform(0.35, 0.65, size=(len(X), *[1] * (X.ndim - 1))).astype(X.dtype)
    return weight * X + (1 - weight) * X[partner]


def _draw_uniformly(X: FloatArray, rng: np.random.RandomState) -> FloatArray:
    """Draw samples uniformly from the bounding box of X."""
    low, high = X.min(axis=0).astype(np.float64), X.max(axis=0)  # a float32 range may overflow
    return (low + (high - low) * rng.random_sample(X.shape)).astype(X.dtype)
