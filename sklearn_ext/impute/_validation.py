"""Checks of parameters that scikit-learn's declarative constraints cannot express."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

from ..utils._typing import Array, BoolArray, FloatArray
from ._label_columns import LabelColumns
from .published import MAX_SAMPLES


def feature_mask(
    parameter: str, features: ArrayLike | str | None, from_dtype: BoolArray, names: Array | None
) -> BoolArray:
    """Return a boolean mask of the features that a parameter selects.

    Parameters
    ----------
    parameter : str
        Name of the parameter in messages.
    features : "from_dtype", array-like of bool, int or str, or None
        Features to select in addition to those selected by their type. None selects no feature.
    from_dtype : bool ndarray of shape (n_features,)
        Features that have the type.
    names : ndarray of str or None

    Returns
    -------
    bool ndarray of shape (n_features,)

    Raises
    ------
    ValueError
        If a feature is unknown, if a boolean mask has the wrong length, or if categories are
        refused but present.
    """
    n_features = len(from_dtype)
    if features is None:
        if parameter == "categorical_features" and from_dtype.any():
            found = int(np.flatnonzero(from_dtype)[0])
            raise ValueError(
                f"categorical_features=None accepts only numbers, got strings, categories or "
                f"booleans in feature {found if names is None else names[found]!r}; use "
                "categorical_features='from_dtype'."
            )
        return np.zeros(n_features, dtype=bool)
    if isinstance(features, str):
        return from_dtype.copy()
    given: list[Any] = list(features)  # type: ignore[arg-type]  # a checked sequence
    if all(isinstance(v, (bool, np.bool_)) for v in given):
        if len(given) not in (0, n_features):
            raise ValueError(
                f"{parameter} as a boolean mask must have one entry per feature ({n_features}), "
                f"got {len(given)} entries."
            )
        return from_dtype | np.array(given or [False] * n_features, dtype=bool)
    mask = from_dtype.copy()
    for v in given:
        mask[feature_index(v, n_features, names, parameter)] = True
    return mask


def feature_index(
    feature: Any, n_features: int, names: Array | None, parameter: str = "feature"
) -> int:
    """Return the index of a feature that is given by its index or its name.

    Raises
    ------
    ValueError
        If the feature is unknown.
    """
    if isinstance(feature, Integral) and not isinstance(feature, (bool, np.bool_)):
        index = int(feature)
        if -n_features <= index < n_features:
            return index % n_features
    elif names is not None and isinstance(feature, str) and feature in names:
        return int(np.flatnonzero(names == feature)[0])
    raise ValueError(
        f"{parameter} must contain feature names of X, or integers below the number of features "
        f"({n_features}), got {feature!r}."
    )


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


def truncate(
    draws: FloatArray, mean: FloatArray, std: FloatArray, low: FloatArray, high: FloatArray
) -> FloatArray:
    """Map draws of Gaussians to draws of the Gaussians truncated to limits.

    Each draw keeps its quantile, so draws within a sample stay dependent.

    Parameters
    ----------
    draws, mean, std : ndarray of shape (n, d)
        Where `std` is 0, the entry is returned unchanged.
    low, high : ndarray of shape (d,)

    Returns
    -------
    ndarray of shape (n, d)
    """
    drawn = std > 0.0
    scale = np.where(drawn, std, 1.0)
    below, above = ndtr((low - mean) / scale), ndtr((high - mean) / scale)
    quantile = below + ndtr((draws - mean) / scale) * (above - below)
    return np.where(drawn, np.clip(mean + scale * ndtri(quantile), low, high), draws)


# Multiplications in the eigendecompositions of stage I, which take about ten minutes.
_MOST_WORK = 5e11


def check_two_stage_data(
    labels: LabelColumns,
    n_samples: int,
    *,
    center: str,
    sample_posterior: bool,
    max_iter: int,
) -> None:
    """Check that ``solver="two_stage"`` can use the data and parameters.

    Parameters
    ----------
    labels : LabelColumns
    n_samples : int
    center : {"observed", "base"}
    sample_posterior : bool
    max_iter : int
        Iterations of stage I, if the kernel is not centered at a base imputation.

    Raises
    ------
    ValueError
        If there are too many samples, if posterior draws are requested, or if labels of two classes
        are required but not given.
    """
    if sample_posterior:
        raise ValueError("sample_posterior=True requires solver='regression', got 'two_stage'.")
    if n_samples > MAX_SAMPLES:
        raise ValueError(
            f"solver='two_stage' stores matrices between all samples and accepts at most "
            f"{MAX_SAMPLES} samples, got {n_samples}; use solver='regression'."
        )
    if center == "observed" and (labels.classes is None or len(labels.classes) != 2):
        got = "no classes" if labels.classes is None else f"{len(labels.classes)} classes"
        raise ValueError(
            f"solver='two_stage' with center='observed' requires labels of 2 classes, got {got}; "
            "use center='base' or solver='regression'."
        )
    if center == "observed" and max_iter * n_samples**3 > _MOST_WORK:
        largest = int((_MOST_WORK / max_iter) ** (1 / 3))
        shorter = int(_MOST_WORK / n_samples**3)
        raise ValueError(
            f"solver='two_stage' with center='observed' decomposes two matrices between all "
            f"samples in each of up to max_iter={max_iter} iterations, and therefore accepts at "
            f"most {largest} samples, got {n_samples}; pass max_iter={shorter} or less, "
            "center='base' or solver='regression'."
        )
