"""Estimators as arrays and JSON, without pickle.

Reading a file creates objects of scikit-learn and of this package only, and sets their attributes;
it runs no code from the file.
"""

import importlib
import math
import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator

from ....utils._typing import Array

Tensors = dict[str, Array]
_TRUSTED = re.compile(r"(sklearn|sklearn_ext)(\.\w+)+")
_NUMERIC = "biuf"
_TIMES = "mM"  # durations and dates


class NotStorableError(TypeError):
    """An object that can be stored only by pickle."""


def encode(value: Any, tensors: Tensors, key: str) -> Any:
    """Convert an object to JSON, and put its arrays into `tensors`.

    Parameters
    ----------
    value : object
        Number, string, array, container, estimator or dataclass.
    tensors : dict of str to ndarray
        Extended by the arrays of the object.
    key : str
        Unique name of the object; names of arrays start with it.

    Returns
    -------
    object
        Consists of dicts with string keys, lists, strings, numbers, booleans and None.

    Raises
    ------
    NotStorableError
        If the object has a part of another type.
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return {"int": str(value)} if abs(value) >= 2**53 else value
    if isinstance(value, float) and not isinstance(value, np.generic):
        return value if math.isfinite(value) else {"float": repr(value)}
    for matches, name, write, _ in _CODECS:
        if matches(value):
            return {name: write(value, tensors, key)}
    raise NotStorableError(f"{key} is a {type(value).__name__}, which cannot be stored.")


def decode(data: Any, tensors: Tensors) -> Any:
    """Restore an object from `encode`.

    Parameters
    ----------
    data : object
        Output of `encode`, or anything else that was read from a file.
    tensors : dict of str to ndarray
        Arrays of the file.

    Returns
    -------
    object

    Raises
    ------
    ValueError
        If the data is not an output of `encode`.
    """
    if data is None or isinstance(data, (bool, str, int, float)):
        return data
    if isinstance(data, dict) and len(data) == 1:
        ((name, content),) = data.items()
        for _, known, _, read in _CODECS:
            if name == known:
                try:
                    return read(content, tensors)
                except (KeyError, TypeError, AttributeError, IndexError) as error:
                    raise ValueError(f"The file has an invalid entry {name!r}: {error}") from error
        if name in ("int", "float") and isinstance(content, str):
            return int(content) if name == "int" else float(content)
    raise ValueError(f"The file has an entry of an unknown type: {str(data)[:80]}")


def _write_array(value: Array, tensors: Tensors, key: str) -> Any:
    if value.dtype.kind in _NUMERIC and value.dtype.itemsize <= 8:
        tensors[key] = np.ascontiguousarray(value)
        return {"tensor": key, "shape": list(value.shape)}
    if value.dtype.kind in _TIMES:
        tensors[key] = np.ascontiguousarray(value).view(np.int64)
        return {"tensor": key, "shape": list(value.shape), "dtype": value.dtype.str}
    if value.dtype.kind in "OU":
        items = [encode(item, tensors, f"{key}.{i}") for i, item in enumerate(value.ravel())]
        return {"items": items, "dtype": value.dtype.str, "shape": list(value.shape)}
    raise NotStorableError(f"{key} has the type {value.dtype}, which cannot be stored.")


def _read_array(data: Any, tensors: Tensors) -> Array:
    if "tensor" in data:
        array = tensors[data["tensor"]].reshape(data["shape"])
        is_time = "dtype" in data and np.dtype(data["dtype"]).kind in _TIMES
        return array.view(data["dtype"]) if is_time else array
    out = np.empty(len(data["items"]), dtype=np.dtype(data["dtype"]))
    for i, item in enumerate(data["items"]):
        out[i] = decode(item, tensors)
    return out.reshape(data["shape"])


def _write_frame(value: Any, tensors: Tensors, key: str) -> Any:
    columns = [
        [encode(name, tensors, key), _column(value.iloc[:, j], tensors, f"{key}.{j}")]
        for j, name in enumerate(value.columns)
    ]
    return {"columns": columns, "n": len(value)}


def _column(column: Any, tensors: Tensors, key: str) -> Any:
    array = column.to_numpy()
    if array.dtype.kind in _NUMERIC + _TIMES:
        return encode(array, tensors, key)
    missing = column.isna().to_numpy()
    return encode(np.where(missing, None, array.astype(object)), tensors, key)


def _read_frame(data: Any, tensors: Tensors) -> Any:
    import pandas as pd

    columns = {decode(name, tensors): decode(values, tensors) for name, values in data["columns"]}
    return pd.DataFrame(columns)


def _name_of(value: Any) -> str:
    cls = type(value)
    name = f"{cls.__module__}.{cls.__qualname__}"
    if not _TRUSTED.fullmatch(name):
        raise NotStorableError(
            f"{name} is neither of scikit-learn nor of sklearn_ext, so it cannot be stored."
        )
    return name


def _class_named(name: str, is_right: Callable[[Any], bool]) -> Any:
    if not _TRUSTED.fullmatch(name):
        raise ValueError(f"The file names the class {name!r}, which is not trusted.")
    module, _, attribute = name.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"The file names the class {name!r}, which does not exist.") from error
    if not isinstance(cls, type) or not is_right(cls):
        raise ValueError(f"The file names {name!r}, which is not a class of the expected kind.")
    return cls


def _write_estimator(value: Any, tensors: Tensors, key: str) -> Any:
    name, state = _name_of(value), value.__getstate__()
    state.pop("_sklearn_version", None)
    return {
        "class": name,
        "state": {k: encode(v, tensors, f"{key}.{k}") for k, v in state.items()},
    }


def _read_estimator(data: Any, tensors: Tensors) -> Any:
    cls = _class_named(data["class"], lambda c: issubclass(c, BaseEstimator))
    estimator = cls.__new__(cls)
    for name, content in data["state"].items():
        if not name.isidentifier() or name.startswith("__") or callable(getattr(cls, name, None)):
            raise ValueError(f"The file sets the attribute {name!r} of {data['class']}.")
        vars(estimator)[name] = decode(content, tensors)
    return estimator


def _write_dataclass(value: Any, tensors: Tensors, key: str) -> Any:
    state = {f.name: getattr(value, f.name) for f in fields(value)}
    return {
        "class": _name_of(value),
        "fields": {k: encode(v, tensors, f"{key}.{k}") for k, v in state.items()},
    }


def _read_dataclass(data: Any, tensors: Tensors) -> Any:
    cls = _class_named(data["class"], is_dataclass)
    return cls(**{name: decode(content, tensors) for name, content in data["fields"].items()})


def _items(values: Any, tensors: Tensors, key: str) -> list[Any]:
    return [encode(item, tensors, f"{key}.{i}") for i, item in enumerate(values)]


def _read_random_state(data: Any, tensors: Tensors) -> np.random.RandomState:
    rng = np.random.RandomState()
    rng.set_state(tuple(decode(item, tensors) for item in data))
    return rng


def _is_frame(value: Any) -> bool:
    return hasattr(value, "iloc") and hasattr(value, "columns")


# Whether an object is of a type, the name of the type in files, and how to write and read it.
_CODECS: list[tuple[Any, str, Any, Any]] = [
    (
        lambda v: isinstance(v, np.generic),
        "scalar",
        lambda v, t, k: _write_array(np.asarray(v), t, k),
        lambda d, t: _read_array(d, t)[()],
    ),
    (lambda v: isinstance(v, np.ndarray), "array", _write_array, _read_array),
    (_is_frame, "frame", _write_frame, _read_frame),
    (
        lambda v: isinstance(v, list),
        "list",
        _items,
        lambda d, t: [decode(item, t) for item in d],
    ),
    (
        lambda v: isinstance(v, tuple),
        "tuple",
        _items,
        lambda d, t: tuple(decode(item, t) for item in d),
    ),
    (
        lambda v: isinstance(v, dict),
        "dict",
        lambda v, t, k: [_items(pair, t, f"{k}.{i}") for i, pair in enumerate(v.items())],
        lambda d, t: {decode(name, t): decode(content, t) for name, content in d},
    ),
    (lambda v: isinstance(v, BaseEstimator), "estimator", _write_estimator, _read_estimator),
    (
        lambda v: is_dataclass(v) and not isinstance(v, type),
        "dataclass",
        _write_dataclass,
        _read_dataclass,
    ),
    (
        sp.issparse,
        "csr",
        lambda v, t, k: _items(
            (v.tocsr().data, v.tocsr().indices, v.tocsr().indptr, v.shape), t, k
        ),
        lambda d, t: sp.csr_array(tuple(decode(part, t) for part in d[:3]), shape=decode(d[3], t)),
    ),
    (
        lambda v: isinstance(v, np.random.RandomState),
        "random_state",
        lambda v, t, k: _items(v.get_state(), t, k),
        _read_random_state,
    ),
    (
        lambda v: isinstance(v, slice),
        "slice",
        lambda v, t, k: _items((v.start, v.stop, v.step), t, k),
        lambda d, t: slice(*(decode(part, t) for part in d)),
    ),
    (
        lambda v: isinstance(v, type) and issubclass(v, np.generic),
        "dtype",
        lambda v, t, k: np.dtype(v).str,
        lambda d, t: np.dtype(d).type,
    ),
]
