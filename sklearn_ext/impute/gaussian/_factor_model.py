r"""The Gaussian of wide tables: a few common factors and independent noise.

The covariance is :math:`S = W W^T + \mathrm{diag}(\psi)` with loadings W of shape (d, r). Given its
observed entries o, the factors of a sample are Gaussian with

.. math::
    A = I + \sum_{p \in o} \frac{w_p w_p^T}{\psi_p}, \qquad
    E[f] = A^{-1} \sum_{p \in o} \frac{w_p (x_p - \mu_p)}{\psi_p}, \qquad
    \mathrm{Cov}[f] = A^{-1},

and its missing values have means :math:`\mu_p + w_p^T E[f]` and variances
:math:`\psi_p + w_p^T A^{-1} w_p`. All matrices are of size r, so that the cost is linear in the
numbers of samples and of columns, whereas that of a full covariance is cubic in the number of
columns.

Each column is regressed on the factors in the maximization step, with a ridge that pulls loadings
to zero. The rank and the shrinkage are chosen by predicting entries that are hidden from the fit.
Shrinking all covariances by :math:`1 + \nu` at fixed variances keeps the form:
:math:`W / \sqrt{1 + \nu}` and :math:`\psi + \nu / (1 + \nu)\, \mathrm{diag}(W W^T)`.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ...utils._typing import BoolArray, FloatArray
from ._em import SHRINKAGES, hide, observed_moments

_RANKS = (1, 2, 4, 8, 16, 32)
_RIDGE = 1.0  # in units of the noise: the prior variance of a loading is that of the noise
_LEAST_NOISE = 0.02  # fraction of a column's variance
_ITERATIONS = 12  # of a fit that chooses the rank
_ELEMENTS = 2**22  # elements of the largest temporary


class FactorCovariance(NamedTuple):
    """The covariance W W' + diag(psi) of d columns and r factors.

    Attributes
    ----------
    loadings : ndarray of shape (d, r)
    noise : ndarray of shape (d,)
    """

    loadings: FloatArray
    noise: FloatArray

    def leading(self, size: int) -> "FactorCovariance":
        """Return the covariance of the first columns."""
        return FactorCovariance(self.loadings[:size], self.noise[:size])

    def shrunk(self, nu: float) -> "FactorCovariance":
        """Divide covariances by 1 + nu and keep variances."""
        communality = np.sum(self.loadings**2, axis=1)
        noise = self.noise + nu / (1.0 + nu) * communality
        return FactorCovariance(self.loadings / np.sqrt(1.0 + nu), noise)

    def dense(self) -> FloatArray:
        """Return the matrix of shape (d, d)."""
        return self.loadings @ self.loadings.T + np.diag(self.noise)


class FactorFit(NamedTuple):
    """Mean and covariance, and the relative change of the common part by iteration."""

    mean: FloatArray
    cov: FactorCovariance
    changes: list[float]


class Factors(NamedTuple):
    """Means (n, r) and covariances (n, r, r) of the factors of n samples."""

    mean: FloatArray
    cov: FloatArray


def factors_given(X: FloatArray, mean: FloatArray, S: FactorCovariance) -> Factors:
    """Compute the distribution of the factors given the observed entries; NaN is missing."""
    observed = ~np.isnan(X)
    W, r = S.loadings, S.loadings.shape[1]
    weighted = W / S.noise[:, None]
    outer = (weighted[:, :, None] * W[:, None, :]).reshape(len(W), r * r)
    A = (observed.astype(float) @ outer).reshape(len(X), r, r) + np.eye(r)
    cov = np.linalg.inv(A)
    pull = np.where(observed, X - mean, 0.0) @ weighted
    return Factors(np.einsum("ijk,ik->ij", cov, pull), cov)


def _batches(X: FloatArray, S: FactorCovariance) -> list[slice]:
    r = S.loadings.shape[1]
    step = max(1, _ELEMENTS // max(X.shape[1], r * r, 1))
    return [slice(first, first + step) for first in range(0, len(X), step)]


def factor_posterior(
    X: FloatArray, mean: FloatArray, S: FactorCovariance, noise: FloatArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """Complete samples by conditional means, or by draws; also return conditional variances.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Missing values are NaN.
    mean : ndarray of shape (d,)
    S : FactorCovariance
    noise : ndarray of shape (n, d + r) or wider, default=None
        Standard normal numbers: the first d for the columns, the last r for the factors.

    Returns
    -------
    Z, V : ndarray of shape (n, d)
        Variances are 0 at observed entries.
    """
    Z, V = np.empty(X.shape), np.empty(X.shape)
    d, r = S.loadings.shape
    for part in _batches(X, S):
        missing = np.isnan(X[part])
        f = factors_given(X[part], mean, S)
        scores = f.mean
        spread = np.einsum("ijk,pj,pk->ip", f.cov, S.loadings, S.loadings, optimize=True)
        filled = mean + scores @ S.loadings.T
        if noise is not None:
            root = np.linalg.cholesky(f.cov)
            scores = scores + np.einsum("ijk,ik->ij", root, noise[part, -r:])
            filled = mean + scores @ S.loadings.T + np.sqrt(S.noise) * noise[part, :d]
        Z[part] = np.where(missing, filled, X[part])
        V[part] = np.where(missing, S.noise + spread, 0.0)
    return Z, V


def factor_leave_one_out(
    X: FloatArray, mean: FloatArray, S: FactorCovariance
) -> tuple[FloatArray, FloatArray]:
    """Return means and variances of observed entries given the others of their sample.

    Both are NaN at missing values.
    """
    out, variances = np.empty(X.shape), np.empty(X.shape)
    for part in _batches(X, S):
        f = factors_given(X[part], mean, S)
        # u = S_oo^-1 (x - mean) and the diagonal of S_oo^-1, by Woodbury's identity.
        u = (X[part] - mean - f.mean @ S.loadings.T) / S.noise
        spread = np.einsum("ijk,pj,pk->ip", f.cov, S.loadings, S.loadings, optimize=True)
        diagonal = 1.0 / S.noise - spread / S.noise**2
        out[part] = X[part] - u / diagonal
        variances[part] = np.where(np.isnan(X[part]), np.nan, 1.0 / diagonal)
    return out, variances


def fit_factors(
    X: FloatArray,
    rank: int,
    *,
    max_iter: int = 30,
    tol: float = 1e-3,
    after_iteration: Callable[[], bool] = bool,
) -> FactorFit:
    """Fit mean, loadings and noise by expectation maximization, from principal components.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Missing values are NaN.
    rank : int
        Number of factors.
    max_iter : int
    tol : float
        Iterations stop when the common part of the covariance changes by less than this fraction.
    after_iteration : callable, default=bool
        Called after each iteration; returns whether to stop.

    Returns
    -------
    FactorFit
    """
    observed = ~np.isnan(X)
    seen = observed.astype(float)
    mean, variances = observed_moments(X)
    least = _LEAST_NOISE * variances
    centered = np.where(observed, X - mean, 0.0)
    _, s, Vt = np.linalg.svd(centered / np.sqrt(max(len(X), 1)), full_matrices=False)
    fraction = max(seen.mean(), 1e-3)
    start = Vt[:rank].T * s[:rank] / fraction
    # Loadings must not explain more than the variance of a column.
    excess = np.sum(start**2, axis=1) / (0.9 * variances)
    S = FactorCovariance(start / np.sqrt(np.maximum(excess, 1.0))[:, None], np.empty(0))
    S = S._replace(noise=np.maximum(variances - np.sum(S.loadings**2, axis=1), least))
    r = S.loadings.shape[1]
    counts = np.maximum(seen.sum(axis=0), 1.0)
    changes: list[float] = []
    while r and len(changes) < max_iter and (not changes or changes[-1] >= tol):
        second = np.zeros((X.shape[1], (r + 1) * (r + 1)))
        cross = np.zeros((X.shape[1], r + 1))
        for part in _batches(X, S):
            f = factors_given(X[part], mean, S)
            g = np.hstack((f.mean, np.ones((len(f.mean), 1))))
            moments = g[:, :, None] * g[:, None, :]
            moments[:, :r, :r] += f.cov
            second += seen[part].T @ moments.reshape(len(g), -1)
            cross += centered[part].T @ g
        second = second.reshape(-1, r + 1, r + 1)
        ridge = np.diag(np.append(np.full(r, _RIDGE), 1e-8))
        coef = np.linalg.solve(second + ridge, cross[:, :, None])[:, :, 0]
        # Sum of the expected squares of residuals, from the sufficient statistics.
        squares = np.sum(centered**2, axis=0) - 2.0 * np.sum(coef * cross, axis=1)
        squares += np.einsum("pj,pjk,pk->p", coef, second, coef)
        new = FactorCovariance(coef[:, :r], np.maximum(squares / counts, least))
        changes.append(_change(S.loadings, new.loadings))
        S = new
        mean, centered = mean + coef[:, r], np.where(observed, centered - coef[:, r], 0.0)
        if after_iteration():
            break
    return FactorFit(mean, S, changes)


def _change(before: FloatArray, after: FloatArray) -> float:
    """Return the relative change of W W', from products of size r."""
    old, new, both = before.T @ before, after.T @ after, before.T @ after
    size = np.sum(new**2)
    squares = size + np.sum(old**2) - 2.0 * np.sum(both**2)
    return float(np.sqrt(max(squares, 0.0) / max(size, 1e-300)))


def choose_factors(
    X: FloatArray,
    hidden: BoolArray,
    nu: float | None,
    *,
    tol: float,
    after_candidate: Callable[[], bool] = bool,
) -> tuple[int, float]:
    """Choose the rank and the shrinkage that best predict hidden entries.

    Parameters
    ----------
    X : ndarray of shape (n, d + q)
        Missing values are NaN. Label columns come last.
    hidden : bool ndarray of shape (n, d)
    nu : float or None
        The given shrinkage, or None to choose it.
    tol : float
    after_candidate : callable, default=bool
        Called after each rank; returns whether to compare no others.

    Returns
    -------
    rank : int
    nu : float
    """
    nus = (*SHRINKAGES, 0.0) if nu is None else (nu,)
    most = max(1, min(len(X) // 2, X.shape[1] - 1, _RANKS[-1]))
    ranks = [rank for rank in _RANKS if rank <= most]
    if not hidden.any():
        return ranks[0], nus[0]
    d = hidden.shape[1]
    visible = hide(X, hidden)
    errors: dict[tuple[int, float], float] = {}
    best = np.inf
    for rank in ranks:
        fit = fit_factors(visible, rank, max_iter=_ITERATIONS, tol=tol)
        for nu in nus:
            Z, _ = factor_posterior(visible, fit.mean, fit.cov.shrunk(nu))
            errors[rank, nu] = float(np.mean((Z[:, :d] - X[:, :d])[hidden] ** 2))
        lowest = min(errors[rank, nu] for nu in nus)
        if after_candidate() or lowest > best:
            break
        best = lowest
    return min(errors, key=lambda key: errors[key])
