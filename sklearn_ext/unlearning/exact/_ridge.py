r"""Ridge regression that forgets and learns rows without being fitted anew.

Features Z (n, p), targets Y (n, k) and weights :math:`s_i > 0` of rows give the coefficients

.. math::
    w = \arg\min_w \sum_i s_i \lVert z_i^T w - y_i \rVert^2 + \lambda \lVert w \rVert^2 ,

which are :math:`Z^T\alpha` with :math:`\alpha = G Y`,
:math:`G = (Z Z^T + \mathrm{diag}(\lambda / s_i))^{-1}` (dual), and :math:`P Z^T Y` with
:math:`P = (Z^T Z + \lambda I)^{-1}` where rows of Z and Y are multiplied by :math:`\sqrt{s_i}`
(primal). The link is :math:`Z^T G = P Z^T` for unit weights.

Let u be the rows to forget and r the others. Block elimination of :math:`G^{-1}` gives the model
of the rows r from that of all rows,

.. math::
    S = G_{uu}^{-1}\alpha_u, \quad \hat Y_u = Y_u - S, \quad
    \alpha_r' = \alpha_r - G_{ru} S, \quad G' = G_{rr} - G_{ru} G_{uu}^{-1} G_{ur} ,

and with it :math:`\hat Y_u`, what that model predicts for the rows u: the labels with which further
training of the old model ends in the new one. Learning is the same with signs reversed.

Functions take an engine, which names what numpy and torch spell differently, and arrays of that
engine. Of the symmetric matrices G, P and :math:`Z^T Z` only the lower triangle counts.
"""

from scipy.linalg import LinAlgError

# Measured on digits and diabetes, an update's relative error is at most 1e-16 times the condition
# of its small system, and about 1e-18 times that of A and the factor by which forgetting raises it.
LARGEST_CONDITION = 1e7
LARGEST_AMPLIFIED_CONDITION = 1e9
LARGEST_HARMLESS_GROWTH = 100.0  # up to here, factoring anew is no more exact than updating
SINGULAR_CONDITION = 1e16


class IllConditionedError(LinAlgError):
    """An update would lose too many digits; factoring anew may not."""


def condition(A, inverse):
    """Estimate the condition number of a positive definite matrix, within the number of rows."""
    return float(A.diagonal().sum() * inverse.diagonal().max())


def _factor(engine, M, condition_before=1.0):
    """Factor a small matrix, unless the step that it decides would lose too many digits."""
    factor = engine.cholesky(M)
    inverse = engine.solve(factor, engine.eye(len(M)))
    growth = float(inverse.diagonal().max())
    if condition(M, inverse) > LARGEST_CONDITION or (
        growth > LARGEST_HARMLESS_GROWTH and growth * condition_before > LARGEST_AMPLIFIED_CONDITION
    ):
        raise IllConditionedError("an update would lose too many digits")
    return factor


def _solution_and_inverse(engine, A, B):
    """Solve A x = B, invert A, which is overwritten, and estimate its condition."""
    trace = float(A.diagonal().sum())
    factor = engine.cholesky(A, overwrite=True)
    solution = engine.solve(factor, B)
    inverse = engine.inverse(factor)
    number = trace * float(inverse.diagonal().max())
    if not number < SINGULAR_CONDITION:
        raise IllConditionedError("the matrix is singular in float64")
    return solution, inverse, number


def dual_fit(engine, Z, Y, ridge):
    r"""Return :math:`\alpha`, G and an estimate of its condition number.

    Parameters
    ----------
    engine : ScipyEngine or TorchEngine
    Z : array of shape (n, p)
    Y : array of shape (n, k)
    ridge : array of shape (n,)
        :math:`\lambda / s_i`.

    Returns
    -------
    alpha : array of shape (n, k)
    G : array of shape (n, n)
    condition : float

    Raises
    ------
    IllConditionedError
        If the matrix is singular in float64.
    """
    K = Z @ Z.T
    K.reshape(-1)[:: len(K) + 1] += ridge
    return _solution_and_inverse(engine, K, Y)


def dual_elimination(engine, G, alpha, u):
    r"""Eliminate the rows u, with :math:`G_{uu} = L L^T`.

    Parameters
    ----------
    engine : ScipyEngine or TorchEngine
    G : array of shape (n, n)
    alpha : array of shape (n, k)
    u : ndarray of int of shape (m,)

    Returns
    -------
    V : array of shape (n, m)
        :math:`G_{\cdot u} L^{-T}`.
    c : array of shape (m, k)
        :math:`L^{-1}\alpha_u`.
    S : array of shape (m, k)
        :math:`L^{-T} c`; the retrained model predicts :math:`Y_u - S` for the rows u.
    """
    columns = engine.columns(G, u)
    factor = _factor(engine, columns[u])
    V = engine.half_solve(factor, columns.T).T
    c = engine.half_solve(factor, alpha[u])
    return V, c, engine.half_solve(factor, c, transposed=True)


def dual_downdate(engine, G, V, r):
    """Return the inverse of the rows r, :math:`G_{rr} - V_r V_r^T`; G may be overwritten."""
    return engine.add_square(engine.select(G, r), V[r], -1.0)


def dual_learn(engine, G, alpha, cross, own, Y):
    r"""Add rows, by bordering.

    With :math:`F = G k`, :math:`M = K_m - k^T F = L L^T` and :math:`V = F L^{-T}` the new inverse
    is :math:`\begin{pmatrix} G + V V^T & -V L^{-1} \\ \cdot & M^{-1} \end{pmatrix}`.

    Parameters
    ----------
    engine : ScipyEngine or TorchEngine
    G : array of shape (n, n)
    alpha : array of shape (n, k)
    cross : array of shape (n, m)
        Inner products k of old and new features.
    own : array of shape (m, m)
        :math:`K_m`, those of the new features plus their ridge.
    Y : array of shape (m, k)

    Returns
    -------
    alpha : array of shape (n + m, k)
    G : array of shape (n + m, n + m)
    """
    F = engine.product(G, cross)
    factor = _factor(engine, own - cross.T @ F)
    V = engine.half_solve(factor, F.T).T
    c = engine.half_solve(factor, Y - cross.T @ alpha)
    new = engine.half_solve(factor, c, transposed=True)
    inverse = engine.bordered(
        engine.add_square(engine.copy(G), V, 1.0),
        -engine.half_solve(factor, V.T, transposed=True),
        engine.solve(factor, engine.eye(len(own))),
    )
    return engine.vstack(alpha - V @ c, new), inverse


def primal_fit(engine, A, B):
    r"""Return w, P and its condition from :math:`A = Z^T Z + \lambda I` and :math:`B = Z^T Y`.

    Parameters
    ----------
    engine : ScipyEngine or TorchEngine
    A : array of shape (p, p)
    B : array of shape (p, k)

    Returns
    -------
    w : array of shape (p, k)
    P : array of shape (p, p)
    condition : float

    Raises
    ------
    IllConditionedError
        If the matrix is singular in float64.
    """
    return _solution_and_inverse(engine, engine.copy(A), B)


def primal_elimination(engine, A, P, w, Z, Y, sign):
    r"""Coefficients after learning (sign 1) or forgetting (sign -1) rows, by Woodbury's formula.

    With :math:`M = I \pm Z P Z^T = L L^T` and :math:`V = P Z^T L^{-T}` they are
    :math:`w \pm V L^{-1} (Y - Z w)`.

    Parameters
    ----------
    engine : ScipyEngine or TorchEngine
    A, P : array of shape (p, p)
        Matrix and inverse before the change.
    w : array of shape (p, k)
    Z : array of shape (m, p)
        Features of the rows, times the roots of their weights.
    Y : array of shape (m, k)
        Targets, likewise.
    sign : {1.0, -1.0}

    Returns
    -------
    V : array of shape (p, m)
    w : array of shape (p, k)
    """
    columns = engine.product(P, Z.T)
    M = engine.eye(len(Z)) + sign * (Z @ columns)
    # Forgetting multiplies the condition of A by at most the norm of the inverse of M.
    factor = _factor(engine, M, condition(A, P) if sign < 0 else 1.0)
    V = engine.half_solve(factor, columns.T).T
    return V, w + sign * (V @ engine.half_solve(factor, Y - Z @ w))


def primal_update(engine, P, V, sign):
    r"""Return the inverse after the change, :math:`P \mp V V^T`; P may be overwritten."""
    return engine.add_square(P, V, -sign)
