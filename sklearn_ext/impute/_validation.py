"""Checks of parameters that scikit-learn's declarative constraints cannot express."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils._missing import is_pandas_na, is_scalar_nan

from ..utils._typing import Array, BoolArray, FloatArray
from ._label_columns import LabelColumns
from .published import MAX_SAMPLES


def allows_nan(missing_values: Any) -> bool:
    """Return whether missing values are marked by NaN or by pandas' NA, which becomes NaN."""
    return bool(is_scalar_nan(missing_values) or is_pandas_na(missing_values))


def categorical_mask(
    categorical_features: ArrayLike | None, n_features: int, names: Array | None
) -> BoolArray:
    """Return a boolean mask of the categorical features.

    Parameters
    ----------
    categorical_features : array-like of bool, int or str, or None
    n_features : int
    names : ndarray of str or None

    Returns
    -------
    bool ndarray of shape (n_features,)

    Raises
    ------
    ValueError
        If a feature is unknown, or a boolean mask has the wrong length.
    """
    mask = np.zeros(n_features, dtype=bool)
    if categorical_features is None:
        return mask
    given: list[Any] = list(categorical_features)  # type: ignore[arg-type]  # a checked sequence
    if all(isinstance(v, (bool, np.bool_)) for v in given):
        if len(given) not in (0, n_features):
            raise ValueError(
                f"categorical_features as a boolean mask must have one entry per feature "
                f"({n_features}), got {len(given)} entries."
            )
        mask[np.flatnonzero(given)] = True
        return mask
    known = {} if names is None else {name: k for k, name in enumerate(names)}
    for v in given:
        is_index = isinstance(v, Integral) and not isinstance(v, bool)
        if is_index and -n_features <= v < n_features:
            mask[v] = True
        elif isinstance(v, str) and v in known:
            mask[known[v]] = True
        else:
            raise ValueError(
                f"categorical_features must contain feature names of X, or integers below the "
                f"number of features ({n_features}), got {v!r}."
            )
    return mask


def clip_limits(
    clip: bool | Sequence[ArrayLike], feature_range: FloatArray
) -> Sequence[FloatArray] | FloatArray:
    """Return limits (low, high) of imputed values, each of shape (n_features,).

    Parameters
    ----------
    clip : bool or tuple of two floats or array-likes
    feature_range : ndarray of shape (2, n_features)
        Limits for ``clip=True``.

    Returns
    -------
    low, high : ndarray of shape (n_features,)

    Raises
    ------
    ValueError
        If the limits do not match the features, or a lower limit is not below its upper limit.
    """
    if isinstance(clip, (bool, np.bool_)):
        return feature_range if clip else np.full_like(feature_range, [[-np.inf], [np.inf]])
    if len(clip) != 2:
        raise ValueError(f"clip must be a bool or a pair (low, high), got {clip!r}.")
    n_features = feature_range.shape[1]
    try:
        limits = [np.broadcast_to(np.asarray(v, dtype=float), n_features) for v in clip]
    except ValueError as error:
        raise ValueError(
            f"clip must contain numbers or arrays of shape ({n_features},), got {clip!r}."
        ) from error
    if not (limits[0] < limits[1]).all():
        raise ValueError(f"clip must have low < high for every feature, got {clip!r}.")
    return limits


def check_two_stage_data(
    labels: LabelColumns, n_samples: int, *, center: str, sample_posterior: bool
) -> None:
    """Check that ``solver="two_stage"`` can use the data and parameters.

    Parameters
    ----------
    labels : LabelColumns
    n_samples : int
    center : {"observed", "base"}
    sample_posterior : bool

    Raises
    ------
    ValueError
        If there are too many samples, if posterior draws are requested, or if labels of two classes
        are required but not given.
    """
    if n_samples > MAX_SAMPLES:
        raise ValueError(
            f"solver='two_stage' stores matrices between all samples and takes at most "
            f"{MAX_SAMPLES} samples, got {n_samples}; use solver='regression'."
        )
    if sample_posterior:
        raise ValueError("sample_posterior=True requires solver='regression', got 'two_stage'.")
    if center == "observed" and (labels.classes is None or len(labels.classes) != 2):
        got = "no classes" if labels.classes is None else f"{len(labels.classes)} classes"
        raise ValueError(
            f"solver='two_stage' with center='observed' requires labels of 2 classes, got {got}; "
            "use center='base' or solver='regression'."
        )
