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

from ...utils._typing import BoolArray, FloatArray, IntArray

_BLOCK = 8192  # samples in one matrix product


def svm_duals(
    K: FloatArray,
    signs: FloatArray,
    C: float,
    tol: float = 1e-3,
    *,
    weights: FloatArray | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Fit one support vector machine per column of `signs` on a precomputed kernel.

    Parameters
    ----------
    K : ndarray of shape (n, n)
    signs : ndarray of shape (n, c)
        Targets +1 and -1. Samples whose signs are 0 have no label and are ignored. If a column
        has only one sign, which can happen for a rare class, its machine is constant.
    C : float
    tol : float
    weights : ndarray of shape (n,), default=None
        Factors of C for each sample.

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
        machine.fit(
            K[np.ix_(labeled, labeled)],
            column[labeled],
            sample_weight=None if weights is None else weights[labeled],
        )
        dual_coef[labeled[machine.support_], k] = machine.dual_coef_[0]
        intercept[k] = machine.intercept_[0]
    return dual_coef, intercept


def ridge_duals(
    K: FloatArray, targets: FloatArray, C: float, *, weights: FloatArray | None = None
) -> tuple[FloatArray, FloatArray]:
    r"""Solve kernel ridge regression, :math:`a = (K + I / 2C)^{-1} (y - \bar y)`.

    Samples with a missing target (NaN) are ignored. `weights` are factors of C for each sample.

    Returns
    -------
    dual_coef : ndarray of shape (n, c)
    intercept : ndarray of shape (c,)
    """
    known = ~np.isnan(targets).any(axis=1)
    factors = None if weights is None else weights[known]
    dual_coef, intercept = np.zeros(targets.shape), _mean(targets[known], factors)
    A = K[np.ix_(known, known)]
    A.flat[:: len(A) + 1] += 0.5 / (C if factors is None else C * factors)
    dual_coef[known] = cho_solve(cho_factor(A, lower=True), targets[known] - intercept)
    return dual_coef, intercept


def squared_hinge_machines(
    features: FloatArray,
    signs: FloatArray,
    C: float,
    *,
    weights: FloatArray | None = None,
    max_iter: int = 50,
) -> tuple[FloatArray, FloatArray]:
    """Fit one linear support vector machine with squared hinge loss per column of `signs`.

    Parameters
    ----------
    features : ndarray of shape (n, m)
    signs : ndarray of shape (n, c)
        Targets +1 and -1.
    C : float
    weights : ndarray of shape (n,), default=None
        Factors of C for each sample.
    max_iter : int

    Returns
    -------
    coef : ndarray of shape (m, c)
    intercept : ndarray of shape (c,)
    """
    fitted = [_newton(features, column, C, weights, max_iter) for column in signs.T]
    return np.column_stack([w for w, _ in fitted]), np.array([b for _, b in fitted])


def least_squares_machines(
    features: FloatArray, signs: FloatArray, C: float, *, weights: FloatArray | None = None
) -> tuple[FloatArray, FloatArray]:
    r"""Fit one linear machine with squared loss per column of `signs`, by one factorization.

    .. math:: \min_{w, b}\ \tfrac12 \lVert w \rVert^2 + C \sum_i (y_i - w^T \phi_i - b)^2

    Parameters
    ----------
    features : ndarray of shape (n, m)
    signs : ndarray of shape (n, c)
        Targets +1 and -1.
    C : float
    weights : ndarray of shape (n,), default=None
        Factors of C for each sample.

    Returns
    -------
    coef : ndarray of shape (m, c)
    intercept : ndarray of shape (c,)
    """
    mean, offset = _mean(features, weights), _mean(signs, weights)
    gram = np.zeros((features.shape[1], features.shape[1]))
    pull = np.zeros((features.shape[1], signs.shape[1]))
    for first in range(0, len(features), _BLOCK):
        block = features[first : first + _BLOCK] - mean
        scaled = _scaled(block, weights, slice(first, first + _BLOCK))
        gram += scaled.T @ block
        pull += scaled.T @ (signs[first : first + _BLOCK] - offset)
    gram *= 2.0 * C
    gram.flat[:: len(gram) + 1] += 1.0
    coef = cho_solve(cho_factor(gram, lower=True), 2.0 * C * pull)
    return coef, offset - mean @ coef


def _mean(values: FloatArray, weights: FloatArray | None) -> FloatArray:
    mean: FloatArray = np.average(values, axis=0, weights=weights)
    return mean


def _scaled(block: FloatArray, weights: FloatArray | None, rows: IntArray | slice) -> FloatArray:
    return block if weights is None else block * weights[rows, None]


def _newton(
    features: FloatArray, y: FloatArray, C: float, weights: FloatArray | None, max_iter: int
) -> tuple[FloatArray, float]:
    penalties = C if weights is None else C * weights
    m = features.shape[1]
    regularization = np.append(np.ones(m), 0.0)
    gram, active = np.zeros((m + 1, m + 1)), np.zeros(len(y), dtype=bool)
    w, margins = np.zeros(m + 1), np.zeros(len(y))
    for _ in range(max_iter):
        inside = margins < 1.0
        if active.any() and (inside == active).all():
            break
        gram += _gram(features, inside & ~active, weights)
        gram -= _gram(features, active & ~inside, weights)
        active = inside
        targets = y if weights is None else weights * y
        pull = 2.0 * C * _product(features, np.where(active, targets, 0.0))
        step = solve(np.diag(regularization) + 2.0 * C * gram, pull, assume_a="sym") - w
        ahead = y * (features @ step[:m] + step[m])
        # The full step ends the iteration once the correct samples are inside the margin.
        length, before = 1.0, _loss(w, margins, penalties)
        while (
            length > 1e-6 and _loss(w + length * step, margins + length * ahead, penalties) > before
        ):
            length /= 2.0
        w, margins = w + length * step, margins + length * ahead
    return w[:m], float(w[m])


def _loss(w: FloatArray, margins: FloatArray, penalties: FloatArray | float) -> float:
    squares = np.maximum(0.0, 1.0 - margins) ** 2
    return float(0.5 * np.sum(w[:-1] ** 2) + np.sum(penalties * squares))


def _gram(features: FloatArray, chosen: BoolArray, weights: FloatArray | None) -> FloatArray:
    """Compute the Gram matrix of the chosen samples, with a column of ones."""
    m = features.shape[1]
    out = np.zeros((m + 1, m + 1))
    indices = np.flatnonzero(chosen)
    for first in range(0, len(indices), _BLOCK):
        rows = indices[first : first + _BLOCK]
        block = features[rows]
        scaled = _scaled(block, weights, rows)
        out[:m, :m] += scaled.T @ block
        out[m, :m] += scaled.sum(axis=0)
    out[:m, m] = out[m, :m]
    out[m, m] = len(indices) if weights is None else weights[indices].sum()
    return out


def _product(features: FloatArray, x: FloatArray) -> FloatArray:
    return np.append(features.T @ x, x.sum())
