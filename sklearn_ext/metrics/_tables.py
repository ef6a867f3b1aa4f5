"""Tables whose columns have types: data frames, and arrays of objects or strings.

A table is read into floats, with NaN for missing values and codes for categories, and filled column
by column, so that observed entries and the types of columns do not change.
"""

import sys
from collections.abc import Hashable, Sequence
from decimal import Decimal
from importlib import import_module
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import check_array

from ..utils._typing import Array, BoolArray, FloatArray

_UNKNOWN = -1.0  # code of a category that was not seen in fit


class ColumnType(NamedTuple):
    """Kind and type of the values of a column.

    Attributes
    ----------
    name : str
        Name of the column in messages.
    kind : {"number", "integer", "category"}
    dtype : dtype
        Type of the column in the library of the table.
    categories : tuple
        Values of a category in the order of their codes; empty for other kinds.
    """

    name: str
    kind: str
    dtype: Any
    categories: tuple[Any, ...]


def library_of(X: Any) -> str:
    """Return "pandas" or "polars" for a data frame, and "numpy" for anything else."""
    for name in ("pandas", "polars"):
        library = sys.modules.get(name)
        if library is not None and isinstance(X, library.DataFrame):
            return name
    return "numpy"


def has_typed_columns(X: Any) -> bool:
    """Return whether a table needs more than one array of numbers.

    This is the case for a data frame unless all columns have the same NumPy type of floating point
    numbers, and for an array or list that contains strings or booleans beside numbers.
    """
    if library_of(X) == "pandas":
        dtypes = set(X.dtypes)
        return not (len(dtypes) <= 1 and all(_is_numpy_float(dtype) for dtype in dtypes))
    if library_of(X) == "polars":
        dtypes = set(X.dtypes)
        return not (len(dtypes) <= 1 and all(dtype.is_float() for dtype in dtypes))
    if not isinstance(X, np.ndarray):
        if not isinstance(X, (list, tuple)):
            return False
        X = np.array(X, dtype=object)
    if X.ndim != 2 or X.dtype.kind not in "OUS":
        return False
    return X.dtype.kind != "O" or any(_kind(column, "") == "category" for column in X.T)


def columns_of(X: Any) -> list[Any]:
    """Return the columns of a table: series of its library, or arrays of objects."""
    if library_of(X) == "pandas":
        return [X.iloc[:, k] for k in range(X.shape[1])]
    if library_of(X) == "polars":
        return list(X.get_columns())
    array = X if isinstance(X, np.ndarray) else np.array(X, dtype=object)
    return [np.asarray(column, dtype=object) for column in array.T]


def is_missing(column: Any, marker: Any = np.nan) -> BoolArray:
    """Return a mask of the missing values of a column.

    Parameters
    ----------
    column : series or ndarray of object
    marker : scalar
        NaN, None and pandas' NA are interchangeable. Any other value marks only entries that equal
        it.

    Raises
    ------
    ValueError
        If the marker is a value and the column contains NaN.
    """
    if isinstance(column, np.ndarray):
        absent = np.array([_is_absent(value) for value in column], dtype=bool)
    elif _is_polars(column):
        absent = column.is_null().to_numpy()
        if column.dtype.is_float():
            absent = absent | column.is_nan().fill_null(False).to_numpy()
    else:
        absent = column.isna().to_numpy(dtype=bool)
    if _is_absent(marker):
        return np.asarray(absent, dtype=bool)
    if absent.any():
        raise ValueError(
            f"Input X contains NaN, but missing_values={marker!r}; pass missing_values=np.nan, or "
            "mark all missing values in one way."
        )
    return np.array([bool(value == marker) for value in _objects(column)], dtype=bool)


def column_type(column: Any, name: str, missing: BoolArray) -> ColumnType:
    """Return the kind and type of the observed values of a column.

    Raises
    ------
    TypeError
        If the column contains anything but numbers, strings, booleans and categories.
    """
    if isinstance(column, np.ndarray):
        kind = _kind(column[~missing], name)
    elif _is_polars(column):
        kind = _polars_kind(column, name, missing)
    else:
        kind = _pandas_kind(column, name, missing)
    categories: tuple[Any, ...] = ()
    if kind == "category":
        found = set(_objects(column)[~missing])
        declared = _declared_categories(column)
        categories = tuple(v for v in declared if v in found) if declared else _sorted(found)
    return ColumnType(name, kind, column.dtype, categories)


def encode_column(column: Any, kind: ColumnType, missing: BoolArray) -> FloatArray:
    """Return a column as floats: NaN where it is missing, and -1 for an unknown category.

    Raises
    ------
    ValueError
        If a numeric column contains a value that is not a finite number.
    """
    out = np.full(len(missing), np.nan)
    if kind.kind == "category":
        codes = {value: float(code) for code, value in enumerate(kind.categories)}
        observed = _objects(column)[~missing]
        out[~missing] = [
            codes.get(v, _UNKNOWN) if isinstance(v, Hashable) else _UNKNOWN for v in observed
        ]
        return out
    try:
        out[~missing] = _numbers(column, missing)
    except (TypeError, ValueError) as error:
        raise ValueError(f"Feature {kind.name!r} must be numeric, as in fit: {error}.") from error
    if np.isinf(out).any():
        raise ValueError(
            f"Input X contains infinity or a value too large for dtype('float64') in feature "
            f"{kind.name!r}."
        )
    return out


def decode_values(values: FloatArray, kind: ColumnType) -> Array:
    """Return values of a column as Python objects: categories, whole numbers or floats."""
    out = np.empty(len(values), dtype=object)
    if kind.kind == "category" and not kind.categories:  # the column is empty
        out[:] = False if "bool" in str(kind.dtype).lower() else "missing_value"
    elif kind.kind == "category":
        out[:] = [kind.categories[int(code)] for code in values]
    elif kind.kind == "integer":
        low, high = _integer_limits(kind.dtype)
        out[:] = [min(max(round(value), low), high) for value in values.tolist()]
    else:
        out[:] = values.tolist()
    return out


def fill_column(column: Any, kind: ColumnType, missing: BoolArray, values: FloatArray) -> Any:
    """Fill the missing values of a column; observed entries do not change.

    The result has the type that the column had in fit, if this type can hold its observed values.

    Parameters
    ----------
    column : series or ndarray of object
    kind : ColumnType
    missing : bool ndarray of shape (n,)
    values : ndarray of shape (n_missing,)
        Numbers, or codes of categories.
    """
    filled = decode_values(values, kind)
    if isinstance(column, np.ndarray):
        out = column.copy()
        out[missing] = filled
        return out
    fill = _fill_polars if _is_polars(column) else _fill_pandas
    return fill(column, kind, missing, filled)


def assemble(columns: Sequence[Any], labels: Sequence[Any], like: Any) -> Any:
    """Put columns into a table of the library of `like`."""
    if library_of(like) == "pandas":
        pandas = sys.modules["pandas"]
        # Columns are numbered first, because labels may occur twice.
        frame = pandas.DataFrame(dict(enumerate(columns)), index=like.index)
        frame.columns = labels
        return frame
    if library_of(like) == "polars":
        polars = sys.modules["polars"]
        named = zip(labels, columns, strict=True)
        return polars.DataFrame([polars.Series(str(name), column) for name, column in named])
    out = np.empty((len(like), len(columns)), dtype=object)
    for k, column in enumerate(columns):
        out[:, k] = column
    is_string = isinstance(like, np.ndarray) and like.dtype.kind == "U"
    return out.astype(str) if is_string and len(columns) else out


def convert(table: Any, library: str, names: Sequence[str]) -> Any:
    """Return a table without missing values as a data frame of another library.

    Parameters
    ----------
    table : data frame, or ndarray of object
    library : {"pandas", "polars"}
    names : sequence of str
        Names of the columns.
    """
    if library_of(table) == library:
        return table
    columns = {}
    for name, column in zip(names, columns_of(table), strict=True):
        is_category = hasattr(column, "cat") and str(column.dtype).lower().startswith(
            ("category", "categorical", "enum")
        )
        is_number = (
            column.dtype.is_numeric()
            if _is_polars(column)
            else getattr(column.dtype, "kind", "O") in "iuf"
        )
        values = column.to_numpy() if is_number else _objects(column).tolist()
        if library == "pandas":
            pandas = import_module("pandas")
            columns[name] = pandas.Categorical(values) if is_category else values
        else:
            polars = import_module("polars")
            is_text = is_category and all(isinstance(v, str) for v in values)
            is_mixed = not is_number and len({type(v) for v in values}) > 1
            dtype = polars.Categorical if is_text else polars.Object if is_mixed else None
            columns[name] = polars.Series(values, dtype=dtype)
    return import_module(library).DataFrame(columns)


def read_table(
    X: Any, types: Sequence[ColumnType] | None = None
) -> tuple[FloatArray, list[ColumnType]]:
    """Read a table, in which NaN, None and NA mark missing values, as floats.

    Parameters
    ----------
    X : array-like or data frame of shape (n, d)
    types : sequence of ColumnType, default=None
        Types of another table with the same columns, whose codes to use.

    Returns
    -------
    values : ndarray of shape (n, d)
        Numbers and codes of categories; NaN for missing values.
    types : list of ColumnType
    """
    if library_of(X) == "numpy" and not has_typed_columns(X):
        numbers = check_array(X, dtype=np.float64, ensure_all_finite="allow-nan")
        if types is None or all(kind.kind != "category" for kind in types):
            names = [f"x{k}" for k in range(numbers.shape[1])]
            return numbers, [ColumnType(name, "number", numbers.dtype, ()) for name in names]
    columns = columns_of(X)
    missing = [is_missing(column) for column in columns]
    if types is None:
        names = getattr(X, "columns", [f"x{k}" for k in range(len(columns))])
        types = [
            column_type(column, str(name), absent)
            for column, name, absent in zip(columns, names, missing, strict=True)
        ]
    read = map(encode_column, columns, types, missing)
    return np.column_stack(list(read)), list(types)


def hide(X: Any, hidden: BoolArray) -> Any:
    """Return a copy of a table in which some entries are missing."""
    if library_of(X) == "numpy" and not has_typed_columns(X):
        return np.where(hidden, np.nan, np.asarray(X, dtype=np.float64))
    if library_of(X) == "pandas":
        return X.mask(hidden)
    if library_of(X) == "polars":
        polars = sys.modules["polars"]
        columns = []
        for k, column in enumerate(X.get_columns()):
            nothing = polars.Series(column.name, [None] * len(column), dtype=column.dtype)
            columns.append(column.zip_with(polars.Series(~hidden[:, k]), nothing))
        return polars.DataFrame(columns)
    out = np.asarray(X, dtype=object).copy()
    out[hidden] = np.nan
    return out


def _is_polars(column: Any) -> bool:
    return type(column).__module__.startswith("polars")


def _is_numpy_float(dtype: Any) -> bool:
    return isinstance(dtype, np.dtype) and dtype.kind == "f"


def _is_absent(value: Any) -> bool:
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, (float, np.floating)) and bool(np.isnan(value))


def _objects(column: Any) -> Array:
    """Return the values of a column as Python objects."""
    if isinstance(column, np.ndarray):
        return column
    if _is_polars(column):
        out = np.empty(len(column), dtype=object)
        out[:] = column.to_list()
        return out
    values: Array = column.astype(object).to_numpy()
    return values


def _numbers(column: Any, missing: BoolArray) -> FloatArray:
    """Return the observed values of a column as floats."""
    is_number = not isinstance(column, np.ndarray) and getattr(column.dtype, "kind", "O") in "iuf"
    if is_number and not _is_polars(column):
        return np.asarray(column.to_numpy(dtype=float, na_value=np.nan)[~missing])
    if _is_polars(column) and column.dtype.is_numeric():
        return np.asarray(column.cast(float).to_numpy()[~missing], dtype=float)
    return np.array([float(v) for v in _objects(column)[~missing]], dtype=float)


def _kind(values: Array, name: str) -> str:
    """Return the kind of an array of objects from its values."""
    present = [v for v in values.tolist() if not _is_absent(v)]
    if all(isinstance(v, (Real, Decimal)) and not isinstance(v, (bool, np.bool_)) for v in present):
        whole = len(present) > 0 and all(isinstance(v, Integral) for v in present)
        return "integer" if whole else "number"
    for v in present:
        if not isinstance(v, (str, bytes, bool, np.bool_, Real, Decimal)):
            raise TypeError(
                f"X must contain numbers, strings, booleans or categories, got {v!r} of type "
                f"{type(v).__name__}{f' in feature {name!r}' if name else ''}; every argument must "
                "be a string or a real number."
            )
    return "category"


def _unsupported(name: str, dtype: Any) -> TypeError:
    return TypeError(
        f"X must contain numbers, strings, booleans or categories, got feature {name!r} of dtype "
        f"{dtype}; convert it to a number first."
    )


def _pandas_kind(column: Any, name: str, missing: BoolArray) -> str:
    types = sys.modules["pandas"].api.types
    dtype = column.dtype
    if types.is_bool_dtype(dtype) or hasattr(column, "cat"):
        return "category"
    if types.is_integer_dtype(dtype):
        return "integer"
    if types.is_float_dtype(dtype):
        return "number"
    if types.is_object_dtype(dtype):
        return _kind(_objects(column)[~missing], name)
    if types.is_string_dtype(dtype):
        return "category"
    raise _unsupported(name, dtype)


def _polars_kind(column: Any, name: str, missing: BoolArray) -> str:
    dtype = column.dtype
    if dtype.is_integer():
        return "integer"
    if dtype.is_numeric() or str(dtype) == "Null":
        return "number"
    if str(dtype).startswith(("Boolean", "String", "Categorical", "Enum")):
        return "category"
    if str(dtype) == "Object":
        return _kind(_objects(column)[~missing], name)
    raise _unsupported(name, dtype)


def _declared_categories(column: Any) -> list[Any]:
    """Return the categories of a categorical type in order; an empty list for other types."""
    if isinstance(column, np.ndarray):
        return []
    if _is_polars(column):
        is_enum = str(column.dtype).startswith("Enum")
        return list(column.dtype.categories) if is_enum else []
    return list(column.cat.categories) if hasattr(column, "cat") else []


def _sorted(values: set[Any]) -> tuple[Any, ...]:
    try:
        return tuple(sorted(values))
    except TypeError:  # values of several types
        return tuple(sorted(values, key=lambda v: (type(v).__name__, repr(v))))


def _integer_limits(dtype: Any) -> tuple[int, int]:
    """Return the smallest and the largest number of an integer type of any library."""
    name = str(dtype).lower().removesuffix("[pyarrow]")
    try:
        limits = np.iinfo(name)
    except (TypeError, ValueError):
        return -(2**62), 2**62
    return int(limits.min), int(limits.max)


def _fill_pandas(column: Any, kind: ColumnType, missing: BoolArray, filled: Array) -> Any:
    types = sys.modules["pandas"].api.types
    if hasattr(column, "cat"):
        known = set(column.cat.categories)
        new = [v for v in dict.fromkeys(filled) if v not in known]
        column = column.cat.add_categories(new) if new else column
    is_same = column.dtype == kind.dtype or hasattr(column, "cat")
    if kind.kind == "number" and types.is_float_dtype(column.dtype):
        is_same = True
    if is_same and not missing.any():
        return column
    if is_same:
        out = column.copy()
        out.iloc[np.flatnonzero(missing)] = filled.tolist()
        return out
    objects = _objects(column).copy()
    objects[missing] = filled
    try:
        out = column.astype(object).copy()
        out.iloc[:] = objects
        cast = out.astype(kind.dtype)
        lossless = (_objects(cast) == objects)[~missing].all()
        return cast if lossless else out.infer_objects()
    except (TypeError, ValueError):
        return out.infer_objects()


def _fill_polars(column: Any, kind: ColumnType, missing: BoolArray, filled: Array) -> Any:
    polars = sys.modules["polars"]
    dtype = column.dtype
    if kind.kind != "number" or not dtype.is_float():
        try:
            column = column.cast(kind.dtype, strict=True)
            dtype = kind.dtype
        except polars.exceptions.PolarsError:
            if kind.kind == "category":
                column, dtype = column.cast(polars.String), polars.String
    if not missing.any():
        return column
    values: list[Any] = [None] * len(column)
    for k, value in zip(np.flatnonzero(missing).tolist(), filled.tolist(), strict=True):
        values[k] = value
    return column.zip_with(
        polars.Series(~missing), polars.Series(column.name, values, dtype=dtype, strict=False)
    )
