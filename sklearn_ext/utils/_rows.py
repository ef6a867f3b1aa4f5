"""Samples of a training set: duplicates, keys, and requests to forget some of them."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from ._typing import Array, FloatArray, IntArray


def merge_duplicate_rows(X: Any, Y: FloatArray, weights: FloatArray) -> tuple[IntArray, FloatArray]:
    """Merge identical rows of (X, Y) and add up their weights.

    The result depends neither on the order of the samples nor on whether a sample occurs k times
    or once with weight k, nor on whether X is sparse. X is read column by column and never copied
    as a whole.

    Parameters
    ----------
    X : ndarray or CSR matrix of shape (n_samples, n_features)
    Y : ndarray of shape (n_samples, n_outputs)
    weights : ndarray of shape (n_samples,)
        Samples of weight zero are left out.

    Returns
    -------
    rows : ndarray of shape (n_distinct,)
        Index of the first of each group of identical samples, sorted by Y and then by X.
    weights : ndarray of shape (n_distinct,)
    """
    kept = np.flatnonzero(weights)
    columns = _sparse_sort_keys(X) if sparse.issparse(X) else X.T
    order, starts = _sort_by_columns(kept, chain(Y.T, columns))
    return order[starts], np.add.reduceat(weights[order], starts)


def _sparse_sort_keys(X: Any) -> Iterator[Array]:
    """Yield columns that sort sparse rows in the lexicographic order of their dense form.

    Two rows are compared at the first nonzero that they do not share. The earlier it occurs, the
    larger a positive value makes its row, and the smaller a negative value does. The end of the
    nonzeros counts as zeros.
    """
    X = X.tocsr(copy=True)
    X.sum_duplicates()
    X.eliminate_zeros()
    lengths = np.diff(X.indptr)
    for k in range(lengths.max(initial=0)):
        rows = np.flatnonzero(lengths > k)
        places = X.indptr[rows] + k
        position, value = np.zeros(X.shape[0]), np.zeros(X.shape[0])
        value[rows] = X.data[places]
        position[rows] = np.sign(value[rows]) * (X.shape[1] - X.indices[places])
        yield position
        yield value


def _sort_by_columns(rows: IntArray, columns: Iterable[Array]) -> tuple[IntArray, IntArray]:
    """Sort rows lexicographically; also return where each run of equal rows starts.

    A column is read only where all columns before it are tied, so that data without ties cost one
    sort, regardless of the number of columns.
    """
    order = rows.copy()
    group = np.zeros(len(rows), dtype=np.intp)  # position where the run of a position starts
    tied = np.arange(len(rows))
    for column in columns:
        values = column[order[tied]]
        within = np.lexsort((values, group[tied]))  # stable, and rows stay within their run
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


def group_equal_rows(X: FloatArray, rows: IntArray) -> IntArray:
    """Return one number per row, such that equal rows of X have the same number.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        It is read column by column and never copied as a whole.
    rows : ndarray of int, shape (n_rows,)
        The rows to compare.

    Returns
    -------
    ndarray of int, shape (n_rows,)
        Numbers from zero, in the order in which the groups first occur.
    """
    positions = np.arange(len(rows))
    order, starts = _sort_by_columns(positions, (column[rows] for column in X.T))
    first = order[starts]  # the sort is stable
    lengths = np.diff(starts, append=len(rows))
    groups = np.empty(len(rows), dtype=np.intp)
    groups[order] = np.repeat(np.argsort(np.argsort(first)), lengths)
    return groups


def count_samples(X: FloatArray, rows: IntArray, weights: FloatArray) -> FloatArray:
    """Return how many samples each distinct row of (X, Y) stands for, judged by its weight.

    Counts matter where the same features come with several targets, as in tables of a few levels,
    whose rows repeat or carry their numbers as weights. The unit is the largest number of which
    all weights are multiples if they are integers, and the smallest weight otherwise. A row whose
    features occur with only one target counts as one sample, whatever its weight, because a large
    weight can mean importance as well as repetition.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    rows : ndarray of int, shape (n_distinct,)
        Indices of distinct rows of (X, Y).
    weights : ndarray of shape (n_distinct,)
        Positive weights.

    Returns
    -------
    ndarray of shape (n_distinct,)
        Positive integers, as floats.
    """
    groups = group_equal_rows(X, rows)
    is_repeated = np.bincount(groups)[groups] > 1
    exact = weights.max() < 2.0**53 and np.array_equal(weights, np.floor(weights))
    unit = np.gcd.reduce(weights.astype(np.int64)) if exact else weights.min()
    return np.where(is_repeated, np.maximum(np.rint(weights / unit), 1.0), 1.0)


def draw_samples(counts: FloatArray, n_drawn: int, rng: np.random.RandomState) -> FloatArray:
    """Draw samples without replacement and return how many are drawn from each distinct row.

    Rows are lined up in random order, each as long as its count, and drawn at equal distances.
    The number drawn from each row is therefore proportional to its count, up to one sample.

    Parameters
    ----------
    counts : ndarray of shape (n_distinct,)
        Number of samples in each distinct row.
    n_drawn : int
        Number of samples to draw, at most the sum of the counts.
    rng : RandomState

    Returns
    -------
    ndarray of shape (n_distinct,)
        Numbers of drawn samples, as floats.
    """
    order = rng.permutation(len(counts))
    line = np.cumsum(counts[order])
    drawn = np.empty(len(counts))
    drawn[order] = np.diff(np.floor(line * (n_drawn / line[-1]) + 0.5), prepend=0.0)
    return drawn


def find_rows(X: FloatArray, rows: FloatArray) -> IntArray:
    """Return the first index in X of each given row, and -1 for rows that X does not contain.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    rows : ndarray of shape (n_rows, n_features)

    Returns
    -------
    ndarray of int, shape (n_rows,)
    """
    candidates = np.arange(len(X))
    for column, values in zip(X.T, rows.T, strict=True):
        candidates = candidates[np.isin(column[candidates], values)]
    index = {key: i for i, key in zip(candidates[::-1], row_keys(X[candidates[::-1]]), strict=True)}
    return np.array([index.get(key, -1) for key in row_keys(rows)], dtype=np.intp)


def row_keys(X: FloatArray) -> list[bytes]:
    """Return the contents of rows as hashable keys."""
    # Adding zero turns -0.0 into 0.0.
    return [(row + 0.0).tobytes() for row in X]


def check_forget(forget: ArrayLike | None, n_samples: int) -> IntArray:
    """Validate a forget request and return the indices of the forget set.

    Parameters
    ----------
    forget : array-like of bool of shape (n_samples,), array-like of int, or None
        A mask or indices. None means an empty request.
    n_samples : int
        Number of samples that the request refers to.

    Returns
    -------
    ndarray of int64
        Indices in the given order; a mask gives ascending indices.

    Raises
    ------
    ValueError
        If the request selects no sample, all samples, a sample twice or one that does not exist,
        or if a mask does not have the length of X.
    TypeError
        If `forget` is neither a boolean mask nor integer indices.
    """
    if forget is None:
        return np.empty(0, dtype=np.int64)
    selection = np.asarray(forget)
    if selection.ndim != 1:
        raise ValueError(f"forget must have one dimension, got shape {selection.shape}.")
    if selection.dtype == bool:
        if len(selection) != n_samples:
            raise ValueError(
                f"forget must have one entry for each of the {n_samples} samples if it is a mask, "
                f"got {len(selection)}."
            )
        index = np.flatnonzero(selection)
    elif len(selection) == 0 or np.issubdtype(selection.dtype, np.integer):
        index = selection.astype(np.int64)
        _check_index(index, n_samples)
    else:
        raise TypeError(
            "forget must be a boolean mask or integer indices, "
            f"got an array of dtype {selection.dtype}."
        )
    if len(index) == 0:
        raise ValueError(
            "forget selects no sample; pass forget=None when there is nothing to forget."
        )
    if len(index) == n_samples:
        raise ValueError(f"forget selects all {n_samples} samples; at least one must be retained.")
    return index


def _check_index(index: IntArray, n_samples: int) -> None:
    wrong = index[(index < 0) | (index >= n_samples)]
    if len(wrong):
        raise ValueError(
            f"Indices in forget must be between 0 and {n_samples - 1}, got {wrong[0]}. "
            "In cross-validation, pass a boolean mask, which is split with the samples."
        )
    values, counts = np.unique(index, return_counts=True)
    if (counts > 1).any():
        raise ValueError(
            f"forget contains the index {values[counts > 1][0]} more than once. If it is meant as "
            "a mask, pass booleans."
        )
