"""Checks of the input of a pipeline: steps, samples, targets, ids and pinned samples."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import is_classifier
from sklearn.utils.validation import (
    _check_feature_names,
    _check_n_features,
    _check_sample_weight,
    _num_samples,
    check_array,
    check_consistent_length,
    column_or_1d,
)

from ...utils._random import held_out_mask, local_random_state
from ...utils._typing import Array, BoolArray, FloatArray, RandomState
from ...utils._validation import check_class_labels, check_numbers
from ..exact import RandomFeatureClassifier, RandomFeatureRegressor
from ._model import Steps
from ._samples import StoredSamples
from ._steps import kind_of, why_it_cannot_forget

_HEADS = (RandomFeatureRegressor, RandomFeatureClassifier)


def check_steps(steps: Steps) -> None:
    """Raise TypeError or ValueError if steps cannot form a pipeline."""
    if not steps:
        raise ValueError("steps must contain at least the last step, got an empty list.")
    if not isinstance(steps[-1][1], _HEADS):
        raise TypeError(
            "The last step must be a RandomFeatureRegressor or a RandomFeatureClassifier, got "
            f"{steps[-1][1]!r}."
        )
    for name, step in steps[:-1]:
        if not (hasattr(step, "transform") or step in (None, "passthrough")):
            raise TypeError(f"The step {name!r} must have a transform method, got {step!r}.")


def checked_table(estimator: Any, X: Any, *, reset: bool) -> Any:
    """Return X as an array or a pandas frame; numbers become float64.

    Parameters
    ----------
    estimator : estimator
        Gets ``n_features_in_`` and ``feature_names_in_`` if `reset` is True; X must match them
        otherwise.
    X : array-like or data frame of shape (n_samples, n_features)
        Samples, whose values the steps check.
    reset : bool
        Whether X is given to `fit`.

    Returns
    -------
    ndarray or pandas.DataFrame
    """
    _check_feature_names(estimator, X, reset=reset)
    if hasattr(X, "to_pandas") and not hasattr(X, "iloc"):
        import pandas as pd

        X = pd.DataFrame({name: X[name].to_numpy() for name in X.columns})
    if not hasattr(X, "iloc"):
        X = check_array(X, dtype=None, ensure_all_finite="allow-nan")
        X = X.astype(np.float64) if X.dtype.kind in "biuf" else X
    else:
        X = X.reset_index(drop=True)
        if all(isinstance(t, np.dtype) and t.kind in "biuf" for t in X.dtypes):
            X = X.astype(np.float64)
    if _num_samples(X) == 0:
        raise ValueError("X has 0 samples, but at least one is required.")
    _check_n_features(estimator, X, reset=reset)
    return X


def checked_targets(
    X: Any, y: ArrayLike, sample_weight: ArrayLike | None, head: Any
) -> tuple[Array, FloatArray]:
    """Return targets for a last step, and weights.

    Parameters
    ----------
    X : array-like or data frame of shape (n_samples, n_features)
        Samples.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Targets or class labels.
    sample_weight : array-like of shape (n_samples,) or None
        Weights.
    head : estimator
        The last step.

    Returns
    -------
    targets : ndarray of shape (n_samples,) or (n_samples, n_outputs)
    weights : ndarray of shape (n_samples,)
    """
    if is_classifier(head):
        targets = column_or_1d(y, warn=True)
        check_class_labels(targets)
    else:
        check_numbers(y)
        targets = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        if targets.ndim == 2 and targets.shape[1] == 1:
            targets = column_or_1d(targets, warn=True)
    check_consistent_length(X, targets)
    weights = _check_sample_weight(
        sample_weight, np.empty((len(targets), 1)), dtype=np.float64, ensure_non_negative=True
    )
    return np.array(targets), weights


def as_ids(values: ArrayLike) -> Array:
    """Return ids as an array of int64 or of objects."""
    ids = np.asarray(values)
    if ids.dtype.kind in "iu":
        return ids.astype(np.int64)
    keys = np.asarray(values, dtype=object)  # NumPy would turn 1 into "1" beside strings
    for key in keys.ravel():
        if not isinstance(key, str):
            raise ValueError(
                "sample_id must contain integers, or strings, got "
                f"{key!r} in an array of type {ids.dtype}."
            )
    return keys


def checked_ids(sample_id: ArrayLike | None, n: int, first: Callable[[], int]) -> Array:
    """Return n unique ids; None numbers the samples from `first`."""
    if sample_id is None:
        return first() + np.arange(n)
    ids = column_or_1d(as_ids(sample_id))
    if len(ids) != n:
        raise ValueError(
            f"sample_id must have one entry for each of the {n} samples, got {len(ids)}."
        )
    if len(set(ids.tolist())) < n:
        twice = Counter(ids.tolist()).most_common(1)[0][0]
        raise ValueError(f"sample_id contains {twice!r} more than once.")
    return ids


def declared_pinned(
    pinned: ArrayLike, samples: StoredSamples, ids: Array, weights: FloatArray
) -> BoolArray:
    """Return the mask of the stored samples that a user's ids, or mask of all samples, select."""
    chosen = np.asarray(pinned)
    if chosen.dtype == bool:
        if chosen.shape != ids.shape:
            raise ValueError(
                f"pinned must have one entry for each of the {len(ids)} samples if it is a "
                f"mask, got shape {chosen.shape}."
            )
        chosen = ids[chosen & (weights > 0)]
    mask = np.zeros(len(samples), dtype=bool)
    mask[samples.positions(chosen, name="pinned")] = True
    return mask


def drawn_pinned(
    y: Array, fraction: float, random_state: RandomState, *, by_class: bool
) -> BoolArray:
    """Draw the mask of a fraction of the samples, by class or not."""
    codes = np.zeros(len(y), dtype=np.int64)
    if by_class:
        codes = np.unique(y, return_inverse=True)[1]
        codes[np.bincount(codes)[codes] == 1] = -1
    return held_out_mask(codes, fraction, local_random_state(random_state))


def check_pinned(mask: BoolArray, steps: Steps, pin: str) -> None:
    """Raise ValueError if steps need pinned samples and there are none."""
    if mask.any():
        return
    kinds = {name: kind_of(step) for name, step in steps[:-1]}
    for name, step in steps[:-1]:
        if kinds[name] == "learned":
            raise ValueError(why_it_cannot_forget(name, step))
    if pin == "preprocessing" and "forgetting" in kinds.values():
        raise ValueError(
            "pin='preprocessing' needs pinned samples: pass pinned=mask to fit, or set "
            "pinned_fraction."
        )
