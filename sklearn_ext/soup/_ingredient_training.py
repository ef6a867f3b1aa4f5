"""Training of ingredients: one grid, one common start, many runs side by side."""

import contextlib
import copy
import hashlib
from pathlib import Path

import joblib
import numpy as np
import torch
from sklearn.model_selection import ParameterGrid, ParameterSampler

from ..neural import load_tensors, save_tensors, seeded
from ._layout import layout_of
from ._templates import load_weights_

DEFAULT_N_INGREDIENTS = 3
_NOT_IN_THE_RESULT = ("verbose", "random_state")


def parameter_points(param_grid, n_ingredients, rng):
    """Choose the parameters of each run.

    Parameters
    ----------
    param_grid : dict, list of dicts, or None
        Lists of values, or distributions with a method `rvs`. None leaves all parameters alone.
    n_ingredients : int or None
        None is all points of a grid, and 3 without one or with distributions. More than there are
        points uses points again; fewer takes some at random.
    rng : RandomState

    Returns
    -------
    list of dict
    """
    grids = param_grid if isinstance(param_grid, (list, tuple)) else [param_grid or {}]
    if any(hasattr(values, "rvs") for grid in grids for values in grid.values()):
        n = n_ingredients or DEFAULT_N_INGREDIENTS
        return list(ParameterSampler(param_grid, n, random_state=rng))
    points = list(ParameterGrid(grids))
    n = n_ingredients or (DEFAULT_N_INGREDIENTS if param_grid is None else len(points))
    if n < len(points):
        return [points[k] for k in np.sort(rng.choice(len(points), n, replace=False))]
    return [points[k % len(points)] for k in range(n)]


def run_seeds(entropy, n):
    """One independent seed a run, whichever process it runs in."""
    children = np.random.SeedSequence(entropy).spawn(n)
    return [int(child.generate_state(1)[0] >> 1) for child in children]


def train_ingredients(net, points, seeds, X, y, *, folder, n_jobs, resumable):
    """Train one ingredient for each point of the grid, all from the weights of `net`.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised, at the common start.
    points : list of dict
        Parameters of the net.
    seeds : list of int
    X : object
        Training rows in any form that the net takes.
    y : ndarray
        Targets as the net's `fit` takes them.
    folder : path-like
        Where the weights go.
    n_jobs : int or None
    resumable : bool
        Whether a run whose file is there already is left out.

    Returns
    -------
    list of str
        A ``.safetensors`` file for each point. Equal runs have equal names.
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
    joblib.Parallel(n_jobs=n_jobs)(
        joblib.delayed(_train_one)(net, start, point, seed, X, y, path)
        for point, seed, path in zip(points, seeds, paths, strict=True)
        if not path.exists()
    )
    return [str(path) for path in paths]


def _train_one(net, start, point, seed, X, y, path):
    with _one_thread(), seeded(seed, net.device):
        # Parameters first: skorch makes a new module when one of its parameters is set. And
        # `partial_fit`, because `fit` would start from weights of its own.
        net = copy.deepcopy(net).set_params(**point)
        if hasattr(net, "random_state"):
            net.set_params(random_state=seed)
        load_weights_(net, load_tensors(start), "the start")
        net.initialize_optimizer()  # a fitted estimator brings the momentum of its own training
        net.partial_fit(X, y)
        save_tensors(path, layout_of(net.module_).own_tensors())


@contextlib.contextmanager
def _one_thread():
    """Leave parallelism to the runs, and make sums the same in every process."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def _fingerprint(net, X, y):
    """Hash of all that the runs have in common: start, network, parameters and data."""
    digest = hashlib.sha256()
    for name, tensor in layout_of(net.module_).own_tensors().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    digest.update(repr(net.module_).encode())
    for name, value in sorted(net.get_params(deep=False).items()):
        if name not in _NOT_IN_THE_RESULT and not isinstance(value, torch.nn.Module):
            digest.update(f"{name}={joblib.hash(value)}".encode())
    digest.update(joblib.hash((X, y)).encode())
    return digest.hexdigest()


def _name(common, point, seed):
    digest = hashlib.sha256(f"{common} {seed}".encode())
    for name, value in sorted(point.items()):
        digest.update(f"{name}={joblib.hash(value)}".encode())
    return digest.hexdigest()[:32]
