"""The training rows as the LAB trainer sees them: distinct, standardised, in batches."""

import numpy as np
from sklearn.preprocessing import StandardScaler
from sklearn.utils import gen_batches

_CHUNK = 4096  # rows standardised at a time; X itself is never copied


class TrainingRows:
    """Distinct rows of (X, Y), standardised when asked for.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    Y : ndarray of shape (n_samples, n_outputs)
    rows, weights : ndarrays of shape (n_distinct,)
        Which rows to use, and their weights; see :func:`merge_duplicate_rows`.
    standardize : bool
        Whether features are shifted and scaled to mean 0 and variance 1.
    scale_targets : bool
        Whether targets are scaled to variance 1; they are always centred.
    """

    def __init__(self, X, Y, rows, weights, *, standardize, scale_targets):
        self.X = X
        self.rows = rows
        moments = StandardScaler()
        for chunk in gen_batches(len(self.rows), _CHUNK):
            moments.partial_fit(X[self.rows[chunk]], sample_weight=weights[chunk])
        self.x_std = np.sqrt(moments.var_)
        n_features = X.shape[1]
        self.x_mean = moments.mean_ if standardize else np.zeros(n_features)
        self.x_scale = moments.scale_ if standardize else np.ones(n_features)

        Y = Y[self.rows]
        moments = StandardScaler().fit(Y, sample_weight=weights)
        self.y_mean = moments.mean_
        self.y_scale = moments.scale_ if scale_targets else np.ones(Y.shape[1])
        self.Y = (Y - self.y_mean) / self.y_scale
        self.weights = (weights / weights.mean())[:, None]

    def __len__(self):
        return len(self.rows)

    def standardize(self, vectors):
        """Shift and scale vectors from the units of X; the result is float64."""
        return (vectors - self.x_mean) / self.x_scale

    def features(self, indices):
        """Standardised features of some of the distinct rows."""
        return self.standardize(self.X[self.rows[indices]])

    def batches(self, batch_size, rng):
        """Yield batches of indices for ever: without replacement, shuffled in every epoch."""
        n = len(self)
        if batch_size >= n:
            everything = np.arange(n)
            while True:
                yield everything
        while True:
            order = rng.permutation(n)
            for start in range(0, n - batch_size + 1, batch_size):
                yield order[start : start + batch_size]
