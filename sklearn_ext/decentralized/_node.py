"""The program that every node runs, on any transport: no node is special, none knows the rest.

1. Announce row count, sums of targets and width to the network (flooding over neighbours).
2. Choose a map on the node's own rows and send it to the neighbours.
3. Send each neighbour its share of the Gram blocks: sums over this node's rows.
4. Rounds: solve the node's own block with what the neighbours sent last; send the coefficients.

With public anchors, steps 2 and 3 send nothing, and a round sends the values of the node's
function at the anchors.

**Rows can be reconstructed from Gram blocks.** The protocol keeps rows and labels at their node;
it hides neither from a neighbour that computes.
"""

from dataclasses import dataclass

import numpy as np

from ._consensus import anchor_system, node_system
from ._feature_maps import map_from_message, message_shape
from ._feature_selection import select_map
from ._graphs import diameter
from ._peers import Peers
from ._rounds import Rounds
from ._setup import announcement, summarize
from ._simulation import anchor_features
from ._statistics import node_statistics


@dataclass(frozen=True)
class NodeResult:
    """What a node knows when it is done; shares sum to the network's figures over the nodes."""

    map: object
    coef: np.ndarray
    neighbour_maps: dict
    neighbour_coefs: dict
    gamma: float
    mean: np.ndarray
    total_weight: float
    n_iter: int
    converged: bool
    objective_shares: list
    disagreement_shares: list
    setup_sent: np.ndarray
    rounds_sent: np.ndarray
    failed: list


class DecentralizedNode:
    """One node of the network.

    Parameters
    ----------
    rank : int
    settings : Settings
    rows : NodeRows
        The rows of this node.
    engine : NumbaEngine or TorchEngine
    transport : object
        See :mod:`._peers`.
    asynchronous : bool
        Whether the node goes on with whatever it has heard.
    timeout : float
        Seconds after which a silent neighbour is taken for dead.
    """

    def __init__(self, rank, settings, rows, engine, transport, *, asynchronous, timeout):
        self.rank = rank
        self.settings = settings
        self.rows = rows
        self.engine = engine
        self.transport = transport
        self.asynchronous = asynchronous
        self.timeout = timeout
        self.peers = Peers(transport, settings.neighbours(rank), settings.n_nodes)
        self.rng = settings.stream(rank)

    def run(self):
        """Run the program and return a NodeResult."""
        settings, rank = self.settings, self.rank
        n_hops = diameter(settings.adjacency)
        announced = announcement(settings, self.rows, self.rng)
        self.summary = summarize(settings, self.peers.flood(rank, announced, n_hops))
        self.rows = self.rows._replace(Y=self.rows.Y - self.summary.mean)
        self.map = select_map(
            settings.feature_selection,
            self.engine,
            self.rows.X,
            self.rows.Y,
            self.rows.weights,
            gamma=self.summary.gamma,
            n_components=int(settings.n_components[rank]),
            oversampling=settings.oversampling,
            ridge=settings.alpha * self.rows.weights.sum(),
            rng=self.rng,
        )
        if settings.anchors is None:
            self._exchange_blocks()
        else:
            self._evaluate_anchors()
        setup_sent = self.peers.sent.copy()
        rounds = Rounds(self, n_hops)
        rounds.run()
        return NodeResult(
            map=self.map,
            coef=self.engine.to_numpy(rounds.theta),
            neighbour_maps=self.neighbour_maps,
            neighbour_coefs=rounds.neighbour_coefs(),
            gamma=self.summary.gamma,
            mean=self.summary.mean,
            total_weight=self.summary.total_weight,
            n_iter=rounds.n_iter,
            converged=rounds.converged,
            objective_shares=rounds.objective_shares,
            disagreement_shares=rounds.disagreement_shares,
            setup_sent=setup_sent,
            rounds_sent=self.peers.sent - setup_sent,
            failed=self.peers.failed,
        )

    def _exchange_blocks(self):
        settings, peers, engine = self.settings, self.peers, self.engine
        sizes, n_features = settings.n_components, self.rows.X.shape[1]
        received = peers.exchange(
            dict.fromkeys(peers.open, self.map.to_message()),
            {i: message_shape(n_features, int(sizes[i]), settings.paired) for i in peers.open},
        )
        self.neighbour_maps = {
            i: map_from_message(message, int(sizes[i]), settings.paired)
            for i, message in received.items()
        }
        self.statistics = node_statistics(
            engine, self.rows.X, self.rows.Y, self.rows.weights, self.map, self.neighbour_maps
        )
        mine = int(sizes[self.rank])
        length = {i: _triangle(mine)[0].size + mine * int(sizes[i]) for i in peers.open}
        outgoing = {i: self._blocks_for(i) for i in peers.open}
        received = peers.exchange(outgoing, {i: (n,) for i, n in length.items()})
        self.shares = {
            i: _unpack_blocks(engine, message, mine, int(sizes[i]))
            for i, message in received.items()
        }

    def _blocks_for(self, i):
        foreign = self.engine.to_numpy(self.statistics.foreign[i])
        cross = self.engine.to_numpy(self.statistics.cross[i])
        return np.concatenate((foreign[_triangle(len(foreign))], cross.ravel()))

    def _evaluate_anchors(self):
        self.neighbour_maps = {}
        self.statistics = node_statistics(
            self.engine, self.rows.X, self.rows.Y, self.rows.weights, self.map, {}
        )
        self.anchors = anchor_features(self.engine, self.settings.anchors, self.map)
        self.shares = dict.fromkeys(self.peers.open)

    def system(self):
        """Assemble this node's part of the quadratic, with the neighbours that it has."""
        parameters = {
            "mean": self.engine.asarray(np.zeros(self.rows.Y.shape[1])),
            "ridge": self.summary.ridge,
            "consensus_weight": self.settings.consensus_weight,
        }
        if self.settings.anchors is None:
            return node_system(
                self.rank, self.statistics, self.shares, self.settings.adjacency, **parameters
            )
        return anchor_system(
            self.rank,
            self.statistics,
            self.anchors,
            self.shares,
            self.summary.weights,
            self.settings.adjacency,
            **parameters,
        )

    def message(self, theta):
        """Return what this node sends in a round, for given coefficients."""
        return theta if self.settings.anchors is None else self.anchors @ theta


def _triangle(size):
    return np.triu_indices(size)


def _unpack_blocks(engine, message, mine, theirs):
    """G_ji (D_j, D_j) and C_ij^T (D_j, D_i) from a neighbour's message."""
    upper = _triangle(mine)
    gram = np.zeros((mine, mine))
    gram[upper] = message[: upper[0].size]
    gram.T[upper] = gram[upper]
    cross = message[upper[0].size :].reshape(theirs, mine).T
    return engine.asarray(gram), engine.asarray(cross)
