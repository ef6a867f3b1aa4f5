"""Which rows belong to which node."""

from typing import NamedTuple

import numpy as np
from scipy import sparse
from sklearn.utils.validation import column_or_1d

from ..utils._rows import merge_duplicate_rows


class NodeRows(NamedTuple):
    """Distinct rows of one node: X (n, d), Y (n, k), weights (n,), and their place in the table.

    Identical rows are one row with the sum of their weights, and rows stand in an order that
    depends on their content only. What is drawn at random from them therefore depends neither on
    the order of the table nor on whether a row stands there twice or once with weight 2.
    """

    X: object
    Y: np.ndarray
    weights: np.ndarray
    index: np.ndarray

    def take(self, selected):
        return NodeRows(*(part[selected] for part in self))


def distinct_rows(X, Y, weights):
    """Merge identical rows of a table; rows of weight zero are left out."""
    if not weights.any():
        return np.empty(0, dtype=np.intp), np.empty(0)
    merge = _merge_sparse_rows if sparse.issparse(X) else merge_duplicate_rows
    return merge(X, Y, weights)


def _merge_sparse_rows(X, Y, weights):
    X = X.tocsr(copy=True)
    X.sum_duplicates()
    X.eliminate_zeros()
    bounds = zip(X.indptr[:-1], X.indptr[1:], strict=True)
    keys = [
        (y.tobytes(), X.indices[a:b].tobytes(), X.data[a:b].tobytes())
        for y, (a, b) in zip(Y + 0.0, bounds, strict=True)
    ]
    first, total = {}, {}
    for row in np.flatnonzero(weights):
        first.setdefault(keys[row], row)
        total[keys[row]] = total.get(keys[row], 0.0) + weights[row]
    ordered = sorted(first)
    return np.array([first[key] for key in ordered], dtype=np.intp), np.array(
        [total[key] for key in ordered]
    )


def check_labels(node, n_rows):
    """Check labels of nodes, one a row."""
    labels = column_or_1d(node)
    if len(labels) != n_rows:
        raise ValueError(f"node has {len(labels)} labels, but X has {n_rows} rows.")
    return labels


def encode_nodes(node, n_rows, nodes):
    """Turn one label, or one a row, into positions in the sorted labels `nodes`.

    Raises
    ------
    ValueError
        If a label is unknown, or there is not one a row.
    """
    if np.ndim(node) == 0:
        node = np.full(n_rows, node)
    labels = check_labels(node, n_rows)
    unknown = np.setdiff1d(labels, nodes)
    if len(unknown):
        raise ValueError(f"node {unknown.tolist()[0]!r} is not one of {nodes.tolist()}.")
    return np.searchsorted(nodes, labels)


def rows_by_label(X, Y, weights, codes, labels, *, keep_empty=False):
    """Give every row to the node that its code names.

    Parameters
    ----------
    X : ndarray or CSR matrix of shape (n, d)
    Y : ndarray of shape (n, k)
    weights : ndarray of shape (n,)
    codes : ndarray of shape (n,)
        Numbers of the nodes, positions in `labels`.
    labels : list of J labels
    keep_empty : bool, default=False
        Whether a node may be without rows.

    Returns
    -------
    list of J NodeRows

    Raises
    ------
    ValueError
        If a node has no row of positive weight and `keep_empty` is False.
    """
    nodes = []
    for j, label in enumerate(labels):
        members = np.flatnonzero(codes == j)
        rows, merged = distinct_rows(X[members], Y[members], weights[members])
        if not len(rows) and not keep_empty:
            raise ValueError(f"node {label!r} has no row of positive weight.")
        index = members[rows]
        nodes.append(NodeRows(X[index], Y[index], merged, index))
    return nodes


def deal_rows(X, Y, weights, n_nodes, rng, *, keep_empty=False):
    """Deal distinct rows to nodes at random, as evenly as can be.

    Returns
    -------
    list of NodeRows
        As many as there are nodes; with fewer distinct rows than that, one a row, unless
        `keep_empty` asks for all nodes.
    """
    rows, merged = distinct_rows(X, Y, weights)
    if not keep_empty:
        n_nodes = min(n_nodes, len(rows))
    pieces = np.array_split(rng.permutation(len(rows)), n_nodes)
    return [
        NodeRows(X[rows[piece]], Y[rows[piece]], merged[piece], rows[piece])
        for piece in map(np.sort, pieces)
    ]
