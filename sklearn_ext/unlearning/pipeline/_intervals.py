r"""Jackknife+ intervals of a ridge regression in closed form.

With :math:`P = (Z^T S Z + \lambda I)^{-1}` and :math:`h_i = s_i z_i^T P z_i`, the model without
sample i has the error :math:`R_i = (y_i - \hat y_i) / (1 - h_i)` on it, and it predicts
:math:`\hat y_{-i}(x) = \hat y(x) - s_i R_i\, x^T P z_i`. In the dual form,
:math:`R_i = \alpha_i / G_{ii}` and
:math:`\hat y_{-i}(x) = \hat y(x) - R_i\, k(x)^T G_{\cdot i}`.
"""

from typing import Any

import numpy as np

from ...utils._typing import FloatArray
from ..exact import DualSolution, OneRidge

_BLOCK_ELEMENTS = 2**23


def leave_one_out(
    solution: OneRidge, Z: FloatArray, Y: FloatArray, weights: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Compute the errors of the models that each exclude one sample, and their directions.

    Parameters
    ----------
    solution : DualSolution or PrimalSolution
        The model of all samples, without a pending update.
    Z : ndarray of shape (n, p)
        Features of the samples in the model.
    Y : ndarray of shape (n, k)
        Targets.
    weights : ndarray of shape (n,)
        Weights.

    Returns
    -------
    residuals : ndarray of shape (n, k)
        Target minus prediction of the model without the sample.
    directions : ndarray of shape (p, n)
        The model without sample i predicts ``Z @ coef - (Z @ directions)[:, i] * residuals[i]``.
    """
    inverse = np.tril(solution.inverse) + np.tril(solution.inverse, -1).T
    if isinstance(solution, DualSolution):
        diagonal = inverse.diagonal()
        residuals = solution.alpha / diagonal[:, None]
        return residuals, Z.T @ inverse
    directions = inverse @ (Z * weights[:, None]).T
    leverages = np.einsum("ij,ji->i", Z, directions)
    return (Y - Z @ solution.coef) / (1.0 - leverages)[:, None], directions


def jackknife_plus(
    values: FloatArray,
    Z: FloatArray,
    residuals: FloatArray,
    directions: FloatArray,
    alpha: float,
) -> tuple[FloatArray, FloatArray]:
    r"""Return the bounds of jackknife+ intervals.

    The bounds are order statistics of :math:`\hat y_{-i}(x) \mp |R_i|` over the samples i [1]_. If
    the samples are exchangeable, the interval covers a new target with a probability of at least
    :math:`1 - 2\alpha`, and of about :math:`1 - \alpha` for a stable model.

    Parameters
    ----------
    values : ndarray of shape (m, k)
        Predictions.
    Z : ndarray of shape (m, p)
        Features of the samples to predict.
    residuals : ndarray of shape (n, k)
        Errors of the models that each exclude one sample.
    directions : ndarray of shape (p, n)
        Directions from `leave_one_out`.
    alpha : float in (0, 1)
        Fraction of the targets that may lie outside.

    Returns
    -------
    lower, upper : ndarray of shape (m, k)
        Infinite if there are too few samples for `alpha`.

    References
    ----------
    .. [1] R. F. Barber, E. J. Candès, A. Ramdas, R. J. Tibshirani, "Predictive inference with the
       jackknife+", Annals of Statistics 49(1), 2021.
    """
    n, k = residuals.shape
    lower, upper = np.full(values.shape, -np.inf), np.full(values.shape, np.inf)
    rank = int(np.ceil((1.0 - alpha) * (n + 1)))  # of the upper bound, from one
    if rank > n:
        return lower, upper
    step = max(1, _BLOCK_ELEMENTS // max(1, n))
    for start in range(0, len(values), step):
        rows = slice(start, start + step)
        moved: Any = Z[rows] @ directions
        for c in range(k):
            without = values[rows, c, None] - moved * residuals[:, c]
            error = abs(residuals[:, c])
            lower[rows, c] = np.partition(without - error, n - rank, axis=1)[:, n - rank]
            upper[rows, c] = np.partition(without + error, rank - 1, axis=1)[:, rank - 1]
    return lower, upper
