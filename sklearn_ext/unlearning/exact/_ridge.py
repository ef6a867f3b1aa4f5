r"""Formulas of ridge regression that forgets and learns samples without a new fit.

Features Z (n, p), targets Y (n, k) and sample weights :math:`s_i > 0` give the coefficients

.. math::
    w = \arg\min_w \sum_i s_i \lVert z_i^T w - y_i \rVert^2 + \lambda \lVert w \rVert^2 .

In the dual form, :math:`w = Z^T\alpha` with :math:`\alpha = G Y` and
:math:`G = (Z Z^T + \mathrm{diag}(\lambda / s_i))^{-1}`. In the primal form, :math:`w = P Z^T Y`
with :math:`P = (Z^T Z + \lambda I)^{-1}`, where the rows of Z and Y are multiplied by
:math:`\sqrt{s_i}`. For unit weights the two are linked by :math:`Z^T G = P Z^T`.

Let u be the samples to forget and r the retained ones. Block elimination of :math:`G^{-1}` gives
the model of the samples r from the model of all samples:

.. math::
    S = G_{uu}^{-1}\alpha_u, \quad \hat Y_u = Y_u - S, \quad
    \alpha_r' = \alpha_r - G_{ru} S, \quad G' = G_{rr} - G_{ru} G_{uu}^{-1} G_{ur} .

The new model predicts :math:`\hat Y_u` for the samples u. If you train the old model further with
these labels, it converges to the new one. Learning uses the same formulas with reversed signs.

Rounding errors of the Gram matrix limit the precision of predictions. `refined` computes the
residual from the samples instead and solves for a correction [1]_, until only rounding errors of
the residual are left. The correction is :math:`P (Z^T (Y - Z w) - \lambda w)` in the primal form.
In the dual form, :math:`G (Y - Z w - \lambda \alpha / s)` corrects :math:`\alpha`, and w with it.

The functions take an engine and arrays of that engine. Only the lower triangle of the symmetric
matrices G, P and :math:`Z^T Z` is valid.

References
----------
.. [1] Å. Björck, "Numerical Methods for Least Squares Problems", SIAM 1996, section 6.6.5
   (corrected seminormal equations).
"""

from collections.abc import Callable

import numpy as np

from ...utils._typing import FloatArray, IntArray
from ._engine import EngineArray, IllConditionedError, RidgeEngine, bordered

# Measured on digits and diabetes: the relative error of an update is at most 1e-16 times the
# condition number of its small system, plus about 1e-18 times the condition number of A and the
# factor by which forgetting raises it. Learning loses a factor of precision: the size of the new
# samples, relative to the old model in the primal form, or relative to the part of them that the
# old model does not explain in the dual form.
LARGEST_CONDITION = 1e7
LARGEST_CANCELLATION = 1e7
LARGEST_SYSTEM_ERROR = 1e-6
LARGEST_ERROR = 1e-10  # of the largest coefficient
LARGEST_AMPLIFIED_CONDITION = 1e9
LARGEST_HARMLESS_GROWTH = 100.0  # below this, a new factorization is not more exact than an update
SINGULAR_CONDITION = 1e16
EPSILON = float(np.finfo(np.float64).eps)
SMALLEST_CORRECTION = 1e-13  # of the size of the predictions
_LARGEST_N_CORRECTIONS = 5


def condition(A: EngineArray, inverse: EngineArray) -> float:
    """Estimate the condition number of a positive definite matrix, up to a factor of its size."""
    return float(A.diagonal().sum() * inverse.diagonal().max())


def scaled_condition(diagonal: EngineArray, inverse_diagonal: EngineArray) -> float:
    """Bound the condition number of a positive definite matrix that is scaled to a unit diagonal.

    Cholesky factorization does not depend on the units of the rows, and neither does this number.

    Parameters
    ----------
    diagonal, inverse_diagonal : array of shape (n,)
        Diagonals of the matrix and of its inverse.

    Returns
    -------
    float
    """
    return len(diagonal) * float((diagonal * inverse_diagonal).max())


def _factor(
    engine: RidgeEngine, M: EngineArray, condition_before: float = 1.0
) -> tuple[EngineArray, float]:
    """Factor the small matrix of an update, unless the update would lose too much precision.

    The largest entry of the inverse is returned, too.
    """
    factor = engine.cholesky(M)
    inverse = engine.solve(factor, engine.eye(len(M)))
    growth = float(inverse.diagonal().max())
    if condition(M, inverse) > LARGEST_CONDITION or (
        growth > LARGEST_HARMLESS_GROWTH and growth * condition_before > LARGEST_AMPLIFIED_CONDITION
    ):
        raise IllConditionedError("An update would lose too much precision.")
    return factor, growth


def _largest(engine: RidgeEngine, w: EngineArray) -> FloatArray:
    """Return the largest absolute value of each column."""
    return abs(engine.to_numpy(w)).max(axis=0)


def _solution_and_inverse(
    engine: RidgeEngine, A: EngineArray, B: EngineArray
) -> tuple[EngineArray, EngineArray]:
    """Solve A x = B, and invert A, which is overwritten."""
    diagonal = engine.copy(A.diagonal())
    factor = engine.cholesky(A, overwrite=True)
    solution = engine.solve(factor, B)
    inverse = engine.inverse(factor)
    if not scaled_condition(diagonal, inverse.diagonal()) < SINGULAR_CONDITION:
        raise IllConditionedError("The matrix is singular in float64.")
    return solution, inverse


def refined(
    correction: Callable[..., tuple[tuple[EngineArray, ...], FloatArray]],
    solution: tuple[EngineArray, ...],
) -> tuple[tuple[EngineArray, ...], float]:
    """Refine a solution iteratively.

    Parameters
    ----------
    correction : callable
        Takes the arrays of a solution; returns the changes of these arrays, and the size of the
        change of each column of targets, relative to the solution.
    solution : tuple of array
        Arrays of the solution.

    Returns
    -------
    solution : tuple of array
        The refined arrays.
    error : float
        Bound of their error, relative to the solution.
    """
    before = np.inf
    for k in range(_LARGEST_N_CORRECTIONS):
        changes, sizes = correction(*solution)
        size = float(sizes.max())
        if not size < 0.5 * before:  # only rounding errors are left, or the inverse is too inexact
            return solution, size
        solution = tuple(x + change for x, change in zip(solution, changes, strict=True))
        # From the second correction on, the next one is known to be smaller by this factor.
        error = size * (size / before if k > 0 else 1.0)
        if error < SMALLEST_CORRECTION:
            break
        before = size
    return solution, error


def dual_fit(
    engine: RidgeEngine, Z: EngineArray, Y: EngineArray, ridge: EngineArray
) -> tuple[EngineArray, EngineArray]:
    r"""Solve a ridge regression in the dual form.

    Parameters
    ----------
    engine : RidgeEngine
        Does the arithmetic.
    Z : array of shape (n, p)
        Features.
    Y : array of shape (n, k)
        Targets.
    ridge : array of shape (n,)
        :math:`\lambda / s_i`.

    Returns
    -------
    alpha : array of shape (n, k)
        Dual coefficients.
    G : array of shape (n, n)
        Inverse of the regularized Gram matrix, in the lower triangle.

    Raises
    ------
    IllConditionedError
        If the matrix is singular in float64.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext.unlearning.exact import RidgeScipyEngine, dual_fit
    >>> Z, Y = np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[1.0], [2.0]])
    >>> alpha, G = dual_fit(RidgeScipyEngine(), Z, Y, np.array([1.0, 1.0]))
    >>> Z.T @ alpha
    array([[0.5],
           [0.8]])
    """
    K = Z @ Z.T
    K.reshape(-1)[:: len(K) + 1] += ridge
    return _solution_and_inverse(engine, K, Y)


def dual_elimination(
    engine: RidgeEngine, G: EngineArray, alpha: EngineArray, u: IntArray
) -> tuple[EngineArray, EngineArray, EngineArray]:
    r"""Eliminate samples from a ridge regression in the dual form.

    This is the exact relabeling formula of MUSO [1]_: the retrained model predicts
    :math:`\hat Y_u = Y_u - S` with :math:`S = G_{uu}^{-1}\alpha_u`.

    Parameters
    ----------
    engine : RidgeEngine
        Does the arithmetic.
    G : array of shape (n, n)
        Inverse from `dual_fit`.
    alpha : array of shape (n, k)
        Dual coefficients from `dual_fit`.
    u : ndarray of int of shape (m,)
        Positions of the samples to eliminate.

    Returns
    -------
    V : array of shape (n, m)
        :math:`G_{\cdot u} L^{-T}` with :math:`G_{uu} = L L^T`.
    c : array of shape (m, k)
        :math:`L^{-1}\alpha_u`; the new dual coefficients are :math:`\alpha - V c`.
    S : array of shape (m, k)
        :math:`L^{-T} c`.

    Raises
    ------
    IllConditionedError
        If the update would lose too much precision.

    References
    ----------
    .. [1] R. Yang, M. He, Z. He, Y. Qiu, X. Huang, "MUSO: Achieving Exact Machine Unlearning in
       Over-Parameterized Regimes", arXiv:2410.08557, 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext.unlearning.exact import RidgeScipyEngine, dual_elimination, dual_fit
    >>> engine, rng = RidgeScipyEngine(), np.random.default_rng(0)
    >>> Z, Y, ridge = rng.normal(size=(6, 9)), rng.normal(size=(6, 1)), np.full(6, 0.1)
    >>> alpha, G = dual_fit(engine, Z, Y, ridge)
    >>> V, c, S = dual_elimination(engine, G, alpha, np.array([0, 1]))
    >>> retrained = dual_fit(engine, Z[2:], Y[2:], ridge[2:])[0]
    >>> bool(np.allclose((alpha - V @ c)[2:], retrained))
    True
    >>> bool(np.allclose(Y[:2] - S, Z[:2] @ Z[2:].T @ retrained))
    True
    """
    columns = engine.columns(G, u)
    factor, _ = _factor(engine, columns[u])
    V = engine.half_solve(factor, columns.T).T
    c = engine.half_solve(factor, alpha[u])
    return V, c, engine.half_solve(factor, c, transposed=True)


def dual_downdate(engine: RidgeEngine, G: EngineArray, V: EngineArray, r: IntArray) -> EngineArray:
    """Return the inverse of the samples r, :math:`G_{rr} - V_r V_r^T`."""
    return engine.add_square(engine.select(G, r), V[r], -1.0, overwrite=True)


def dual_bordering(
    engine: RidgeEngine,
    G: EngineArray,
    alpha: EngineArray,
    cross: EngineArray,
    own: EngineArray,
    Y: EngineArray,
) -> tuple[EngineArray, EngineArray]:
    r"""Add samples to a ridge regression in the dual form.

    With :math:`F = G k`, :math:`M = K_m - k^T F = L L^T` and :math:`V = F L^{-T}`, the new inverse
    is :math:`\begin{pmatrix} G + V V^T & -V L^{-1} \\ \cdot & M^{-1} \end{pmatrix}`.

    Parameters
    ----------
    engine : RidgeEngine
        Does the arithmetic.
    G : array of shape (n, n)
        Inverse before the samples are added, as from `dual_fit`.
    alpha : array of shape (n, k)
        Dual coefficients before the samples are added.
    cross : array of shape (n, m)
        Inner products k of old and new features.
    own : array of shape (m, m)
        Inner products :math:`K_m` of the new features, plus their ridge.
    Y : array of shape (m, k)
        Targets of the new samples.

    Returns
    -------
    alpha : array of shape (n + m, k)
        New dual coefficients.
    G : array of shape (n + m, n + m)
        New inverse, in the lower triangle.

    Raises
    ------
    IllConditionedError
        If the update would lose too much precision.
    """
    F = engine.product(G, cross)
    M = own - cross.T @ F
    if not float((own.diagonal() / M.diagonal()).max()) < LARGEST_CANCELLATION:
        raise IllConditionedError("An update would lose too much precision.")
    factor, _ = _factor(engine, M)
    V = engine.half_solve(factor, F.T).T
    c = engine.half_solve(factor, Y - cross.T @ alpha)
    new = engine.half_solve(factor, c, transposed=True)
    inverse = bordered(
        engine,
        engine.add_square(G, V, 1.0),
        -engine.half_solve(factor, V.T, transposed=True),
        engine.solve(factor, engine.eye(len(own))),
    )
    return engine.vstack(alpha - V @ c, new), inverse


def primal_fit(
    engine: RidgeEngine, A: EngineArray, B: EngineArray, *, overwrite: bool = False
) -> tuple[EngineArray, EngineArray]:
    r"""Solve a ridge regression in the primal form.

    Parameters
    ----------
    engine : RidgeEngine
        Does the arithmetic.
    A : array of shape (p, p)
        :math:`Z^T Z + \lambda I`.
    B : array of shape (p, k)
        :math:`Z^T Y`.
    overwrite : bool, default=False
        Whether the memory of A may be used for the result.

    Returns
    -------
    w : array of shape (p, k)
        Coefficients.
    P : array of shape (p, p)
        Inverse of A, in the lower triangle.

    Raises
    ------
    IllConditionedError
        If the matrix is singular in float64.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext.unlearning.exact import RidgeScipyEngine, primal_fit
    >>> Z, Y = np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[1.0], [2.0]])
    >>> primal_fit(RidgeScipyEngine(), Z.T @ Z + np.eye(2), Z.T @ Y)[0]
    array([[0.5],
           [0.8]])
    """
    return _solution_and_inverse(engine, A if overwrite else engine.copy(A), B)


def primal_elimination(
    engine: RidgeEngine,
    condition: float,
    P: EngineArray,
    w: EngineArray,
    Z: EngineArray,
    Y: EngineArray,
    sign: float,
) -> tuple[EngineArray, EngineArray]:
    r"""Learn or forget samples in a ridge regression in the primal form, by Woodbury's formula.

    With :math:`M = I \pm Z P Z^T = L L^T` and :math:`V = P Z^T L^{-T}`, the new coefficients are
    :math:`w \pm V L^{-1} (Y - Z w)` [1]_. The upper sign is for learning.

    Parameters
    ----------
    engine : RidgeEngine
        Does the arithmetic.
    condition : float
        Condition number of the matrix A before the change, as from `condition`.
    P : array of shape (p, p)
        Inverse of A.
    w : array of shape (p, k)
        Coefficients before the change.
    Z : array of shape (m, p)
        Features of the samples, multiplied by the square roots of their weights.
    Y : array of shape (m, k)
        Targets of the samples, multiplied likewise.
    sign : {1.0, -1.0}
        1 to learn the samples, -1 to forget them.

    Returns
    -------
    V : array of shape (p, m)
        The new inverse is :math:`P \mp V V^T`.
    w : array of shape (p, k)
        New coefficients.

    Raises
    ------
    IllConditionedError
        If the update would lose too much precision.

    References
    ----------
    .. [1] W. W. Hager, "Updating the Inverse of a Matrix", SIAM Review 31(2), 1989.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext.unlearning.exact import (
    ...     RidgeScipyEngine, condition, primal_elimination, primal_fit)
    >>> engine, rng = RidgeScipyEngine(), np.random.default_rng(0)
    >>> Z, Y = rng.normal(size=(9, 4)), rng.normal(size=(9, 1))
    >>> A = Z.T @ Z + 0.1 * np.eye(4)
    >>> w, P = primal_fit(engine, A, Z.T @ Y)
    >>> V, forgotten = primal_elimination(engine, condition(A, P), P, w, Z[:2], Y[:2], -1.0)
    >>> retrained = primal_fit(engine, A - Z[:2].T @ Z[:2], Z[2:].T @ Y[2:])[0]
    >>> bool(np.allclose(forgotten, retrained))
    True
    """
    columns = engine.product(P, Z.T)
    M = engine.eye(len(Z)) + sign * (Z @ columns)
    if not float(M.diagonal().max()) < LARGEST_CANCELLATION:
        raise IllConditionedError("An update would lose too much precision.")
    # Forgetting multiplies the condition number of A by at most the norm of the inverse of M.
    factor, growth = _factor(engine, M, condition if sign < 0 else 1.0)
    V = engine.half_solve(factor, columns.T).T
    change = sign * (V @ engine.half_solve(factor, Y - Z @ w))
    new = w + change
    if sign < 0:
        # The errors of P are of the size of its largest entry; a large sample multiplies them.
        error = growth * EPSILON * float((Z**2).sum(1).max() * P.diagonal().max())
        loses = error * _largest(engine, change) > LARGEST_ERROR * _largest(engine, new)
        if error > LARGEST_SYSTEM_ERROR or loses.any():
            raise IllConditionedError("An update would lose too much precision.")
    return V, new


def primal_update(engine: RidgeEngine, P: EngineArray, V: EngineArray, sign: float) -> EngineArray:
    r"""Return the inverse after the change, :math:`P \mp V V^T`."""
    return engine.add_square(P, V, -sign)
