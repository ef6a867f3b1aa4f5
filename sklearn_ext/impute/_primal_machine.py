r"""Linear support vector machines with squared hinge loss, for many rows and few features.

.. math:: \min_{w, b}\ \tfrac12 \lVert w \rVert^2
    + C \sum_i \max(0, 1 - y_i (w^T \phi_i + b))^2

is piecewise quadratic: Newton's method ends after finitely many steps, each of which solves the
least squares problem of the rows inside the margin. From step to step few rows cross it, so the
Gram matrix is updated by these instead of being summed anew, and no copy of the features is made.
"""

import numpy as np
from scipy.linalg import solve

_BLOCK = 8192  # rows of one matrix product


def squared_hinge_machines(features, signs, C, *, max_iter=50):
    """Fit one machine a column of `signs`.

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


def _newton(features, y, C, max_iter):
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
        # The full step ends the iteration once the rows inside the margin are the right ones.
        length, before = 1.0, _loss(w, margins, C)
        while length > 1e-6 and _loss(w + length * step, margins + length * ahead, C) > before:
            length /= 2.0
        w, margins = w + length * step, margins + length * ahead
    return w[:m], w[m]


def _loss(w, margins, C):
    return 0.5 * np.sum(w[:-1] ** 2) + C * np.sum(np.maximum(0.0, 1.0 - margins) ** 2)


def _gram(features, chosen):
    """Gram matrix of the chosen rows, with a column of ones."""
    m = features.shape[1]
    out = np.zeros((m + 1, m + 1))
    rows = np.flatnonzero(chosen)
    for first in range(0, len(rows), _BLOCK):
        block = features[rows[first : first + _BLOCK]]
        out[:m, :m] += block.T @ block
        out[m, :m] += block.sum(axis=0)
    out[:m, m] = out[m, :m]
    out[m, m] = len(rows)
    return out


def _product(features, x):
    return np.append(features.T @ x, x.sum())
