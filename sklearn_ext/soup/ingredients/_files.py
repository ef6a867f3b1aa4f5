"""Soups on disk: the weights in a safetensors file, and the recipe in a JSON file.

The ``models`` of the recipe describe a linear merge without normalization, because the weights
already sum to 1 and may be negative. Each model lists its weight for every parameter.
"""

import json
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..._version import __version__
from ...neural import load_tensors, save_tensors
from ...utils._typing import FloatArray
from ._layout import layout_of
from ._store import weights_by_tensor

_FORMAT = "sklearn_ext.soup/1"


def save_soup(
    path: str | os.PathLike[str],
    module: nn.Module,
    *,
    class_name: str,
    names: Sequence[str],
    coef: FloatArray,
    groups: Mapping[str, Sequence[str]],
    target_shape: Sequence[int],
    fitted: Mapping[str, Any],
) -> None:
    """Write the weights and the recipe of a soup.

    Parameters
    ----------
    path : path-like
        Path of the weights, ending with ``.safetensors``. The recipe has the same name with the
        suffix ``.json``.
    module : torch.nn.Module
        Module with the weights of the soup.
    class_name : str
        Class of the soup.
    names : sequence of str
        Names of the ingredients.
    coef : ndarray of shape (G, N)
    groups : mapping of str to sequence of str
    target_shape : sequence of int
        Shape of the target of one sample.
    fitted : mapping of str to object
        Further fitted attributes.
    """
    path = Path(path)
    save_tensors(path, layout_of(module).own_tensors(), metadata={"format": "pt"})
    weights = weights_by_tensor(coef, groups)
    models = [
        {
            "model": name,
            "parameters": {
                "weight": [{"filter": tensor, "value": row[k]} for tensor, row in weights.items()]
            },
        }
        for k, name in enumerate(names)
    ]
    recipe = {
        "format": _FORMAT,
        "class": class_name,
        "versions": {"sklearn_ext": __version__, "torch": version("torch")},
        "weights": path.name,
        "merge_method": "linear",
        "parameters": {"normalize": False},
        "models": models,
        "target_shape": list(target_shape),
        "fitted": {name: _encoded(value) for name, value in fitted.items()},
    }
    path.with_suffix(".json").write_text(json.dumps(recipe, indent=1))


def read_soup(
    path: str | os.PathLike[str], class_name: str
) -> tuple[dict[str, torch.Tensor], tuple[int, ...], dict[str, Any]]:
    """Read a soup that :func:`save_soup` wrote.

    Parameters
    ----------
    path : path-like
        Path of the weights.
    class_name : str
        Class that the soup must have.

    Returns
    -------
    tensors : dict of str to tensor
    target_shape : tuple of int
    fitted : dict of str to object
        The fitted attributes, ``coef_`` included.

    Raises
    ------
    FileNotFoundError
        If one of the two files does not exist.
    ValueError
        If the recipe has another class or format.
    """
    path = Path(path)
    recipe = json.loads(path.with_suffix(".json").read_text())
    if recipe.get("format") != _FORMAT or recipe["class"] != class_name:
        raise ValueError(
            f"{str(path.with_suffix('.json'))!r} must contain a {class_name} in the format "
            f"{_FORMAT!r}, got a {recipe.get('class')} in the format {recipe.get('format')!r}."
        )
    fitted = {name: _decoded(value) for name, value in recipe["fitted"].items()}
    tables = [
        {entry["filter"]: entry["value"] for entry in model["parameters"]["weight"]}
        for model in recipe["models"]
    ]
    fitted["coef_"] = np.array(
        [[table[members[0]] for table in tables] for members in fitted["groups_"].values()]
    )
    return load_tensors(path), tuple(recipe["target_shape"]), fitted


def _encoded(value: Any) -> Any:
    """Return a fitted attribute as JSON that records the types of arrays and tuples."""
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "dtype": value.dtype.str}
    if isinstance(value, tuple):
        return {"tuple": [_encoded(item) for item in value]}
    if isinstance(value, list):
        return [_encoded(item) for item in value]
    if isinstance(value, dict):
        return {"dict": [[key, _encoded(item)] for key, item in value.items()]}
    if isinstance(value, np.generic):
        return value.item()
    # Parameters of ingredients may be arbitrary objects, which are stored as readable text.
    return value if isinstance(value, (str, int, float, bool, type(None))) else repr(value)


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return np.array(value["array"], dtype=np.dtype(value["dtype"]))
    if "tuple" in value:
        return tuple(_decoded(item) for item in value["tuple"])
    return {key: _decoded(item) for key, item in value["dict"]}
