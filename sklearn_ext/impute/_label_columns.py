"""Labels as columns of the joint model, in which labels may be missing."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_array
from sklearn.utils.multiclass import type_of_target

from ..utils._typing import Array, BoolArray, FloatArray, IntArray

_FEW_VALUES = 20  # whole numbers with at most this many values are classes
_MOST_CLASSES = 100  # classes that get an indicator column each


class LabelColumns(NamedTuple):
    """Labels of n samples.

    Attributes
    ----------
    values : ndarray of shape (n, q)
        Indicators of all classes but the last, or targets; NaN where a label is missing. If there
        are more than 101 classes, only the 100 most frequent ones have an indicator. The number of
        columns q is 0 if all labels are equal or missing.
    classes : ndarray or None
        Class labels; None for targets.
    codes : int ndarray of shape (n,)
        Class indices, -1 where a label is missing. All 0 for targets.
    kept : int ndarray of shape (q,)
        Classes, or targets, of the columns.
    """

    values: FloatArray
    classes: Array | None
    codes: IntArray
    kept: IntArray

    def take(self, indices: IntArray) -> "LabelColumns":
        """Return the labels of some samples."""
        return LabelColumns(self.values[indices], self.classes, self.codes[indices], self.kept)

    def encode(self, y: ArrayLike | None, n_samples: int) -> FloatArray:
        """Return the same columns for other labels; unknown classes count as missing."""
        if y is None:
            return np.full((n_samples, len(self.kept)), np.nan)
        values, missing = _validated(y, n_samples)
        if self.classes is None:
            return _numbers(values, missing)[:, self.kept]
        known = np.flatnonzero(~missing)
        known = known[np.isin(values[known], self.classes)]
        codes = np.full(n_samples, -1)
        codes[known] = np.searchsorted(self.classes, values[known])
        return _indicators(codes, self.kept)

    def signs(self) -> FloatArray:
        """Return a column of +1, -1 and 0 (missing) per class, or a single one for two classes."""
        if self.classes is None:
            raise ValueError("Only class labels have signs.")
        known = self.codes >= 0
        signs = np.where(self.codes[:, None] == np.arange(len(self.classes)), 1.0, -1.0)
        signs[~known] = 0.0
        return signs[:, 1:] if len(self.classes) == 2 else signs


def encode_labels(y: ArrayLike | None, n_samples: int, target_type: str = "auto") -> LabelColumns:
    """Encode classes or targets as columns.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or (n_samples, n_outputs), or None
        NaN and None mark missing labels.
    n_samples : int
        Number of samples of X.
    target_type : {"auto", "multiclass", "continuous"}

    Returns
    -------
    LabelColumns

    Raises
    ------
    ValueError
        If X and y differ in length, or if targets are infinite or not numeric.
    """
    if y is None:
        return _no_columns(n_samples)
    values, missing = _validated(y, n_samples)
    if missing.all():
        return _no_columns(n_samples)
    if _are_classes(values, missing, target_type):
        return _class_columns(values, missing)
    return _target_columns(values, missing)


def _validated(y: ArrayLike, n_samples: int) -> tuple[Array, BoolArray]:
    """Return labels as an array, and a mask of the missing ones."""
    values: Array = check_array(
        y,
        ensure_2d=False,
        dtype=None,
        ensure_all_finite=False,
        input_name="y",
        ensure_min_samples=0,
    )
    if values.shape[0] != n_samples:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: y must have one label "
            f"per sample, got X with {n_samples} samples and y with {values.shape[0]}."
        )
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    return values, _is_missing(values)


def _no_columns(n_samples: int) -> LabelColumns:
    nothing = np.empty(0, dtype=int)
    return LabelColumns(np.empty((n_samples, 0)), None, np.zeros(n_samples, dtype=int), nothing)


def _is_missing(y: Array) -> BoolArray:
    if y.dtype.kind in "fc":
        nan: BoolArray = np.isnan(y)
        return nan
    if y.dtype.kind != "O":
        return np.zeros(y.shape, dtype=bool)
    missing = [v is None or type(v).__name__ == "NAType" or v != v for v in y.ravel()]
    return np.array(missing, dtype=bool).reshape(y.shape)


def _are_classes(y: Array, missing: BoolArray, target_type: str) -> bool:
    if y.ndim == 2:
        if target_type == "multiclass":
            raise ValueError(
                f"target_type='multiclass' requires y of shape (n_samples,), got shape {y.shape}."
            )
        return False
    if target_type != "auto":
        return target_type == "multiclass"
    known = y[~missing]
    if known.dtype.kind == "O" and not any(isinstance(v, str) for v in known):
        known = np.array(known.tolist())
    if type_of_target(known, input_name="y") == "continuous":
        return False
    # Whole numbers with many values are measurements, not classes.
    return known.dtype.kind not in "fiu" or len(np.unique(known)) <= _FEW_VALUES


def _class_columns(y: Array, missing: BoolArray) -> LabelColumns:
    classes, known = np.unique(y[~missing], return_inverse=True)
    codes = np.full(len(y), -1)
    codes[~missing] = known
    indicated = np.arange(len(classes) - 1)
    if len(indicated) > _MOST_CLASSES:
        by_count = np.argsort(-np.bincount(known), kind="stable")
        indicated = np.sort(by_count[:_MOST_CLASSES])
    return LabelColumns(_indicators(codes, indicated), classes, codes, indicated)


def _indicators(codes: IntArray, kept: IntArray) -> FloatArray:
    values = np.equal(codes[:, None], kept).astype(float)
    values[codes < 0] = np.nan
    return values


def _numbers(y: Array, missing: BoolArray) -> FloatArray:
    y = y.reshape(len(y), -1)
    missing = missing.reshape(y.shape)
    try:
        values = np.where(missing, np.nan, np.where(missing, 0, y).astype(float))
    except (TypeError, ValueError) as error:
        raise ValueError(f"y must contain numbers to be used as targets: {error}.") from error
    if np.isinf(values).any():
        raise ValueError("y must not contain infinite values.")
    return values


def _target_columns(y: Array, missing: BoolArray) -> LabelColumns:
    values, missing = _numbers(y, missing), missing.reshape(len(y), -1)
    known = np.where(missing.all(axis=0), 0.0, values)
    kept = np.flatnonzero(np.nanmax(known, axis=0) > np.nanmin(known, axis=0))
    return LabelColumns(values[:, kept], None, np.zeros(len(y), dtype=int), kept)
