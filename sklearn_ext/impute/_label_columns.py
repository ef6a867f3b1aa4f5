"""Labels as columns of the joint model, with holes where a label is missing."""

from typing import NamedTuple

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.multiclass import type_of_target

_FEW = 20  # numeric labels of no more values are classes
_ROWS_A_CLASS = 10


class LabelColumns(NamedTuple):
    """Labels of n rows.

    Attributes
    ----------
    values : ndarray of shape (n, q)
        NaN where a label is missing. One-hot classes less the last one, or the targets; no
        column at all if there is nothing to tell rows apart.
    classes : ndarray or None
        None for targets.
    codes : int ndarray of shape (n,)
        Index of the class, -1 without label; all 0 for targets.
    """

    values: np.ndarray
    classes: np.ndarray | None
    codes: np.ndarray

    def take(self, rows):
        """Labels of some of the rows."""
        return LabelColumns(self.values[rows], self.classes, self.codes[rows])

    def signs(self):
        """Targets of one machine a class: +1, -1, and 0 without label; one for two classes."""
        known = self.codes >= 0
        signs = np.where(self.codes[:, None] == np.arange(len(self.classes)), 1.0, -1.0)
        signs[~known] = 0.0
        return signs[:, 1:] if len(self.classes) == 2 else signs


def encode_labels(y, n_samples, target_type="auto"):
    """Encode labels of any kind.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or (n_samples, n_outputs), or None
        NaN and None mark missing labels.
    n_samples : int
    target_type : {"auto", "multiclass", "continuous"}

    Returns
    -------
    LabelColumns

    Raises
    ------
    ValueError
        If y has another length than X, or is not numeric where it has to be.
    """
    if y is None:
        return _no_columns(n_samples)
    y = check_array(
        y,
        ensure_2d=False,
        dtype=None,
        ensure_all_finite=False,
        input_name="y",
        ensure_min_samples=0,
    )
    if y.shape[0] != n_samples:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: y must have one label a "
            f"row, got X with {n_samples} rows and y with {y.shape[0]}."
        )
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    missing = _is_missing(y)
    if missing.all():
        return _no_columns(n_samples)
    if _are_classes(y, missing, target_type):
        return _class_columns(y, missing)
    return _target_columns(y, missing)


def _no_columns(n_samples):
    return LabelColumns(np.empty((n_samples, 0)), None, np.zeros(n_samples, dtype=int))


def _is_missing(y):
    if y.dtype.kind in "fc":
        return np.isnan(y)
    if y.dtype.kind != "O":
        return np.zeros(y.shape, dtype=bool)
    missing = [v is None or type(v).__name__ == "NAType" or v != v for v in y.ravel()]
    return np.array(missing, dtype=bool).reshape(y.shape)


def _are_classes(y, missing, target_type):
    if y.ndim == 2:
        if target_type == "multiclass":
            raise ValueError(
                f"target_type='multiclass' needs y of shape (n_samples,), got shape {y.shape}."
            )
        return False
    if target_type != "auto":
        return target_type == "multiclass"
    known = y[~missing]
    if known.dtype.kind == "O" and not any(isinstance(v, str) for v in known):
        known = np.array(known.tolist())
    if type_of_target(known, input_name="y") == "continuous":
        return False
    # Whole numbers with hardly two rows a value are measurements, not names of classes.
    n_values = len(np.unique(known))
    many = n_values > _FEW and n_values * _ROWS_A_CLASS > len(known)
    return not (many and known.dtype.kind in "fiu")


def _class_columns(y, missing):
    classes, known = np.unique(y[~missing], return_inverse=True)
    codes = np.full(len(y), -1)
    codes[~missing] = known
    if len(classes) == 1:
        return LabelColumns(np.empty((len(y), 0)), classes, codes)
    values = (codes[:, None] == np.arange(len(classes) - 1)).astype(float)
    values[missing] = np.nan
    return LabelColumns(values, classes, codes)


def _target_columns(y, missing):
    y = y.reshape(len(y), -1)
    missing = missing.reshape(y.shape)
    try:
        values = np.where(missing, np.nan, np.where(missing, 0, y).astype(float))
    except (TypeError, ValueError) as error:
        raise ValueError("y must be numeric when its labels are not classes.") from error
    if np.isinf(values).any():
        raise ValueError("y must not contain infinity.")
    varies = np.nanmax(np.where(missing.all(axis=0), 0.0, values), axis=0) > np.nanmin(
        np.where(missing.all(axis=0), 0.0, values), axis=0
    )
    return LabelColumns(values[:, varies], None, np.zeros(len(y), dtype=int))
