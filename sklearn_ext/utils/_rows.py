"""Rows of a training set, told apart by their content."""

import numpy as np


def merge_duplicate_rows(X, Y, weights):
    """Collapse identical rows of (X, Y) and add up their weights.

    What follows then depends neither on the order of the rows nor on whether a row stands there
    k times or once with weight k. X is read column by column and never copied as a whole.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    Y : ndarray of shape (n_samples, n_outputs)
    weights : ndarray of shape (n_samples,)
        Rows of weight zero are left out.

    Returns
    -------
    rows : ndarray of shape (n_distinct,)
        Index of the first of each kind of row, sorted by Y, then by X.
    weights : ndarray of shape (n_distinct,)
    """
    kept = np.flatnonzero(weights)
    order, starts = _sort_by_columns(kept, (*Y.T, *X.T))
    return order[starts], np.add.reduceat(weights[order], starts)


def _sort_by_columns(rows, columns):
    """Sort rows lexicographically; also return where each run of equal rows starts.

    A column is looked at only where all columns before it are tied, so data without ties cost
    one sort, whatever the number of columns.
    """
    order = rows.copy()
    group = np.zeros(len(rows), dtype=np.intp)  # position where the run of a position starts
    tied = np.arange(len(rows))
    for column in columns:
        values = column[order[tied]]
        within = np.lexsort((values, group[tied]))  # stable, and no row leaves its run
        order[tied] = order[tied][within]
        values = values[within]
        is_new = np.ones(len(tied), dtype=bool)
        is_new[1:] = (group[tied][1:] != group[tied][:-1]) | (values[1:] != values[:-1])
        starts = np.flatnonzero(is_new)
        lengths = np.diff(starts, append=len(tied))
        group[tied] = np.repeat(tied[starts], lengths)
        tied = tied[np.repeat(lengths > 1, lengths)]
        if len(tied) == 0:
            break
    return order, np.unique(group)


def row_keys(X):
    """Contents of rows as hashable keys; adding zero makes -0.0 the same as 0.0."""
    return [(row + 0.0).tobytes() for row in X]


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
