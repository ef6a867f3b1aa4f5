"""Base class of all soups: parameters, fitting, prediction and files."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import skorch
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, MetaEstimatorMixin, _fit_context, is_classifier
from sklearn.metrics import get_scorer_names
from sklearn.utils import column_or_1d, get_tags
from sklearn.utils._optional_dependencies import check_pandas_support
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted
from torch.utils.data import Dataset

from ..neural import AnySamples, NetSamples, class_labels, copied_net, targets_in, validate_input
from ..neural.files import KeyMap
from ..utils._atomic import atomic_fit
from ..utils._estimators import one_line
from ..utils._random import local_random_state
from ..utils._typing import Array, FloatArray, RandomState
from ..utils._validation import check_class_labels
from ..utils.compat import CallbackSupportMixin, FitTasks, with_callbacks
from .ingredients import (
    Evaluation,
    IngredientConfig,
    IngredientStore,
    SoupNetwork,
    as_computed,
    estimate_running_statistics,
    evaluated_ingredients,
    inputs_for_statistics,
    net_of,
    net_with_weights,
    open_ingredient,
    prepared_ingredients,
    read_soup,
    save_soup,
    warn_of_separate_basins,
    weights_by_tensor,
)
from .recipes import by_quality

_SUM_TOLERANCE = 1e-6
_STATISTICS_BATCH = 128
# Attributes that `save` writes, in addition to those of the class's own recipe.
_SAVED_ATTRIBUTES = (
    "coef_",
    "groups_",
    "ingredient_names_",
    "ingredient_params_",
    "ingredient_scores_",
    "ingredient_losses_",
    "soup_scores_",
    "soup_losses_",
    "classes_",
    "input_shape_",
    "n_features_in_",
    "feature_names_in_",
)


@dataclass(frozen=True)
class Mixed:
    """Result of `_mix`, after which the network has the weights and buffers of the soup.

    Attributes
    ----------
    coef : ndarray of shape (G, N)
    groups : dict of str to list of str
    fitted : dict of str to object, default={}
        Fitted attributes of the recipe, whose names are those in `_recipe_attributes`.
    loss_of : callable or None, default=None
        Loss for evaluating the soup. None uses the loss of the net.
    """

    coef: FloatArray
    groups: dict[str, list[str]]
    fitted: dict[str, Any] = field(default_factory=dict)
    loss_of: Callable[..., torch.Tensor] | None = None


def net_has(method: str) -> Callable[["BaseSoup"], bool]:
    """Return a check of whether the net of a soup has a method, for ``available_if``."""

    def check(soup: "BaseSoup") -> bool:
        net = getattr(soup, "estimator_", None)
        net = net_of(soup.estimator, soup.ingredients) if net is None else net
        getattr(net, method)
        # skorch's regressors have a predict_proba, too.
        return method != "predict_proba" or is_classifier(net)

    return check


class BaseSoup(CallbackSupportMixin, MetaEstimatorMixin, BaseEstimator, ABC):
    """A network whose weights are a combination of the weights of trained networks.

    `fit` of this class trains or opens the ingredients, evaluates them, and sets all fitted
    attributes. It calls the method `_mix` of the subclass, which builds the config of its recipe,
    runs the recipe, and returns a `Mixed`; `_mix` sets no attributes. A subclass with further
    fitted attributes returns them in `Mixed.fitted` and lists their names in `_recipe_attributes`,
    so that `save` and `load` include them.
    """

    _recipe_attributes: tuple[str, ...] = ()
    _is_linear = True  # the rows of coef_ sum to 1, and the weights are their sums

    _parameter_constraints: dict[str, Any] = {
        "estimator": [HasMethods(["fit", "predict"]), None],
        "ingredients": "no_validation",
        "param_grid": [dict, list, None],
        "n_ingredients": [Interval(Integral, 1, None, closed="left"), None],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither"), HasMethods(["split"])],
        "init_params": "no_validation",
        "key": [str, None],
        "key_map": [Mapping, callable, None],
        "scoring": [StrOptions(set(get_scorer_names())), callable, None],
        "refresh_bn": ["boolean"],
        "cache_dir": [str, os.PathLike, None],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        estimator: Any,
        *,
        ingredients: Any,
        param_grid: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None,
        n_ingredients: int | None,
        validation_fraction: Any,
        init_params: Any,
        key: str | None,
        key_map: KeyMap | None,
        scoring: str | Callable[..., float] | None,
        refresh_bn: bool,
        cache_dir: str | os.PathLike[str] | None,
        n_jobs: int | None,
        random_state: RandomState,
        verbose: int,
    ) -> None:
        self.estimator = estimator
        self.ingredients = ingredients
        self.param_grid = param_grid
        self.n_ingredients = n_ingredients
        self.validation_fraction = validation_fraction
        self.init_params = init_params
        self.key = key
        self.key_map = key_map
        self.scoring = scoring
        self.refresh_bn = refresh_bn
        self.cache_dir = cache_dir
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        inner = get_tags(net_of(self.estimator, self.ingredients))
        tags.estimator_type = inner.estimator_type
        tags.classifier_tags = inner.classifier_tags
        tags.regressor_tags = inner.regressor_tags
        tags.target_tags = inner.target_tags
        tags.target_tags.required = True
        return tags

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        """Return one line with the parameters that differ from their defaults.

        Parameters
        ----------
        N_CHAR_MAX : int, default=700
            Maximum number of characters.
        """
        return one_line(self, N_CHAR_MAX)

    @abstractmethod
    def _mix(
        self, network: SoupNetwork, evaluations: Sequence[Evaluation], rng: np.random.RandomState
    ) -> Mixed:
        """Make the soup.

        Parameters
        ----------
        network : SoupNetwork
            Initially, it has the weights and buffers of the uniform soup.
        evaluations : sequence of Evaluation
            Scores and losses of the ingredients.
        rng : RandomState

        Returns
        -------
        Mixed
        """

    @atomic_fit
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: AnySamples, y: ArrayLike | None = None) -> Self:
        """Make the soup, after training its ingredients if none are given.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), tensor, dict of arrays, or Dataset
            The mixing samples if `ingredients` are given. Otherwise, `fit` splits the samples into
            a training part and a mixing part. Arrays are cast to float32, and integers to int64.
            Tensors, dicts and map-style datasets are passed to the net as they are, and batches
            move to its device one by one.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Targets. None takes those inside a dataset.

        Returns
        -------
        self : object
            The fitted soup.

        Raises
        ------
        TypeError
            If X is a data loader or an iterable-style dataset.
        ValueError
            If the data or a parameter is invalid, if the ingredients differ in architecture, or if
            none of them is finite.
        NotFittedError
            If an ingredient is an unfitted net.
        """
        tasks = FitTasks(self, None, X, y)
        X, y = self._checked_samples(X, y)
        rng = local_random_state(self.random_state)
        config = self._ingredient_config()
        with prepared_ingredients(config, X, y, rng, partial(tasks, "ingredient")) as prepared:
            prepared, evaluations = evaluated_ingredients(prepared)
            for name, evaluation in zip(prepared.names, evaluations, strict=True):
                self._print(name, evaluation)
            network = replace(prepared.network, after_step=partial(tasks, "step"))
            network.average_(range(len(evaluations)))
            uniform = network.evaluate()
            warn_of_separate_basins(uniform.loss, np.mean([e.loss for e in evaluations]).item())
            mixed = self._mix(network, evaluations, rng)
            best = evaluations[by_quality(evaluations)[0]]
            soup = network.evaluate(mixed.loss_of)
        summary = {"best_single": best, "uniform": uniform, "soup": soup}
        for name, evaluation in summary.items():
            self._print(name, evaluation)
        self.estimator_ = network.net
        if is_classifier(network.net):
            self.classes_ = class_labels(network.net)
        self.coef_ = mixed.coef
        self.groups_ = mixed.groups
        for name in self._recipe_attributes:
            setattr(self, name, mixed.fitted[name])
        self.ingredients_ = prepared.sources if prepared.kept else None
        self.ingredient_names_ = prepared.names
        self.ingredient_params_ = prepared.params
        self.ingredient_scores_ = np.array([evaluation.score for evaluation in evaluations])
        self.ingredient_losses_ = np.array([evaluation.loss for evaluation in evaluations])
        self.soup_scores_ = {name: evaluation.score for name, evaluation in summary.items()}
        self.soup_losses_ = {name: evaluation.loss for name, evaluation in summary.items()}
        tasks.end()
        return self

    def _checked_samples(self, X: AnySamples, y: ArrayLike | None) -> tuple[AnySamples, Array]:
        X, targets = validate_input(self, X, y, reset=True, any_form=True)
        if is_classifier(self):
            targets = column_or_1d(targets, warn=True)
            check_class_labels(targets)
        self._target_shape = targets.shape[1:]
        return X, targets

    def _ingredient_config(self) -> IngredientConfig:
        return IngredientConfig(
            estimator=self.estimator,
            ingredients=self.ingredients,
            param_grid=self.param_grid,
            n_ingredients=self.n_ingredients,
            validation_fraction=self.validation_fraction,
            init_params=self.init_params,
            base=getattr(self, "base", None),
            key=self.key,
            key_map=self.key_map,
            scoring=self.scoring,
            refresh_bn=self.refresh_bn,
            cache_dir=self.cache_dir,
            n_jobs=self.n_jobs,
        )

    def _print(self, name: str, evaluation: Evaluation) -> None:
        if self.verbose:
            score, loss = evaluation
            print(f"[{type(self).__name__}] {name}: score {score:.4f}, loss {loss:.4f}")

    def _checked_input(self, X: AnySamples) -> AnySamples:
        check_is_fitted(self)
        X = validate_input(self, X, reset=False, any_form=True)
        return as_computed(self.estimator_, X)

    def predict(self, X: Any) -> Array:
        """Predict with the soup.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), tensor, dict of arrays, or Dataset

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Class labels for a classifier, or targets for a regressor.
        """
        X = self._checked_input(X)
        return self.estimator_.predict(X)

    @available_if(net_has("predict_proba"))
    def predict_proba(self, X: Any) -> FloatArray:
        """Predict class probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), tensor, dict of arrays, or Dataset

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        X = self._checked_input(X)
        return self.estimator_.predict_proba(X)

    @available_if(net_has("decision_function"))
    def decision_function(self, X: Any) -> FloatArray:
        """Return the decision function of the net, if it has one.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), tensor, dict of arrays, or Dataset

        Returns
        -------
        ndarray
        """
        X = self._checked_input(X)
        return self.estimator_.decision_function(X)

    def score(self, X: AnySamples, y: ArrayLike | None = None) -> float:
        """Return the score of the net: accuracy for a classifier, R2 for a regressor.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), tensor, dict of arrays, or Dataset
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Targets. None takes those inside a dataset.

        Returns
        -------
        float
        """
        X = self._checked_input(X)
        if y is None and isinstance(X, Dataset):
            y = targets_in(X)
        return self.estimator_.score(X, y)

    def combine(self, coef: ArrayLike, *, X: Any = None) -> skorch.NeuralNet:
        """Combine the ingredients with given coefficients.

        Parameters
        ----------
        coef : array-like of shape (n_ingredients,) or (n_groups, n_ingredients)
            Coefficients. They must sum to 1 in each group and may be negative.
        X : array-like, tensor, dict of arrays, or Dataset, default=None
            Samples on which running statistics of batch normalization are estimated. None averages
            the statistics of the ingredients.

        Returns
        -------
        skorch.NeuralNet
            A new fitted net. The soup itself is not changed.

        Raises
        ------
        ValueError
            If `coef` has the wrong shape or does not sum to 1, or if the ingredients no longer
            exist.
        """
        check_is_fitted(self)
        if self.ingredients_ is None:
            raise ValueError(
                "The ingredients were not kept. Set cache_dir before fit to combine them again."
            )
        coef = np.broadcast_to(np.asarray(coef, dtype=np.float64), self.coef_.shape)
        if not np.abs(coef.sum(axis=1) - 1.0).max() <= _SUM_TOLERANCE:
            raise ValueError(f"coef must sum to 1 in each group, got sums {coef.sum(axis=1)}.")
        net = copied_net(self.estimator_)
        ingredients = [
            open_ingredient(source, name, self.key)
            for source, name in zip(self.ingredients_, self.ingredient_names_, strict=True)
        ]
        store = IngredientStore.of(
            net.module_,
            [ingredient.tensors for ingredient in ingredients],
            [ingredient.label for ingredient in ingredients],
            self.key_map,
        )
        store.combine_(weights_by_tensor(coef, self.groups_), range(len(store)))
        store.average_buffers_(range(len(store)))
        if X is not None:
            X = self._checked_input(X)
            batches = inputs_for_statistics(NetSamples(net, X), _STATISTICS_BATCH)
            estimate_running_statistics(net.module_, net.infer, batches)
        return net

    def coef_frame(self) -> Any:
        """Return the coefficients as a tidy table.

        Returns
        -------
        pandas.DataFrame
            One row for each ingredient and group, with columns ingredient, group, coefficient,
            score and loss, and one column for each parameter that varied in training.
        """
        pandas = check_pandas_support(f"{type(self).__name__}.coef_frame")
        check_is_fitted(self)
        rows = [
            {
                "ingredient": name,
                "group": group,
                "coefficient": self.coef_[g, k],
                "score": self.ingredient_scores_[k],
                "loss": self.ingredient_losses_[k],
                **self.ingredient_params_[k],
            }
            for k, name in enumerate(self.ingredient_names_)
            for g, group in enumerate(self.groups_)
        ]
        return pandas.DataFrame(rows)

    @available_if(lambda soup: soup._is_linear)
    def merge_recipe(self) -> dict[str, Any]:
        """Return the soup as a linear merge, in the form that merging tools read.

        Returns
        -------
        dict
            ``merge_method`` is "linear", and each of the ``models`` lists its weight for every
            parameter. Weights are not normalized, because they may be negative.
        """
        check_is_fitted(self)
        weights = weights_by_tensor(self.coef_, self.groups_)
        models = [
            {
                "model": name,
                "parameters": {
                    "weight": [{"filter": key, "value": row[k]} for key, row in weights.items()]
                },
            }
            for k, name in enumerate(self.ingredient_names_)
        ]
        return {"merge_method": "linear", "parameters": {"normalize": False}, "models": models}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the soup to one file, whose header contains the fitted attributes.

        An existing file is replaced in one step, so that a process that is killed leaves either the
        old soup or the new one. Other programs can read the weights as a plain state dict.

        Parameters
        ----------
        path : str or path-like
            Path of the file, which must end with ``.safetensors``.
        """
        check_is_fitted(self)
        fitted = {name: getattr(self, name) for name in self._saved() if hasattr(self, name)}
        save_soup(
            path,
            self.estimator_.module_,
            class_name=type(self).__name__,
            target_shape=self._target_shape,
            fitted=fitted,
        )

    def _saved(self) -> tuple[str, ...]:
        return (*_SAVED_ATTRIBUTES, *self._recipe_attributes)

    @atomic_fit
    def load(self, path: str | os.PathLike[str]) -> Self:
        """Read a soup that `save` wrote; nothing in the file is executed.

        Parameters
        ----------
        path : str or path-like
            Path of the file.

        Returns
        -------
        self : object
            The fitted soup, around a net like `estimator`. Its ``ingredients_`` are None.

        Raises
        ------
        FileNotFoundError
            If the file does not exist.
        ValueError
            If the file is damaged, belongs to another kind of soup, contains an unknown or invalid
            attribute, or does not fit the network of `estimator`.
        """
        names = self._saved()
        tensors, self._target_shape, fitted = read_soup(
            path, type(self).__name__, names, coef_sums_to_1=self._is_linear
        )
        for name in names:
            if hasattr(self, name):
                delattr(self, name)
        for name, value in fitted.items():
            setattr(self, name, value)
        self.ingredients_ = None
        net = net_of(self.estimator, self.ingredients)
        if is_classifier(net) != ("classes_" in fitted):
            raise ValueError(
                f"classes_ in {str(path)!r} must exist if and only if estimator is a classifier, "
                f"got estimator={net!r}."
            )
        self.estimator_ = net_with_weights(
            net,
            tensors,
            classes=fitted.get("classes_"),
            input_shape=self.input_shape_,
            target_shape=self._target_shape,
        )
        parameters = [name for name, _ in self.estimator_.module_.named_parameters()]
        grouped = [name for members in self.groups_.values() for name in members]
        if sorted(grouped) != sorted(parameters):
            raise ValueError(
                f"groups_ in {str(path)!r} must contain each parameter of the network once."
            )
        return self
