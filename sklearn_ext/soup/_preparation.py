"""From the parameters of a soup and its data to ingredients on a workbench."""

import contextlib
import tempfile
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.metrics import check_scoring

from ..neural import class_labels, draw_seed, is_fitted_net
from ..utils._held_out import held_out_mask
from ..utils._nested import unfrozen
from ._ingredient_training import parameter_points, run_seeds, train_ingredients
from ._ingredients import list_sources, open_ingredient
from ._layout import check_tensors, layout_of
from ._rows import Rows, n_rows, select_rows, targets_of
from ._shelf import Shelf
from ._templates import architecture, load_weights_, prepared_copy, targets_for_fit
from ._workbench import Workbench


@dataclass(frozen=True)
class Prepared:
    """Ingredients that are ready to be mixed.

    Attributes
    ----------
    bench : Workbench
    sources : list
        What each ingredient was opened from.
    names : list of str
    params : list of dict
    kept : bool
        Whether the sources outlive the fit.
    """

    bench: Workbench
    sources: list[Any]
    names: list[str]
    params: list[dict[str, Any]]
    kept: bool


@contextlib.contextmanager
def prepared_ingredients(soup, X, y, rng):
    """Open the ingredients of a soup, or train them, and set up the workbench.

    Parameters
    ----------
    soup : BaseSoup
    X, y : object
        All rows that `fit` got, checked.
    rng : RandomState

    Yields
    ------
    Prepared
        Ingredients that were trained without a folder vanish with the context.
    """
    sources = None if soup.ingredients is None else list_sources(soup.ingredients)
    blueprint = architecture(soup.estimator, sources)
    net = prepared_copy(blueprint, X, y, seed=draw_seed(rng))
    if sources is not None:
        if soup.param_grid is not None:
            raise ValueError("ingredients and param_grid exclude each other; both were given.")
        _check_same_classes(sources, net)
        names = _names_of(sources)
        params = [{} for _ in sources]
        rows = np.arange(n_rows(X))
        yield Prepared(_bench(soup, net, sources, X, y, rows, rows), sources, names, params, True)
        return
    if soup.init_params is not None:
        load_weights_(net, open_ingredient(soup.init_params, "init_params").tensors, "init_params")
    training, mixing = _split(net, X, y, soup.validation_fraction, rng)
    points = parameter_points(soup.param_grid, soup.n_ingredients, rng)
    seeds = run_seeds(draw_seed(rng), len(points))
    with contextlib.ExitStack() as stack:
        folder = soup.cache_dir
        if folder is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        paths = train_ingredients(
            net,
            points,
            seeds,
            select_rows(X, training),
            targets_for_fit(net, y[training]),
            folder=folder,
            n_jobs=soup.n_jobs,
            resumable=soup.cache_dir is not None,
        )
        bench = _bench(soup, net, paths, X, y, mixing, training)
        names = [_name_of_run(k, point) for k, point in enumerate(points)]
        yield Prepared(bench, paths, names, points, soup.cache_dir is not None)


def _bench(soup, net, sources, X, y, mixing, statistics):
    layout = layout_of(net.module_)
    ingredients = [open_ingredient(s, f"ingredients[{k}]") for k, s in enumerate(sources)]
    for ingredient in ingredients:
        check_tensors(layout, ingredient.tensors, ingredient.label)
    targets = targets_of(net, y)
    X_mixing = X if len(mixing) == n_rows(X) else select_rows(X, mixing)
    rows = Rows(X_mixing, targets[mixing])
    if statistics is mixing:
        statistics_rows = rows
    else:
        statistics_rows = Rows(select_rows(X, statistics), targets[statistics])
    return Workbench(
        net=net,
        shelf=Shelf(layout, ingredients),
        mixing=rows,
        statistics=statistics_rows,
        scorer=check_scoring(net, soup.scoring),
        X=X_mixing,
        y=y[mixing],
        refresh_bn=soup.refresh_bn,
    )


def _split(net, X, y, validation_fraction, rng):
    if hasattr(validation_fraction, "split"):
        return next(iter(validation_fraction.split(np.zeros((n_rows(X), 1)), y)))
    strata = targets_of(net, y).numpy() if is_classifier(net) else np.zeros(n_rows(X), dtype=int)
    held_out = held_out_mask(strata, validation_fraction, rng)
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _check_same_classes(sources, net):
    """Fitted nets may have learned different labels; the codes of one mean nothing to another."""
    if not is_classifier(net):
        return
    for k, source in enumerate(sources):
        if is_fitted_net(source) and not np.array_equal(
            class_labels(unfrozen(source)), class_labels(net)
        ):
            raise ValueError(
                f"ingredients[{k}] knows the classes {class_labels(unfrozen(source))}, the "
                f"network those of {class_labels(net)}; all must be equal."
            )


def _names_of(sources):
    return [
        source if isinstance(source, str) else f"{k}: {type(unfrozen(source)).__name__}"
        for k, source in enumerate(sources)
    ]


def _name_of_run(k, point):
    values = ", ".join(
        f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in point.items()
    )
    return f"{k}: {values}" if values else f"{k}"
