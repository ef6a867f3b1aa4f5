"""Validation of the input of a network."""

from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import validate_data

from ..utils._typing import Array, FloatArray

_LARGEST_NDIM = 4  # (samples, channels, height, width)


@overload
def validate_input(estimator: Any, X: ArrayLike, *, reset: bool) -> FloatArray: ...


@overload
def validate_input(
    estimator: Any, X: ArrayLike, y: ArrayLike, *, reset: bool
) -> tuple[FloatArray, Array]: ...


def validate_input(
    estimator: Any, X: ArrayLike, y: ArrayLike = "no_validation", *, reset: bool
) -> FloatArray | tuple[FloatArray, Array]:
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
    y : array-like of shape (n_samples,) or (n_samples, n_outputs), default="no_validation"
    reset : bool
        Whether to set these attributes, as in `fit`.

    Returns
    -------
    ndarray of float32, or a pair of it and y

    Raises
    ------
    ValueError
        If X has another shape, or an entry is missing, infinite or too large for float32.
    """
    checked = validate_data(
        estimator,
        X,
        y,
        reset=reset,
        dtype=np.float32,
        order="C",
        allow_nd=True,
        **({} if isinstance(y, str) else {"multi_output": True}),
    )
    samples: FloatArray = checked if isinstance(y, str) else checked[0]
    if samples.ndim > _LARGEST_NDIM:
        raise ValueError(f"X must have 2 to {_LARGEST_NDIM} dimensions, got {samples.ndim}.")
    if reset:
        estimator.input_shape_ = samples.shape[1:]
    elif samples.shape[1:] != estimator.input_shape_:
        raise ValueError(
            f"Each sample in X must have shape {estimator.input_shape_} as in fit, "
            f"got {samples.shape[1:]}."
        )
    return checked
