"""Communication cost: the number of floats that every node sends to each of its neighbors."""

from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import shortest_path

from ..utils._typing import IntArray
from ._config import DeKRRConfig
from .math._random_features import message_shape

# Besides coefficients, the message of a round contains the age of the node (`network._rounds`).
N_FLAGS = 1


def passed_on(config: DeKRRConfig) -> IntArray:
    """Count the announcements that every node passes on to each neighbor.

    Node j passes on to neighbor i the announcements of the nodes that are no closer to i than to j.
    """
    graph = sparse.csr_matrix(config.adjacency)
    distances = shortest_path(graph, directed=False, unweighted=True)
    counted = (distances[:, :, None] >= distances[:, None, :]) & np.isfinite(distances)[:, None]
    return (config.adjacency > 0) * counted.sum(axis=0).T


def setup_floats(
    config: DeKRRConfig, n_features: int, n_outputs: int, n_announced: int = 4
) -> IntArray:
    """Count the floats that are sent before the first round.

    Announcements flood the network: every node passes on those that are new to it, with the number
    of the node that they belong to, to the neighbors from which it has not received them. An
    announcement contains sums of the targets and `n_announced` other numbers. Maps and Gram blocks
    follow, unless there are anchors. The messages of "cv" are not counted.

    Returns
    -------
    ndarray of shape (J, J)
        Floats from the node of the row to the node of the column.
    """
    adjacency, sizes = config.adjacency, config.sizes
    edges = (adjacency > 0).astype(np.int64)
    floats = passed_on(config) * (n_outputs + n_announced)
    if config.anchors is not None:
        return floats
    maps = [int(np.prod(message_shape(n_features, D, config.paired))) for D in sizes]
    triangle = sizes * (sizes + 1) // 2
    # Node j sends its map, and to node i the triangle of G_ij and C_ji.
    return floats + edges * (np.array(maps)[:, None] + triangle[None, :] + np.outer(sizes, sizes))


def round_floats(config: DeKRRConfig, n_outputs: int) -> IntArray:
    """Count the floats that are sent in a round, as :func:`setup_floats` does for the setup."""
    edges = (config.adjacency > 0).astype(np.int64)
    lengths = config.sizes
    if config.anchors is not None:
        lengths = np.full(config.n_nodes, config.anchors.shape[0])
    return edges * (lengths[:, None] * n_outputs + N_FLAGS)


def cost_report(setup: IntArray, one_round: IntArray, total: IntArray) -> dict[str, Any]:
    """Build the attribute `n_floats_sent_` from matrices of shape (J, J)."""
    return {
        "setup": int(setup.sum()),
        "round": int(one_round.sum()),
        "total": int(total.sum()),
        "setup_by_edge": setup,
        "round_by_edge": one_round,
    }


def byte_report(setup: IntArray, rounds: IntArray) -> dict[str, Any]:
    """Build the attribute `communication_cost_` from matrices of shape (J, J)."""
    return {
        "setup": int(setup.sum()),
        "rounds": int(rounds.sum()),
        "total": int(setup.sum() + rounds.sum()),
        "by_edge": setup + rounds,
    }


def simulated_cost(
    config: DeKRRConfig, n_features: int, n_outputs: int, n_rounds: int, n_announced: int = 4
) -> dict[str, Any]:
    """Count the floats that a network would carry in `n_rounds` rounds."""
    setup = setup_floats(config, n_features, n_outputs, n_announced)
    one_round = round_floats(config, n_outputs)
    return cost_report(setup, one_round, setup + n_rounds * one_round)
