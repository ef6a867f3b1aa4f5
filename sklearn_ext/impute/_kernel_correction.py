r"""A kernel corrected by labels so that a support vector machine separates them more easily.

The correction :math:`K_D` of a base kernel :math:`\bar K` minimises the optimal value of the
machine's dual, which by duality is its primal loss, and is kept near one:

.. math::
    \min_{K_D} \max_a\ y^T a - \tfrac12 a^T (\bar K \circ K_D) a
        + \eta \lVert K_D - J \rVert_F^2 .

For fixed a its minimiser is :math:`K_D = J + A \circ \bar K / (4 \eta)`, :math:`A = a a^T` (a sum
over outputs if there are several). Then
:math:`\bar K \circ K_D = \bar K + \mathrm{diag}(a) (\bar K \circ \bar K) \mathrm{diag}(a) / 4\eta`
is positive semidefinite by Schur's product theorem: no eigendecomposition is needed. Its entries
stay nonnegative for :math:`\kappa = \max |A \circ \bar K| / (4 \eta) \leq 1`, the largest relative
change of an entry.
"""

from typing import NamedTuple

import numpy as np

_ROUNDS = 3


class CorrectedKernel(NamedTuple):
    """The factor K_D, and the machine on the corrected kernel: a (n, c) and b (c,)."""

    factor: np.ndarray
    dual_coef: np.ndarray
    intercept: np.ndarray


def optimal_factor(gain, dual_coef, eta):
    r"""Minimiser :math:`J + A \circ G / (4 \eta)` of the objective for fixed a; G is the gain."""
    return 1.0 + (dual_coef @ dual_coef.T) * gain / (4.0 * eta)


def worst_perturbation(base, factor, dual_coef, radius):
    r"""Maximiser of the objective over :math:`\lVert E - J \rVert_F \leq r`.

    The objective is linear in E with gradient :math:`-G / 2`,
    :math:`G = A \circ \bar K \circ K_D`: the maximiser is :math:`J - r G / \lVert G \rVert_F`.
    """
    G = (dual_coef @ dual_coef.T) * base * factor
    norm = np.linalg.norm(G)
    return 1.0 - radius / norm * G if norm > 0.0 else np.ones_like(G)


def correct_kernel(base, solve, kappa, *, gain=None, radius=0.0, n_rounds=_ROUNDS):
    r"""Alternate between the machine and the factor, with damping one half.

    Convex combinations of the closed form stay positive semidefinite.

    Parameters
    ----------
    base : ndarray of shape (n, n)
    solve : callable
        From a kernel to dual coefficients (n, c) and intercepts (c,).
    kappa : float
        In [0, 1]; 0 leaves the kernel as it is.
    gain : ndarray of shape (n, n), default=None
        What multiplies A in the factor; None is the base itself. When a kernel :math:`K_o` is
        corrected and the penalty pulls the product to the base,
        :math:`\lVert K_D - \bar K / K_o \rVert`, it is :math:`K_o \circ K_o / \bar K`.
    radius : float
        Radius of the perturbation against which the machine is trained.
    n_rounds : int

    Returns
    -------
    CorrectedKernel
    """
    factor = np.ones_like(base)
    dual_coef, intercept = solve(base)
    gain = base if gain is None else gain
    largest = np.abs((dual_coef @ dual_coef.T) * gain).max()
    if kappa == 0.0 or largest == 0.0:
        return CorrectedKernel(factor, dual_coef, intercept)
    eta = largest / (4.0 * kappa)
    for _ in range(n_rounds):
        factor = (factor + optimal_factor(gain, dual_coef, eta)) / 2.0
        kernel = base * factor
        if radius > 0.0:
            kernel = kernel * worst_perturbation(base, factor, dual_coef, radius)
        dual_coef, intercept = solve(kernel)
    return CorrectedKernel(factor, dual_coef, intercept)
