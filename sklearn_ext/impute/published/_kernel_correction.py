r"""Correction of a kernel by labels, in closed form.

The correction :math:`K_D` of a base kernel :math:`\bar K` makes the classes easier to separate for
a support vector machine. It minimizes the optimal value of the machine's dual, which by duality is
its primal loss, and is kept near one:

.. math::
    \min_{K_D} \max_a\ y^T a - \tfrac12 a^T (\bar K \circ K_D) a
        + \eta \lVert K_D - J \rVert_F^2 .

For fixed a, the minimizer is :math:`K_D = J + A \circ \bar K / (4 \eta)` with :math:`A = a a^T`,
summed over outputs if there are several. Then
:math:`\bar K \circ K_D = \bar K + \mathrm{diag}(a) (\bar K \circ \bar K) \mathrm{diag}(a) / 4\eta`
is positive semidefinite by Schur's product theorem, so no eigendecomposition is needed. Its entries
stay nonnegative for :math:`\kappa = \max |A \circ \bar K| / (4 \eta) \leq 1`, the largest relative
change of an entry.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np

from ...utils._typing import FloatArray

_ROUNDS = 3

# Maps a kernel (n, n) to signed dual coefficients (n, c) and intercepts (c,).
DualSolver: TypeAlias = Callable[[FloatArray], tuple[FloatArray, FloatArray]]


class CorrectedKernel(NamedTuple):
    """A kernel between n samples and the machine on it.

    The corrected kernel is ``initial * factor``. The signed dual coefficients ``dual_coef`` are
    (n, c) and ``intercept`` is (c,), with c = 0 if there are no labels.
    """

    initial: FloatArray
    factor: FloatArray
    dual_coef: FloatArray
    intercept: FloatArray


def optimal_factor(gain: FloatArray, dual_coef: FloatArray, eta: float) -> FloatArray:
    r"""Minimize the objective for fixed a: :math:`J + A \circ G / (4 \eta)` with the gain G."""
    return 1.0 + (dual_coef @ dual_coef.T) * gain / (4.0 * eta)


def worst_perturbation(
    base: FloatArray, factor: FloatArray, dual_coef: FloatArray, radius: float
) -> FloatArray:
    r"""Maximize the objective over :math:`\lVert E - J \rVert_F \leq r`.

    The objective is linear in E with gradient :math:`-G / 2`,
    :math:`G = A \circ \bar K \circ K_D`, so its maximizer is
    :math:`J - r G / \lVert G \rVert_F`.
    """
    G = (dual_coef @ dual_coef.T) * base * factor
    norm = np.linalg.norm(G)
    return 1.0 - radius / norm * G if norm > 0.0 else np.ones_like(G)


def correct_kernel(
    base: FloatArray,
    solve: DualSolver | None,
    kappa: float,
    *,
    gain: FloatArray | None = None,
    radius: float = 0.0,
    n_rounds: int = _ROUNDS,
) -> CorrectedKernel:
    r"""Correct a kernel so that a machine separates the classes more easily.

    With the signed dual coefficients a of the machine, the corrected kernel is

    .. math::
        \bar K \circ K_D = \bar K
            + \frac{1}{4 \eta}\, \mathrm{diag}(a) (\bar K \circ \bar K)\, \mathrm{diag}(a),

    the closed-form minimizer of the machine's optimal value plus
    :math:`\eta \lVert K_D - J \rVert_F^2`. The weight :math:`\eta` follows from `kappa`. Machine
    and factor are updated in turn, the factor with damping one half. Convex combinations of the
    closed form stay positive semidefinite.

    Parameters
    ----------
    base : ndarray of shape (n, n)
        The kernel to correct, positive semidefinite with nonnegative entries.
    solve : callable or None
        Maps a kernel to signed dual coefficients of shape (n, c) and intercepts of shape (c,).
        None, for samples without labels, leaves the kernel unchanged.
    kappa : float in [0, 1]
        Largest relative change of an entry in the first round. 0 leaves the kernel unchanged.
    gain : ndarray of shape (n, n), default=None
        Matrix that multiplies :math:`a a^T` in the factor. None means the base itself. If a kernel
        :math:`K_o` is corrected and the penalty is :math:`\lVert K_D - \bar K / K_o \rVert`, the
        gain is :math:`K_o \circ K_o / \bar K`.
    radius : float, default=0.0
        Radius of the worst-case perturbation of the kernel that the machine is trained against.
    n_rounds : int, default=3
        Number of updates of the factor.

    Returns
    -------
    CorrectedKernel
        The arrays ``initial``, ``factor``, ``dual_coef`` and ``intercept``. The corrected kernel is
        ``initial * factor``.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.svm import SVC
    >>> from sklearn_ext.impute import correct_kernel
    >>> K, y = np.full((4, 4), 0.5) + 0.5 * np.eye(4), np.array([1, 1, -1, -1])
    >>> def solve(K):
    ...     machine = SVC(kernel="precomputed").fit(K, y)
    ...     coef = np.zeros((4, 1))
    ...     coef[machine.support_] = machine.dual_coef_.T
    ...     return coef, machine.intercept_
    >>> corrected = correct_kernel(K, solve, kappa=0.5)
    >>> (corrected.initial * corrected.factor)[0].round(2)
    array([1.37, 0.59, 0.41, 0.41])
    """
    factor = np.ones_like(base)
    if solve is None:
        return CorrectedKernel(base, factor, np.empty((len(base), 0)), np.empty(0))
    dual_coef, intercept = solve(base)
    gain = base if gain is None else gain
    largest = np.abs((dual_coef @ dual_coef.T) * gain).max()
    if kappa == 0.0 or largest == 0.0:
        return CorrectedKernel(base, factor, dual_coef, intercept)
    eta = largest / (4.0 * kappa)
    for _ in range(n_rounds):
        factor = (factor + optimal_factor(gain, dual_coef, eta)) / 2.0
        kernel = base * factor
        if radius > 0.0:
            kernel = kernel * worst_perturbation(base, factor, dual_coef, radius)
        dual_coef, intercept = solve(kernel)
    return CorrectedKernel(base, factor, dual_coef, intercept)
