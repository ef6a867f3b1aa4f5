"""Conversion between a user's table and the columns of a Gaussian model.

A numeric feature becomes one standardized column. A categorical feature with k categories becomes
k - 1 indicator columns that share its missing values; an imputed value is the category with the
largest posterior mean. A constant feature has no column, and its missing values are filled with the
constant.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..utils._typing import BoolArray, FloatArray, IntArray


class Category(NamedTuple):
    """A categorical feature: its index, its sorted values, and its model columns."""

    feature: int
    values: FloatArray
    columns: slice


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelColumns:
    """The columns of a table, learned by :func:`learn_columns`.

    Parameters
    ----------
    feature_range : ndarray of shape (2, n_features)
        Smallest and largest observed value; NaN for an empty feature.
    numeric : int ndarray of shape (n_numeric,)
        Features that form the first columns of the model.
    categories : list of Category
        Categorical features, whose columns follow.
    constants : dict of int to float
        Value of each constant feature; 0 for an empty one.
    mean, scale : ndarray of shape (n_columns,)
        Mean and standard deviation of each column.
    low, units : ndarray of shape (n_columns,)
        Smallest value and range of each standardized column.
    """

    feature_range: FloatArray
    numeric: IntArray
    categories: list[Category]
    constants: dict[int, float]
    mean: FloatArray
    scale: FloatArray
    low: FloatArray
    units: FloatArray

    def __len__(self) -> int:
        return len(self.mean)

    def encode(self, X: FloatArray) -> FloatArray:
        """Return columns of unit variance; NaN for missing values and unknown categories."""
        return (_expand(X, self.numeric, self.categories) - self.mean) / self.scale

    def to_unit_interval(self, Z: FloatArray) -> FloatArray:
        """Map model columns to [0, 1] by their observed ranges."""
        return (Z - self.low) / self.units

    def from_unit_interval(self, Z: FloatArray) -> FloatArray:
        """Map columns from [0, 1] back to model columns."""
        return Z * self.units + self.low

    def fill(self, X: FloatArray, Z: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray:
        """Fill the missing values of X from model columns Z; the rest stays bit-identical.

        Parameters
        ----------
        X : ndarray of shape (n, n_features)
        Z : ndarray of shape (n, n_columns)
        low, high : ndarray of shape (n_features,)
            Limits of imputed values of numeric features.

        Returns
        -------
        ndarray of shape (n, n_features)
        """
        out = X.copy()
        missing = np.isnan(X)
        raw = Z * self.scale + self.mean
        for k, p in enumerate(self.numeric):
            at = missing[:, p]
            out[at, p] = np.clip(raw[at, k], low[p], high[p])
        for category in self.categories:
            at = missing[:, category.feature]
            best = _category_probabilities(raw[at], category).argmax(axis=1)
            out[at, category.feature] = category.values[best]
        for p, value in self.constants.items():
            out[missing[:, p], p] = value
        return out

    def deviations(self, X: FloatArray, Z: FloatArray, V: FloatArray) -> FloatArray:
        """Return standard deviations of imputed values, 0 at observed entries.

        An imputed category has the deviation of its indicator, sqrt(s (1 - s)), where s is the
        posterior probability of the category.
        """
        out = np.zeros(X.shape)
        n_numeric = len(self.numeric)
        out[:, self.numeric] = np.sqrt(V[:, :n_numeric]) * self.scale[:n_numeric]
        for category in self.categories:
            probabilities = _category_probabilities(Z * self.scale + self.mean, category)
            largest = np.clip(probabilities.max(axis=1), 0.0, 1.0)
            out[:, category.feature] = np.sqrt(largest * (1.0 - largest))
        return np.where(np.isnan(X), out, 0.0)

    def moments(
        self,
        mean: FloatArray,
        cov: FloatArray,
        label_mean: FloatArray,
        label_scale: FloatArray,
    ) -> tuple[FloatArray, FloatArray]:
        """Return mean and covariance in the user's units: features in order, then label columns.

        A categorical feature has its indicator columns. A constant feature has variance 0.
        """
        columns: dict[int, list[int]] = {int(p): [k] for k, p in enumerate(self.numeric)}
        for category in self.categories:
            columns[category.feature] = list(range(category.columns.start, category.columns.stop))
        # Positions of the model's columns and of the constants in the result.
        place, constants = np.empty(len(mean), dtype=int), {}
        size = 0
        for p in range(self.feature_range.shape[1]):
            if p in self.constants:
                constants[size] = self.constants[p]
                size += 1
            else:
                place[columns[p]] = np.arange(size, size + len(columns[p]))
                size += len(columns[p])
        place[len(self) :] = np.arange(size, size + len(label_mean))
        size += len(label_mean)

        scale = np.concatenate((self.scale, label_scale))
        location, covariance = np.zeros(size), np.zeros((size, size))
        location[place] = mean * scale + np.concatenate((self.mean, label_mean))
        covariance[np.ix_(place, place)] = cov * np.outer(scale, scale)
        location[list(constants)] = list(constants.values())
        return location, covariance


def learn_columns(X: FloatArray, is_categorical: BoolArray) -> ModelColumns:
    """Learn to convert a table with missing values to columns of unit variance.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Missing values are NaN. A feature may be empty.
    is_categorical : bool ndarray of shape (n_features,)

    Returns
    -------
    ModelColumns
    """
    observed = ~np.isnan(X)
    low = np.where(observed, X, np.inf).min(axis=0)
    high = np.where(observed, X, -np.inf).max(axis=0)
    empty = np.logical_not(observed.any(axis=0))
    varies = ~empty & (high > low)
    numeric = np.flatnonzero(varies & ~is_categorical)
    categories = []
    first = len(numeric)
    for p in np.flatnonzero(varies & is_categorical):
        values = np.unique(X[observed[:, p], p])
        last = first + len(values) - 1
        categories.append(Category(int(p), values, slice(first, last)))
        first = last

    raw = _expand(X, numeric, categories)
    seen = ~np.isnan(raw)
    counts = np.maximum(seen.sum(axis=0), 1)
    mean = np.where(seen, raw, 0.0).sum(axis=0) / counts
    deviations = np.where(seen, raw - mean, 0.0)
    # In units of the largest deviation, squares neither underflow nor overflow.
    largest = np.abs(deviations).max(axis=0, initial=0.0)
    largest[largest == 0.0] = 1.0
    spread = np.sqrt(((deviations / largest) ** 2).sum(axis=0) / counts)
    scale = largest * np.where(spread > 0.0, spread, 1.0)
    lows, ranges = np.zeros(raw.shape[1]), np.ones(raw.shape[1])
    lows[: len(numeric)] = low[numeric]
    ranges[: len(numeric)] = (high - low)[numeric]
    return ModelColumns(
        feature_range=np.where(empty, np.nan, [low, high]),
        numeric=numeric,
        categories=categories,
        constants={int(p): 0.0 if empty[p] else float(low[p]) for p in np.flatnonzero(~varies)},
        mean=mean,
        scale=scale,
        low=(lows - mean) / scale,
        units=ranges / scale,
    )


def _expand(X: FloatArray, numeric: IntArray, categories: list[Category]) -> FloatArray:
    columns = [X[:, numeric]]
    for category in categories:
        value = X[:, category.feature, None]
        one_hot = np.equal(value, category.values[:-1]).astype(float)
        one_hot[~np.isin(value[:, 0], category.values)] = np.nan
        columns.append(one_hot)
    return np.hstack(columns)


def _category_probabilities(raw: FloatArray, category: Category) -> FloatArray:
    """Return posterior means of the indicators of all categories."""
    probabilities = raw[:, category.columns]
    return np.column_stack((probabilities, 1.0 - probabilities.sum(axis=1)))
