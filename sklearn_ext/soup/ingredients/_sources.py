"""Open all kinds of ingredients that a user may pass, as named tensors."""

import glob
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from sklearn.exceptions import NotFittedError
from skorch import NeuralNet

from ...neural import LazyTensors
from ...neural.files import is_checkpoint_folder, is_source
from ...utils._validation import unfrozen


@dataclass(frozen=True)
class Ingredient:
    """One trained network.

    Attributes
    ----------
    label : str
        Name of the ingredient in error messages.
    tensors : mapping of str to tensor
        Parameters and stored buffers. Tensors in a file are read one at a time, through a memory
        map.
    """

    label: str
    tensors: Mapping[str, torch.Tensor]


def list_sources(ingredients: Any) -> list[Any]:
    """Return a list with one source for each ingredient.

    Parameters
    ----------
    ingredients : str, path-like or iterable
        A folder of files or folders, a glob pattern, one file, or an iterable of sources. A folder
        with an index or a model configuration is one source.

    Returns
    -------
    list
        At least one source. Paths are strings; those of a folder or a pattern are in alphabetical
        order.

    Raises
    ------
    ValueError
        If there are no sources.
    """
    if isinstance(ingredients, (str, os.PathLike)):
        sources = _files(os.fspath(ingredients))
    elif isinstance(ingredients, Mapping) or not hasattr(ingredients, "__iter__"):
        raise ValueError(
            "ingredients must be a list of networks or paths, a folder or a glob pattern, got a "
            f"single {type(ingredients).__name__}."
        )
    else:
        sources = [os.fspath(s) if isinstance(s, os.PathLike) else s for s in ingredients]
    if not sources:
        raise ValueError(
            "ingredients must contain a network, or a file or folder of weights as for "
            f"sklearn_ext.neural.LazyTensors, got {ingredients!r}."
        )
    return sources


def _files(pattern: str) -> list[Any]:
    if os.path.isdir(pattern):
        if is_checkpoint_folder(pattern):
            return [pattern]
        paths = [os.path.join(pattern, name) for name in sorted(os.listdir(pattern))]
    elif glob.has_magic(pattern):
        paths = [path.rstrip(os.sep) for path in sorted(glob.glob(pattern))]
    else:
        return [pattern]
    return [path for path in paths if is_source(path)]


def open_ingredient(source: Any, label: str, key: str | None = None) -> Ingredient:
    """Open one source.

    Parameters
    ----------
    source : skorch.NeuralNet, FrozenEstimator, torch.nn.Module, mapping of str to tensor, or \
            path-like
    label : str
        Name of the ingredient in error messages, which show the path instead if it is a file.
    key : str or None, default=None
        Entry of a training checkpoint that contains the weights.

    Returns
    -------
    Ingredient
        Its tensors are those of the source, not copies.

    Raises
    ------
    NotFittedError
        If the source is an unfitted net.
    TypeError
        If the source has another type.
    FileNotFoundError, ValueError
        If a file cannot be read.
    """
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        is_plain = key is None or path.endswith(".safetensors") or os.path.isdir(path)
        tensors = LazyTensors(path, key=None if is_plain else key)
        tensors.verify()
        return Ingredient(path, tensors)
    source = unfrozen(source)
    if isinstance(source, NeuralNet):
        if not source.initialized_:
            raise NotFittedError(
                f"{label} is an unfitted net. scikit-learn's clone, which pipelines and searches "
                "use, drops the weights of fitted nets. Pass paths of stored weights, or wrap "
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
