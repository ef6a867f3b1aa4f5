"""Open or train the ingredients of a soup, and evaluate them before mixing."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import skorch
import torch
from sklearn.base import is_classifier
from sklearn.metrics import check_scoring

from ...neural import (
    LazyTensors,
    NetSamples,
    class_labels,
    draw_seed,
    is_fitted_net,
    n_samples_of,
    select_samples,
)
from ...neural.files import KeyMap
from ...utils._random import held_out_mask
from ...utils._typing import Array, IntArray
from ...utils._validation import unfrozen
from ...utils._warnings import warn_caller
from ._evaluation import Evaluation, SoupNetwork
from ._layout import layout_of, tensors_of_ingredient
from ._networks import data_for_fit, initialized_copy, load_weights_, net_of
from ._samples import as_computed, targets_of
from ._sources import list_sources, open_ingredient
from ._store import IngredientStore
from ._training import parameter_points, run_seeds, train_ingredients


@dataclass(frozen=True)
class IngredientConfig:
    """Sources and evaluation of ingredients; the fields are parameters of a soup."""

    estimator: Any
    ingredients: Any
    param_grid: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None
    n_ingredients: int | None
    validation_fraction: Any
    init_params: Any
    base: Any
    key: str | None
    key_map: KeyMap | None
    scoring: str | Callable[..., float] | None
    refresh_bn: bool
    cache_dir: str | os.PathLike[str] | None
    n_jobs: int | None


@dataclass(frozen=True)
class PreparedIngredients:
    """Ingredients that are ready to be mixed.

    Attributes
    ----------
    network : SoupNetwork
    sources : list
        Source of each ingredient, such as a path or a net.
    names : list of str
    params : list of dict
        Parameters with which each ingredient was trained.
    kept : bool
        Whether the sources outlive the fit.
    """

    network: SoupNetwork
    sources: list[Any]
    names: list[str]
    params: list[dict[str, Any]]
    kept: bool


@contextlib.contextmanager
def prepared_ingredients(
    config: IngredientConfig,
    X: Any,
    y: Array,
    rng: np.random.RandomState,
    after_run: Callable[[], Any],
) -> Iterator[PreparedIngredients]:
    """Open the ingredients of a soup, or train them.

    Parameters
    ----------
    config : IngredientConfig
    X, y : object
        All samples that were passed to `fit`, after validation.
    rng : RandomState
    after_run : callable
        Called without arguments for each ingredient that is trained.

    Yields
    ------
    PreparedIngredients
        Ingredients that were trained without `cache_dir` are deleted when the context exits.
    """
    sources = None if config.ingredients is None else list_sources(config.ingredients)
    net = initialized_copy(net_of(config.estimator, sources), X, y, seed=draw_seed(rng))
    X = as_computed(net, X)
    if sources is not None:
        if config.param_grid is not None:
            raise ValueError(
                f"param_grid must be None if ingredients are given, got {config.param_grid!r}."
            )
        _check_same_classes(sources, net)
        all_samples = np.arange(n_samples_of(X))
        base = _base(config, net)
        network = _network(config, net, sources, base, X, y, all_samples, all_samples)
        params: list[dict[str, Any]] = [{} for _ in sources]
        yield PreparedIngredients(network, sources, _names_of(sources), params, kept=True)
        return
    if config.init_params is not None:
        start = open_ingredient(config.init_params, "init_params", config.key)
        load_weights_(net, start.tensors, "init_params", config.key_map)
    training, mixing = _split(net, X, y, config.validation_fraction, rng)
    points = parameter_points(config.param_grid, config.n_ingredients, rng)
    seeds = run_seeds(draw_seed(rng), len(points))
    with contextlib.ExitStack() as stack:
        folder = config.cache_dir
        if folder is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        paths, start_path = train_ingredients(
            net,
            points,
            seeds,
            *data_for_fit(net, select_samples(X, training), y[training]),
            folder=folder,
            n_jobs=config.n_jobs,
            resumable=config.cache_dir is not None,
            after_run=after_run,
        )
        base = _base(config, net) if config.base is not None else LazyTensors(start_path)
        network = _network(config, net, paths, base, X, y, mixing, training)
        names = [_name_of_run(k, point) for k, point in enumerate(points)]
        yield PreparedIngredients(network, paths, names, points, kept=config.cache_dir is not None)


def evaluated_ingredients(
    prepared: PreparedIngredients,
) -> tuple[PreparedIngredients, list[Evaluation]]:
    """Evaluate the ingredients, and leave out those that are not finite, with a warning.

    Raises
    ------
    ValueError
        If no ingredient is left.
    """
    network = prepared.network
    evaluations = [network.evaluate_ingredient_(k) for k in range(len(network.store))]
    kept = [k for k, evaluation in enumerate(evaluations) if np.isfinite(evaluation.loss)]
    if len(kept) == len(evaluations):
        return prepared, evaluations
    names = ", ".join(name for k, name in enumerate(prepared.names) if k not in kept)
    if not kept:
        raise ValueError(f"No ingredient has finite weights and a finite loss: {names}.")
    rest = "Only one remains as the soup." if len(kept) == 1 else f"{len(kept)} remain."
    warn_caller(f"Ingredients with non-finite weights or losses are left out: {names}. {rest}")
    store = replace(network.store, ingredients=[network.store.ingredients[k] for k in kept])
    prepared = PreparedIngredients(
        replace(network, store=store),
        [prepared.sources[k] for k in kept],
        [prepared.names[k] for k in kept],
        [prepared.params[k] for k in kept],
        prepared.kept,
    )
    return prepared, [evaluations[k] for k in kept]


def _network(
    config: IngredientConfig,
    net: skorch.NeuralNet,
    sources: Sequence[Any],
    base: Mapping[str, torch.Tensor] | None,
    X: Any,
    y: Array,
    mixing: IntArray,
    statistics: IntArray,
) -> SoupNetwork:
    opened = [open_ingredient(s, f"ingredients[{k}]", config.key) for k, s in enumerate(sources)]
    targets = targets_of(net, y)
    X_mixing = X if len(mixing) == n_samples_of(X) else select_samples(X, mixing)
    samples = NetSamples(net, X_mixing, targets[mixing])
    return SoupNetwork(
        net=net,
        store=IngredientStore.of(
            net.module_,
            [ingredient.tensors for ingredient in opened],
            [ingredient.label for ingredient in opened],
            config.key_map,
        ),
        mixing=samples,
        statistics=samples
        if statistics is mixing
        else NetSamples(net, select_samples(X, statistics), targets[statistics]),
        scorer=check_scoring(net, config.scoring),
        X=X_mixing,
        y=y[mixing],
        refresh_bn=config.refresh_bn,
        base=base,
    )


def _base(config: IngredientConfig, net: skorch.NeuralNet) -> Mapping[str, torch.Tensor] | None:
    """Open the weights from which given ingredients were fine-tuned, or return None."""
    source = config.base
    if source is None and is_fitted_net(config.estimator):
        source = config.estimator
    if source is None:
        return None
    opened = open_ingredient(source, "base", config.key)
    layout = layout_of(net.module_)
    return tensors_of_ingredient(layout, opened.tensors, "base", config.key_map)


def _split(
    net: skorch.NeuralNet,
    X: Any,
    y: Array,
    validation_fraction: Any,
    rng: np.random.RandomState,
) -> tuple[IntArray, IntArray]:
    n = n_samples_of(X)
    if hasattr(validation_fraction, "split"):
        return next(iter(validation_fraction.split(np.zeros((n, 1)), y)))
    strata = targets_of(net, y).numpy() if is_classifier(net) else np.zeros(n, dtype=int)
    held_out = held_out_mask(strata, validation_fraction, rng)
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _check_same_classes(sources: Sequence[Any], net: skorch.NeuralNet) -> None:
    """Check that all fitted nets have the same class labels."""
    if not is_classifier(net):
        return
    for k, source in enumerate(sources):
        known = is_fitted_net(source) and hasattr(unfrozen(source), "classes_")
        if known and not np.array_equal(class_labels(unfrozen(source)), class_labels(net)):
            raise ValueError(
                f"ingredients[{k}] was fitted on the classes {class_labels(unfrozen(source))}, "
                f"but the network on {class_labels(net)}. All must have the same classes."
            )


def _names_of(sources: Sequence[Any]) -> list[str]:
    return [
        source if isinstance(source, str) else f"{k}: {type(unfrozen(source)).__name__}"
        for k, source in enumerate(sources)
    ]


def _name_of_run(k: int, point: Mapping[str, Any]) -> str:
    values = ", ".join(
        f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in point.items()
    )
    return f"{k}: {values}" if values else f"{k}"
