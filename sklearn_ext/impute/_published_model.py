"""Two-stage imputation: learn the kernel of the rows, then find rows that have it."""

from typing import NamedTuple

import numpy as np

from ._dual_machines import svm_duals
from ._incomplete_kernel import (
    common_sqdist,
    gaussian_kernel,
    missing_sqdist_bound,
    published_lower_bound,
)
from ._published_stage_one import run_stage_one
from ._s_stress import fit_as_published, fit_by_lbfgs, fit_row, sqdist, target_sqdist
from ._supervised_kernel import SupervisedKernel, correct

MAX_ROWS = 5_000  # the method holds a dozen n x n arrays and decomposes one twice an iteration
_CENTERED_ROUNDS = 4


class PublishedModel(NamedTuple):
    """Imputed training rows in [0, 1], column means, the kernel, the objective by iteration."""

    rows: np.ndarray
    means: np.ndarray
    kernel: SupervisedKernel
    objective: list


def fit_published(X, y, *, gamma, C, eta, perturbation, bounds, max_iter, tol):
    """Stages I and II as published.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        In [0, 1]; holes are NaN.
    y : ndarray of shape (n,)
        +1, -1, or 0 for a row without label.
    gamma, C : float
    eta : float or None
        None takes the norm of alpha of the machine on mean-imputed rows.
    perturbation : float
        Radius over the number of rows and the share of missing entries.
    bounds : {"code", "exact"}
    max_iter : int
    tol : float

    Returns
    -------
    PublishedModel
    """
    observed = ~np.isnan(X)
    filled, means = _mean_imputed(X)
    if eta is None:
        plain = gaussian_kernel(sqdist(filled), gamma)
        eta = float(np.linalg.norm(svm_duals(plain, y[:, None], C)[0]))
    common = gaussian_kernel(common_sqdist(X, observed), gamma)
    if bounds == "code":
        lower = published_lower_bound(observed, gamma)
    else:
        lower = np.exp(-gamma * missing_sqdist_bound(X, observed))
    stage = run_stage_one(
        common, lower, y, C=C, eta=eta, radius=perturbation * X.shape[0] * np.mean(~observed),
        max_iter=max_iter, tol=tol,
    )  # fmt: skip
    rows, _, _ = fit_as_published(filled, ~observed, target_sqdist(stage.kernel, gamma))
    kernel = SupervisedKernel(
        common, stage.factor, stage.dual_coef[:, None], np.array([stage.published_intercept])
    )
    return PublishedModel(rows, means, kernel, stage.objective)


def fit_centered(X, base, solve, *, gamma, kappa):
    r"""Two stages around a base imputation.

    The penalty of stage I pulls the corrected common kernel to the Gaussian kernel of the base,
    without perturbation; stage II starts from the base and weighs pairs by the kernel.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        In [0, 1]; holes are NaN.
    base : ndarray of shape (n, d)
        The same rows, completed.
    solve : callable or None
        From a kernel to dual coefficients and intercepts.
    gamma, kappa : float

    Returns
    -------
    PublishedModel
    """
    observed = ~np.isnan(X)
    base = np.clip(base, 0.0, 1.0)
    common = gaussian_kernel(common_sqdist(X, observed), gamma)
    initial = gaussian_kernel(sqdist(base), gamma)
    kernel = correct(
        initial, solve, kappa, gain=common * common / initial, n_rounds=_CENTERED_ROUNDS
    )
    K = kernel.initial * kernel.factor
    weights = K.copy()
    np.fill_diagonal(weights, 0.0)
    rows = fit_by_lbfgs(base, ~observed, target_sqdist(K, gamma), weights)
    return PublishedModel(rows, _mean_imputed(X)[1], kernel, [])


def complete_rows(model, X):
    """Complete new rows: distances to the imputed training rows, from common features, scaled up.

    This step is not in the paper, whose new rows have no holes. A row without any observed entry
    gets the column means.
    """
    out = np.where(np.isnan(X), model.means, X)
    holes = np.isnan(X)
    share = 1.0 - holes.mean(axis=1)
    everywhere = np.ones(model.rows.shape, dtype=bool)
    for i in np.flatnonzero(holes.any(axis=1) & (share > 0.0)):
        D = common_sqdist(X[i : i + 1], ~holes[i : i + 1], model.rows, everywhere)[0]
        out[i] = fit_row(out[i], holes[i], model.rows, D / share[i])
    return out


def _mean_imputed(X):
    observed = ~np.isnan(X)
    means = np.where(observed, X, 0.0).sum(axis=0) / np.maximum(observed.sum(axis=0), 1)
    return np.where(observed, X, means), means
