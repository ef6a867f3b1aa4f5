"""Samples in any form that a network takes: their validation, selection and conversion."""

from collections.abc import Mapping
from typing import Any, TypeAlias, overload

import numpy as np
import skorch
import torch
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from sklearn.utils.validation import check_consistent_length, validate_data
from skorch.dataset import ERROR_MSG_1_ITEM, get_len, unpack_data
from skorch.utils import multi_indexing, to_numpy, to_tensor
from torch import nn
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
)

from ..utils._typing import Array, FloatArray, IntArray

# Arrays, tensors, dicts of them, and map-style datasets.
AnySamples: TypeAlias = Any

_LARGEST_NDIM = 4  # (samples, channels, height, width)
HALF = (torch.float16, torch.bfloat16)
_REAL = (*HALF, torch.float32, torch.float64)
_LOADER = (
    "X must not be a DataLoader, because samples are chosen by their index. Pass its dataset, "
    "`loader.dataset`; set the size of batches by `batch_size`, and the number of worker processes "
    "by `iterator_train__num_workers` of the net."
)
_ITERABLE = (
    "X must not be an iterable-style dataset, because its samples cannot be chosen by their index. "
    "Pass a map-style torch.utils.data.Dataset, which has `__len__` and `__getitem__`, or arrays."
)


class LabeledDataset(Dataset):
    """A dataset whose targets are replaced, for example by the indices of their classes.

    Parameters
    ----------
    dataset : torch.utils.data.Dataset
        Its items are pairs of a sample and its target.
    targets : ndarray or tensor of shape (n_samples, ...)
    """

    def __init__(self, dataset: Dataset, targets: Array | torch.Tensor) -> None:
        self.dataset = dataset
        self.y = targets

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return sample_and_target(self.dataset[index])[0], self.y[index]


@overload
def validate_input(
    estimator: Any, X: AnySamples, *, reset: bool, any_form: bool = False
) -> FloatArray: ...


@overload
def validate_input(
    estimator: Any, X: AnySamples, y: ArrayLike | None, *, reset: bool, any_form: bool = False
) -> tuple[FloatArray, Array]: ...


def validate_input(
    estimator: Any,
    X: AnySamples,
    y: ArrayLike | None = "no_validation",
    *,
    reset: bool,
    any_form: bool = False,
) -> Any:
    """Check that X (and y) can be passed to a network: features or images, dense and finite.

    Like :func:`sklearn.utils.validation.validate_data`, this function changes the estimator: with
    `reset`, it sets the fitted attributes `input_shape_` and `n_features_in_`, and also
    `feature_names_in_` if the columns of X have names. Without `reset`, it changes nothing and
    checks X against these attributes.

    Parameters
    ----------
    estimator : estimator
        The estimator whose attributes are set or compared.
    X : array-like of shape (n_samples, n_features), (n_samples, height, width) or \
            (n_samples, channels, height, width)
        With `any_form`, also a tensor, a dict of arrays or tensors, or a map-style
        :class:`torch.utils.data.Dataset`.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs), or None, \
            default="no_validation"
        With None, the targets are taken from X if it is a dataset.
    reset : bool
        Whether to set these attributes, as in `fit`.
    any_form : bool, default=False
        Whether to return samples in the form in which they are given. Tensors, dicts and datasets
        are returned as they are, arrays of integers as int64 and all other arrays as float32. Use
        :class:`NetSamples` to read them. Otherwise, all samples become an array of float32.

    Returns
    -------
    ndarray of float32, or a pair of it and y
        With `any_form`, the samples may have any of the forms above. y is an ndarray.

    Raises
    ------
    TypeError
        If X is a data loader, an iterable-style dataset, or a dataset without `any_form`.
    ValueError
        If X has another shape, or an entry is missing, infinite or too large for float32.
    """
    with_targets = not isinstance(y, str)
    check_form(X, any_form=any_form)
    if any_form and has_own_form(X):
        return _as_given(estimator, X, y, reset=reset)
    dtype = np.int64 if any_form and _has_integers(X) else np.float32
    checked = validate_data(
        estimator,
        X,
        to_numpy(y) if isinstance(y, torch.Tensor) else y,
        reset=reset,
        dtype=dtype,
        order="C",
        allow_nd=True,
        **({"multi_output": True} if with_targets else {}),
    )
    samples: Array = checked[0] if with_targets else checked
    if samples.ndim > _LARGEST_NDIM:
        raise ValueError(f"X must have 2 to {_LARGEST_NDIM} dimensions, got {samples.ndim}.")
    _set_or_compare_shape(estimator, samples.shape[1:], reset=reset)
    return checked


def check_form(X: AnySamples, *, any_form: bool = True) -> None:
    """Raise TypeError if samples cannot be chosen by their index."""
    if isinstance(X, DataLoader):
        raise TypeError(_LOADER)
    if isinstance(X, IterableDataset):
        raise TypeError(_ITERABLE)
    if isinstance(X, Dataset) and not any_form:
        raise TypeError(
            f"X must be array-like, got the dataset {type(X).__name__}. Stack its samples in an "
            "array first."
        )


def has_own_form(X: AnySamples) -> bool:
    """Return whether X is a tensor, mapping or dataset, which is never converted to an array."""
    # A sparse matrix in scipy's dictionary-of-keys format is a mapping, too.
    return isinstance(X, (Mapping, Dataset, torch.Tensor)) and not issparse(X)


def n_samples_of(X: AnySamples) -> int:
    """Return the number of samples in any form."""
    return len(X) if isinstance(X, Dataset) else get_len(X)  # type: ignore[arg-type]


def select_samples(X: AnySamples, index: IntArray) -> AnySamples:
    """Return the samples with the given indices, in the same form."""
    return Subset(X, index.tolist()) if isinstance(X, Dataset) else multi_indexing(X, index)


def concatenated(first: AnySamples, second: AnySamples) -> AnySamples:
    """Return the samples of two collections as one, which is a dataset if their forms differ.

    Raises
    ------
    ValueError
        If two dicts have different keys.
    """
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        return np.concatenate([first, second])
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        return torch.cat([first, second])
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        if first.keys() != second.keys():
            raise ValueError(
                "All dicts of samples must have the same keys, got "
                f"{list(first)} and {list(second)}."
            )
        return {name: concatenated(first[name], second[name]) for name in first}
    return ConcatDataset([_TensorItems(first), _TensorItems(second)])


class _TensorItems(Dataset):
    """A dataset that returns arrays as tensors, so that a loader can mix the two in a batch."""

    def __init__(self, X: AnySamples) -> None:
        self.dataset = X if isinstance(X, Dataset) else skorch.dataset.Dataset(X)

    def __len__(self) -> int:
        return n_samples_of(self.dataset)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        sample = sample_and_target(self.dataset[index])[0]
        return to_tensor(sample, device="cpu") if isinstance(sample, np.ndarray) else sample, 0


def sample_shape(X: AnySamples) -> tuple[int, ...] | None:
    """Return the shape of one sample, or None if a sample is not a single array."""
    if isinstance(X, Dataset):
        first = sample_and_target(X[0])[0]
        return tuple(first.shape) if hasattr(first, "shape") else None
    return tuple(X.shape[1:]) if hasattr(X, "shape") else None


def stacked(X: AnySamples) -> FloatArray:
    """Return samples that are single arrays as one array of float32.

    Parameters
    ----------
    X : ndarray, tensor or Dataset

    Returns
    -------
    float32 ndarray of shape (n_samples, ...)
        An array of float32 is returned as it is. A dataset is read item by item.
    """
    if isinstance(X, Dataset):
        items = (sample_and_target(X[k])[0] for k in range(n_samples_of(X)))
        return np.stack([np.asarray(to_numpy_or_scalar(item), dtype=np.float32) for item in items])
    return np.asarray(to_numpy_or_scalar(X), dtype=np.float32)


def targets_in(dataset: Dataset) -> Array:
    """Return the targets that a dataset contains.

    They are taken from the memory of datasets that hold them in a known place. Other datasets are
    read once, sample by sample.

    Raises
    ------
    ValueError
        If the items of the dataset are not pairs of a sample and its target.
    """
    held = _held_targets(dataset)
    if held is not None:
        return held
    n = n_samples_of(dataset)
    return np.stack([to_numpy_or_scalar(sample_and_target(dataset[k])[1]) for k in range(n)])


def sample_and_target(item: Any) -> tuple[Any, Any]:
    """Return the two parts of an item of a dataset; raise skorch's error if it is not a pair."""
    try:
        return unpack_data(item)
    except TypeError:
        raise ValueError(ERROR_MSG_1_ITEM) from None


def to_numpy_or_scalar(value: Any) -> Any:
    """Return a tensor as an ndarray, and anything else as it is."""
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value


def _held_targets(dataset: Any) -> Array | None:
    if isinstance(dataset, Subset):
        held = _held_targets(dataset.dataset)
        return None if held is None else held[np.asarray(dataset.indices)]
    # Only these classes are known to return the very targets that they hold.
    if type(dataset) is LabeledDataset:
        return np.asarray(to_numpy_or_scalar(dataset.y))
    if type(dataset) is skorch.dataset.Dataset and dataset.y is not None:
        return np.asarray(to_numpy(dataset.y))
    if type(dataset) is TensorDataset and len(dataset.tensors) == 2:
        return to_numpy(dataset.tensors[1])
    return None


def _as_given(estimator: Any, X: AnySamples, y: Any, *, reset: bool) -> Any:
    n_samples = n_samples_of(X)
    if n_samples == 0:
        raise ValueError("Found 0 sample(s) in X, while a minimum of 1 is required.")
    _check_finite(X)
    shape = sample_shape(X)
    if reset:
        vars(estimator).pop("feature_names_in_", None)
        vars(estimator).pop("n_features_in_", None)
        if shape:
            estimator.n_features_in_ = shape[0]
    _set_or_compare_shape(estimator, shape, reset=reset)
    if isinstance(y, str):
        return X
    if y is None:
        if not isinstance(X, Dataset):
            raise ValueError(
                f"This {type(estimator).__name__} estimator requires y to be passed, but the "
                "target y is None."
            )
        y = targets_in(X)
    targets = np.asarray(to_numpy_or_scalar(y))
    if targets.dtype.kind == "f" and not np.isfinite(targets).all():
        raise ValueError("Input y contains NaN or infinity.")
    check_consistent_length(np.empty(n_samples), targets)
    return X, targets


def _set_or_compare_shape(estimator: Any, shape: tuple[int, ...] | None, *, reset: bool) -> None:
    if reset:
        estimator.input_shape_ = shape
        return
    known = getattr(estimator, "input_shape_", None)
    if known is not None and shape is not None and shape != known:
        raise ValueError(f"Each sample in X must have shape {known} as in fit, got {shape}.")


def _check_finite(X: AnySamples) -> None:
    """Raise ValueError if a tensor or array in X contains NaN or infinity; skip datasets."""
    for part in X.values() if isinstance(X, Mapping) else [X]:
        if isinstance(part, torch.Tensor) and part.is_floating_point():
            finite = bool(torch.isfinite(part).all())
        elif isinstance(part, np.ndarray) and part.dtype.kind == "f":
            finite = bool(np.isfinite(part).all())
        else:
            continue
        if not finite:
            raise ValueError("Input X contains NaN or infinity.")


def _has_integers(X: Any) -> bool:
    """Return whether an array or data frame has integers only, such as token ids."""
    if hasattr(X, "dtypes"):
        dtypes = list(X.dtypes)
    elif isinstance(X, (list, tuple)):
        try:
            dtypes = [np.asarray(X).dtype]
        except (TypeError, ValueError):  # the validation raises a clearer error
            return False
    else:
        dtypes = [getattr(X, "dtype", None)]
    # Integers of one byte are the pixels of images.
    return bool(dtypes) and all(
        isinstance(dtype, np.dtype) and dtype.kind in "iu" and dtype != np.uint8 for dtype in dtypes
    )


def module_inputs(net: skorch.NeuralNet, x: Any) -> Any:
    """Return a batch in the type that the module of a net computes in.

    Real numbers and unsigned bytes are cast to the floating-point type of the module's parameters.
    The values of pixels stay as they are, 0 to 255. Other integers, such as token ids, become int64
    if the module takes integers, and are cast like real numbers otherwise. In a dict, only real
    numbers are cast.

    Parameters
    ----------
    net : skorch.NeuralNet
        An initialized net.
    x : tensor, or dict of tensors
        A batch on the device of the net.
    """
    dtype = _dtype_of(net.module_)
    if isinstance(x, Mapping):
        if dtype is None or all(v.dtype == dtype for v in x.values() if _is_real(v)):
            return x
        return {k: v.to(dtype) if _is_real(v) else v for k, v in x.items()}
    if not isinstance(x, torch.Tensor) or x.dtype == dtype or x.is_sparse:
        return x
    if _is_real(x) or x.dtype in (torch.uint8, torch.bool):
        return x if dtype is None else x.to(dtype)
    if x.is_complex():
        return x
    x = x.long()
    if not hasattr(net, "integer_input_"):
        net.integer_input_ = _takes_integers(net.module_, x, dtype)
    return x if net.integer_input_ else x.to(dtype)


def takes_integers(net: skorch.NeuralNet, X: AnySamples) -> bool:
    """Return whether samples are integers that a net's module takes as they are, like token ids."""
    if not isinstance(X, (np.ndarray, torch.Tensor)):
        return False
    first = to_tensor(X[:2], device=net.device)
    return module_inputs(net, first).dtype == torch.int64


def _is_real(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and x.dtype in _REAL


def _dtype_of(module: Any) -> torch.dtype | None:
    if not isinstance(module, nn.Module):
        return None
    return next((p.dtype for p in module.parameters() if p.dtype in _REAL), None)


@torch.no_grad()
def _takes_integers(module: nn.Module, x: torch.Tensor, dtype: torch.dtype | None) -> bool:
    """Return whether a module takes a batch of integers, which only a trial can tell."""
    if dtype is None:
        return True
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        module(x)
        return True
    except Exception as refusal:
        try:
            module(x.to(dtype))
        except Exception:
            raise refusal from None
        return False
    finally:
        for part in training:
            part.training = True
