"""Training samples, standardized on demand."""

from collections.abc import Iterator

import numpy as np
from sklearn.preprocessing import StandardScaler
from sklearn.utils import gen_batches

from ..utils._rows import count_samples, group_equal_rows
from ..utils._typing import FloatArray, IntArray
from ._lab_config import LABConfig
from ._lab_refit import Chunk

CHUNK_SIZE = 4096  # samples that are standardized or evaluated at a time


class TrainingSet:
    """Samples of (X, Y), standardized on demand, in batches.

    Samples with equal features are merged into one with their mean target, which does not change
    the gradient of a squared error. The length is the number of distinct samples.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    Y : ndarray of shape (n_samples, n_outputs)
    samples, weights : ndarrays of shape (n_train,)
        Indices of the samples to use, and their weights.
    config : LABConfig
        Whether features are standardized and targets are scaled.

    Attributes
    ----------
    n_samples : int
        Number of samples that the weights represent, as counted by :func:`count_samples`.
    """

    def __init__(
        self,
        X: FloatArray,
        Y: FloatArray,
        samples: IntArray,
        weights: FloatArray,
        config: LABConfig,
    ) -> None:
        self.X = X
        self.n_samples = int(count_samples(X, samples, weights).sum())
        # With a huge sum of weights, the scaler would treat all features as constant.
        weights = weights / weights.max()
        weights /= weights.mean()
        Y = Y[samples]
        moments = StandardScaler().fit(Y, sample_weight=weights)
        self.y_mean = moments.mean_
        self.y_scale = moments.scale_ if config.scale_targets else np.ones(Y.shape[1])
        self.Y = (Y - self.y_mean) / self.y_scale

        groups = group_equal_rows(X, samples)
        if groups.max() + 1 < len(samples):
            samples = samples[np.unique(groups, return_index=True)[1]]
            sums = [np.bincount(groups, weights * column) for column in self.Y.T]
            weights = np.bincount(groups, weights).astype(np.float64)
            self.Y = np.column_stack(sums) / weights[:, None]
        self.samples = samples
        self.weights = (weights / weights.mean())[:, None]
        moments = StandardScaler()
        for chunk in gen_batches(len(samples), CHUNK_SIZE):
            moments.partial_fit(X[samples[chunk]], sample_weight=weights[chunk])
        n_features = X.shape[1]
        self.x_std = np.sqrt(moments.var_)
        self.x_mean = moments.mean_ if config.standardize else np.zeros(n_features)
        self.x_scale = moments.scale_ if config.standardize else np.ones(n_features)

    def __len__(self) -> int:
        return len(self.samples)

    def standardize(self, vectors: FloatArray) -> FloatArray:
        """Shift and scale vectors from the units of X; the result is float64."""
        return (vectors - self.x_mean) / self.x_scale

    def features(self, indices: IntArray | slice) -> FloatArray:
        """Return the standardized features of some of the training samples."""
        return self.standardize(self.X[self.samples[indices]])

    def chunks(self, indices: IntArray) -> Iterator[Chunk]:
        """Yield features, targets and weights of some of the training samples."""
        for part in gen_batches(len(indices), CHUNK_SIZE):
            chunk = indices[part]
            yield self.features(chunk), self.Y[chunk], self.weights[chunk]

    def batches(self, batch_size: int, rng: np.random.RandomState) -> Iterator[IntArray]:
        """Yield batches of indices forever: without replacement, shuffled in every epoch."""
        n = len(self)
        if batch_size >= n:
            everything = np.arange(n)
            while True:
                yield everything
        while True:
            order = rng.permutation(n)
            for start in range(0, n - batch_size + 1, batch_size):
                yield order[start : start + batch_size]
