"""The samples of a pipeline, which are deleted by their ids."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import _safe_indexing

from ...utils._atomic import working_copy
from ...utils._typing import Array, BoolArray, FloatArray, IntArray

_LARGEST_WASTE = 0.5  # of the memory, in deleted samples


class StoredSamples:
    """Samples with targets, weights and ids.

    Methods return other samples and leave these valid. To save copies, `deleted` shares memory with
    its result, so the values of deleted samples remain until `overwrite_replaced`.

    Parameters
    ----------
    X : ndarray of shape (n, d) or data frame
        Samples.
    y : ndarray of shape (n,) or (n, k)
        Targets.
    weights : ndarray of shape (n,)
        Weights.
    ids : ndarray of shape (n,)
        Unique ids: integers or strings.
    pinned : ndarray of bool of shape (n,)
        Samples that may not be deleted.
    """

    def __init__(
        self, X: Any, y: Array, weights: FloatArray, ids: Array, pinned: BoolArray
    ) -> None:
        self.X, self.y, self.weights, self.ids, self.pinned = X, y, weights, ids, pinned
        self.alive: BoolArray = np.ones(len(ids), dtype=bool)
        self.head_index: IntArray = np.arange(len(ids))
        self._place = {key: i for i, key in enumerate(ids.tolist())}
        self._n_left = len(ids)

    def __len__(self) -> int:
        return self._n_left

    def __contains__(self, key: Any) -> bool:
        return key in self._place and bool(self.alive[self._place[key]])

    def __getstate__(self) -> dict[str, Any]:
        return vars(self.compressed())  # a file must not contain deleted samples

    def positions(self, ids_or_mask: ArrayLike, *, name: str = "ids_or_mask") -> IntArray:
        """Look up samples by their ids, or by a mask over the samples that are left."""
        chosen = np.asarray(ids_or_mask)
        if chosen.dtype == object and chosen.ndim == 0:
            raise TypeError(f"{name} must be an array-like of ids, or a mask, got {ids_or_mask!r}.")
        if chosen.size == 0:
            return np.empty(0, dtype=np.int64)
        chosen = np.atleast_1d(chosen)
        if chosen.ndim != 1:
            raise ValueError(f"{name} must have one dimension, got shape {chosen.shape}.")
        if chosen.dtype == bool:
            if len(chosen) != len(self):
                raise ValueError(
                    f"{name} must have one entry for each of the {len(self)} samples if it is "
                    f"a mask, got {len(chosen)}."
                )
            return np.flatnonzero(self.alive)[chosen]
        keys = chosen.tolist()
        unknown = [key for key in keys if key not in self]
        if unknown:
            raise ValueError(
                f"{name} contains {unknown[0]!r}, which is not the id of a sample in the "
                "model: it was never learned, or it has already been forgotten."
            )
        if len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ValueError(f"{name} contains {twice!r} more than once.")
        return np.array([self._place[key] for key in keys], dtype=np.int64)

    def rows(self) -> IntArray:
        """Return the positions of the samples that are left, in the order of their arrival."""
        return np.flatnonzero(self.alive)

    def take(self, positions: IntArray) -> Any:
        """Return samples."""
        return _safe_indexing(self.X, positions)

    def deleted(self, positions: IntArray) -> "StoredSamples":
        """Return the samples that are left, except those at `positions`; memory may be shared."""
        n_left = len(self) - len(positions)
        if not isinstance(self.X, np.ndarray) or n_left < _LARGEST_WASTE * len(self.alive):
            return self.without(positions)
        left = working_copy(self)
        left.alive = self.alive.copy()
        left.alive[positions] = False
        left._n_left = n_left
        return left

    def overwrite_replaced(self, left: "StoredSamples") -> None:
        """Fill the memory of the samples that are no longer in `left` with zeros."""
        gone = ~left.alive if self.ids is left.ids else slice(None)
        for array in (self.X, self.y, self.weights, self.ids):
            if isinstance(array, np.ndarray) and array.flags.writeable:
                array[gone] = np.zeros((), array.dtype)

    def extended(self, other: "StoredSamples") -> "StoredSamples":
        """Return the samples that are left, followed by others."""
        mine = self.compressed()
        if isinstance(mine.X, np.ndarray):
            X: Any = np.concatenate((mine.X, other.X))
        else:
            X = _stack(mine.X, other.X)
        joined = StoredSamples(
            X,
            np.concatenate((mine.y, other.y)),
            np.concatenate((mine.weights, other.weights)),
            np.concatenate((mine.ids, other.ids)),
            np.concatenate((mine.pinned, other.pinned)),
        )
        joined.head_index = np.concatenate((mine.head_index, other.head_index))
        return joined

    def without(self, positions: IntArray) -> "StoredSamples":
        """Return the samples that are left, except those at `positions`, in new memory."""
        rows = self.rows()
        rows = rows[~np.isin(rows, positions)]
        left = StoredSamples(
            self.take(rows), self.y[rows], self.weights[rows], self.ids[rows], self.pinned[rows]
        )
        left.head_index = self.head_index[rows]
        return left

    def compressed(self) -> "StoredSamples":
        """Return the samples that are left, in new memory."""
        return self.without(np.empty(0, dtype=np.int64))


def _stack(first: Any, second: Any) -> Any:
    import pandas as pd

    return pd.concat([first, second], ignore_index=True)
