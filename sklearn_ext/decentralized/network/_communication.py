"""How many floats travel, by edge: what every node sends to each of its neighbours."""

import numpy as np

from ..maths._feature_maps import message_shape
from ..maths._graphs import diameter

# Beside its coefficients, a node's message of a round carries how long all has been settled.
N_FLAGS = 1


def setup_floats(settings, n_features, n_outputs):
    """Floats sent before the first round.

    Announcements flood the network: as many times as its diameter, every node passes on all it
    knows. Where agreement is asked for at the nodes' rows, maps and Gram blocks follow; with
    anchors, nothing does.

    Returns
    -------
    ndarray of shape (J, J)
        From the row's node to the column's.
    """
    adjacency, sizes = settings.adjacency, settings.n_components
    edges = (adjacency > 0).astype(np.int64)
    floats = edges * diameter(adjacency) * settings.n_nodes * (n_outputs + 3)
    if settings.anchors is not None:
        return floats
    maps = [int(np.prod(message_shape(n_features, D, settings.paired))) for D in sizes]
    triangle = sizes * (sizes + 1) // 2
    # Node j sends its map, and to node i the triangle of G_ij and C_ji.
    return floats + edges * (np.array(maps)[:, None] + triangle[None, :] + np.outer(sizes, sizes))


def round_floats(settings, n_outputs):
    """Floats sent in a round, as :func:`setup_floats`."""
    edges = (settings.adjacency > 0).astype(np.int64)
    anchors = settings.anchors
    lengths = settings.n_components if anchors is None else np.full(settings.n_nodes, len(anchors))
    return edges * (lengths[:, None] * n_outputs + N_FLAGS)


def report(setup, one_round, total):
    """Build the estimator's attribute from matrices (J, J)."""
    return {
        "setup": int(setup.sum()),
        "round": int(one_round.sum()),
        "total": int(total.sum()),
        "setup_by_edge": setup,
        "round_by_edge": one_round,
    }
