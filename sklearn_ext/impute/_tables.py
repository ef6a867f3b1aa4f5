"""Conversion of the user's table to floats and back; its columns may have types."""

from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils._mask import _get_mask
from sklearn.utils._missing import is_pandas_na, is_scalar_nan
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.validation import FLOAT_DTYPES, validate_data

from ..metrics._tables import (
    ColumnType,
    assemble,
    column_type,
    columns_of,
    convert,
    decode_values,
    encode_column,
    fill_column,
    has_typed_columns,
    is_missing,
    library_of,
)
from ..utils._typing import Array, BoolArray, FloatArray


class InputTable(NamedTuple):
    """The form of the table that was passed to `fit`.

    Attributes
    ----------
    types : list of ColumnType or None
        Types of the columns; None for a table of numbers that is one array.
    missing_values : scalar
        Placeholder for missing values.
    is_category, is_integer : bool ndarray of shape (n_features,)
        Features that have the type of a category or of an integer.
    """

    types: list[ColumnType] | None
    missing_values: Any
    is_category: BoolArray
    is_integer: BoolArray

    @classmethod
    def learn(cls, estimator: BaseEstimator, X: ArrayLike, missing_values: Any) -> Self:
        """Learn the types of a table, and set the names and number of features in an estimator.

        Parameters
        ----------
        estimator : estimator
            Gets ``n_features_in_`` and ``feature_names_in_``.
        X : array-like or data frame of shape (n_samples, n_features)
        missing_values : scalar

        Returns
        -------
        InputTable

        Raises
        ------
        ValueError
            If the table is empty or not two-dimensional, or contains infinite values.
        TypeError
            If it contains anything but numbers, strings, categories and booleans.
        """
        if not has_typed_columns(X):
            numbers = _validate_numbers(estimator, X, missing_values, reset=True)
            d = numbers.shape[1]
            integer = np.full(d, _number_type(X).kind in "iu")
            return cls(None, missing_values, np.zeros(d, dtype=bool), integer)
        _validate_names(estimator, X, reset=True)
        columns = columns_of(X)
        names = getattr(estimator, "feature_names_in_", [f"x{k}" for k in range(len(columns))])
        types = [
            column_type(column, str(name), is_missing(column, missing_values))
            for name, column in zip(names, columns, strict=True)
        ]
        return cls(
            types,
            missing_values,
            np.array([kind.kind == "category" for kind in types], dtype=bool),
            np.array([kind.kind == "integer" for kind in types], dtype=bool),
        )

    def encode(self, estimator: BaseEstimator, X: ArrayLike) -> FloatArray:
        """Return a table in float64, with NaN for missing values and codes for categories.

        Raises
        ------
        ValueError
            If the table does not have the features of `fit`, or contains infinite values.
        """
        if self.types is None:
            samples = _validate_numbers(estimator, X, self.missing_values, reset=False)
            missing = _get_mask(
                samples, np.nan if allows_nan(self.missing_values) else self.missing_values
            )
            return np.where(missing, np.nan, samples).astype(np.float64, copy=False)
        _validate_names(estimator, X, reset=False)
        out = [
            encode_column(column, kind, is_missing(column, self.missing_values))
            for column, kind in zip(columns_of(X), self.types, strict=True)
        ]
        return np.column_stack(out)

    def decode(self, feature: int, values: FloatArray) -> Array:
        """Return values of a feature in the form that they have in the table."""
        if self.types is None or self.types[feature].kind != "category":
            return values
        return decode_values(values, self.types[feature])

    def output(
        self,
        estimator: Any,
        X: Any,
        raw: FloatArray,
        filled: FloatArray,
        kept: BoolArray,
        indicators: BoolArray | None,
    ) -> Any:
        """Return the completed table in the library and the types of the input.

        Parameters
        ----------
        estimator : transformer
            Its output configuration and output feature names determine the library and the names.
        X : array-like or data frame of shape (n, n_features)
            The table as given.
        raw, filled : ndarray of shape (n, n_features)
            The table in floats, before and after imputation.
        kept : bool ndarray of shape (n_features,)
            Features to return.
        indicators : bool ndarray of shape (n, n_indicators) or None
            Columns to append.
        """
        if self.types is None:
            dtype = _number_type(X)
            if dtype.kind in "iu":
                limits = np.iinfo(dtype)
                filled = np.clip(filled, limits.min, limits.max)
            numbers = filled[:, kept].astype(dtype)
            return numbers if indicators is None else np.hstack((numbers, indicators))
        given, missing = columns_of(X), np.isnan(raw)
        columns = [
            fill_column(given[p], self.types[p], missing[:, p], filled[missing[:, p], p])
            for p in np.flatnonzero(kept)
        ]
        names = list(estimator.get_feature_names_out())
        labels = names
        if library_of(X) != "numpy":
            labels = [X.columns[p] for p in np.flatnonzero(kept)] + names[int(kept.sum()) :]
        if indicators is not None:
            columns.extend(indicators.T)
        library = _get_output_config("transform", estimator)["dense"]
        table = assemble(columns, labels, X)
        return table if library == "default" else convert(table, library, names)


def allows_nan(missing_values: Any) -> bool:
    """Return whether missing values are marked by NaN, None or pandas' NA, which become NaN."""
    return bool(
        missing_values is None or is_scalar_nan(missing_values) or is_pandas_na(missing_values)
    )


def _validate_numbers(
    estimator: BaseEstimator, X: ArrayLike, missing_values: Any, *, reset: bool
) -> FloatArray:
    samples: FloatArray = validate_data(
        estimator,
        X,
        dtype=FLOAT_DTYPES,
        ensure_all_finite="allow-nan" if allows_nan(missing_values) else True,
        reset=reset,
    )
    return samples


def _validate_names(estimator: BaseEstimator, X: Any, *, reset: bool) -> None:
    shape = getattr(X, "shape", None) or np.shape(np.array(X, dtype=object))
    if len(shape) != 2:
        raise ValueError(
            f"Expected 2D array, got {len(shape)}D array instead: X must be of shape (n_samples, "
            "n_features)."
        )
    for size, what in zip(shape, ("sample", "feature"), strict=True):
        if size == 0:
            raise ValueError(
                f"Found array with 0 {what}(s) (shape={shape}) while a minimum of 1 is required."
            )
    validate_data(estimator, X, skip_check_array=True, reset=reset)


def _number_type(X: Any) -> np.dtype[Any]:
    """Return the type of a completed table: that of X if X holds numbers, or float64."""
    few = X[:1] if hasattr(X, "__getitem__") else X
    dtype: np.dtype[Any] = np.asarray(few).dtype
    return dtype if dtype.kind in "fiu" else np.dtype(np.float64)
