"""Soups on disk: one safetensors file with the weights, and the fitted attributes in its header."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..._version import __version__
from ...neural import save_tensors
from ...neural.files import (
    Check,
    checked_fields,
    integer,
    items,
    labels,
    labels_as_json,
    mapping_of,
    number,
    one_of,
    optional,
    parse_json,
    read_file,
    text,
)
from ...utils._typing import Array
from ._layout import layout_of

_FORMAT = "sklearn_ext.soup/2"
_HEADER = "sklearn_ext.soup"
_LARGEST_SIZE = 2**31 - 1
_SUM_TOLERANCE = 1e-6


def save_soup(
    path: str | os.PathLike[str],
    module: nn.Module,
    *,
    class_name: str,
    target_shape: Sequence[int],
    fitted: Mapping[str, Any],
) -> None:
    """Write a soup as one file, which replaces an existing one atomically.

    Parameters
    ----------
    path : path-like
        Path that ends with ``.safetensors``.
    module : torch.nn.Module
        Module with the weights of the soup.
    class_name : str
        Class of the soup.
    target_shape : sequence of int
        Shape of the target of one sample.
    fitted : mapping of str to object
        Fitted attributes.
    """
    header = {
        "format": _FORMAT,
        "class": class_name,
        "versions": {"sklearn_ext": __version__, "torch": version("torch")},
        "target_shape": list(target_shape),
        "fitted": {name: _encoded(name, value) for name, value in fitted.items()},
    }
    metadata = {"format": "pt", _HEADER: json.dumps(header)}
    save_tensors(path, layout_of(module).own_tensors(), metadata=metadata)


def read_soup(
    path: str | os.PathLike[str], class_name: str, names: Sequence[str], *, coef_sums_to_1: bool
) -> tuple[dict[str, torch.Tensor], tuple[int, ...], dict[str, Any]]:
    """Read a soup that :func:`save_soup` wrote.

    Parameters
    ----------
    path : path-like
    class_name : str
        Class that the soup must have.
    names : sequence of str
        Names of the fitted attributes that a soup of this class may have.
    coef_sums_to_1 : bool
        Whether the coefficients of each group must sum to 1.

    Returns
    -------
    tensors : dict of str to tensor
    target_shape : tuple of int
    fitted : dict of str to object

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file is damaged, contains another kind of soup, or has a field that is missing,
        unknown or invalid.
    """
    source = repr(str(path))
    if Path(path).suffix != ".safetensors":
        raise ValueError(f"path must end with '.safetensors', got {str(path)!r}.")
    tensors, metadata = read_file(path)
    if _HEADER not in metadata:
        raise ValueError(f"{source} must contain a soup, but its header lacks {_HEADER!r}.")
    stored = parse_json(metadata[_HEADER], f"The header of {source}")
    if isinstance(stored, dict) and stored.get("class") != class_name:
        raise ValueError(f"{source} must contain a {class_name}, got a {stored.get('class')}.")
    header = checked_fields(
        stored,
        {
            "format": one_of(_FORMAT),
            "class": text,
            "versions": mapping_of(text),
            "target_shape": _shape,
            "fitted": lambda value, name: checked_fields(
                value, {name: _CHECKS[name] for name in names}, name, may_lack=_NOT_IN_ALL_SOUPS
            ),
        },
        f"the header of {source}",
    )
    fitted = header["fitted"]
    _check_agreement(fitted, source, coef_sums_to_1)
    return tensors, header["target_shape"], fitted


def _check_agreement(fitted: Mapping[str, Any], source: str, coef_sums_to_1: bool) -> None:
    """Check that the fitted attributes of a file belong together."""
    coef = fitted["coef_"]
    if coef_sums_to_1 and not np.all(np.abs(coef.sum(axis=1) - 1.0) <= _SUM_TOLERANCE):
        raise ValueError(
            f"coef_ in {source} must sum to 1 in each group, got sums {coef.sum(axis=1)[:5]}."
        )
    n_groups, n = len(fitted["groups_"]), len(fitted["ingredient_names_"])
    for name, expected in (("coef_", (n_groups, n)), *((name, (n,)) for name in _PER_INGREDIENT)):
        if name in fitted and np.shape(fitted[name])[: len(expected)] != expected:
            raise ValueError(
                f"{name} in {source} must have the shape {expected}, got {np.shape(fitted[name])}."
            )
    if "order_" in fitted and sorted(fitted["order_"]) != list(range(n)):
        raise ValueError(f"order_ in {source} must be a permutation of the {n} ingredients.")
    selected = fitted.get("selected_", np.zeros(1, dtype=int))
    if len(selected) == 0 or len(set(selected)) < len(selected) or selected.max() >= n:
        raise ValueError(f"selected_ in {source} must be different indices of {n} ingredients.")
    shape, n_features = fitted["input_shape_"], fitted.get("n_features_in_")
    n_inputs = 1 if shape is None else math.prod(shape)
    if n_inputs > _LARGEST_SIZE or (shape and n_features not in (None, n_inputs, *shape)):
        raise ValueError(
            f"input_shape_ in {source} must agree with n_features_in_={n_features}, got {shape}."
        )
    if len(fitted.get("feature_names_in_", ())) not in (0, n_features):
        raise ValueError(f"feature_names_in_ in {source} must have {n_features} names.")


def _array_of(check: Check, dtype: Any) -> Check:
    all_of = items(check)
    return lambda value, name: np.array(all_of(value, name), dtype=dtype)


def _matrix(value: Any, name: str) -> Array:
    rows = items(items(number()))(value, name)
    if len({len(row) for row in rows}) != 1:
        raise ValueError(f"{name} must have rows of equal length, got {[*map(len, rows)][:5]}.")
    return np.array(rows, dtype=np.float64)


def _shape(value: Any, name: str) -> tuple[int, ...]:
    return tuple(items(integer(1, _LARGEST_SIZE))(value, name))


def _params(value: Any, name: str) -> list[dict[str, Any]]:
    return [
        {key: _decoded(entry, name) for key, entry in point.items()}
        for point in items(mapping_of(lambda entry, name: entry))(value, name)
    ]


def _three_networks(value: Any, name: str) -> dict[str, float]:
    check = number(finite=False)
    return checked_fields(value, dict.fromkeys(("best_single", "uniform", "soup"), check), name)


_NUMBERS = _array_of(number(finite=False), np.float64)
_INDICES = _array_of(integer(0, _LARGEST_SIZE), np.int64)
_CHECKS: dict[str, Check] = {
    "coef_": _matrix,
    "groups_": mapping_of(items(text)),
    "ingredient_names_": items(text),
    "ingredient_params_": _params,
    "ingredient_scores_": _NUMBERS,
    "ingredient_losses_": _NUMBERS,
    "soup_scores_": _three_networks,
    "soup_losses_": _three_networks,
    "classes_": labels,
    "input_shape_": optional(_shape),
    "n_features_in_": integer(1, _LARGEST_SIZE),
    "feature_names_in_": _array_of(text, object),
    "history_": items(mapping_of(number(finite=False))),
    "temperature_": number(above=0.0),
    "scaling_": number(),
    "ratios_": mapping_of(number()),
    "merged_layers_": items(text),
    "order_": _INDICES,
    "selected_": _INDICES,
}
_NOT_IN_ALL_SOUPS = ("classes_", "n_features_in_", "feature_names_in_")
_PER_INGREDIENT = ("ingredient_params_", "ingredient_scores_", "ingredient_losses_")


def _encoded(name: str, value: Any) -> Any:
    """Return a fitted attribute as the check of its name takes it."""
    if name == "classes_":
        return labels_as_json(value)
    if name == "ingredient_params_":
        return [{key: _tagged(entry) for key, entry in point.items()} for point in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


def _tagged(value: Any) -> Any:
    """Return a parameter of an ingredient as JSON that tells tuples from lists."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, tuple):
        return {"tuple": [_tagged(item) for item in value]}
    if isinstance(value, list):
        return [_tagged(item) for item in value]
    if isinstance(value, dict):
        return {"dict": [[_tagged(key), _tagged(item)] for key, item in value.items()]}
    # Parameters may be arbitrary objects, which are stored as readable text.
    return value if isinstance(value, (str, int, float, bool, type(None))) else repr(value)


def _decoded(value: Any, name: str) -> Any:
    if isinstance(value, list):
        return [_decoded(item, name) for item in value]
    if not isinstance(value, dict):
        return value
    tag, stored = next(iter(value.items()), (None, None))
    if tag == "tuple" and isinstance(stored, list):
        return tuple(_decoded(item, name) for item in stored)
    if tag == "dict" and isinstance(stored, list):
        pairs = [items(lambda entry, _: entry, 2)(pair, name) for pair in stored]
        simple = all(isinstance(key, (str, int, float, bool, type(None))) for key, _ in pairs)
        if simple:
            return {key: _decoded(item, name) for key, item in pairs}
    raise ValueError(f"{name} must contain parameters as they are saved, got {value!r:.80}.")
