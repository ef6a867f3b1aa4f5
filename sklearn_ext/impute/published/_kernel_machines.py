r"""Kernel machines: dual solutions for a kernel matrix, primal ones for explicit features.

The primal machine is for many samples and few features. Its objective

.. math:: \min_{w, b}\ \tfrac12 \lVert w \rVert^2
    + C \sum_i \max(0, 1 - y_i (w^T \phi_i + b))^2

is piecewise quadratic, so Newton's method ends after finitely many steps. Each step solves the
least squares problem of the samples inside the margin. Few samples cross the margin from step to
step, so the Gram matrix is updated by these samples instead of recomputed, and the features are
not copied. With the squared loss, all machines share one Gram matrix, which pays for many classes.
"""

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve
from sklearn.svm import SVC

from ...utils._typing import BoolArray, FloatArray

_BLOCK = 8192  # samples in one matrix product


def svm_duals(
    K: FloatArray, signs: FloatArray, C: float, tol: float = 1e-3
) -> tuple[FloatArray, FloatArray]:
    """Fit one support vector machine per column of `signs` on a precomputed kernel.

    Parameters
    ----------
    K : ndarray of shape (n, n)
    signs : ndarray of shape (n, c)
        Targets +1 and -1. Samples whose signs are 0 have no label and get no weight. If a column
        has only one sign, which can happen for a rare class, its machine is constant.
    C : float
    tol : float

    Returns
    -------
    dual_coef : ndarray of shape (n, c)
        The products of alpha and y.
    intercept : ndarray of shape (c,)
    """
    dual_coef, intercept = np.zeros(signs.shape), np.zeros(signs.shape[1])
    for k, column in enumerate(signs.T):
        labeled = np.flatnonzero(column)
        if len(np.unique(column[labeled])) < 2:
            intercept[k] = np.sign(column.sum())
            continue
        machine = SVC(C=C, kernel="precomputed", tol=tol, random_state=0)
        machine.fit(K[np.ix_(labeled, labeled)], column[labeled])
        dual_coef[labeled[machine.support_], k] = machine.dual_coef_[0]
        intercept[k] = machine.intercept_[0]
    return dual_coef, intercept


def ridge_duals(K: FloatArray, targets: FloatArray, C: float) -> tuple[FloatArray, FloatArray]:
    r"""Solve kernel ridge regression, :math:`a = (K + I / 2C)^{-1} (y - \bar y)`.

    Samples with a missing target (NaN) get no weight.

    Returns
    -------
    dual_coef : ndarray of shape (n, c)
    intercept : ndarray of shape (c,)
    """
    known = ~np.isnan(targets).any(axis=1)
    dual_coef, intercept = np.zeros(targets.shape), targets[known].mean(axis=0)
    A = K[np.ix_(known, known)]
    A.flat[:: len(A) + 1] += 0.5 / C
    dual_coef[known] = cho_solve(cho_factor(A, lower=True), targets[known] - intercept)
    return dual_coef, intercept


def squared_hinge_machines(
    features: FloatArray, signs: FloatArray, C: float, *, max_iter: int = 50
) -> tuple[FloatArray, FloatArray]:
    """Fit one linear support vector machine with squared hinge loss per column of `signs`.

    Parameters
    ----------
    features : ndarray of shape (n, m)
    signs : ndarray of shape (n, c)
        Targets +1 and -1.
    C : float
    max_iter : int

    Returns
    -------
    coef : ndarray of shape (m, c)
    intercept : ndarray of shape (c,)
    """
    fitted = [_newton(features, column, C, max_iter) for column in signs.T]
    return np.column_stack([w for w, _ in fitted]), np.array([b for _, b in fitted])


def least_squares_machines(
    features: FloatArray, signs: FloatArray, C: float
) -> tuple[FloatArray, FloatArray]:
    r"""Fit one linear machine with squared loss per column of `signs`, by one factorization.

    .. math:: \min_{w, b}\ \tfrac12 \lVert w \rVert^2 + C \sum_i (y_i - w^T \phi_i - b)^2

    Parameters
    ----------
    features : ndarray of shape (n, m)
    signs : ndarray of shape (n, c)
        Targets +1 and -1.
    C : float

    Returns
    -------
    coef : ndarray of shape (m, c)
    intercept : ndarray of shape (c,)
    """
    mean, offset = features.mean(axis=0), signs.mean(axis=0)
    gram = np.zeros((features.shape[1], features.shape[1]))
    pull = np.zeros((features.shape[1], signs.shape[1]))
    for first in range(0, len(features), _BLOCK):
        block = features[first : first + _BLOCK] - mean
        gram += block.T @ block
        pull += block.T @ (signs[first : first + _BLOCK] - offset)
    gram *= 2.0 * C
    gram.flat[:: len(gram) + 1] += 1.0
    coef = cho_solve(cho_factor(gram, lower=True), 2.0 * C * pull)
    return coef, offset - mean @ coef


def _newton(
    features: FloatArray, y: FloatArray, C: float, max_iter: int
) -> tuple[FloatArray, float]:
    m = features.shape[1]
    regularization = np.append(np.ones(m), 0.0)
    gram, active = np.zeros((m + 1, m + 1)), np.zeros(len(y), dtype=bool)
    w, margins = np.zeros(m + 1), np.zeros(len(y))
    for _ in range(max_iter):
        inside = margins < 1.0
        if active.any() and (inside == active).all():
            break
        gram += _gram(features, inside & ~active) - _gram(features, active & ~inside)
        active = inside
        pull = 2.0 * C * _product(features, np.where(active, y, 0.0))
        step = solve(np.diag(regularization) + 2.0 * C * gram, pull, assume_a="sym") - w
        ahead = y * (features @ step[:m] + step[m])
        # The full step ends the iteration once the samples inside the margin are the right ones.
        length, before = 1.0, _loss(w, margins, C)
        while length > 1e-6 and _loss(w + length * step, margins + length * ahead, C) > before:
            length /= 2.0
        w, margins = w + length * step, margins + length * ahead
    return w[:m], float(w[m])


def _loss(w: FloatArray, margins: FloatArray, C: float) -> float:
    return 0.5 * np.sum(w[:-1] ** 2) + C * np.sum(np.maximum(0.0, 1.0 - margins) ** 2)


def _gram(features: FloatArray, chosen: BoolArray) -> FloatArray:
    """Compute the Gram matrix of the chosen samples, with a column of ones."""
    m = features.shape[1]
    out = np.zeros((m + 1, m + 1))
    indices = np.flatnonzero(chosen)
    for first in range(0, len(indices), _BLOCK):
        block = features[indices[first : first + _BLOCK]]
        out[:m, :m] += block.T @ block
        out[m, :m] += block.sum(axis=0)
    out[:m, m] = out[m, :m]
    out[m, m] = len(indices)
    return out


def _product(features: FloatArray, x: FloatArray) -> FloatArray:
    return np.append(features.T @ x, x.sum())
