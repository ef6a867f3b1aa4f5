r"""Shrunk maximum likelihood of a Gaussian from rows with holes, by expectation maximisation.

With :math:`z_i` the conditional mean of row i given its observed part and :math:`C_i` the
conditional covariance of its holes (zero elsewhere), one iteration is

.. math::
    \mu \leftarrow \tfrac1n \sum_i z_i, \qquad
    S_{ml} \leftarrow \tfrac1n \sum_i \bigl[(z_i - \mu)(z_i - \mu)^T + C_i\bigr], \qquad
    S_{pq} \leftarrow \frac{(S_{ml})_{pq}}{1 + \nu}\ (p \neq q),

and :math:`10^{-6}` of the observed variances is added to the diagonal. Without
:math:`\sum_i C_i` variances would shrink from iteration to iteration; with
:math:`\nu \to \infty` the columns are independent and holes get the mean of their column.

The functions are pure; an ``engine`` (:class:`NumbaEngine`, :class:`TorchEngine`) supplies the
conditional moments.
"""

from typing import NamedTuple

import numpy as np

_RIDGE = 1e-6


class GaussianFit(NamedTuple):
    """Mean and covariance, and the relative change of the covariance by iteration."""

    mean: np.ndarray
    cov: np.ndarray
    changes: list


def observed_moments(X):
    """Mean and variance of the observed entries of each column.

    A column that does not vary gets the variance one: the fit starts from it and needs it positive.
    """
    observed = ~np.isnan(X)
    counts = np.maximum(observed.sum(axis=0), 1)
    mean = np.where(observed, X, 0.0).sum(axis=0) / counts
    variance = (np.where(observed, X - mean, 0.0) ** 2).sum(axis=0) / counts
    return mean, np.where(variance > 0.0, variance, 1.0)


def shrink(cov, nu, variances):
    """Divide the covariances by 1 + nu, keep the variances, and add the small ridge."""
    out = cov / (1.0 + nu)
    np.fill_diagonal(out, np.diag(cov) + _RIDGE * variances)
    return out


def fit_gaussian(engine, X, nu, *, max_iter=30, tol=1e-3, table=None, warm=None):
    """Fit mean and covariance to a table with holes.

    Parameters
    ----------
    engine : NumbaEngine or TorchEngine
    X : ndarray of shape (n, d)
        Holes are NaN.
    nu : float
        Shrinkage of the covariances, nu >= 0.
    max_iter : int
    tol : float
        Iterations stop when no entry of the covariance changes by more than this share of the
        largest variance.
    table : default=None
        What the engine makes of X, if it is there already.
    warm : GaussianFit, default=None
        Where to start, instead of at independent columns.

    Returns
    -------
    GaussianFit
    """
    table = engine.table(X) if table is None else table
    mean, variances = observed_moments(X)
    cov = np.diag((1.0 + _RIDGE) * variances)
    if warm is not None:
        mean, cov = warm.mean, warm.cov
    n = len(X)
    changes = []
    while cov.size and len(changes) < max_iter and (not changes or changes[-1] >= tol):
        first, second = engine.moments(table, mean, cov)
        step = first / n
        new = shrink(second / n - np.outer(step, step), nu, variances)
        changes.append(np.abs(new - cov).max() / np.diag(new).max())
        mean, cov = mean + step, new
    return GaussianFit(mean, cov, changes)
