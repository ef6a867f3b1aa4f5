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
