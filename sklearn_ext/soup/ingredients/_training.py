"""Training of ingredients: one grid, one common start, many runs in parallel."""

import contextlib
import os
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import skorch
import torch
from sklearn.model_selection import ParameterGrid, ParameterSampler

from ...neural import (
    LazyTensors,
    copied_net,
    interrupts_raised,
    load_tensors,
    save_tensors,
    seeded,
)
from ...neural.files import fingerprint
from ...utils._typing import Array
from ...utils._warnings import warn_caller
from ._layout import layout_of
from ._networks import load_weights_

DEFAULT_N_INGREDIENTS = 3
_NOT_IN_THE_RESULT = ("verbose", "random_state")


def parameter_points(
    param_grid: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None,
    n_ingredients: int | None,
    rng: np.random.RandomState,
) -> list[dict[str, Any]]:
    """Choose the parameters of each run.

    Parameters
    ----------
    param_grid : dict, list of dicts, or None
        Lists of values, or distributions with a method `rvs`. None changes no parameter.
    n_ingredients : int or None
        None takes all points of a grid of lists, or 3 runs otherwise. If it exceeds the number of
        points, they are used repeatedly; if it is smaller, some are chosen at random.
    rng : RandomState

    Returns
    -------
    list of dict
    """
    grid = {} if param_grid is None else param_grid
    grids = grid if isinstance(grid, (list, tuple)) else [grid]
    if any(hasattr(values, "rvs") for grid in grids for values in grid.values()):
        n = DEFAULT_N_INGREDIENTS if n_ingredients is None else n_ingredients
        return list(ParameterSampler(param_grid, n, random_state=rng))
    points = list(ParameterGrid(grids))
    if n_ingredients is None:
        n_ingredients = DEFAULT_N_INGREDIENTS if param_grid is None else len(points)
    if n_ingredients < len(points):
        chosen = np.sort(rng.choice(len(points), n_ingredients, replace=False))
        return [points[k] for k in chosen]
    return [points[k % len(points)] for k in range(n_ingredients)]


def run_seeds(entropy: int, n: int) -> list[int]:
    """Return independent seeds for n runs, which may run in different processes."""
    children = np.random.SeedSequence(entropy).spawn(n)
    return [int(child.generate_state(1)[0] >> 1) for child in children]


def train_ingredients(
    net: skorch.NeuralNet,
    points: Sequence[Mapping[str, Any]],
    seeds: Sequence[int],
    X: Any,
    y: Array,
    *,
    folder: str | os.PathLike[str],
    n_jobs: int | None,
    resumable: bool,
    after_run: Callable[[], Any],
) -> tuple[list[str], str]:
    """Train one ingredient for each point of the grid, all from the weights of `net`.

    Parameters
    ----------
    net : skorch.NeuralNet
        An initialized net with the weights of the common start.
    points : list of dict
        Parameters of the net for each run.
    seeds : list of int
        Seed of each run.
    X : object
        Training inputs in any form that the net takes.
    y : ndarray
        Training targets as the net's `fit` takes them.
    folder : path-like
        Folder for the weights.
    n_jobs : int or None
    resumable : bool
        Whether to skip runs whose files exist already and are not damaged.
    after_run : callable
        Called without arguments for each ingredient that is ready.

    Returns
    -------
    paths : list of str
        Path of the ``.safetensors`` file of each point. Equal runs share a file if `resumable`.
    start : str
        Path of the file of the common start.

    Raises
    ------
    ValueError
        If the net cannot be sent to the processes that `n_jobs` asks for.
    KeyboardInterrupt
        If a run is interrupted. Its weights are not written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    common = _fingerprint(net, X, y) if resumable else "run"
    paths = [
        folder / f"{_name(common, point, seed) if resumable else f'run-{k}'}.safetensors"
        for k, (point, seed) in enumerate(zip(points, seeds, strict=True))
    ]
    start = folder / f"start-{common[:16]}.safetensors"
    save_tensors(start, layout_of(net.module_).own_tensors())
    runs = list(zip(points, seeds, paths, strict=True))
    waiting = [(point, seed, path) for point, seed, path in runs if not _is_whole(path)]
    for _ in range(len(runs) - len(waiting)):
        after_run()
    trained = joblib.Parallel(n_jobs=n_jobs, return_as="generator")(
        joblib.delayed(_train_one)(net, start, point, seed, X, y, path)
        for point, seed, path in waiting
    )
    try:
        for _ in trained:
            after_run()
    except pickle.PicklingError as error:
        raise ValueError(
            f"n_jobs must be None or 1 for a net that cannot be pickled, got {n_jobs!r}: "
            f"{error.__cause__ or error}"
        ) from error
    return [str(path) for path in paths], str(start)


def _train_one(
    net: skorch.NeuralNet,
    start: Path,
    point: Mapping[str, Any],
    seed: int,
    X: Any,
    y: Array,
    path: Path,
) -> None:
    with _one_thread(), seeded(seed, net.device):
        # Parameters are set first, because skorch builds a new module when a parameter of it
        # changes. `partial_fit` keeps the weights, whereas `fit` would draw new ones.
        net = copied_net(net).set_params(**point)
        if hasattr(net, "random_state"):
            net.set_params(random_state=seed)
        load_weights_(net, load_tensors(start), "The start")
        net.initialize_optimizer()  # discards the momentum of a fitted estimator
        with interrupts_raised(net):
            net.partial_fit(X, y)
        save_tensors(path, layout_of(net.module_).own_tensors())


def _is_whole(path: Path) -> bool:
    """Return whether a file of weights exists and is as it was written."""
    if not path.exists():
        return False
    try:
        LazyTensors(path).verify()
    except ValueError as error:
        warn_caller(f"{error} Its ingredient is trained again.")
        return False
    return True


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Use one torch thread, because runs are parallel and sums must not depend on the process."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def _fingerprint(net: skorch.NeuralNet, X: Any, y: Array) -> str:
    """Hash everything that all runs share: the net with its start, its code, and the data."""
    settings = {
        name: value
        for name, value in vars(net).items()
        if not name.endswith("_") and name not in (*_NOT_IN_THE_RESULT, "module")
    }
    module = type(net.module) if isinstance(net.module, torch.nn.Module) else net.module
    return _known(type(net), settings, module, net.module_, X, y)


def _name(common: str, point: Mapping[str, Any], seed: int) -> str:
    return _known(common, seed, dict(point))[:32]


def _known(*values: Any) -> str:
    try:
        return fingerprint(*values)
    except ValueError as error:
        raise ValueError(
            f"cache_dir must be None, because trained ingredients cannot be recognized. {error}"
        ) from error
