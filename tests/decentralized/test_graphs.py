"""Graphs from names, matrices, edges and networkx."""

import networkx
import numpy as np
import pytest
from scipy import sparse

from sklearn_ext.decentralized import check_graph, make_graph
from sklearn_ext.decentralized.math import GRAPHS, connected_parts, diameter


@pytest.mark.parametrize("kind", GRAPHS)
@pytest.mark.parametrize("n_nodes", [1, 2, 3, 6, 12])
def test_every_kind_is_a_connected_simple_graph(kind, n_nodes):
    adjacency = make_graph(kind, n_nodes, random_state=0)
    assert connected_parts(adjacency) == 1
    np.testing.assert_array_equal(check_graph(adjacency, range(n_nodes)), adjacency)
    assert set(np.unique(adjacency)) <= {0.0, 1.0}


@pytest.mark.parametrize(
    ("kind", "edges", "longest"),
    [
        ("ring", 12, 6),
        ("path", 11, 11),
        ("star", 11, 2),
        ("complete", 66, 1),
        ("circulant", 24, 3),
        ("grid", 17, 5),
    ],
)
def test_kinds_have_the_expected_edges_and_diameters(kind, edges, longest):
    adjacency = make_graph(kind, 12)
    assert adjacency.sum() == 2 * edges
    assert diameter(adjacency) == longest


def test_small_circulant_graph_is_complete():
    np.testing.assert_array_equal(make_graph("circulant", 5), make_graph("complete", 5))
    assert make_graph("circulant", 9, degree=6).sum(axis=0).tolist() == [6.0] * 9


def test_seed_determines_a_random_graph():
    draws = [make_graph("random", 12, random_state=seed) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).any()
    with pytest.raises(ValueError, match="edge_probability must be larger"):
        make_graph("random", 40, edge_probability=1e-3, random_state=0)


def test_all_forms_of_a_graph_give_the_same_matrix():
    labels = ["a", "b", "c", "d"]
    pairs = [("a", "b"), ("b", "c"), ("d", "c")]
    expected = make_graph("path", 4)
    for graph in (pairs, np.array(pairs), networkx.Graph(pairs), sparse.csr_array(expected)):
        np.testing.assert_array_equal(check_graph(graph, labels), expected)


def test_edge_weights_are_kept():
    graph = networkx.Graph()
    graph.add_edge(0, 1, weight=2.5)
    graph.add_edge(1, 2)
    expected = [[0, 2.5, 0], [2.5, 0, 1], [0, 1, 0]]
    np.testing.assert_array_equal(check_graph(graph, [0, 1, 2]), expected)


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (np.ones((3, 3)), "zero diagonal, got an edge of node 0 with itself"),
        (
            np.eye(3, k=1),
            "must be symmetric, got 1.0 from node 0 to node 1, but 0.0 from node 1 to node 0",
        ),
        (np.zeros((4, 4)), r"shape \(3, 3\) for 3 nodes, got shape \(4, 4\)"),
        (-make_graph("ring", 3), "finite, non-negative weights, got -1.0"),
        (np.ones(3), "must be a square matrix"),
        ([(0, 1), (1, 2), (2, 7)], "edge of node 7"),
        ([(0, 1), (1, 2), (2, 2)], "edge of node 2 with itself"),
        ([(0, 1), (1,)], "must be a square matrix or a list of pairs"),
    ],
)
def test_invalid_graphs_are_rejected(graph, message):
    with pytest.raises(ValueError, match=message):
        check_graph(graph, [0, 1, 2])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"kind": "cube"}, "kind must be one of"),
        ({"n_nodes": 0}, "n_nodes must be at least 1"),
        ({"degree": 3}, "even number"),
        ({"kind": "random", "edge_probability": 1.5}, "edge_probability must be in"),
    ],
)
def test_invalid_kinds_and_sizes_are_rejected(parameters, message):
    with pytest.raises(ValueError, match=message):
        make_graph(**{"kind": "ring", "n_nodes": 4, **parameters})


@pytest.mark.parametrize("convert", [list, np.array])
@pytest.mark.parametrize("labels", [(0, 1), (1, 2), (3, 7), ("a", "b")])
def test_two_edges_of_two_nodes_are_not_a_matrix(labels, convert):
    first, second = labels
    for edges in ([(first, second), (second, first)], [(first, second), (first, second)]):
        np.testing.assert_array_equal(check_graph(convert(edges), labels), [[0, 1], [1, 0]])
    np.testing.assert_array_equal(check_graph([[0, 2.5], [2.5, 0]], labels)[0, 1], 2.5)
