"""Samples in several forms, and the probabilities of any classifier for them."""

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import _safe_indexing, check_consistent_length, column_or_1d

from ..utils._typing import Array, FloatArray, IntArray


def is_dataset(X: Any) -> bool:
    """Return whether X is a torch dataset."""
    torch = sys.modules.get("torch")  # without torch, X cannot be a dataset
    return torch is not None and isinstance(X, torch.utils.data.Dataset)


def labels_of(X: Any, y: ArrayLike | None, name: str) -> Array:
    """Return the labels as an array; those of a dataset may be inside it."""
    if y is None:
        if not is_dataset(X):
            raise ValueError(
                f"{name} may be None only if the samples are a torch Dataset, got "
                f"{type(X).__name__}."
            )
        y = [label.item() if hasattr(label, "item") else label for _, label in _items(X)]
    labels = column_or_1d(y)
    for part in X.values() if isinstance(X, Mapping) else [X]:
        check_consistent_length(part, labels)
    return labels


def _items(dataset: Any) -> Iterator[Any]:
    return (dataset[k] for k in range(len(dataset)))


def selected(X: Any, index: IntArray) -> Any:
    """Return some samples of an array, a data frame, a dict of arrays or a torch dataset."""
    if isinstance(X, Mapping):
        return {name: _safe_indexing(part, index) for name, part in X.items()}
    if is_dataset(X):
        return sys.modules["torch"].utils.data.Subset(X, index.tolist())
    return _safe_indexing(X, index)


def joined(first: Any, second: Any) -> Any:
    """Return the samples of two sets of the same form, one after the other."""
    if isinstance(first, Mapping):
        return {name: joined(part, second[name]) for name, part in first.items()}
    if is_dataset(first):
        return sys.modules["torch"].utils.data.ConcatDataset([first, second])
    for library in ("pandas", "polars"):
        module = sys.modules.get(library)
        if module is not None and isinstance(first, module.DataFrame):
            return module.concat([first, second])
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(first, torch.Tensor):
        return torch.cat([first, second])
    return np.concatenate([first, second])


def aligned_probabilities(model: Any, X: Any, classes: Array) -> FloatArray:
    """Return the probabilities of a model with one column for each of the given classes."""
    given = np.asarray(model.predict_proba(X), dtype=np.float64)
    unknown = np.setdiff1d(model.classes_, classes)
    if len(unknown):
        raise ValueError(
            f"y and y_test must contain all classes of {type(model).__name__}, but lack "
            f"{unknown.tolist()[0]!r}."
        )
    out = np.zeros((len(given), len(classes)))
    out[:, np.searchsorted(classes, model.classes_)] = given
    return out
