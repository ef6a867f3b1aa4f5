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

from .._config import announcement, summarize
from .._simulation import anchor_features
from ..maths._consensus import anchor_system, node_system
from ..maths._feature_maps import map_from_message, message_shape
from ..maths._graphs import diameter
from ..maths._random_features import select_map
from ..maths._statistics import node_statistics
from ._neighbors import Peers
from ._rounds import Rounds


@dataclass(frozen=True)
class NodeMemory:
    """What a node keeps, in numpy arrays, to take in more rows later.

    Attributes
    ----------
    map : FeatureMap
    neighbour_maps : dict of FeatureMap, by neighbour
    statistics : NodeStatistics
        Sums over the node's rows, their targets less `shift`.
    shares : dict of (ndarray, ndarray) or None, by neighbour
        Sums over the neighbours' rows; None with anchors.
    shift : ndarray of shape (k,)
    """

    map: object
    neighbour_maps: dict
    statistics: object
    shares: dict
    shift: np.ndarray


@dataclass(frozen=True)
class NodeResult:
    """What a node knows when it is done; shares sum to the network's figures over the nodes."""

    memory: NodeMemory
    coef: np.ndarray
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
    memory : NodeMemory, default=None
        What the node kept of an earlier fit, to which the rows are added.
    """

    def __init__(
        self, rank, settings, rows, engine, transport, *, asynchronous, timeout, memory=None
    ):
        self.rank = rank
        self.settings = settings
        self.rows = rows
        self.engine = engine
        self.transport = transport
        self.asynchronous = asynchronous
        self.timeout = timeout
        self.memory = memory
        self.peers = Peers(transport, settings.neighbours(rank), settings.n_nodes)
        self.rng = settings.stream(rank)

    def run(self):
        """Run the program and return a NodeResult."""
        self.n_hops = diameter(self.settings.adjacency)
        if self.memory is None:
            self._set_up()
        else:
            self._add_rows()
        if self.settings.anchors is not None:
            self.anchors = anchor_features(self.engine, self.settings.anchors, self.map)
        setup_sent = self.peers.sent.copy()
        rounds = Rounds(self)
        rounds.run()
        return NodeResult(
            memory=self._remember(),
            coef=self.engine.to_numpy(rounds.theta),
            neighbour_coefs=rounds.neighbour_coefs(),
            gamma=self.summary.gamma,
            mean=self.shift + self.offset,
            total_weight=self.summary.total_weight,
            n_iter=rounds.n_iter,
            converged=rounds.converged,
            objective_shares=rounds.objective_shares,
            disagreement_shares=rounds.disagreement_shares,
            setup_sent=setup_sent,
            rounds_sent=self.peers.sent - setup_sent,
            failed=self.peers.failed,
        )

    def _set_up(self):
        settings, rank = self.settings, self.rank
        announced = announcement(settings, self.rows, self.rng)
        self.summary = summarize(settings, self.peers.flood(rank, announced, self.n_hops))
        self.shift, self.offset = self.summary.mean, 0.0 * self.summary.mean
        self.rows = self.rows._replace(Y=self.rows.Y - self.shift)
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
        self.neighbour_maps = {} if settings.anchors is not None else self._exchange_maps()
        self.statistics = self._sums()
        self.shares = self._exchange_blocks(self.statistics)

    def _add_rows(self):
        memory = self.memory
        self.map, self.neighbour_maps, self.shift = memory.map, memory.neighbour_maps, memory.shift
        self.rows = self.rows._replace(Y=self.rows.Y - self.shift)
        new = self._sums()
        self.statistics = memory.statistics.convert(self.engine.asarray) + new
        total = self.statistics
        y_sum = self.engine.to_numpy(total.y_sum)
        announced = np.array([total.weight, *y_sum, total.y_square, np.nan])
        known = self.peers.flood(self.rank, announced, self.n_hops)
        self.summary = summarize(self.settings, known)
        self.offset = self.summary.mean
        self.shares = self._exchange_blocks(new)
        if self.settings.anchors is None:
            for i, blocks in self.shares.items():
                before = map(self.engine.asarray, memory.shares[i])
                self.shares[i] = tuple(a + b for a, b in zip(before, blocks, strict=True))

    def _remember(self):
        to_numpy = self.engine.to_numpy
        shares = {i: blocks and tuple(map(to_numpy, blocks)) for i, blocks in self.shares.items()}
        statistics = self.statistics.convert(to_numpy)
        return NodeMemory(self.map, self.neighbour_maps, statistics, shares, self.shift)

    def _sums(self):
        rows = self.rows
        return node_statistics(
            self.engine, rows.X, rows.Y, rows.weights, self.map, self.neighbour_maps
        )

    def _exchange_maps(self):
        settings, peers = self.settings, self.peers
        sizes, n_features = settings.n_components, self.rows.X.shape[1]
        received = peers.exchange(
            dict.fromkeys(peers.open, self.map.to_message()),
            {i: message_shape(n_features, int(sizes[i]), settings.paired) for i in peers.open},
        )
        return {
            i: map_from_message(message, int(sizes[i]), settings.paired)
            for i, message in received.items()
        }

    def _exchange_blocks(self, statistics):
        """Send each neighbour its share of some sums; return their shares for this node."""
        if self.settings.anchors is not None:
            return dict.fromkeys(self.peers.open)
        sizes = self.settings.n_components
        mine = int(sizes[self.rank])
        n_upper = mine * (mine + 1) // 2
        shapes = {i: (n_upper + mine * int(sizes[i]),) for i in self.peers.open}
        outgoing = {i: self._blocks_for(i, statistics) for i in self.peers.open}
        return {
            i: _unpack_blocks(self.engine, message, mine, int(sizes[i]))
            for i, message in self.peers.exchange(outgoing, shapes).items()
        }

    def _blocks_for(self, i, statistics):
        foreign = self.engine.to_numpy(statistics.foreign[i])
        cross = self.engine.to_numpy(statistics.cross[i])
        return np.concatenate((foreign[np.triu_indices(len(foreign))], cross.ravel()))

    def system(self):
        """Assemble this node's part of the quadratic, with the neighbours that it has."""
        parameters = {
            "mean": self.engine.asarray(self.offset),
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


def _unpack_blocks(engine, message, mine, theirs):
    """G_ji (D_j, D_j) and C_ij^T (D_j, D_i) from a neighbour's message."""
    upper = np.triu_indices(mine)
    gram = np.zeros((mine, mine))
    gram[upper] = message[: upper[0].size]
    gram.T[upper] = gram[upper]
    cross = message[upper[0].size :].reshape(theirs, mine).T
    return engine.asarray(gram), engine.asarray(cross)
