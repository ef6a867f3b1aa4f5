"""Conversion between a user's table and the columns of a Gaussian model.

A numeric feature becomes one standardized column. A categorical feature with k levels becomes k - 1
indicator columns that share its missing values. Each category is a level of its own, except that
the rare ones of a feature with many categories share a level. A constant feature has no column, and
its missing values are filled with the constant.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..utils._typing import BoolArray, FloatArray, IntArray

MAX_LEVELS = 30  # levels of a categorical feature, one more than its indicators
_PRIOR_SAMPLES = 10.0  # number of average samples that stabilize the means of a category


class Category(NamedTuple):
    """A categorical feature of k values and its model columns.

    Attributes
    ----------
    feature : int
        Index of the feature.
    values : ndarray of shape (k,)
        Sorted values, or codes of values.
    levels : int ndarray of shape (k,)
        Level of each value. The rare values of a feature with many values share the last level.
    shares : ndarray of shape (k,)
        Fraction of the samples of its level that have a value.
    prior : ndarray of shape (n_levels,)
        Fraction of the samples of each level.
    columns : slice
        Model columns of all levels but the last.
    """

    feature: int
    values: FloatArray
    levels: IntArray
    shares: FloatArray
    prior: FloatArray
    columns: slice

    def level_of(self, x: FloatArray) -> IntArray:
        """Return the levels of values, and -1 for unknown and missing ones."""
        at = np.minimum(np.searchsorted(self.values, x), len(self.values) - 1)
        known = self.values[at] == x
        return np.where(known, self.levels[at], -1)

    def probabilities(self, of_levels: FloatArray) -> FloatArray:
        """Divide the probability of each level among its values."""
        return of_levels[:, self.levels] * self.shares


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
    reliability : ndarray of shape (n_columns,)
        k / (k + 10) for an indicator that separates k samples from the others, and 1 for a number.
    """

    feature_range: FloatArray
    numeric: IntArray
    categories: list[Category]
    constants: dict[int, float]
    mean: FloatArray
    scale: FloatArray
    low: FloatArray
    units: FloatArray
    reliability: FloatArray

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

    def limits(self, low: FloatArray, high: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Convert limits of features to limits of model columns; indicators have none."""
        out = np.array([[-np.inf], [np.inf]]) * np.ones(len(self))
        k = len(self.numeric)
        for limit, given in zip(out, (low, high), strict=True):
            limit[:k] = (given[self.numeric] - self.mean[:k]) / self.scale[:k]
        return out[0], out[1]

    def fill(
        self,
        X: FloatArray,
        Z: FloatArray,
        codes: dict[int, FloatArray],
        low: FloatArray,
        high: FloatArray,
        is_integer: BoolArray,
    ) -> FloatArray:
        """Fill the missing values of X from model columns Z; other entries stay bit-identical.

        Parameters
        ----------
        X : ndarray of shape (n, n_features)
        Z : ndarray of shape (n, n_columns)
        codes : dict of int to ndarray
            Values for the missing entries of each categorical feature.
        low, high : ndarray of shape (n_features,)
            Limits of imputed values of numeric features.
        is_integer : bool ndarray of shape (n_features,)
            Features whose imputed values are rounded to whole numbers.

        Returns
        -------
        ndarray of shape (n, n_features)
        """
        out = X.copy()
        missing = np.isnan(X)
        for k, p in enumerate(self.numeric):
            at = missing[:, p]
            values = Z[at, k] * self.scale[k] + self.mean[k]
            if is_integer[p]:
                values = np.rint(values)
            out[at, p] = np.clip(values, low[p], high[p])
        for p, values in codes.items():
            out[missing[:, p], p] = values
        for p, value in self.constants.items():
            out[missing[:, p], p] = value
        return out

    def deviations(
        self, X: FloatArray, V: FloatArray, probabilities: dict[int, FloatArray]
    ) -> FloatArray:
        """Return standard deviations of imputed values, 0 at observed entries.

        An imputed category has the deviation of its indicator, sqrt(s (1 - s)), where s is the
        posterior probability of the category.
        """
        out = np.zeros(X.shape)
        n_numeric = len(self.numeric)
        out[:, self.numeric] = np.sqrt(V[:, :n_numeric]) * self.scale[:n_numeric]
        out[~np.isnan(X)] = 0.0
        for p, P in probabilities.items():
            largest = P.max(axis=1)
            out[np.isnan(X[:, p]), p] = np.sqrt(largest * (1.0 - largest))
        return out

    def linear_probabilities(self, Z: FloatArray, category: Category) -> FloatArray:
        """Return probabilities of categories in proportion to the means of their indicators."""
        at = category.columns
        indicators = Z[:, at] * self.scale[at] + self.mean[at]
        P = np.column_stack((indicators, 1.0 - indicators.sum(axis=1))).clip(1e-9)
        return category.probabilities(P / P.sum(axis=1, keepdims=True))

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
        categories.append(_category(int(p), X[observed[:, p], p], first))
        first = categories[-1].columns.stop

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
    n_ones = (raw[:, len(numeric) :] == 1.0).sum(axis=0)
    n_rarer = np.minimum(n_ones, counts[len(numeric) :] - n_ones)
    return ModelColumns(
        feature_range=np.where(empty, np.nan, [low, high]),
        numeric=numeric,
        categories=categories,
        constants={int(p): 0.0 if empty[p] else float(low[p]) for p in np.flatnonzero(~varies)},
        mean=mean,
        scale=scale,
        low=(lows - mean) / scale,
        units=ranges / scale,
        reliability=np.append(np.ones(len(numeric)), n_rarer / (n_rarer + _PRIOR_SAMPLES)),
    )


def _category(feature: int, x: FloatArray, first: int) -> Category:
    """Describe a categorical feature by its observed values."""
    values, counts = np.unique(x, return_counts=True)
    levels = np.arange(len(values))
    if len(values) > MAX_LEVELS:
        by_count = np.argsort(-counts, kind="stable")
        levels[by_count] = np.minimum(levels, MAX_LEVELS - 1)
    totals = np.bincount(levels, weights=counts)
    return Category(
        feature=feature,
        values=values,
        levels=levels,
        shares=counts / totals[levels],
        prior=totals / len(x),
        columns=slice(first, first + len(totals) - 1),
    )


def _expand(X: FloatArray, numeric: IntArray, categories: list[Category]) -> FloatArray:
    columns = [X[:, numeric]]
    for category in categories:
        level = category.level_of(X[:, category.feature])[:, None]
        one_hot = np.equal(level, np.arange(len(category.prior) - 1)).astype(float)
        one_hot[level[:, 0] < 0] = np.nan
        columns.append(one_hot)
    return np.hstack(columns)
