r"""Stage I of the paper: a kernel corrected by labels, against a worst-case perturbation.

With :math:`A = a a^T` and :math:`a = \alpha \circ y`, the problem is

.. math::
    \min_{K_D} \max_{\alpha, E}\ 1^T \alpha - \tfrac12 a^T (K_o \circ K_D \circ E) a
        + \eta \lVert K_D - J \rVert_F^2

under :math:`0 \leq \alpha \leq C`, :math:`y^T \alpha = 0`, :math:`\lVert E - J \rVert_F \leq r`,
bounds on :math:`K_D`, and a positive semidefinite product. The gradients in :math:`K_D`, E and
:math:`\alpha` are

.. math::
    2 \eta (K_D - J) - \tfrac12 A \circ K_o \circ E, \qquad
    -\tfrac12 A \circ K_o \circ K_D, \qquad
    1 - y \circ (K (y \circ \alpha)),

where :math:`K = K_o \circ K_D \circ E`.

The iteration follows the authors' program step by step: three Adam steps, each followed by its
projection.

Source: R. Yang, F. He, M. He, K. Wang, X. Huang, "Data Imputation by Pursuing Better
Classification: A Supervised Kernel-Based Method", arXiv:2405.07800.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.linalg import eigh

from ...utils._typing import FloatArray
from ._kernel_machines import svm_duals

_SMALLEST_ENTRY = 1e-8
_SMALLEST_ALPHA = 1e-5


class StageOne(NamedTuple):
    r"""Result of stage I.

    ``kernel`` is :math:`K_o \circ K_D`, without the perturbation. ``published_intercept`` is the
    mean over all support vectors, as in the paper; ``intercept`` is the mean over the free ones.
    """

    kernel: FloatArray
    factor: FloatArray
    dual_coef: FloatArray
    published_intercept: float
    intercept: float
    objective: list[float]


class Adam:
    """Adam's direction, scaled by 0.1 / sqrt(t) at step t."""

    def __init__(self, shape: int | tuple[int, ...]) -> None:
        self._first, self._second, self._t = np.zeros(shape), np.zeros(shape), 0

    def step(self, gradient: FloatArray) -> FloatArray:
        """Update the moments by a gradient; return the scaled direction."""
        self._t += 1
        self._first += 0.1 * (gradient - self._first)
        self._second += 0.001 * (gradient**2 - self._second)
        rate = 0.1 / np.sqrt(self._t) / (1.0 - 0.9**self._t)
        return rate * self._first / (np.sqrt(self._second / (1.0 - 0.999**self._t)) + 1e-8)


def factor_gradient(
    common: FloatArray,
    factor: FloatArray,
    perturbation: FloatArray,
    a: FloatArray,
    eta: float,
) -> FloatArray:
    """Compute the gradient of the objective in K_D."""
    return 2.0 * eta * (factor - 1.0) - 0.5 * np.outer(a, a) * common * perturbation


def perturbation_gradient(common: FloatArray, factor: FloatArray, a: FloatArray) -> FloatArray:
    """Compute the gradient of the objective in E."""
    return -0.5 * np.outer(a, a) * common * factor


def objective(
    common: FloatArray,
    factor: FloatArray,
    perturbation: FloatArray,
    alpha: FloatArray,
    y: FloatArray,
    eta: float,
) -> float:
    """Compute the objective."""
    a = alpha * y
    return (
        alpha.sum()
        - 0.5 * a @ (common * factor * perturbation) @ a
        + eta * np.sum((factor - 1.0) ** 2)
    )


def project_kernel(K: FloatArray) -> FloatArray:
    """Clip the spectrum at 0, set the diagonal to one, and raise small entries.

    The last two steps follow the projection, so the result is only nearly positive semidefinite.
    """
    K = clip_spectrum((K + K.T) / 2.0, 0.0)
    K /= np.mean(np.diag(K))
    np.fill_diagonal(K, 1.0)
    return np.maximum(K, _SMALLEST_ENTRY)


def clip_spectrum(K: FloatArray, floor: float) -> FloatArray:
    """Raise eigenvalues below a floor to the floor."""
    values, vectors = eigh(K, driver="evd", check_finite=False)
    low = np.searchsorted(values, floor)
    if low <= len(values) // 2:  # correct the few low ones, or rebuild from the others
        V = vectors[:, :low]
        return K + (V * (floor - values[:low])) @ V.T
    V = vectors[:, low:]
    out = (V * (values[low:] - floor)) @ V.T
    out.flat[:: len(out) + 1] += floor
    return out


def project_alpha(x: FloatArray, y: FloatArray, C: float) -> FloatArray:
    r"""Project onto :math:`\{0 \leq \alpha \leq C,\ y^T \alpha = 0\}`.

    The projection is clip(x + t y, 0, C), where t is the root of the monotone, piecewise linear
    function :math:`y^T \mathrm{clip}(x + t y, 0, C)`. A search over its sorted breakpoints finds
    the linear piece that contains the root, which is exact there.
    """
    signed = y != 0
    s, z = y[signed], x[signed]
    breaks = np.sort(np.concatenate((-s * z, s * (C - z))))

    def slack(t: float) -> float:
        return s @ np.clip(z + t * s, 0.0, C)

    low, high = 0, len(breaks) - 1
    while high - low > 1:
        middle = (low + high) // 2
        if slack(breaks[middle]) > 0.0:
            high = middle
        else:
            low = middle
    left, right = slack(breaks[low]), slack(breaks[high])
    t = breaks[low]
    if right > left:
        t -= left * (breaks[high] - breaks[low]) / (right - left)
    return np.clip(x + t * y, 0.0, C)


def run_stage_one(
    common: FloatArray,
    lower: FloatArray,
    y: FloatArray,
    *,
    C: float,
    eta: float,
    radius: float,
    max_iter: int = 10_000,
    tol: float = 1e-4,
    after_iteration: Callable[[], bool] = bool,
) -> StageOne:
    """Iterate until alpha moves by less than `tol`, then solve the dual exactly.

    Parameters
    ----------
    common : ndarray of shape (n, n)
        The kernel on common features, positive everywhere.
    lower : ndarray of shape (n, n)
        Lower bound of K_D. The upper bound is one.
    y : ndarray of shape (n,)
        +1 or -1, and 0 for a sample without a label.
    C : float
        Penalty of the machine.
    eta : float
        Weight of the penalty on K_D.
    radius : float
        Radius of the perturbation E.
    max_iter : int
    tol : float
    after_iteration : callable, default=bool
        Called after each iteration; returns whether to stop.

    Returns
    -------
    StageOne
    """
    n = len(y)
    factor, perturbation = np.ones((n, n)), np.ones((n, n))
    alpha = np.full(n, C / 2.0)
    adam_factor, adam_perturbation, adam_alpha = Adam((n, n)), Adam((n, n)), Adam(n)
    values = []
    for t in range(max_iter):
        a = alpha * y
        factor -= adam_factor.step(factor_gradient(common, factor, perturbation, a, eta))
        factor = np.clip(factor / np.mean(np.diag(factor)), lower, 1.0)
        K = project_kernel(common * factor * perturbation)
        factor = K / common / perturbation

        perturbation += adam_perturbation.step(perturbation_gradient(common, factor, a))
        away = np.linalg.norm(perturbation - 1.0)
        if away > radius:
            perturbation = 1.0 + (perturbation - 1.0) * (radius / away)
        K = project_kernel(common * factor * perturbation)
        perturbation = K / common / factor

        before = alpha
        alpha = project_alpha(alpha + adam_alpha.step(1.0 - y * (K @ a)), y, C)
        values.append(objective(common, factor, perturbation, alpha, y, eta))
        if after_iteration() or (t >= 2 and np.linalg.norm(alpha - before) < tol):
            break

    K = clip_spectrum(K, _SMALLEST_ENTRY)
    dual_coef = svm_duals(K, y[:, None], C, tol=1e-10)[0][:, 0]
    dual_coef[np.abs(dual_coef) < _SMALLEST_ALPHA] = 0.0
    rest = y - K @ dual_coef
    support = dual_coef != 0.0
    return StageOne(
        kernel=common * factor,
        factor=factor,
        dual_coef=dual_coef,
        published_intercept=float(np.mean(rest[support])),
        intercept=free_intercept(rest, dual_coef, y, C),
        objective=values,
    )


def free_intercept(rest: FloatArray, dual_coef: FloatArray, y: FloatArray, C: float) -> float:
    """Average y - K a over free support vectors.

    Without free support vectors, the intercept is the middle of the feasible interval.
    """
    alpha = np.abs(dual_coef)
    free = (alpha > 0.0) & (alpha < C * (1.0 - 1e-6))
    if free.any():
        return float(np.mean(rest[free]))
    # b >= rest where alpha can grow for y = +1 or shrink for y = -1; b <= rest elsewhere.
    grows = np.where(y > 0, alpha == 0.0, alpha > 0.0) & (y != 0)
    shrinks = np.where(y > 0, alpha > 0.0, alpha == 0.0) & (y != 0)
    return float((np.max(rest[grows]) + np.min(rest[shrinks])) / 2.0)
