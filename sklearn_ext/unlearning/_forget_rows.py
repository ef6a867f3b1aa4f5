"""Which rows are to be forgotten, from what a user passes."""

import numpy as np


def check_forget(forget, n_samples):
    """Check a request and return the indices of the rows to forget.

    Parameters
    ----------
    forget : array-like of bool of shape (n_samples,), array-like of int, or None
        A mask, or indices. None asks for nothing.
    n_samples : int

    Returns
    -------
    ndarray of int64
        In the order given; a mask gives ascending indices.

    Raises
    ------
    ValueError
        If it selects no row, every row, a row twice or one that is not there, or if a mask is
        not as long as X.
    TypeError
        If it is neither a mask nor indices.
    """
    if forget is None:
        return np.empty(0, dtype=np.int64)
    forget = np.asarray(forget)
    if forget.ndim != 1:
        raise ValueError(f"forget must have one dimension, got shape {forget.shape}.")
    if forget.dtype == bool:
        if len(forget) != n_samples:
            raise ValueError(
                f"forget is a mask of length {len(forget)}, but X has {n_samples} rows."
            )
        index = np.flatnonzero(forget)
    elif len(forget) == 0 or np.issubdtype(forget.dtype, np.integer):
        index = forget.astype(np.int64)
        _check_index(index, n_samples)
    else:
        raise TypeError(f"forget must be a mask or indices, got dtype {forget.dtype}.")
    if len(index) == 0:
        raise ValueError("forget selects no row; pass None when there is nothing to forget.")
    if len(index) == n_samples:
        raise ValueError("forget selects every row: nothing would be left to remember.")
    return index


def _check_index(index, n_samples):
    wrong = index[(index < 0) | (index >= n_samples)]
    if len(wrong):
        raise ValueError(
            f"forget holds the index {wrong[0]}, but the rows of X are 0 to {n_samples - 1}. In "
            "cross-validation pass a boolean mask: it is sliced with the rows, indices cannot be."
        )
    values, counts = np.unique(index, return_counts=True)
    if (counts > 1).any():
        raise ValueError(
            f"forget holds the index {values[counts > 1][0]} more than once; a mask must be "
            "boolean."
        )
