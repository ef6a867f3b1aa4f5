"""Training rows that a model keeps, so that it can be asked to forget them by index."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp


@dataclass(frozen=True)
class TrainingRows:
    """Rows with their targets and weights.

    Attributes
    ----------
    X : ndarray or CSR matrix of shape (n, d)
    Y : ndarray of shape (n, k)
    weights : ndarray of shape (n,)
    """

    X: object
    Y: np.ndarray
    weights: np.ndarray

    def __len__(self):
        return len(self.Y)

    def __getitem__(self, index):
        """Return the rows of a slice or of an array of positions."""
        return TrainingRows(self.X[index], self.Y[index], self.weights[index])

    def with_targets(self, Y):
        """Return the same rows with other targets."""
        return TrainingRows(self.X, Y, self.weights)

    def extended(self, other):
        """Return these rows followed by others; sparse if these are."""
        if sp.issparse(self.X):
            X = sp.vstack((self.X, sp.csr_array(other.X)), format="csr")
        else:
            X = np.vstack((self.X, other.X.toarray() if sp.issparse(other.X) else other.X))
        return TrainingRows(
            X, np.vstack((self.Y, other.Y)), np.concatenate((self.weights, other.weights))
        )
