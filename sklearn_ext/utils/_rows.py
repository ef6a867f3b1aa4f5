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
    # The last key of lexsort is the primary one; rows of weight zero go to the end.
    order = np.lexsort((*X.T[::-1], *Y.T[::-1], weights == 0))
    order = order[: np.count_nonzero(weights)]
    is_new = np.zeros(len(order), dtype=bool)
    is_new[:1] = True
    for column in (*Y.T, *X.T):
        values = column[order]
        is_new[1:] |= values[1:] != values[:-1]
    starts = np.flatnonzero(is_new)
    return order[starts], np.add.reduceat(weights[order], starts)


def row_keys(X):
    """Contents of rows as hashable keys; adding zero makes -0.0 the same as 0.0."""
    return [(row + 0.0).tobytes() for row in X]
