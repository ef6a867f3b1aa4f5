"""Base class of the regressor and the classifier on random features."""

import copy
from abc import ABCMeta, abstractmethod
from dataclasses import replace
from functools import partial
from numbers import Integral, Real
from typing import Any, Literal, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    clone,
)
from sklearn.exceptions import NotFittedError
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from ...utils._atomic import working_copy
from ...utils._random import local_random_state
from ...utils._typing import Array, BoolArray, FloatArray, RandomState
from ...utils._validation import check_magnitude, named_as_in_fit
from ...utils.compat import CallbackSupportMixin, FitTasks
from ._engine import EngineArray, RidgeEngine, RidgeScipyEngine, with_ones
from ._feature_map import FeatureMap, draw_frequencies
from ._solver import (
    RandomFeatureConfig,
    fit_ridge,
    forget_samples,
    learn_samples,
    needs_refinement,
    refine,
    relabel_samples,
    rescale_features,
    warn_if_imprecise,
    what_to_store,
)
from ._training_samples import Request, TrainingSamples, request_by_index
from .solutions import DualSolution, OneRidge, RidgePath, Solution


class BaseRandomFeature(
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    CallbackSupportMixin,
    BaseEstimator,
    metaclass=ABCMeta,
):
    """Ridge regression on features that do not depend on the training samples.

    Subclasses convert y to columns of targets, and columns of values to predictions.
    """

    _parameter_constraints: dict[str, Any] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "gamma": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "alpha": [Interval(Real, 0, None, closed="neither"), "array-like"],
        "feature_map": [StrOptions({"identity"}), HasMethods(["fit", "transform"]), None],
        "fit_intercept": ["boolean"],
        "solver": [StrOptions({"auto", "dual", "primal"})],
        "store": [StrOptions({"auto", "features"}), "boolean"],
        "refresh_fraction": [Interval(Real, 0, None, closed="left")],
        "device": "no_validation",  # `make_engine` checks it
        "random_state": ["random_state"],
    }

    feature_coef_: FloatArray
    intercept_: float | FloatArray
    retained_: BoolArray | None
    n_retained_: int
    _solution: Solution
    _samples: TrainingSamples | None

    def __init__(
        self,
        n_components: int = 1000,
        *,
        gamma: float | Literal["auto"] = "auto",
        alpha: float | ArrayLike = 1e-2,
        feature_map: Any = None,
        fit_intercept: bool = True,
        solver: Literal["auto", "dual", "primal"] = "auto",
        store: bool | Literal["features", "auto"] = "auto",
        refresh_fraction: float = 0.5,
        device: Any = None,
        random_state: RandomState = None,
    ) -> None:
        self.n_components = n_components
        self.gamma = gamma
        self.alpha = alpha
        self.feature_map = feature_map
        self.fit_intercept = fit_intercept
        self.solver = solver
        self.store = store
        self.refresh_fraction = refresh_fraction
        self.device = device
        self.random_state = random_state

    def forget(
        self,
        indices: ArrayLike | None = None,
        *,
        X: Any = None,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        lazy: bool = False,
    ) -> Self:
        """Forget samples: become the model that was never trained on them.

        Parameters
        ----------
        indices : array-like of int or array-like of bool, default=None
            Samples to forget, or a mask over all samples. Samples are numbered in the order in
            which they were given to `fit` and then to `learn`. An empty request changes nothing.
        X : {array-like, sparse matrix} of shape (n_forget, n_features), default=None
            The samples themselves, if the model does not store them (see `store`). They must have
            been learned, which the model cannot check completely.
        y : array-like of shape (n_forget,) or (n_forget, n_outputs), default=None
            Targets of the samples.
        sample_weight : array-like of shape (n_forget,), default=None
            Weights with which the samples were learned.
        lazy : bool, default=False
            Whether to postpone the update of the large matrices until the next request, or until
            the model is pickled. The coefficients are the same and available sooner, but the
            samples are not erased from memory before the update.

        Returns
        -------
        self : object
            The model without the samples. If an exception interrupts the request, it has happened
            completely or not at all.

        Raises
        ------
        NotFittedError
            If the model is unfitted.
        ValueError
            If an index is out of range, given twice or already forgotten; if a mask has the wrong
            length; if no sample would be left; if samples are given by value to a model that stores
            samples, or by index to a model that does not; or if the samples cannot have been in the
            model. The model then stays unchanged.
        TypeError
            If `indices` is neither a mask nor indices.
        """
        request = self._request(indices, X, y, sample_weight)
        if len(request.samples):
            self._become(self._forgetting(request, lazy=lazy))
        return self

    def _forgetting(self, request: Request, *, lazy: bool = False) -> Self:
        """Return the model without the samples; this one stays valid."""
        n_forgotten = len(request.samples)
        if n_forgotten >= self.n_retained_:
            raise ValueError(
                f"The request is for {n_forgotten} of {self.n_retained_} samples; at least one "
                "must be retained."
            )
        features, config, stored = self._stored_features(), self._request_config(), self._samples
        solution = forget_samples(self._solution, features, request, config, stored=stored)
        if stored is not None and request.positions is not None:
            stored = stored.without(request.positions)
        if not lazy:
            solution = solution.apply_pending(features.engine)
        changed = working_copy(self)
        changed._set_model(solution, stored, request.retained, request.samples, -1)
        return changed

    def _rescaling(
        self,
        before: Any,
        after: Any,
        y: ArrayLike,
        sample_weight: ArrayLike,
        scale: FloatArray,
        shift: FloatArray,
    ) -> Self | None:
        """Return the model of columns that have changed by an affine map, given all its samples.

        None if it must be fitted again.
        """
        is_identity = self.random_weights_ is None and self.feature_map_ is None
        if not is_identity or self._samples is not None:
            return None
        samples, _ = self._checked_samples(before, y, sample_weight)
        config = self._request_config()
        solution = rescale_features(
            self._solution,
            self._features(),
            samples,
            replace(samples, X=self._validated(after)),
            np.append(scale, 1.0),
            np.append(shift, 0.0),
            config,
        )
        if solution is None:
            return None
        changed = working_copy(self)
        changed._set_model(solution, None, None, samples[:0], 1)
        return changed

    def relabel(
        self,
        indices: ArrayLike | None = None,
        *,
        X: Any = None,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> FloatArray:
        """Predict samples as a model without them would, and leave this model unchanged.

        If you train this model further with these predictions as the labels of the samples, it
        converges to the model that was never trained on them.

        Parameters
        ----------
        indices : array-like of int or array-like of bool, default=None
            Samples, as for `forget`.
        X : {array-like, sparse matrix} of shape (n_forget, n_features), default=None
            The samples themselves, if the model does not store them.
        y : array-like of shape (n_forget,) or (n_forget, n_outputs), default=None
            Targets of the samples.
        sample_weight : array-like of shape (n_forget,), default=None
            Weights with which the samples were learned.

        Returns
        -------
        ndarray of shape (n_forget,) or (n_forget, n_outputs)
            Predictions of the regressor, or scores of the classes of the classifier, in the order
            of the request.

        Raises
        ------
        NotFittedError
            If the model is unfitted.
        ValueError
            As in `forget`.
        TypeError
            As in `forget`.
        """
        request = self._request(indices, X, y, sample_weight)
        if len(request.samples) == 0:
            return self._outputs(np.empty((0, self._solution.coef.shape[1])))
        features, config = self._stored_features(), self._request_config()
        return self._outputs(
            relabel_samples(self._solution, features, request, config, stored=self._samples)
        )

    def _needs_refinement(self) -> bool:
        """Whether the model stores no samples and needs them to be exact to 1e-9."""
        return self._samples is None and needs_refinement(self._solution)

    def _refining(self, X: Any, y: Array, weights: FloatArray) -> Self:
        """Return the model with refined coefficients, given all its samples.

        Samples of weight zero are ignored. An array of floats is not checked again.
        """
        is_checked = isinstance(X, np.ndarray) and X.dtype == np.float64
        X = X if is_checked else self._validated(X)
        samples = TrainingSamples(X, self._target_columns(y), weights)
        changed = working_copy(self)
        solution = refine(self._solution, self._features(), samples)
        changed._set_model(solution, None, None, samples[:0], 1)
        return changed

    def transform(self, X: Any) -> FloatArray:
        """Compute the features of samples, without the constant feature.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        ndarray of shape (n_samples, n_features_out)
        """
        X = self._validated(X)
        engine = make_engine(self.device)
        return engine.to_numpy(self._transform(engine, X, constant=False))

    def __getstate__(self) -> dict[str, Any]:
        if self.__sklearn_is_fitted__():
            self._apply_pending()  # a file must not contain forgotten samples
        return super().__getstate__()

    def __copy__(self) -> Self:
        # A request overwrites the memory that it no longer needs, so models must not share it.
        return copy.deepcopy(self)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_solution")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.target_tags.required = True
        return tags

    @property
    def _n_features_out(self) -> int:
        return np.shape(self.feature_coef_)[-1]

    @abstractmethod
    def _validated_targets(self, X: Any, y: ArrayLike | None) -> tuple[Any, FloatArray]:
        """Validate samples given after `fit`; return them and their columns of targets."""

    @abstractmethod
    def _target_columns(self, y: Array) -> FloatArray:
        """Convert validated targets to columns (n, k)."""

    @abstractmethod
    def _learning(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Return the model with more samples; this one stays valid."""

    @abstractmethod
    def _outputs(self, values: FloatArray) -> FloatArray:
        """Convert columns of values (n, k) to predictions."""

    def _fit_targets(self, X: Any, Y: FloatArray, weights: FloatArray, tasks: FitTasks) -> Self:
        """Draw the features, and fit to the samples of positive weight.

        Each block of samples is a task. Callbacks cannot end the fit before the last one, because
        every sample counts.
        """
        config = self._config = self._new_config(X.shape[1])
        self._set_feature_map(X, config)
        kept = weights > 0
        samples = TrainingSamples(X, Y, weights)[kept]
        first = self._transform(make_engine(self.device), samples.X[:1], constant=False)
        self._n_columns = first.shape[1] + config.fit_intercept
        stored = what_to_store(config, len(samples), self._n_columns)
        self._stores_features = stored == "features"
        samples = self._as_stored(samples, _reporting(self._features(), tasks))
        solution = fit_ridge(_reporting(self._stored_features(), tasks), samples, config)
        if stored is None:
            self._set_model(solution, None, None, samples, 1)
        else:
            self._set_model(solution, samples, kept, samples, 1)
        self.refitted_ = False
        tasks.end()
        return self

    def _learn_targets(
        self,
        added: TrainingSamples,
        kept: BoolArray,
        solution: Solution,
        stored: TrainingSamples | None,
    ) -> Self:
        """Learn samples in a working copy.

        `solution` and `stored` have columns for the targets of `added`. `kept` marks the samples
        given by the user that have a positive weight.
        """
        retained = self.retained_
        if retained is not None:
            retained = np.concatenate((retained, kept))
        if len(added) == 0:
            self.retained_ = retained
            return self
        added = self._as_stored(added, self._features())
        features, config = self._stored_features(), self._request_config()
        solution = learn_samples(solution, features, added, config, stored=stored)
        stored = None if stored is None else stored.extended(added)
        self._set_model(solution, stored, retained, added, 1)
        return self

    def _set_model(
        self,
        solution: Solution,
        stored: TrainingSamples | None,
        retained: BoolArray | None,
        changed: TrainingSamples,
        sign: int,
    ) -> None:
        """Set the fitted attributes; `changed` samples were learned (sign 1) or forgotten (-1)."""
        coef = self._outputs(solution.coef).T
        width = coef.shape[-1] - self._config.fit_intercept
        intercept = coef[..., width] if self._config.fit_intercept else np.zeros(coef.shape[:-1])
        self.feature_coef_ = coef[..., :width]
        self.intercept_ = float(intercept) if intercept.ndim == 0 else intercept
        chosen = solution.chosen if isinstance(solution, RidgePath) else solution
        self.alpha_ = chosen.ridge
        if isinstance(chosen, DualSolution):
            self.dual_coef_ = self._outputs(chosen.alpha)
        elif hasattr(self, "dual_coef_"):
            del self.dual_coef_
        self.retained_ = retained
        self.n_retained_ = solution.n_samples
        self.solver_ = solution.name
        self.refitted_ = solution.n_changed == 0
        self._samples = stored
        self._solution = solution

    def _become(self, changed: Self) -> None:
        """Take over the attributes of another model in one step, and overwrite those replaced."""
        if changed._samples is None:
            warn_if_imprecise(changed._solution, changed._config)
        before = self._matrices()
        self.__dict__ = changed.__dict__
        overwrite_memory(before, self._matrices())

    def _matrices(self) -> list[FloatArray]:
        """Return the arrays that contain information about each sample."""
        samples = [] if self._samples is None else self._samples.arrays
        return [*self._solution.matrices, *samples]

    def _chosen_solution(self) -> OneRidge:
        """Return the solution for the chosen ridge, without pending updates."""
        self._apply_pending()
        solution = self._solution
        return solution.chosen if isinstance(solution, RidgePath) else solution

    def _apply_pending(self) -> None:
        """Apply the updates of lazy requests."""
        if self._solution.pending is not None:
            before = self._solution.matrices
            self._solution = self._solution.apply_pending(make_engine(self.device))
            overwrite_memory(before, self._solution.matrices)

    def _new_config(self, n_features: int) -> RandomFeatureConfig:
        return RandomFeatureConfig(
            n_components=self.n_components,
            gamma=1.0 / n_features if self.gamma == "auto" else self.gamma,
            alpha=_checked_alpha(self.alpha),
            fit_intercept=bool(self.fit_intercept),
            solver=self.solver,
            store=self.store,
            refresh_fraction=self.refresh_fraction,
        )

    def _request_config(self) -> RandomFeatureConfig:
        """Return the settings of `fit` with the current `refresh_fraction`."""
        return replace(self._config, refresh_fraction=self.refresh_fraction)

    def _request(
        self,
        indices: ArrayLike | None,
        X: Any,
        y: ArrayLike | None,
        sample_weight: ArrayLike | None,
    ) -> Request:
        """Validate a request and look up its samples."""
        check_is_fitted(self)
        self._apply_pending()
        if (indices is None) == (X is None) or (X is None) != (y is None):
            raise ValueError("Pass either indices, or both X and y.")
        if indices is None:
            if self._samples is not None:
                raise ValueError(
                    "X and y are for models that store no samples. This model stores them: pass "
                    "indices instead."
                )
            return Request(self._checked_samples(X, y, sample_weight)[0])
        if self._samples is None or self.retained_ is None:
            raise ValueError(
                "indices are for models that store their samples. Pass X and y, or fit with "
                "store=True."
            )
        if sample_weight is not None:
            raise ValueError(
                "sample_weight requires X and y; with indices, the model uses the stored weights."
            )
        return request_by_index(indices, self.retained_, self._samples)

    def _checked_samples(
        self, X: Any, y: ArrayLike | None, sample_weight: ArrayLike | None
    ) -> tuple[TrainingSamples, BoolArray]:
        """Validate samples given after `fit`; drop those of weight zero, and return which stay."""
        check_is_fitted(self)
        X, Y = self._validated_targets(X, y)
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        kept = weights > 0
        return TrainingSamples(X, Y, weights)[kept], kept

    def _values(self, X: Any) -> FloatArray:
        """Compute the columns of values for samples, of shape (n, k)."""
        X = self._validated(X)
        return self._features().values(X, self._solution.coef)

    def _validated(self, X: Any) -> Any:
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=np.float64, order="C", reset=False)
        return checked_magnitude(X)

    def _set_feature_map(self, X: Any, config: RandomFeatureConfig) -> None:
        self.random_weights_ = self.feature_map_ = None
        if self.feature_map is None:
            rng = local_random_state(self.random_state)
            self.random_weights_ = draw_frequencies(
                rng, X.shape[1], config.n_components, config.gamma
            )
        elif self.feature_map != "identity":
            self.feature_map_ = _fitted(self.feature_map, named_as_in_fit(self, X))

    def _features(self) -> FeatureMap:
        engine = make_engine(self.device)
        transform = partial(self._transform, engine, constant=self._config.fit_intercept)
        return FeatureMap(engine, transform, self._n_columns)

    def _as_stored(self, samples: TrainingSamples, features: FeatureMap) -> TrainingSamples:
        """Replace samples by their features if the model stores features."""
        if not self._stores_features:
            return samples
        return replace(samples, X=features.engine.to_numpy(features.matrix(samples.X)))

    def _stored_features(self) -> FeatureMap:
        """Return the feature map for samples that went through :meth:`_as_stored`."""
        features = self._features()
        if not self._stores_features:
            return features
        return replace(features, transform=features.engine.asarray, is_identity=True)

    def _transform(self, engine: RidgeEngine, X: Any, *, constant: bool) -> EngineArray:
        """Compute features on an engine."""
        if self.random_weights_ is not None:
            return engine.fourier_features(X, self.random_weights_, constant=constant)
        Z = X
        if self.feature_map_ is not None:
            Z = self.feature_map_.transform(named_as_in_fit(self, X))
        Z = engine.asarray(Z.toarray() if sp.issparse(Z) else np.asarray(Z))
        return with_ones(engine, Z) if constant else Z


def _reporting(features: FeatureMap, tasks: FitTasks) -> FeatureMap:
    """Return a feature map that reports each block of samples."""

    def transform(X: Any) -> EngineArray:
        Z = features.transform(X)
        tasks("block")
        return Z

    return replace(features, transform=transform)


def overwrite_memory(before: list[FloatArray], after: list[FloatArray]) -> None:
    """Fill arrays with zeros, except read-only ones and those that are still in use."""
    for array in before:
        if array.flags.writeable and not any(np.may_share_memory(array, b) for b in after):
            array.fill(0.0)


def make_engine(device: Any) -> RidgeEngine:
    """Return the engine of a device; torch is imported only if it is needed.

    Parameters
    ----------
    device : str, torch.device or None
        None uses NumPy and SciPy on the CPU; any other value uses torch on that device.

    Returns
    -------
    RidgeEngine
    """
    if device is None:
        return RidgeScipyEngine()

    from ...neural import resolve_device
    from ._engine_torch import RidgeTorchEngine

    return RidgeTorchEngine(resolve_device(device))


def _checked_alpha(alpha: Any) -> float | tuple[float, ...]:
    """Return a penalty, or ascending candidates."""
    if isinstance(alpha, Real):
        return float(alpha)
    candidates = np.unique(np.asarray(alpha, dtype=np.float64))
    if len(candidates) == 0 or not (candidates > 0.0).all() or np.isinf(candidates[-1]):
        raise ValueError(f"alpha must be a positive number or an array of them, got {alpha!r}.")
    return tuple(candidates.tolist())


def checked_magnitude(X: Any) -> Any:
    """Return X, or raise ValueError if its products would overflow."""
    check_magnitude(X.data if sp.issparse(X) else X, name="X")
    return X


def _fitted(feature_map: Any, X: Array) -> Any:
    """Return the transformer itself if it is fitted, otherwise a clone fitted to X."""
    try:
        check_is_fitted(feature_map)
    except NotFittedError:
        return clone(feature_map).fit(X)
    return feature_map
