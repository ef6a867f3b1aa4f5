"""Training rows that a model keeps, so that it can be asked to forget them by index."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from ...utils._rows import check_forget


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

    def erased(self, positions):
        """Return the rows but those at some positions, in the memory of these.

        The memory of what is erased is overwritten; these rows must not be used again.

        Parameters
        ----------
        positions : ndarray of int

        Returns
        -------
        TrainingRows
        """
        gone = np.sort(positions)
        return TrainingRows(*(_closed(A, gone) for A in (self.X, self.Y, self.weights)))

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


def _closed(A, gone):
    """Move the rows of an array up into the gaps of those that are gone, ascending."""
    if sp.issparse(A):
        return A[np.setdiff1d(np.arange(A.shape[0]), gone, assume_unique=True)]
    # In one dimension numpy moves overlapping memory without a copy.
    A = np.require(A, requirements="CW")  # a copy, if the memory may not be written
    memory, width = A.reshape(-1), A[:1].size
    starts, stops = width * (gone + 1), width * np.append(gone[1:], len(A))
    end = width * gone[0]
    for start, stop in zip(starts, stops, strict=True):
        memory[end : end + stop - start] = memory[start:stop]
        end += stop - start
    memory[end:] = 0.0
    return memory[:end].reshape(-1, *A.shape[1:])


def is_empty_request(indices):
    """Whether indices, or a mask, name no row."""
    indices = np.asarray(indices)
    return indices.size == 0 or (indices.dtype == bool and not indices.any())


def locate(indices, retained):
    """Find rows among those that are kept.

    Parameters
    ----------
    indices : array-like of int or bool
        Numbers of rows, or a mask over all rows there have been.
    retained : ndarray of bool of shape (n_rows,)
        Which of these are kept.

    Returns
    -------
    positions : ndarray of int
        Among the kept rows, in the order of the request.
    retained : ndarray of bool of shape (n_rows,)
        Which are left without them.

    Raises
    ------
    ValueError
        As :func:`check_forget`, or if a row is not kept.
    TypeError
        As :func:`check_forget`.
    """
    index = check_forget(indices, len(retained))
    gone = index[~retained[index]]
    if len(gone):
        raise ValueError(
            f"row {gone[0]} is not in the model: it is forgotten already, or had weight zero."
        )
    left = retained.copy()
    left[index] = False
    return (np.cumsum(retained) - 1)[index], left
