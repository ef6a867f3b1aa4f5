"""Checks of parameters and data, and access to wrapped estimators."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike
from sklearn.frozen import FrozenEstimator

_MARGIN = 1e3  # leaves room for sums of squares


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
        If the values are strings or dates, or if the largest absolute value is too large.
    """
    values = np.asarray(values)
    if values.dtype.kind not in "biufO":
        raise ValueError(f"{name} must hold numbers, got values of dtype {values.dtype}.")
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


def unfrozen(estimator: Any) -> Any:
    """Return the estimator inside a FrozenEstimator, or the estimator itself."""
    return estimator.estimator if isinstance(estimator, FrozenEstimator) else estimator


def named_as_in_fit(estimator: Any, X: Any) -> Any:
    """Return samples as a data frame with the feature names that an estimator was fitted with.

    A pipeline may select its columns by name. Without feature names, or without pandas, X is
    returned as it is; scikit-learn then warns or raises an error.
    """
    names = getattr(estimator, "feature_names_in_", None)
    if names is None:
        return X
    try:
        import pandas as pd
    except ImportError:
        return X
    return pd.DataFrame(X, columns=names)
