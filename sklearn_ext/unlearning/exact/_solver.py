"""The algorithm: fit, forget and learn samples, by an update or a new factorization."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.linalg import LinAlgWarning

from ...utils._typing import FloatArray
from ...utils._warnings import warn_caller
from ._engine import IllConditionedError
from ._feature_map import FeatureMap
from ._ridge import EPSILON
from ._training_samples import Request, TrainingSamples
from .solutions import NEVER_LEARNED, DualSolution, PrimalSolution, RidgePath, Solution

# Measured on random features of german, segment and diabetes: without refinement, the predictions
# of a request and of a new fit differ by at most about this times the condition number.
_ERROR_PER_CONDITION = 1e-17
_LARGEST_ERROR = 1e-9  # of the largest prediction
_LARGEST_RESCALING_ERROR = 1e-10  # of the coefficients


@dataclass(frozen=True)
class RandomFeatureConfig:
    r"""Settings of a ridge regression on random features.

    Parameters
    ----------
    n_components : int, default=1000
        Number of random frequencies.
    gamma : float, default=1.0
        Coefficient of the kernel :math:`\exp(-\gamma\lVert x - x'\rVert^2)`.
    alpha : float or tuple of float, default=1e-2
        Ridge penalty on the sum of squared errors, or ascending candidates, of which generalized
        cross-validation chooses one.
    fit_intercept : bool, default=True
        Whether to add a constant feature.
    solver : {"auto", "dual", "primal"}, default="auto"
        "auto" chooses the form with the smaller matrix.
    store : bool, "features" or "auto", default="auto"
        What the model stores of its training samples, as in :class:`RandomFeatureRegressor`.
    refresh_fraction : float, default=0.5
        Fraction of the samples in the last factorization that updates may change in total.

    Examples
    --------
    >>> from sklearn_ext.unlearning.exact import RandomFeatureConfig
    >>> RandomFeatureConfig(alpha=1e-8).refresh_fraction
    0.5
    """

    n_components: int = 1000
    gamma: float = 1.0
    alpha: float | tuple[float, ...] = 1e-2
    fit_intercept: bool = True
    solver: Literal["auto", "dual", "primal"] = "auto"
    store: bool | Literal["features", "auto"] = "auto"
    refresh_fraction: float = 0.5


def chosen_solver(
    config: RandomFeatureConfig, n_samples: int, n_columns: int
) -> Literal["dual", "primal"]:
    """Return the solver to use: for "auto", the one with the smaller matrix."""
    if config.solver == "auto":
        return "dual" if n_samples < n_columns else "primal"
    return config.solver


def what_to_store(
    config: RandomFeatureConfig, n_samples: int, n_columns: int
) -> Literal["samples", "features"] | None:
    """Decide whether the model stores its training samples, their features, or neither.

    "auto" stores what the dual solver needs: features if they take at most twice the memory of the
    inverse matrix, samples otherwise.

    Parameters
    ----------
    config : RandomFeatureConfig
        Settings of the regression.
    n_samples : int
        Number of training samples.
    n_columns : int
        Number of features, including the constant one.

    Returns
    -------
    {"samples", "features"} or None

    Raises
    ------
    ValueError
        If `store` is False and the solver is dual.
    """
    if config.store == "features":
        return "features"
    if chosen_solver(config, n_samples, n_columns) == "primal":
        return "samples" if config.store is True else None
    if config.store == "auto":
        return "features" if n_columns <= 2 * n_samples else "samples"
    if not config.store:
        raise ValueError(
            "store=False needs solver='primal': the dual solver, which was chosen for "
            f"{n_samples} samples and {n_columns} features, works with the training samples."
        )
    return "samples"


def fit_ridge(
    features: FeatureMap, samples: TrainingSamples, config: RandomFeatureConfig
) -> Solution:
    """Fit a ridge regression from which samples can be forgotten.

    The dual form [1]_ suits fewer samples than features, the primal form more.

    Parameters
    ----------
    features : FeatureMap
        Maps samples to features.
    samples : TrainingSamples
        Training samples.
    config : RandomFeatureConfig
        Settings of the regression.

    Returns
    -------
    DualSolution, PrimalSolution or RidgePath
        The dual form if `config` requests it, or if the solver is "auto" and there are fewer
        samples than features. Its coefficients are in `coef`, of shape (n_columns, n_targets). A
        RidgePath contains solutions for several candidates of `alpha`.

    Raises
    ------
    ValueError
        If `alpha` is so small that the matrix is singular in float64.

    References
    ----------
    .. [1] C. Saunders, A. Gammerman, V. Vovk, "Ridge Regression Learning Algorithm in Dual
       Variables", ICML 1998.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext.unlearning.exact import (
    ...     FeatureMap, RandomFeatureConfig, RidgeScipyEngine, TrainingSamples, fit_ridge)
    >>> engine = RidgeScipyEngine()
    >>> features = FeatureMap(engine, engine.asarray, n_columns=2, is_identity=True)
    >>> Z, Y = np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[1.0], [2.0]])
    >>> samples = TrainingSamples(Z, Y, weights=np.ones(2))
    >>> fit_ridge(features, samples, RandomFeatureConfig(alpha=1.0)).coef
    array([[0.5],
           [0.8]])
    """
    solver = chosen_solver(config, len(samples), features.n_columns)
    form = DualSolution if solver == "dual" else PrimalSolution
    try:
        if isinstance(config.alpha, tuple):
            path = RidgePath.fit(form, features, samples, config.alpha)
            return refine(path, features, samples)
        return refine(form.fit(features, samples, config.alpha), features, samples)
    except IllConditionedError as error:
        raise too_small(config.alpha) from error


def needs_refinement(solution: Solution) -> bool:
    """Whether rounding may make a request and a new fit differ by a tenth of 1e-9."""
    return _ERROR_PER_CONDITION * solution.condition > 0.1 * _LARGEST_ERROR


def refine(solution: Solution, features: FeatureMap, samples: TrainingSamples) -> Solution:
    """Refine the coefficients of a solution if rounding may have changed them noticeably.

    Parameters
    ----------
    solution : DualSolution, PrimalSolution or RidgePath
        The model.
    features : FeatureMap
        Maps samples to features.
    samples : TrainingSamples
        All samples in the model.

    Returns
    -------
    DualSolution, PrimalSolution or RidgePath

    Raises
    ------
    IllConditionedError
        If errors above 1e-9 of the predictions are left.
    """
    if not needs_refinement(solution):
        return solution
    solution, error = solution.apply_pending(features.engine).refined(features, samples)
    if error > _LARGEST_ERROR:
        raise IllConditionedError("The inverse is too inexact for a refinement.")
    return solution


def too_small(alpha: float | tuple[float, ...]) -> ValueError:
    """Return the error for a matrix that is singular."""
    return ValueError(
        f"alpha={alpha} is too small for these samples: their matrix is singular in float64. "
        "Choose a larger alpha."
    )


def forget_samples(
    solution: Solution,
    features: FeatureMap,
    request: Request,
    config: RandomFeatureConfig,
    *,
    stored: TrainingSamples | None = None,
) -> Solution:
    """Remove samples from a ridge regression.

    The inverse is updated [2]_, which gives the model that was never trained on the samples [1]_.
    If much has changed since the last factorization, or if the update would lose precision, the
    matrix is factored again.

    Parameters
    ----------
    solution : DualSolution, PrimalSolution or RidgePath
        The model of all samples; it stays valid.
    features : FeatureMap
        Maps samples to features.
    request : Request
        The samples to forget. A dual solution needs their positions.
    config : RandomFeatureConfig
        Settings of the regression.
    stored : TrainingSamples or None, default=None
        All samples in the model. A dual solution needs them, a primal one does not.

    Returns
    -------
    DualSolution, PrimalSolution or RidgePath
        The model of the retained samples. Its large matrices may still have a pending update,
        which its method `apply_pending` applies.

    Raises
    ------
    ValueError
        If the samples cannot have been in the model, or if a dual solution lacks `stored`.

    References
    ----------
    .. [1] R. Yang, M. He, Z. He, Y. Qiu, X. Huang, "MUSO: Achieving Exact Machine Unlearning in
       Over-Parameterized Regimes", arXiv:2410.08557, 2024.
    .. [2] W. W. Hager, "Updating the Inverse of a Matrix", SIAM Review 31(2), 1989.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext.unlearning.exact import (
    ...     FeatureMap, RandomFeatureConfig, RidgeScipyEngine, TrainingSamples, fit_ridge,
    ...     forget_samples, request_by_index)
    >>> engine, rng = RidgeScipyEngine(), np.random.default_rng(0)
    >>> features = FeatureMap(engine, engine.asarray, n_columns=30, is_identity=True)
    >>> samples = TrainingSamples(rng.normal(size=(20, 30)), rng.normal(size=(20, 1)), np.ones(20))
    >>> config = RandomFeatureConfig(alpha=0.1)
    >>> solution = fit_ridge(features, samples, config)
    >>> request = request_by_index([0, 3], np.ones(20, dtype=bool), samples)
    >>> forgotten = forget_samples(solution, features, request, config, stored=samples)
    >>> retrained = fit_ridge(features, samples.without(np.array([0, 3])), config)
    >>> bool(np.allclose(forgotten.coef, retrained.coef))
    True
    """
    if _may_update(solution, len(request.samples), config):
        with suppress(IllConditionedError):
            updated = solution.forget(features, request, stored)
            if stored is not None and request.positions is not None and needs_refinement(updated):
                updated = refine(updated, features, stored.without(request.positions))
            return updated
    if stored is None or request.positions is None:
        return _refactored(solution, features, request.samples, -1.0)
    return fit_ridge(features, stored.without(request.positions), config)


def relabel_samples(
    solution: Solution,
    features: FeatureMap,
    request: Request,
    config: RandomFeatureConfig,
    *,
    stored: TrainingSamples | None = None,
) -> FloatArray:
    """Predict samples with the model that excludes them.

    Parameters and errors are those of `forget_samples`.

    Returns
    -------
    ndarray of shape (m, k)
    """
    # Without the samples, another ridge may be chosen.
    if not isinstance(solution, RidgePath) and not needs_refinement(solution):
        with suppress(IllConditionedError):
            return solution.labels(features, request)
    forgotten = forget_samples(solution, features, request, config, stored=stored)
    Z = features(request.samples.X)
    return features.engine.to_numpy(Z @ features.engine.asarray(forgotten.coef))


def learn_samples(
    solution: Solution,
    features: FeatureMap,
    added: TrainingSamples,
    config: RandomFeatureConfig,
    *,
    stored: TrainingSamples | None = None,
) -> Solution:
    """Add samples to a ridge regression, with the same safeguards as `forget_samples`.

    Parameters
    ----------
    solution : DualSolution, PrimalSolution or RidgePath
        The model before learning; it stays valid.
    features : FeatureMap
        Maps samples to features.
    added : TrainingSamples
        The new samples.
    config : RandomFeatureConfig
        Settings of the regression.
    stored : TrainingSamples or None, default=None
        Samples in the model before learning. A dual solution needs them, a primal one does not.

    Returns
    -------
    DualSolution, PrimalSolution or RidgePath

    Raises
    ------
    ValueError
        If the matrix is singular in float64.
    """
    if _may_update(solution, len(added), config):
        with suppress(IllConditionedError):
            updated = solution.learn(features, added, stored)
            if stored is not None and needs_refinement(updated):
                updated = refine(updated, features, stored.extended(added))
            return updated
    if stored is None:
        return _refactored(solution, features, added, 1.0)
    return fit_ridge(features, stored.extended(added), config)


def rescale_features(
    solution: Solution,
    features: FeatureMap,
    before: TrainingSamples,
    after: TrainingSamples,
    scale: FloatArray,
    shift: FloatArray,
    config: RandomFeatureConfig,
) -> Solution | None:
    """Fit to features that have changed by an affine map, from sums instead of samples.

    This takes :math:`O(p^3 + n p)` operations for p features of n samples; a new fit takes
    :math:`O(n p^2)`.

    Parameters
    ----------
    solution : PrimalSolution or RidgePath
        The model before the change; it stays valid.
    features : FeatureMap
        Maps samples to features, of which the last one is constant.
    before, after : TrainingSamples
        All samples in the model, before and after the change.
    scale, shift : ndarray of shape (p,)
        The features have changed from z to ``scale * z + shift``.
    config : RandomFeatureConfig
        Settings of the regression.

    Returns
    -------
    PrimalSolution, RidgePath or None
        None if a new fit is needed: for a dual solution, or if the sums would lose precision.
    """
    if isinstance(solution, DualSolution) or solution.name == "dual" or not config.fit_intercept:
        return None
    if chosen_solver(config, solution.n_samples, features.n_columns) == "dual":
        return None
    is_small = (abs(np.log2(scale)) <= 1.0).all() and (abs(shift) <= 1.0).all()
    error = EPSILON * (solution.n_rescaled + 1) * solution.condition
    if not is_small or error > _LARGEST_RESCALING_ERROR:
        return None
    with suppress(IllConditionedError):
        rescaled = solution.rescaled(features, before, after, scale, shift)
        return refine(rescaled, features, after)
    return None


def warn_if_imprecise(solution: Solution, config: RandomFeatureConfig) -> None:
    """Warn about a request that could not be refined, because the model stores no samples."""
    error = _ERROR_PER_CONDITION * solution.condition
    if error > _LARGEST_ERROR:
        warn_caller(
            f"alpha={config.alpha} is small beside the features, so the model may differ from a "
            f"new fit by {error:.0e} of its predictions. With store=True, or in a "
            "ForgettingPipeline, a request is refined until it is exact to 1e-9.",
            LinAlgWarning,
        )


def _may_update(solution: Solution, n_changed: int, config: RandomFeatureConfig) -> bool:
    """Whether few enough samples have changed since the last factorization."""
    return solution.n_changed + n_changed <= config.refresh_fraction * solution.n_factored


def _refactored(
    solution: Solution, features: FeatureMap, changed: TrainingSamples, sign: float
) -> PrimalSolution | RidgePath:
    """Factor the sums of a primal solution again, after learning or forgetting samples."""
    if isinstance(solution, DualSolution):
        raise ValueError("stored must be given for a dual solution, got None.")
    try:
        return solution.refactored(features, changed, sign)
    except IllConditionedError as error:
        if sign > 0:
            raise too_small(solution.ridge) from error
        raise ValueError(NEVER_LEARNED) from error
