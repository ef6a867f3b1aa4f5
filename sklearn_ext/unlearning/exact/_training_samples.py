"""Training samples that a model stores, so that you can refer to the ones to forget by index."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike

from ...utils._rows import check_forget
from ...utils._typing import Array, BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class TrainingSamples:
    """Samples with their targets and weights.

    Attributes
    ----------
    X : ndarray or CSR matrix of shape (n, d)
        The samples, or their features.
    Y : ndarray of shape (n, k)
        Columns of targets.
    weights : ndarray of shape (n,)
        Positive weights of the samples.
    """

    X: Any
    Y: FloatArray
    weights: FloatArray

    def __len__(self) -> int:
        return len(self.Y)

    def __getitem__(self, index: slice | IntArray | BoolArray) -> "TrainingSamples":
        """Return the samples selected by a slice, a mask or positions."""
        return TrainingSamples(self.X[index], self.Y[index], self.weights[index])

    def without(self, positions: IntArray) -> "TrainingSamples":
        """Return a copy of the samples except those at `positions`."""
        return self[complement(positions, len(self))]

    @property
    def arrays(self) -> list[FloatArray]:
        """Arrays with the values of the samples."""
        return [self.X.data if sp.issparse(self.X) else self.X, self.Y, self.weights]

    def with_targets(self, Y: FloatArray) -> "TrainingSamples":
        """Return the same samples with other targets."""
        return TrainingSamples(self.X, Y, self.weights)

    def extended(self, other: "TrainingSamples") -> "TrainingSamples":
        """Return these samples followed by others; the result is sparse if this object is."""
        if sp.issparse(self.X):
            X = sp.vstack((self.X, sp.csr_array(other.X)), format="csr")
        else:
            X = np.vstack((self.X, other.X.toarray() if sp.issparse(other.X) else other.X))
        return TrainingSamples(
            X, np.vstack((self.Y, other.Y)), np.concatenate((self.weights, other.weights))
        )


@dataclass(frozen=True)
class Request:
    """Samples selected by a call to `forget` or `relabel`.

    Attributes
    ----------
    samples : TrainingSamples
        The selected samples.
    positions : ndarray of int or None
        Positions among the stored samples; None if the samples were given by value.
    retained : ndarray of bool or None
        Value of `retained_` without the samples; None if they were given by value.
    """

    samples: TrainingSamples
    positions: IntArray | None = None
    retained: BoolArray | None = None


def request_by_index(indices: ArrayLike, retained: BoolArray, samples: TrainingSamples) -> Request:
    """Look up samples among the stored ones.

    Parameters
    ----------
    indices : array-like of int or bool
        Indices, or a mask over all samples ever given to the model.
    retained : ndarray of bool of shape (n,)
        Which of these samples are stored.
    samples : TrainingSamples
        The stored samples.

    Returns
    -------
    Request
        Request in the order of `indices`.

    Raises
    ------
    ValueError
        As in `check_forget`, or if a sample is not in the model.
    TypeError
        As in `check_forget`.
    """
    if _is_empty(np.asarray(indices)):
        return Request(samples[:0], np.empty(0, dtype=np.int64), retained)
    index = check_forget(indices, len(retained))
    missing = index[~retained[index]]
    if len(missing):
        raise ValueError(
            f"Sample {missing[0]} is not in the model: it has already been forgotten, or its "
            "weight was zero."
        )
    left = retained.copy()
    left[index] = False
    positions = (np.cumsum(retained) - 1)[index]
    return Request(samples[positions], positions, left)


def complement(positions: IntArray, n: int) -> IntArray:
    """Return the positions below n that are not in `positions`, ascending."""
    return np.setdiff1d(np.arange(n), positions, assume_unique=True)


def _is_empty(indices: Array) -> bool:
    return indices.size == 0 or (indices.dtype == bool and not indices.any())
