"""What all soups share: parameters, fitting around a recipe, tables, files."""

import copy
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, MetaEstimatorMixin, _fit_context, is_classifier
from sklearn.metrics import get_scorer_names
from sklearn.utils import column_or_1d, get_tags
from sklearn.utils._optional_dependencies import check_pandas_support
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from ..neural import class_labels, validate_input
from ..utils._atomic import atomic_fit
from ..utils._random import local_random_state
from ._batch_norm import estimate_running_statistics
from ._ingredients import open_ingredient
from ._judgement import warn_of_many_basins, without_diverged
from ._layout import check_tensors, layout_of
from ._prediction import DelegatedPrediction
from ._preparation import prepared_ingredients
from ._recipe import read_soup, save_soup
from ._rows import Rows, is_opaque, n_rows
from ._selection import by_quality
from ._shelf import Shelf, weights_by_tensor
from ._templates import architecture, loaded_net

_SUM_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Mixed:
    """What a recipe returns; the network stands at the soup, buffers included.

    Attributes
    ----------
    coef : ndarray of shape (G, N)
    groups : dict of str to list of str
    attributes : dict
        Further fitted attributes, for the recipe's class.
    loss_of : callable or None
        Loss that the soup is judged by; None is that of the net.
    """

    coef: np.ndarray
    groups: dict[str, list[str]]
    attributes: dict[str, Any] = field(default_factory=dict)
    loss_of: Callable | None = None


class BaseSoup(MetaEstimatorMixin, DelegatedPrediction, BaseEstimator, ABC):
    """A network whose weights are a combination of the weights of trained networks."""

    _parameter_constraints = {
        "estimator": [HasMethods(["fit", "predict"]), None],
        "ingredients": "no_validation",
        "param_grid": [dict, list, None],
        "n_ingredients": [Interval(Integral, 1, None, closed="left"), None],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither"), HasMethods(["split"])],
        "init_params": "no_validation",
        "scoring": [StrOptions(set(get_scorer_names())), callable, None],
        "refresh_bn": ["boolean"],
        "cache_dir": [str, os.PathLike, None],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        estimator,
        *,
        ingredients,
        param_grid,
        n_ingredients,
        validation_fraction,
        init_params,
        scoring,
        refresh_bn,
        cache_dir,
        n_jobs,
        random_state,
        verbose,
    ):
        self.estimator = estimator
        self.ingredients = ingredients
        self.param_grid = param_grid
        self.n_ingredients = n_ingredients
        self.validation_fraction = validation_fraction
        self.init_params = init_params
        self.scoring = scoring
        self.refresh_bn = refresh_bn
        self.cache_dir = cache_dir
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        inner = get_tags(architecture(self.estimator, self.ingredients))
        tags.estimator_type = inner.estimator_type
        tags.classifier_tags = inner.classifier_tags
        tags.regressor_tags = inner.regressor_tags
        tags.target_tags = inner.target_tags
        tags.target_tags.required = True
        return tags

    @abstractmethod
    def _mix(self, bench, evaluations, rng):
        """Make the soup.

        Parameters
        ----------
        bench : Workbench
            Its network stands at the uniform soup, buffers included.
        evaluations : list of Evaluation
            Of the ingredients.
        rng : RandomState

        Returns
        -------
        Mixed
        """

    @atomic_fit
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y):
        """Make the soup, after training its ingredients if none are given.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), or anything that the net takes
            Mixing rows if `ingredients` are given, and then used whole; else rows that are
            divided for training and mixing. Arrays are checked and cast to float32; tensors,
            dicts and data sets reach the net as they are.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.

        Returns
        -------
        self : object
            The fitted soup.

        Raises
        ------
        ValueError
            If the data or a parameter are out of range, if ingredients are not of one
            architecture, or if no ingredient is finite.
        NotFittedError
            If an ingredient is a net without weights.
        """
        X, y = self._checked_rows(X, y)
        rng = local_random_state(self.random_state)
        with prepared_ingredients(self, X, y, rng) as prepared:
            self._fit_prepared(prepared, rng)
        return self

    def _checked_rows(self, X, y):
        if is_opaque(X):
            self.input_shape_ = None
            y = np.asarray(y)
            if n_rows(X) != len(y):
                raise ValueError(f"X has {n_rows(X)} rows, y has {len(y)}; they must be equal.")
        else:
            X, y = validate_input(self, X, y, reset=True)
        if is_classifier(self):
            y = column_or_1d(y, warn=True)
            check_classification_targets(y)
        self._target_shape = y.shape[1:]
        return X, y

    def _fit_prepared(self, prepared, rng):
        evaluations = [
            prepared.bench.evaluate_ingredient_(k) for k in range(len(prepared.bench.shelf))
        ]
        prepared, evaluations = without_diverged(prepared, evaluations)
        bench = prepared.bench
        scores = np.array([evaluation.score for evaluation in evaluations])
        losses = np.array([evaluation.loss for evaluation in evaluations])
        for name, score, loss in zip(prepared.names, scores, losses, strict=True):
            self._print(name, score, loss)
        bench.average_(range(len(scores)))
        uniform = bench.evaluate()
        warn_of_many_basins(uniform.loss, losses.mean())
        mixed = self._mix(bench, evaluations, rng)
        best = evaluations[by_quality(evaluations)[0]]
        judged = {"best_single": best, "uniform": uniform, "soup": bench.evaluate(mixed.loss_of)}
        for name, evaluation in judged.items():
            self._print(name, *evaluation)
        self.estimator_ = bench.net
        if is_classifier(bench.net):
            self.classes_ = class_labels(bench.net)
        self.coef_ = mixed.coef
        self.groups_ = mixed.groups
        self.ingredients_ = prepared.sources if prepared.kept else None
        self.ingredient_names_ = prepared.names
        self.ingredient_params_ = prepared.params
        self.ingredient_scores_ = scores
        self.ingredient_losses_ = losses
        self.soup_scores_ = {name: evaluation.score for name, evaluation in judged.items()}
        self.soup_losses_ = {name: evaluation.loss for name, evaluation in judged.items()}
        vars(self).update(mixed.attributes)

    def _print(self, name, score, loss):
        if self.verbose:
            print(f"[{type(self).__name__}] {name}: score {score:.4f}, loss {loss:.4f}")

    def combine(self, coef, *, X=None):
        """Combine the ingredients with coefficients of the user.

        Parameters
        ----------
        coef : array-like of shape (n_ingredients,) or (n_groups, n_ingredients)
            Coefficients; they sum to 1 in each group and may be negative.
        X : array-like, or anything that the net takes, default=None
            Rows on which running statistics of batch normalisation are estimated. None averages
            those of the ingredients.

        Returns
        -------
        skorch.NeuralNet
            A new fitted net. The soup itself stays as it is.

        Raises
        ------
        ValueError
            If the shape or a sum is wrong, or if the ingredients are no longer there.
        """
        check_is_fitted(self)
        if self.ingredients_ is None:
            raise ValueError(
                "The ingredients were not kept. Fit with `cache_dir` to be able to combine anew."
            )
        coef = np.broadcast_to(np.asarray(coef, dtype=np.float64), self.coef_.shape)
        if not np.abs(coef.sum(axis=1) - 1.0).max() <= _SUM_TOLERANCE:
            raise ValueError(f"coef must sum to 1 in each group, got sums {coef.sum(axis=1)}.")
        net = copy.deepcopy(self.estimator_)
        layout = layout_of(net.module_)
        ingredients = [
            open_ingredient(source, name)
            for source, name in zip(self.ingredients_, self.ingredient_names_, strict=True)
        ]
        for ingredient in ingredients:
            check_tensors(layout, ingredient.tensors, ingredient.label)
        shelf = Shelf(layout, ingredients)
        shelf.combine_(weights_by_tensor(coef, self.groups_), range(len(shelf)))
        shelf.average_buffers_(range(len(shelf)))
        if X is not None:
            X = self._checked(X)
            rows = Rows(X, torch.zeros(n_rows(X)))
            batches = rows.inputs_for_statistics(128)
            estimate_running_statistics(net.module_, net.infer, batches)
        return net

    def coef_frame(self):
        """Return the coefficients as a tidy table.

        Returns
        -------
        pandas.DataFrame
            One row for each ingredient and group, with columns ingredient, group, coefficient,
            score and loss, and one column for each parameter of the training.
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

    def save(self, path):
        """Write the weights of the soup and, beside them, its recipe as JSON.

        Parameters
        ----------
        path : str or path-like
            Of the weights, ending with ``.safetensors``. The recipe has the same name with the
            ending ``.json``.
        """
        check_is_fitted(self)
        save_soup(self, path)

    @atomic_fit
    def load(self, path):
        """Read a soup that `save` wrote; nothing in the files is executed.

        Parameters
        ----------
        path : str or path-like
            Of the weights.

        Returns
        -------
        self : object
            The fitted soup, around a net like `estimator`. Its ``ingredients_`` are None.

        Raises
        ------
        FileNotFoundError
            If the weights or the recipe are not there.
        ValueError
            If they are of another soup, or do not fit the network of `estimator`.
        """
        tensors, attributes = read_soup(self, path)
        vars(self).update(attributes)
        self.estimator_ = loaded_net(
            architecture(self.estimator, self.ingredients),
            tensors,
            classes=getattr(self, "classes_", None),
            input_shape=self.input_shape_,
            target_shape=self._target_shape,
        )
        return self
