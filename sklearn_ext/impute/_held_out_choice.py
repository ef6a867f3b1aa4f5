"""Choosing the shrinkage by entries that are hidden and predicted."""

import numpy as np

from ._gaussian_em import fit_gaussian

# From strong to weak: each fit starts from the one before it, which is close.
SHRINKAGES = (1.5, 0.6, 0.2, 0.06, 0.02, 0.005, 0.001)
HIDDEN_SHARE = 0.2


def hide(X, hidden):
    """Copy of X without the hidden entries of its first columns."""
    rows = X.copy()
    rows[:, : hidden.shape[1]][hidden] = np.nan
    return rows


def choose_shrinkage(engine, X, hidden, *, max_iter, tol):
    """Fit with each shrinkage to what is not hidden; take the best on what is.

    Parameters
    ----------
    engine : NumbaEngine or TorchEngine
    X : ndarray of shape (n, d + q)
        Columns of unit variance, label columns last; holes are NaN.
    hidden : bool ndarray of shape (n, d)
        Labels are never hidden: they are known wherever the choice is made.
    max_iter, tol
        As in :func:`fit_gaussian`.

    Returns
    -------
    float
        The best of `SHRINKAGES`; the strongest if nothing is hidden.
    """
    if not hidden.any():
        return SHRINKAGES[0]
    rows = hide(X, hidden)
    table = engine.table(rows)
    errors, fit = [], None
    for nu in SHRINKAGES:
        fit = fit_gaussian(engine, rows, nu, max_iter=max_iter, tol=tol, table=table, warm=fit)
        Z, _ = engine.posterior(table, fit.mean, fit.cov)
        d = hidden.shape[1]
        errors.append(np.mean((Z[:, :d] - X[:, :d])[hidden] ** 2))
    return SHRINKAGES[int(np.argmin(errors))]
