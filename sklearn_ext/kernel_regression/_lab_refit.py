r"""Least squares for the coefficients of a LAB model whose bandwidths are fixed.

With the kernel matrix K between samples and centers, sample weights w and targets Y, the
coefficients minimize

.. math::
    \frac{\sum_t w_t \lVert K_t c - Y_t \rVert^2}{\sum_t w_t} + \mu \lVert c \rVert^2 ,

and the targets of the centers follow from them: :math:`T = (K_{cc} + \lambda I) c`.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from scipy.linalg import LinAlgError, solve

from ..utils._typing import FloatArray
from .engines import EngineArray, LABEngine

RIDGES = tuple(10.0**-k for k in range(1, 11))  # candidates for many support points

# X, Y and weights of some samples, the last of shape (n, 1)
Chunk = tuple[FloatArray, FloatArray, FloatArray]


def normal_equations(
    engine: LABEngine,
    kernel: str,
    chunks: Iterable[Chunk],
    centers: EngineArray,
    theta: EngineArray,
    n_outputs: int,
) -> tuple[FloatArray, FloatArray]:
    r"""Return :math:`\sum_t w_t K_t^T K_t` and :math:`\sum_t w_t K_t^T Y_t` for weights of sum 1.

    Parameters
    ----------
    engine : LABEngine
    kernel : {"exponential", "laplacian", "rbf"}
    chunks : iterable of (X, Y, weights)
        The samples, a few at a time.
    centers, theta : arrays of shape (m, d)
    n_outputs : int
        Number q of columns of Y.

    Returns
    -------
    gram : ndarray of shape (m, m)
    moments : ndarray of shape (m, q)
    """
    n_centers = centers.shape[0]
    gram = np.zeros((n_centers, n_centers))
    moments = np.zeros((n_centers, n_outputs))
    total = 0.0
    for X, Y, weights in chunks:
        K = engine.to_numpy(engine.kernel(kernel, engine.asarray(X), centers, theta)[0])
        roots = np.sqrt(weights)
        K = roots * K
        gram += K.T @ K  # BLAS computes half of a product with the own transpose
        moments += K.T @ (roots * Y)
        total += float(weights.sum())
    return gram / total, moments / total


def ridge_coefficients(gram: FloatArray, moments: FloatArray, ridge: float) -> FloatArray:
    """Solve the normal equations with a ridge on the coefficients."""
    return solve(gram + ridge * np.eye(len(gram)), moments, assume_a="pos")


class HeldOutFit(NamedTuple):
    """A ridge, and the squared errors of held-out samples, of shape (n,)."""

    ridge: float
    errors: FloatArray


def choose_ridge(
    gram: FloatArray,
    moments: FloatArray,
    K: FloatArray,
    Y: FloatArray,
    weights: FloatArray,
) -> HeldOutFit:
    """Return the ridge that predicts held-out samples best, from large to small until it is worse.

    Parameters
    ----------
    gram, moments : ndarrays of shape (m, m), (m, q)
        Normal equations of the training samples.
    K : ndarray of shape (n, m)
        Kernels between held-out samples and centers.
    Y : ndarray of shape (n, q)
        Targets of held-out samples.
    weights : ndarray of shape (n, 1)
        Weights of held-out samples.

    Returns
    -------
    HeldOutFit
    """
    best = HeldOutFit(RIDGES[0], np.full(len(Y), np.inf))
    for ridge in RIDGES:
        try:
            coef = ridge_coefficients(gram, moments, ridge)
        except LinAlgError:  # the ridge is below the rounding errors of the Gram matrix
            break
        errors = ((K @ coef - Y) ** 2).sum(axis=1)
        if weights[:, 0] @ errors >= weights[:, 0] @ best.errors:
            break
        best = HeldOutFit(ridge, errors)
    return best
