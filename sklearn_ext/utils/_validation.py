"""Checks of parameters and data, and access to wrapped estimators."""

import types
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils._missing import is_pandas_na
from sklearn.utils.multiclass import check_classification_targets

from ._typing import Array

Class = TypeVar("Class", bound=type)

_MARGIN = 1e3  # leaves room for sums of squares


def check_numbers(values: ArrayLike, *, name: str = "y") -> None:
    """Raise an error that shows the first value that is not a number.

    Strings such as "1.5" are not numbers, unless they are objects, which scikit-learn converts.

    Parameters
    ----------
    values : array-like
    name : str, default="y"

    Raises
    ------
    ValueError
        If the values are strings or dates, or objects that cannot be converted.
    """
    array = np.asarray(values)
    if array.dtype.kind in "USmM" and array.size:
        raise ValueError(f"{name} must contain numbers, got {array.ravel()[:1].tolist()[0]!r}.")
    for value in array.ravel() if array.dtype.kind == "O" else ():
        try:
            float(value)
        except (TypeError, ValueError):
            raise ValueError(f"{name} must contain numbers, got {value!r}.") from None


def check_all_labeled(labels: Array, *, name: str = "y") -> None:
    """Raise an error for missing labels: None, NaN, NaT or NA.

    Parameters
    ----------
    labels : ndarray of shape (n_samples,)
    name : str, default="y"

    Raises
    ------
    ValueError
        If a label is missing.
    """
    for position, label in enumerate(labels if labels.dtype.kind in "OfcmM" else ()):
        # NaN and NaT differ from themselves.
        if label is None or is_pandas_na(label) or label != label:
            raise ValueError(
                f"{name} must have a label for every sample, got {label} for sample {position}."
            )


def check_class_labels(y: Array) -> None:
    """Raise an error for targets that are not class labels, and for missing labels.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)

    Raises
    ------
    ValueError
        If y is continuous, or if a label is missing.
    """
    check_all_labeled(y)
    check_classification_targets(y)


def own_constructor(cls: Class) -> Class:
    """Give a class that inherits its constructor one under its own name.

    Python's messages about wrong arguments name the class that defines the constructor, which may
    be private.
    """
    changed: Any = cls
    inherited = changed.__init__
    constructor = types.FunctionType(
        inherited.__code__,
        inherited.__globals__,
        "__init__",
        inherited.__defaults__,
        inherited.__closure__,
    )
    constructor.__kwdefaults__ = inherited.__kwdefaults__
    constructor.__annotations__ = inherited.__annotations__
    constructor.__qualname__ = f"{cls.__name__}.__init__"
    constructor.__module__ = cls.__module__
    changed.__init__ = constructor
    return cls


def check_magnitude(values: ArrayLike, dtype: DTypeLike = np.float64, *, name: str = "y") -> None:
    """Raise an error for values that are not numbers, or whose squares overflow.

    Parameters
    ----------
    values : ndarray
    dtype : dtype, default=float64
        Type in which squares are computed.
    name : str, default="y"

    Raises
    ------
    ValueError
        If the values are not numbers, or if the largest absolute value is too large.
    """
    check_numbers(values, name=name)
    values = np.asarray(values)
    limit = np.sqrt(np.finfo(dtype).max) / _MARGIN
    largest = np.abs(values).max(initial=0.0)
    if largest > limit:
        raise ValueError(
            f"{name} must have absolute values below {limit:.0e}, whose squares can be summed in "
            f"{np.dtype(dtype).name}, got {largest:.3g}; rescale it."
        )


def computes_with_numba(engine: str, device: Any) -> bool:
    """Return whether `engine` and `device` select numba on the CPU rather than torch.

    Parameters
    ----------
    engine : {"auto", "numba", "torch"}
        "auto" selects numba on the CPU and torch on any other device.
    device : str, torch.device or None

    Returns
    -------
    bool

    Raises
    ------
    ValueError
        If numba is requested on a device other than the CPU.
    """
    on_cpu = device is None or str(device) == "cpu"
    if engine == "numba" and not on_cpu:
        raise ValueError(
            f"engine='numba' computes on the CPU only, got device={device!r}; "
            "use engine='torch' or device=None."
        )
    return engine == "numba" or (engine == "auto" and on_cpu)


def check_axes(axes: Any, n_axes: int, kind: str) -> Array:
    """Return the axes of a display as an array.

    Parameters
    ----------
    axes : matplotlib Axes or sequence of Axes
    n_axes : int
        Number of panels of the display.
    kind : str
        What each panel shows, for the message.

    Raises
    ------
    ValueError
        If the number of axes is wrong.
    """
    checked = np.atleast_1d(np.asarray(axes))
    if len(checked) != n_axes:
        raise ValueError(f"axes must have one entry per {kind}, {n_axes}, got {len(checked)}.")
    return checked


def unfrozen(estimator: Any) -> Any:
    """Return the estimator inside a FrozenEstimator, or the estimator itself."""
    return estimator.estimator if isinstance(estimator, FrozenEstimator) else estimator


def split_pipeline(estimator: Any) -> tuple[Callable[[Any], Any], Any]:
    """Return the transformation that a pipeline applies before its last step, and that step.

    For any other estimator, the transformation is the identity. Frozen estimators are unfrozen.
    """
    last = unfrozen(estimator)
    if not isinstance(last, Pipeline):
        return _unchanged, last
    before, (inner, last) = last[:-1], split_pipeline(last[-1])
    return (lambda X: inner(before.transform(X))) if len(before) else inner, last


def _unchanged(X: Any) -> Any:
    return X


def named_as_in_fit(estimator: Any, X: Any) -> Any:
    """Return samples as a data frame with the feature names that an estimator was fitted with.

    A pipeline may select its columns by name. Without feature names, or without pandas, X is
    returned unchanged; scikit-learn then warns or raises an error.
    """
    names = getattr(estimator, "feature_names_in_", None)
    if names is None or not isinstance(X, np.ndarray):
        return X
    try:
        import pandas as pd
    except ImportError:
        return X
    return pd.DataFrame(X, columns=names)
