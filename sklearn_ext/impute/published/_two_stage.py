"""Two-stage imputation: learn the kernel of the samples, then find samples with that kernel."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...utils._typing import FloatArray
from ._incomplete_kernel import (
    common_sqdist,
    gaussian_kernel,
    missing_sqdist_bound,
    published_lower_bound,
)
from ._kernel_correction import CorrectedKernel, DualSolver, correct_kernel
from ._kernel_machines import svm_duals
from ._s_stress import fit_by_adam, fit_by_lbfgs, fit_sample, sqdist, target_sqdist
from ._stage_one import run_stage_one

# The method stores a dozen n x n arrays and decomposes one of them twice per iteration.
MAX_SAMPLES = 5_000
_CENTERED_ROUNDS = 4


@dataclass(frozen=True, kw_only=True)
class TwoStageConfig:
    """Settings of :func:`fit_two_stage_imputer`. The defaults are those of the paper.

    Parameters
    ----------
    gamma : float
        Coefficient of squared distances in the kernel.
    C : float, default=1.0
        Penalty of the support vector machine.
    eta : float or None, default=None
        Weight that keeps the correction near one. None means the norm of the dual coefficients on
        mean-imputed samples.
    perturbation : float, default=0.2
        Radius of the worst-case perturbation, per sample and fraction of missing entries.
    bounds : {"code", "exact"}, default="code"
        Lower bounds of the correction: those of the authors' program, or those that values in
        [0, 1] allow.
    kappa : float in [0, 1], default=0.1
        Largest relative change of an entry, in the variant centered at a base imputation.
    max_iter : int, default=10000
        Maximum number of iterations of stage I.
    tol : float, default=1e-4
        Stage I stops when the dual coefficients change by less than this.

    Examples
    --------
    >>> from sklearn_ext.impute import TwoStageConfig
    >>> TwoStageConfig(gamma=1.0).perturbation
    0.2
    """

    gamma: float
    C: float = 1.0
    eta: float | None = None
    perturbation: float = 0.2
    bounds: str = "code"
    kappa: float = 0.1
    max_iter: int = 10_000
    tol: float = 1e-4


@dataclass(frozen=True, kw_only=True, eq=False)
class TwoStageImputation:
    """Result of the two stages, for features in [0, 1].

    Parameters
    ----------
    completed : ndarray of shape (n, d)
        The training samples with their missing values imputed.
    means : ndarray of shape (d,)
        Means of the observed entries of each feature.
    kernel : CorrectedKernel
        The kernel of stage I, and the machine on it.
    objective : list of float
        Objective of stage I by iteration.
    """

    completed: FloatArray
    means: FloatArray
    kernel: CorrectedKernel
    objective: list[float]

    def transform(self, X: FloatArray) -> FloatArray:
        """Complete new samples by their distances to the imputed training samples.

        Distances are computed from common features and scaled up. The paper does not have this
        step, because its new samples are complete. A sample without observed entries is filled with
        the means.

        Parameters
        ----------
        X : ndarray of shape (m, d)
            Features in [0, 1]. Missing values are NaN.

        Returns
        -------
        ndarray of shape (m, d)
        """
        missing = np.isnan(X)
        out = np.where(missing, self.means, X)
        fraction = 1.0 - missing.mean(axis=1)
        everywhere = np.ones(self.completed.shape, dtype=bool)
        for i in np.flatnonzero(missing.any(axis=1) & (fraction > 0.0)):
            D = common_sqdist(X[i : i + 1], ~missing[i : i + 1], self.completed, everywhere)[0]
            out[i] = fit_sample(out[i], missing[i], self.completed, D / fraction[i])
        return out


def fit_two_stage_imputer(
    X: FloatArray,
    y: FloatArray,
    config: TwoStageConfig,
    *,
    after_iteration: Callable[[], bool] = bool,
) -> TwoStageImputation:
    r"""Impute with the two stages of the paper.

    Stage I corrects the Gaussian kernel :math:`K_o` on common features by a factor :math:`K_D` that
    separates the classes, against a worst-case perturbation E:

    .. math::
        \min_{K_D} \max_{\alpha, E}\ 1^T \alpha
            - \tfrac12 (\alpha \circ y)^T (K_o \circ K_D \circ E) (\alpha \circ y)
            + \eta \lVert K_D - J \rVert_F^2 .

    Stage II finds missing values in [0, 1] whose squared distances are those of the corrected
    kernel, :math:`T = -\log(K_o \circ K_D) / \gamma`:

    .. math:: \min_X\ \sum_{i \neq j} \bigl(\lVert x_i - x_j \rVert^2 - T_{ij}\bigr)^2 .

    The fit is deterministic, and its cost is cubic in the number of samples.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Features in [0, 1]. Missing values are NaN.
    y : ndarray of shape (n,)
        +1 or -1, and 0 for a sample without a label.
    config : TwoStageConfig
        Settings of both stages.
    after_iteration : callable, default=bool
        Called after each iteration of stage I; returns whether to stop.

    Returns
    -------
    TwoStageImputation
        ``completed`` holds the imputed training samples, ``kernel`` the kernel of stage I, and
        ``transform(X)`` completes new samples.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext.impute import TwoStageConfig, fit_two_stage_imputer
    >>> t = np.linspace(0.0, 1.0, 20)
    >>> X, y = np.column_stack((t, t)), np.where(t > 0.5, 1.0, -1.0)
    >>> X[3, 1] = np.nan
    >>> imputation = fit_two_stage_imputer(X, y, TwoStageConfig(gamma=1.0, max_iter=5))
    >>> imputation.completed.shape
    (20, 2)
    """
    observed = ~np.isnan(X)
    filled, means = _mean_imputed(X)
    eta = config.eta
    if eta is None:
        plain = gaussian_kernel(sqdist(filled), config.gamma)
        eta = float(np.linalg.norm(svm_duals(plain, y[:, None], config.C)[0]))
    common = gaussian_kernel(common_sqdist(X, observed), config.gamma)
    if config.bounds == "code":
        lower = published_lower_bound(observed, config.gamma)
    else:
        lower = np.exp(-config.gamma * missing_sqdist_bound(X, observed))
    stage = run_stage_one(
        common,
        lower,
        y,
        C=config.C,
        eta=eta,
        radius=config.perturbation * X.shape[0] * np.mean(~observed),
        max_iter=config.max_iter,
        tol=config.tol,
        after_iteration=after_iteration,
    )
    completed, _, _ = fit_by_adam(filled, ~observed, target_sqdist(stage.kernel, config.gamma))
    kernel = CorrectedKernel(
        common, stage.factor, stage.dual_coef[:, None], np.array([stage.published_intercept])
    )
    return TwoStageImputation(
        completed=completed, means=means, kernel=kernel, objective=stage.objective
    )


def fit_centered_two_stage_imputer(
    X: FloatArray, base: FloatArray, solve: DualSolver | None, config: TwoStageConfig
) -> TwoStageImputation:
    """Impute with two stages around a base imputation.

    The penalty of stage I pulls the corrected kernel toward the Gaussian kernel of the base,
    without perturbation. Stage II starts from the base and weights pairs of samples by the kernel.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Features in [0, 1]. Missing values are NaN.
    base : ndarray of shape (n, d)
        The same samples, completed.
    solve : callable or None
        Maps a kernel to dual coefficients and intercepts. None, for samples without labels, leaves
        the kernel uncorrected.
    config : TwoStageConfig
        Settings. Only ``gamma`` and ``kappa`` are used.

    Returns
    -------
    TwoStageImputation
    """
    observed = ~np.isnan(X)
    base = np.clip(base, 0.0, 1.0)
    common = gaussian_kernel(common_sqdist(X, observed), config.gamma)
    initial = gaussian_kernel(sqdist(base), config.gamma)
    kernel = correct_kernel(
        initial,
        solve,
        config.kappa,
        gain=common * common / initial,
        n_rounds=_CENTERED_ROUNDS,
    )
    K = kernel.initial * kernel.factor
    weights = K.copy()
    np.fill_diagonal(weights, 0.0)
    completed = fit_by_lbfgs(base, ~observed, target_sqdist(K, config.gamma), weights)
    return TwoStageImputation(
        completed=completed, means=_mean_imputed(X)[1], kernel=kernel, objective=[]
    )


def _mean_imputed(X: FloatArray) -> tuple[FloatArray, FloatArray]:
    observed = ~np.isnan(X)
    means = np.where(observed, X, 0.0).sum(axis=0) / np.maximum(observed.sum(axis=0), 1)
    return np.where(observed, X, means), means
