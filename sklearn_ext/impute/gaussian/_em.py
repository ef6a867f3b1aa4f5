r"""Shrunk maximum likelihood of a Gaussian by expectation maximization.

Let :math:`z_i` be the conditional mean of sample i given its observed entries, and :math:`C_i` the
conditional covariance of its missing values, with zeros elsewhere. One iteration is

.. math::
    \mu \leftarrow \tfrac1n \sum_i z_i, \qquad
    S_{ml} \leftarrow \tfrac1n \sum_i \bigl[(z_i - \mu)(z_i - \mu)^T + C_i\bigr], \qquad
    S_{pq} \leftarrow \frac{g_p g_q (S_{ml})_{pq}}{1 + \nu}\ (p \neq q),

and :math:`10^{-6}` of the observed variances is added to the diagonal. The reliability g of a
column is 1, except for the indicators of rare categories. Without :math:`\sum_i C_i` the variances
would shrink at each iteration. For :math:`\nu \to \infty` the columns are independent, and missing
values are replaced by column means.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ...utils._typing import BoolArray, FloatArray
from ._engine import GaussianEngine

_RIDGE = 1e-6
_PRIOR_ERRORS = 10.0

# Ordered from strong to weak, so that each fit starts from a similar one.
SHRINKAGES = (1.5, 0.6, 0.2, 0.06, 0.02, 0.005, 0.001)


class GaussianFit(NamedTuple):
    """Mean and covariance, and the relative change of the covariance by iteration."""

    mean: FloatArray
    cov: FloatArray
    changes: list[float]


def observed_moments(X: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Compute mean and variance of the observed entries of each column.

    A constant column is given variance one, because a fit must start from positive variances.
    """
    observed = ~np.isnan(X)
    counts = np.maximum(observed.sum(axis=0), 1)
    mean = np.where(observed, X, 0.0).sum(axis=0) / counts
    variance = (np.where(observed, X - mean, 0.0) ** 2).sum(axis=0) / counts
    return mean, np.where(variance > 0.0, variance, 1.0)


def shrink(
    cov: FloatArray, nu: float, variances: FloatArray, reliability: FloatArray | None = None
) -> FloatArray:
    """Divide covariances by 1 + nu, keep variances, and add the small ridge.

    The covariances of each column are also multiplied by its reliability in [0, 1], if given.
    """
    out = cov / (1.0 + nu)
    if reliability is not None:
        out *= np.outer(reliability, reliability)
    np.fill_diagonal(out, np.diag(cov) + _RIDGE * variances)
    return out


def fit_gaussian(
    engine: GaussianEngine,
    X: FloatArray,
    nu: float,
    *,
    max_iter: int = 30,
    tol: float = 1e-3,
    reliability: FloatArray | None = None,
    table: Any = None,
    start: GaussianFit | None = None,
    after_iteration: Callable[[], bool] = bool,
) -> GaussianFit:
    """Fit the mean and covariance to samples with missing values.

    Parameters
    ----------
    engine : GaussianEngine
    X : ndarray of shape (n, d)
        Missing values are NaN.
    nu : float
        Nonnegative shrinkage of the covariances.
    max_iter : int
    tol : float
        Iterations stop when every entry of the covariance changes by less than this fraction of
        the largest variance.
    reliability : ndarray of shape (d,), default=None
        Factor in [0, 1] of the covariances of each column, in addition to the shrinkage. None means
        1.
    table : default=None
        The engine's table of X, if it already exists.
    start : GaussianFit, default=None
        Fit to start from. None starts from independent columns.
    after_iteration : callable, default=bool
        Called after each iteration; returns whether to stop.

    Returns
    -------
    GaussianFit
    """
    table = engine.table(X) if table is None else table
    mean, variances = observed_moments(X)
    cov = np.diag((1.0 + _RIDGE) * variances)
    if start is not None:
        mean, cov = start.mean, start.cov
    n = len(X)
    changes: list[float] = []
    while cov.size and len(changes) < max_iter and (not changes or changes[-1] >= tol):
        first, second = engine.moments(table, mean, cov)
        step = first / n
        new = shrink(second / n - np.outer(step, step), nu, variances, reliability)
        changes.append(np.abs(new - cov).max() / np.diag(new).max())
        mean, cov = mean + step, new
        if after_iteration():
            break
    return GaussianFit(mean, cov, changes)


def hide(X: FloatArray, hidden: BoolArray) -> FloatArray:
    """Return a copy of X without the hidden entries of its first columns."""
    out = X.copy()
    out[:, : hidden.shape[1]][hidden] = np.nan
    return out


def choose_shrinkage(
    engine: GaussianEngine,
    X: FloatArray,
    hidden: BoolArray,
    *,
    max_iter: int,
    tol: float,
    reliability: FloatArray | None = None,
    after_candidate: Callable[[], bool] = bool,
) -> tuple[float, float]:
    """Choose the shrinkage whose fit predicts hidden entries best.

    Parameters
    ----------
    engine : GaussianEngine
    X : ndarray of shape (n, d + q)
        Columns of unit variance, label columns last. Missing values are NaN.
    hidden : bool ndarray of shape (n, d)
        Entries to hide from the fit. Labels are not hidden, because the samples to impute also have
        labels.
    max_iter, tol, reliability
        As in :func:`fit_gaussian`.
    after_candidate : callable, default=bool
        Called after each candidate; returns whether to compare no others.

    Returns
    -------
    nu : float
        The best of `SHRINKAGES`, or the strongest one if nothing is hidden.
    spread : float
        Root mean square of the errors in units of their standard deviations, pulled toward one by
        ten more errors of size one; 1 if nothing is hidden.
    """
    if not hidden.any():
        return SHRINKAGES[0], 1.0
    visible = hide(X, hidden)
    table = engine.table(visible)
    errors: list[float] = []
    spreads: list[float] = []
    options: dict[str, Any] = {"max_iter": max_iter, "tol": tol, "reliability": reliability}
    fit = None
    for nu in SHRINKAGES:
        fit = fit_gaussian(engine, visible, nu, table=table, start=fit, **options)
        Z, V = engine.posterior(table, fit.mean, fit.cov)
        d = hidden.shape[1]
        squares = (Z[:, :d] - X[:, :d])[hidden] ** 2
        errors.append(float(np.mean(squares)))
        relative = squares / np.maximum(V[:, :d][hidden], _RIDGE)
        spreads.append(
            float(np.sqrt((relative.sum() + _PRIOR_ERRORS) / (relative.size + _PRIOR_ERRORS)))
        )
        if after_candidate():
            break
    best = int(np.argmin(errors))
    return SHRINKAGES[best], spreads[best]
