"""Graphs, which define the neighbors of each node."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse
from scipy.sparse.csgraph import connected_components, shortest_path

from ...utils._random import local_random_state
from ...utils._typing import Array, FloatArray, IntArray, RandomState

GRAPHS = ("circulant", "complete", "grid", "path", "random", "ring", "star")
_MAX_DRAWS = 1000


def make_graph(
    kind: str,
    n_nodes: int,
    *,
    degree: int = 4,
    edge_probability: float | None = None,
    random_state: RandomState = None,
) -> FloatArray:
    """Create the adjacency matrix of a graph.

    Parameters
    ----------
    kind : {"circulant", "complete", "grid", "path", "random", "ring", "star"}
        "circulant" joins every node to its `degree` nearest nodes on a circle. "grid" is as square
        as possible. "random" is an Erdos-Renyi graph, drawn until it is connected. "star" has node
        0 at its center.
    n_nodes : int
        Number of nodes.
    degree : int, default=4
        Even number of neighbors in a circulant graph. With fewer than degree + 2 nodes, the graph
        is complete.
    edge_probability : float, default=None
        Probability of an edge in a random graph; None means 2 log(n_nodes) / n_nodes, but at most
        1.
    random_state : int, RandomState instance or None, default=None
        Seeds a random graph.

    Returns
    -------
    ndarray of shape (n_nodes, n_nodes)
        Symmetric matrix of zeros and ones, with a zero diagonal.

    Raises
    ------
    ValueError
        If a parameter is out of range, or no connected random graph is found.

    Examples
    --------
    >>> from sklearn_ext.decentralized import make_graph
    >>> make_graph("ring", 4).astype(int)
    array([[0, 1, 0, 1],
           [1, 0, 1, 0],
           [0, 1, 0, 1],
           [1, 0, 1, 0]])
    """
    if kind not in GRAPHS:
        raise ValueError(f"kind must be one of {GRAPHS}, got {kind!r}.")
    if n_nodes < 1:
        raise ValueError(f"n_nodes must be at least 1, got {n_nodes!r}.")
    if degree < 2 or degree % 2:
        raise ValueError(f"degree must be a positive even number, got {degree!r}.")
    if kind == "random":
        return _random_graph(n_nodes, edge_probability, local_random_state(random_state))
    i, j = np.triu_indices(n_nodes, 1)
    distance = np.minimum(j - i, n_nodes - (j - i))  # along the circle
    if kind == "grid":
        width = max(w for w in range(1, int(n_nodes**0.5) + 1) if n_nodes % w == 0)
        apart = abs(j // width - i // width) + abs(j % width - i % width)
    joined = {
        "circulant": lambda: distance <= degree // 2,
        "complete": lambda: distance > 0,
        "grid": lambda: apart == 1,
        "path": lambda: j - i == 1,
        "ring": lambda: distance == 1,
        "star": lambda: i == 0,
    }[kind]()
    return _symmetric(n_nodes, i[joined], j[joined])


def _symmetric(n_nodes: int, i: IntArray, j: IntArray) -> FloatArray:
    adjacency = np.zeros((n_nodes, n_nodes))
    adjacency[i, j] = adjacency[j, i] = 1.0
    return adjacency


def _random_graph(
    n_nodes: int, probability: float | None, rng: np.random.RandomState
) -> FloatArray:
    if probability is None:
        probability = min(1.0, 2.0 * np.log(max(n_nodes, 2)) / n_nodes)
    if not 0 < probability <= 1:
        raise ValueError(f"edge_probability must be in (0, 1], got {probability!r}.")
    i, j = np.triu_indices(n_nodes, 1)
    for _ in range(_MAX_DRAWS):
        drawn = rng.random_sample(len(i)) < probability
        adjacency = _symmetric(n_nodes, i[drawn], j[drawn])
        if connected_parts(adjacency) == 1:
            return adjacency
    raise ValueError(
        f"edge_probability must be larger, got {probability!r}: none of {_MAX_DRAWS} random "
        f"graphs of {n_nodes} nodes was connected."
    )


def connected_parts(adjacency: FloatArray) -> int:
    """Count the connected components."""
    return connected_components(sparse.csr_matrix(adjacency), directed=False)[0]


def connected_labels(adjacency: FloatArray) -> IntArray:
    """Return the index of the connected component of every node."""
    return connected_components(sparse.csr_matrix(adjacency), directed=False)[1]


def diameter(adjacency: FloatArray) -> int:
    """Return the largest number of edges between two nodes of the same component."""
    distances = shortest_path(sparse.csr_matrix(adjacency), directed=False, unweighted=True)
    return int(distances[np.isfinite(distances)].max(initial=0))


def check_graph(graph: Any, nodes: ArrayLike) -> FloatArray:
    """Check a graph in any form and convert it to an adjacency matrix.

    Parameters
    ----------
    graph : array-like, sparse matrix, list of pairs or networkx graph
        A symmetric matrix with non-negative edge weights and a zero diagonal, in the order of
        `nodes`; or one pair of labels per edge; or an object with ``nodes`` and ``edges`` whose
        nodes are labels.
    nodes : array-like of shape (n_nodes,)
        Labels of the nodes.

    Returns
    -------
    ndarray of shape (n_nodes, n_nodes)

    Raises
    ------
    ValueError
        If the matrix violates these conditions, or an edge names an unknown node or joins a node
        to itself.

    Examples
    --------
    >>> from sklearn_ext.decentralized import check_graph
    >>> edges = [("Oslo", "Rome"), ("Rome", "Bonn"), ("Rome", "Kyiv")]
    >>> check_graph(edges, ["Bonn", "Kyiv", "Oslo", "Rome"]).astype(int)
    array([[0, 0, 0, 1],
           [0, 0, 0, 1],
           [0, 0, 0, 1],
           [1, 1, 1, 0]])
    """
    labels = np.asarray(nodes)
    if hasattr(graph, "edges") and hasattr(graph, "nodes"):
        edges = [(*pair, weight) for *pair, weight in graph.edges(data="weight", default=1.0)]
        return _from_edges(edges, labels)
    if sparse.issparse(graph):
        graph = graph.toarray()
    try:
        array = np.asarray(graph)
    except ValueError as error:
        raise ValueError(
            f"graph must be a square matrix or a list of pairs, got {graph!r}."
        ) from error
    if array.ndim != 2:
        raise ValueError(
            "graph must be a square matrix, a list of pairs or a networkx graph, got an array of "
            f"shape {array.shape}."
        )
    is_matrix = array.shape == (len(labels),) * 2 and array.dtype.kind in "buif"
    if array.shape == (2, 2) and np.isin(array, labels).all():
        # Two edges of two nodes; a matrix with these entries joins them, too.
        is_matrix = bool((array[:, 0] == array[:, 1]).any())
    if array.shape[1] == 2 and not is_matrix:
        return _from_edges([(i, j, 1.0) for i, j in graph], labels)
    return _check_matrix(array, len(labels))


def _from_edges(edges: Iterable[Any], labels: Array) -> FloatArray:
    position = {label: k for k, label in enumerate(labels.tolist())}
    adjacency = np.zeros((len(labels), len(labels)))
    for i, j, weight in edges:
        for label in (i, j):
            if label not in position:
                raise ValueError(
                    f"graph must join only the nodes {list(position)}, got an edge of node "
                    f"{label!r}."
                )
        if i == j:
            raise ValueError(
                f"graph must join different nodes, got an edge of node {i!r} with itself."
            )
        adjacency[position[i], position[j]] = adjacency[position[j], position[i]] = weight
    return _check_matrix(adjacency, len(labels))


def _check_matrix(array: Array, n_nodes: int) -> FloatArray:
    adjacency = array.astype(np.float64)
    if adjacency.shape != (n_nodes, n_nodes):
        raise ValueError(
            f"graph must have shape ({n_nodes}, {n_nodes}) for {n_nodes} nodes, got shape "
            f"{adjacency.shape}."
        )
    wrong = adjacency[~((adjacency >= 0) & np.isfinite(adjacency))]
    if len(wrong):
        raise ValueError(f"graph must have finite, non-negative weights, got {wrong[0]}.")
    if not np.array_equal(adjacency, adjacency.T):
        i, j = np.argwhere(adjacency != adjacency.T)[0]
        raise ValueError(
            f"graph must be symmetric, got {adjacency[i, j]} from node {i} to node {j}, but "
            f"{adjacency[j, i]} from node {j} to node {i}."
        )
    if np.diagonal(adjacency).any():
        node = int(np.flatnonzero(np.diagonal(adjacency))[0])
        raise ValueError(
            f"graph must have a zero diagonal, got an edge of node {node} with itself."
        )
    return adjacency
