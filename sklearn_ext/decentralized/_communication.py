"""Communication cost: the number of floats that every node sends to each of its neighbors."""

from typing import Any

import numpy as np

from ..utils._typing import IntArray
from ._config import DeKRRConfig
from .math._graphs import diameter
from .math._random_features import message_shape

# Besides coefficients, the message of a round contains the age of the node (`network._rounds`).
N_FLAGS = 1


def setup_floats(config: DeKRRConfig, n_features: int, n_outputs: int) -> IntArray:
    """Count the floats that are sent before the first round.

    Announcements flood the network: every node forwards everything that it has received, as many
    times as the diameter of the graph. Maps and Gram blocks follow, unless there are anchors.

    Returns
    -------
    ndarray of shape (J, J)
        Floats from the node of the row to the node of the column.
    """
    adjacency, sizes = config.adjacency, config.sizes
    edges = (adjacency > 0).astype(np.int64)
    floats = edges * diameter(adjacency) * config.n_nodes * (n_outputs + 3)
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


def simulated_cost(
    config: DeKRRConfig, n_features: int, n_outputs: int, n_rounds: int
) -> dict[str, Any]:
    """Count the floats that a network would carry in `n_rounds` rounds."""
    setup, one_round = setup_floats(config, n_features, n_outputs), round_floats(config, n_outputs)
    return cost_report(setup, one_round, setup + n_rounds * one_round)
