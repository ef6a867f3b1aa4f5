"""The algorithm on arrays, with and without a network."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import make_friedman1

from sklearn_ext import DecentralizedRFKRR, InProcessNetwork
from sklearn_ext.decentralized import (
    DeKRRConfig,
    NodeSamples,
    consensus_system,
    make_graph,
    solve_dekrr,
    solve_dekrr_over_network,
)

X, Y = make_friedman1(400, noise=0.3, random_state=0)
NODE = np.arange(400) % 4
CONFIG = {"n_components": 20, "alpha": 1e-4, "tol": 1e-10}


def samples_of_nodes(rows=slice(None), X=X):
    return [
        NodeSamples.from_arrays(X[rows][NODE[rows] == j], Y[rows][NODE[rows] == j])
        for j in range(4)
    ]


def config(**parameters):
    return DeKRRConfig(make_graph("ring", 4), **CONFIG | parameters)


def test_algorithm_gives_the_solution_of_the_estimator():
    krr = DecentralizedRFKRR(graph="ring", random_state=0, **CONFIG).fit(X, Y, node=NODE)
    seed = int(np.random.RandomState(0).randint(2**31 - 1))
    result = solve_dekrr(samples_of_nodes(), config(), seed=seed)
    for theta, expected in zip(result.coefs, krr.node_coef_, strict=True):
        np.testing.assert_array_equal(theta[:, 0], expected)
    assert result.mean[0] == krr.intercept_
    assert result.communication["total"] == krr.n_floats_sent_["total"]


def test_coefficients_solve_the_consensus_system():
    result = solve_dekrr(samples_of_nodes(), config())
    system = consensus_system(
        [memory.statistics for memory in result.memories.values()],
        config().adjacency,
        ridge=1e-4 * 400 / 4,
        consensus_weight=0.5,
    )
    residuals, targets = system.residuals(result.coefs), [node.target for node in system.nodes]
    assert max(map(np.linalg.norm, residuals)) < 1e-9 * max(map(np.linalg.norm, targets))
    assert system.objective(result.coefs) == pytest.approx(result.objective_curve[-1])


def test_samples_can_be_added_to_memories():
    parameters = {"feature_selection": "plain", "gamma": 0.5}
    whole = solve_dekrr(samples_of_nodes(), config(**parameters))
    first = solve_dekrr(samples_of_nodes(slice(0, 200)), config(**parameters))
    more = samples_of_nodes(slice(200, 400))
    grown = solve_dekrr(more, config(**parameters), memories=first.memories)
    for theta, expected in zip(grown.coefs, whole.coefs, strict=True):
        np.testing.assert_allclose(theta, expected, rtol=1e-6)


@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_matrix])
def test_anchors_may_be_sparse_over_a_network(convert):
    with_anchors = config(anchors=convert(X[:30]))
    samples = samples_of_nodes()
    joint = solve_dekrr(samples, with_anchors)
    talking = solve_dekrr_over_network(dict(enumerate(samples)), with_anchors, InProcessNetwork())
    for theta, expected in zip(talking.coefs, joint.coefs, strict=True):
        np.testing.assert_allclose(theta, expected, atol=1e-6 * abs(expected).max())
    assert talking.communication["setup"] == joint.communication["setup"]


def test_dropping_a_neighbor_keeps_the_memory_of_the_node():
    network = InProcessNetwork(failures={2: 6})
    result = solve_dekrr_over_network(
        dict(enumerate(samples_of_nodes())), config(on_failure="drop"), network
    )
    assert result.failed == (2,)
    assert sorted(result.memories[1].blocks) == [0, 2]


def test_samples_are_merged_by_content():
    merged = NodeSamples.from_arrays(np.vstack((X, X[:3])), np.concatenate((Y, Y[:3])))
    weights = np.ones(400)
    weights[:3] = 2.0
    weighted = NodeSamples.from_arrays(X, Y, weights)
    np.testing.assert_array_equal(merged.X, weighted.X)
    np.testing.assert_array_equal(merged.weights, weighted.weights)
