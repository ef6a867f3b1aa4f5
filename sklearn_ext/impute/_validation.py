"""Checks of parameters that scikit-learn's declarative constraints cannot state."""

from numbers import Integral

import numpy as np
from sklearn.utils._missing import is_pandas_na, is_scalar_nan


def allows_nan(missing_values):
    """Whether the marker of holes is NaN or pandas' NA, which arrays hold as NaN."""
    return is_scalar_nan(missing_values) or is_pandas_na(missing_values)


def categorical_mask(categorical_features, n_features, names):
    """Boolean mask of the categorical features.

    Parameters
    ----------
    categorical_features : array-like of bool, int or str, or None
    n_features : int
    names : ndarray of str, or None

    Raises
    ------
    ValueError
        If a feature is unknown, or a boolean mask has the wrong length.
    """
    mask = np.zeros(n_features, dtype=bool)
    if categorical_features is None:
        return mask
    given = list(categorical_features)
    if all(isinstance(v, (bool, np.bool_)) for v in given):
        if len(given) not in (0, n_features):
            raise ValueError(
                f"categorical_features as a boolean mask must have one entry a feature "
                f"({n_features}), got {len(given)}."
            )
        mask[np.flatnonzero(given)] = True
        return mask
    known = {} if names is None else {name: k for k, name in enumerate(names)}
    for v in given:
        if isinstance(v, Integral) and not isinstance(v, bool) and -n_features <= v < n_features:
            mask[v] = True
        elif isinstance(v, str) and v in known:
            mask[known[v]] = True
        else:
            raise ValueError(
                f"categorical_features must hold feature names of the input, or integers below "
                f"the number of features ({n_features}), got {v!r}."
            )
    return mask


def clip_limits(clip, feature_range):
    """Limits (low, high) of imputed values, each of shape (n_features,).

    Parameters
    ----------
    clip : bool or tuple of two floats or array-likes
    feature_range : ndarray of shape (2, n_features)

    Raises
    ------
    ValueError
        If limits do not fit the features, or a lower one is not below its upper one.
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
            f"clip must hold numbers or arrays of shape ({n_features},), got {clip!r}."
        ) from error
    if not (limits[0] < limits[1]).all():
        raise ValueError(f"clip must have low < high for every feature, got {clip!r}.")
    return limits
