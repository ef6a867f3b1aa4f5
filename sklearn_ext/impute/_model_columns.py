"""From a user's table to the columns of a Gaussian model, and back.

A numeric feature is one standardised column. A categorical one of k categories is k - 1 indicator
columns that share its holes; what the model says of them goes back to the category with the
largest posterior mean. A feature that does not vary has no column: its holes get its value.
"""

from typing import NamedTuple

import numpy as np


class Category(NamedTuple):
    """A categorical feature: its index, its sorted values, and its model columns."""

    feature: int
    values: np.ndarray
    columns: slice


class ModelColumns:
    """Learn from a table with holes how it becomes columns of unit variance.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Holes are NaN; a feature may be empty.
    is_categorical : bool ndarray of shape (n_features,)

    Attributes
    ----------
    feature_range : ndarray of shape (2, n_features)
        Smallest and largest observed value; NaN for an empty feature.
    numeric : int ndarray of shape (n_numeric,)
        Features that are the first columns of the model.
    categories : list of Category
    constants : dict of int to float
        Value of each feature that does not vary; 0 for an empty one.
    mean, scale : ndarrays of shape (n_columns,)
    low, unit : ndarrays of shape (n_columns,)
        Smallest value and range of each model column.
    """

    def __init__(self, X, is_categorical):
        observed = ~np.isnan(X)
        low = np.where(observed, X, np.inf).min(axis=0)
        high = np.where(observed, X, -np.inf).max(axis=0)
        empty = ~observed.any(axis=0)
        self.feature_range = np.where(empty, np.nan, [low, high])
        varies = ~empty & (high > low)
        fixed = np.flatnonzero(~varies)
        self.constants = {int(p): 0.0 if empty[p] else float(low[p]) for p in fixed}
        self.numeric = np.flatnonzero(varies & ~is_categorical)
        self.categories = []
        first = len(self.numeric)
        for p in np.flatnonzero(varies & is_categorical):
            values = np.unique(X[observed[:, p], p])
            last = first + len(values) - 1
            self.categories.append(Category(int(p), values, slice(first, last)))
            first = last

        raw = self._expand(X)
        seen = ~np.isnan(raw)
        counts = np.maximum(seen.sum(axis=0), 1)
        self.mean = np.where(seen, raw, 0.0).sum(axis=0) / counts
        deviations = np.where(seen, raw - self.mean, 0.0)
        # In units of the largest deviation no square under- or overflows.
        largest = np.abs(deviations).max(axis=0, initial=0.0)
        largest[largest == 0.0] = 1.0
        spread = np.sqrt(((deviations / largest) ** 2).sum(axis=0) / counts)
        self.scale = largest * np.where(spread > 0.0, spread, 1.0)
        lows, ranges = np.zeros(raw.shape[1]), np.ones(raw.shape[1])
        lows[: len(self.numeric)] = low[self.numeric]
        ranges[: len(self.numeric)] = (high - low)[self.numeric]
        self.low, self.unit = (lows - self.mean) / self.scale, ranges / self.scale

    def __len__(self):
        return len(self.mean)

    def encode(self, X):
        """Columns of unit variance, NaN at the holes and for categories not seen before."""
        return (self._expand(X) - self.mean) / self.scale

    def _expand(self, X):
        columns = [X[:, self.numeric]]
        for category in self.categories:
            value = X[:, category.feature, None]
            one_hot = (value == category.values[:-1]).astype(float)
            one_hot[~np.isin(value[:, 0], category.values)] = np.nan
            columns.append(one_hot)
        return np.hstack(columns)

    def fill(self, X, Z, low, high):
        """Copy of X with its holes filled from model columns Z; the rest stays bit-identical.

        Parameters
        ----------
        X : ndarray of shape (n, n_features)
        Z : ndarray of shape (n, n_columns)
        low, high : ndarrays of shape (n_features,)
            Limits of what is filled into numeric features.
        """
        out = X.copy()
        holes = np.isnan(X)
        raw = Z * self.scale + self.mean
        for k, p in enumerate(self.numeric):
            at = holes[:, p]
            out[at, p] = np.clip(raw[at, k], low[p], high[p])
        for category in self.categories:
            at = holes[:, category.feature]
            best = self._shares(raw[at], category).argmax(axis=1)
            out[at, category.feature] = category.values[best]
        for p, value in self.constants.items():
            out[holes[:, p], p] = value
        return out

    def deviations(self, X, Z, V):
        """Return standard deviations of what `fill` writes; 0 at observed entries.

        A category's is that of its indicator, sqrt(s (1 - s)) with its posterior share s.
        """
        out = np.zeros(X.shape)
        holes = np.isnan(X)
        out[:, self.numeric] = np.sqrt(V[:, : len(self.numeric)]) * self.scale[: len(self.numeric)]
        for category in self.categories:
            shares = self._shares(Z * self.scale + self.mean, category)
            share = np.clip(shares.max(axis=1), 0.0, 1.0)
            out[:, category.feature] = np.sqrt(share * (1.0 - share))
        return np.where(holes, out, 0.0)

    @staticmethod
    def _shares(raw, category):
        shares = raw[:, category.columns]
        return np.column_stack((shares, 1.0 - shares.sum(axis=1)))

    def moments(self, mean, cov, label_mean, label_scale):
        """Mean and covariance in the user's units: features in order, then label columns.

        A categorical feature has its indicator columns; one that does not vary has variance 0.
        """
        columns = {int(p): [k] for k, p in enumerate(self.numeric)}
        for category in self.categories:
            columns[category.feature] = range(category.columns.start, category.columns.stop)
        # Positions of the model's columns in what is returned, and of the constants.
        place, constants = np.empty(len(mean), dtype=int), {}
        size = 0
        for p in range(self.feature_range.shape[1]):
            if p in self.constants:
                constants[size] = self.constants[p]
            else:
                place[columns[p]] = np.arange(size, size + len(columns[p]))
            size += len(columns.get(p, [None]))
        place[len(self) :] = np.arange(size, size + len(label_mean))
        size += len(label_mean)

        scale = np.concatenate((self.scale, label_scale))
        location, covariance = np.zeros(size), np.zeros((size, size))
        location[place] = mean * scale + np.concatenate((self.mean, label_mean))
        covariance[np.ix_(place, place)] = cov * np.outer(scale, scale)
        location[list(constants)] = list(constants.values())
        return location, covariance
