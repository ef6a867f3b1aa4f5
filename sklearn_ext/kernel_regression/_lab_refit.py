r"""The coefficients of a LAB model whose bandwidths are fixed.

With the kernel matrix K between samples and centers, sample weights w and targets Y, the
coefficients minimize

.. math::
    \frac{\sum_t w_t \lVert K_t c - Y_t \rVert^2}{\sum_t w_t} + \mu \lVert c \rVert^2 ,

and the targets of the centers follow from them: :math:`T = (K_{cc} + \lambda I) c`.

If all samples are centers with the same bandwidths, the coefficients are those of weighted kernel
ridge regression, :math:`(K + \lambda W^{-1}) c = Y`, where W is the diagonal matrix of the
weights.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from scipy.linalg import LinAlgError, solve

from ..utils._typing import FloatArray
from ._lab_defaults import leave_one_out_residuals
from .engines import EngineArray, LABEngine

RIDGES = tuple(10.0**-k for k in range(1, 11))  # candidates for many support points
ALL_RIDGES = tuple(10.0 ** (k / 2) for k in range(-8, 4))  # candidates for all samples
_SCALES = (1.0, 0.25, 0.0625, 0.015625)  # factors of the bandwidths if all samples are centers

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
        gram += K.T @ K  # BLAS computes half of a matrix times its transpose
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
    """Return the ridge that predicts held-out samples best.

    Ridges are tried from large to small until the error rises.

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


class SharedKernel(NamedTuple):
    """Bandwidths and a ridge that all samples share, and their leave-one-out squared error.

    ``theta`` is the row of square roots of the bandwidths, of shape (1, d).
    """

    theta: EngineArray
    alpha: float
    error: float


def choose_shared_kernel(
    engine: LABEngine,
    kernel: str,
    X: FloatArray,
    Y: FloatArray,
    weights: FloatArray,
    theta: EngineArray,
    alphas: tuple[float, ...],
) -> SharedKernel:
    """Return the scale of the bandwidths and the ridge with the smallest leave-one-out error.

    Parameters
    ----------
    engine : LABEngine
    kernel : {"exponential", "laplacian", "rbf"}
    X : ndarray of shape (n, d)
        Some of the samples.
    Y : ndarray of shape (n, q)
        Their targets, of mean zero.
    weights : ndarray of shape (n, 1)
        Their weights.
    theta : array of shape (1, d)
        Square roots of the bandwidths, up to a factor.
    alphas : tuple of float
        Candidates for the ridge.

    Returns
    -------
    SharedKernel
    """
    roots = np.sqrt(weights)
    best = SharedKernel(theta, alphas[0], np.inf)
    for scale in _SCALES:
        row = scale**0.5 * theta
        K = roots * _shared_kernel_matrix(engine, kernel, X, row) * roots.T
        for alpha, residuals in zip(
            alphas, leave_one_out_residuals(K, roots * Y, alphas), strict=True
        ):
            error = float((residuals**2).sum() / weights.sum())
            if error < best.error:
                best = SharedKernel(row, alpha, error)
    return best


def shared_kernel_coefficients(
    engine: LABEngine,
    kernel: str,
    X: FloatArray,
    Y: FloatArray,
    weights: FloatArray,
    shared: SharedKernel,
) -> FloatArray:
    """Return the coefficients (n, q) of weighted kernel ridge regression on all samples."""
    roots = np.sqrt(weights)
    K = roots * _shared_kernel_matrix(engine, kernel, X, shared.theta) * roots.T
    K[np.diag_indices(len(K))] += shared.alpha
    return roots * solve(K, roots * Y, assume_a="pos")


def _shared_kernel_matrix(
    engine: LABEngine, kernel: str, X: FloatArray, theta: EngineArray
) -> FloatArray:
    points = engine.asarray(X)
    K, _ = engine.kernel(kernel, points, points, engine.repeat_row(theta, len(X)))
    return engine.to_numpy(K)
