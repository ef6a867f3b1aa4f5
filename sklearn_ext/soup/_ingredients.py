"""From what a user calls ingredients to tensors by name, read when asked for."""

import glob
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from sklearn.exceptions import NotFittedError
from skorch import NeuralNet

from ..neural import LazyTensors
from ..utils._nested import unfrozen

_SUFFIXES = (".safetensors", ".pt", ".pth")


@dataclass(frozen=True)
class Ingredient:
    """One trained network.

    Attributes
    ----------
    label : str
        What tables, recipes and errors call it.
    tensors : mapping of str to tensor
        Parameters and stored buffers. For a file they are read one by one, through a memory map.
    """

    label: str
    tensors: Mapping[str, torch.Tensor]


def list_sources(ingredients):
    """Return a list of ingredients, one entry each.

    Parameters
    ----------
    ingredients : str, path-like or iterable
        A folder, a glob pattern, one file, or an iterable of sources.

    Returns
    -------
    list
        Of at least one source; files as str, in alphabetical order where a folder or a pattern
        was given.

    Raises
    ------
    ValueError
        If there is none.
    """
    if isinstance(ingredients, (str, os.PathLike)):
        sources = _files(os.fspath(ingredients))
    elif isinstance(ingredients, Mapping) or not hasattr(ingredients, "__iter__"):
        raise ValueError(
            "ingredients must be a list of networks or paths, a folder or a glob pattern, got one "
            f"{type(ingredients).__name__}."
        )
    else:
        sources = [os.fspath(s) if isinstance(s, os.PathLike) else s for s in ingredients]
    if not sources:
        raise ValueError(
            f"ingredients={ingredients!r} names nothing; files must end with {_SUFFIXES}."
        )
    return sources


def _files(pattern):
    if os.path.isdir(pattern):
        return [str(path) for path in sorted(Path(pattern).iterdir()) if path.suffix in _SUFFIXES]
    if glob.has_magic(pattern):
        return [path for path in sorted(glob.glob(pattern)) if path.endswith(_SUFFIXES)]
    return [pattern]


def open_ingredient(source, label):
    """Open one source.

    Parameters
    ----------
    source : skorch.NeuralNet, FrozenEstimator, torch.nn.Module, mapping of str to tensor, or \
            path-like
    label : str
        What errors call it; a file is called by its path.

    Returns
    -------
    Ingredient
        Its tensors are the source's own, not copies.

    Raises
    ------
    NotFittedError
        If it is a net without weights.
    TypeError
        If it is none of these.
    FileNotFoundError, ValueError
        If a file cannot be read.
    """
    if isinstance(source, (str, os.PathLike)):
        return Ingredient(os.fspath(source), LazyTensors(source))
    source = unfrozen(source)
    if isinstance(source, NeuralNet):
        if not source.initialized_:
            raise NotFittedError(
                f"{label} is a net without weights. scikit-learn's clone, hence a pipeline or a "
                "search, drops the weights of fitted nets: pass paths of stored weights, or wrap "
                "each net in sklearn.frozen.FrozenEstimator."
            )
        source = source.module_
    if isinstance(source, torch.nn.Module):
        source = source.state_dict()
    if isinstance(source, Mapping):
        return Ingredient(label, source)
    raise TypeError(
        f"{label} must be a fitted skorch net, a FrozenEstimator around one, a torch module, a "
        f"state dict or a path, got {type(source).__name__}."
    )
