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

from collections import deque
from dataclasses import dataclass

import numpy as np

from ._consensus import anchor_system, node_system
from ._feature_maps import map_from_message, message_shape
from ._feature_selection import select_map
from ._graphs import diameter
from ._ledger import N_FLAGS
from ._peers import NewestInbox, Peers, SynchronousInbox
from ._setup import announcement, summarize
from ._simulation import anchor_features
from ._solvers import (
    chebyshev_coefficients,
    chebyshev_contraction,
    greedy_colors,
    remaining_error,
)
from ._statistics import node_statistics

_FINISHED = np.inf
_N_SMOOTHED = 8  # rounds over which the contraction is taken where rounds are irregular
_ASYNCHRONOUS_DAMPING = 1.0


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
        rounds = _Rounds(self, n_hops)
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


class _Rounds:
    """The iteration of one node.

    A node is *settled* when its estimated error is below the tolerance. Its age is the number of
    rounds for which it and all that it hears of have been settled: one more than the smallest
    age around it. At an age above the network's diameter, every node has been settled; the node
    then says so in its last message and leaves. Rounds count only when every neighbour has been
    heard since the last one that counted.
    """

    def __init__(self, node, n_hops):
        settings, peers = node.settings, node.peers
        self.node, self.peers, self.engine = node, peers, node.engine
        self.n_hops = n_hops
        self.n_outputs = node.rows.Y.shape[1]
        self.length = {
            i: int(settings.n_components[i]) if settings.anchors is None else len(settings.anchors)
            for i in peers.open
        }
        self.heard = {i: self.engine.zeros(size, self.n_outputs) for i, size in self.length.items()}
        self.ever_heard = set()
        shapes = {i: (size * self.n_outputs + N_FLAGS,) for i, size in self.length.items()}
        self.inbox = (
            NewestInbox(node.transport, shapes, _is_last, node.timeout)
            if node.asynchronous
            else SynchronousInbox(node.transport, shapes)
        )
        self.ages = dict.fromkeys(peers.open, 0)
        colors = [0] * settings.n_nodes
        if settings.solver == "gauss_seidel":
            colors = greedy_colors([settings.neighbours(j) for j in range(settings.n_nodes)])
        self.earlier = {i for i in peers.open if colors[i] < colors[node.rank]}
        self.threshold = settings.tol * (node.summary.energy / settings.n_nodes) ** 0.5
        self.damping = settings.damping
        if node.asynchronous:
            self.damping = max(self.damping, _ASYNCHRONOUS_DAMPING)
        self.contraction, self.coefficients = None, None
        if settings.solver == "chebyshev":
            self.contraction = chebyshev_contraction(settings.consensus_weight)
            self.coefficients = chebyshev_coefficients(settings.consensus_weight)
        self.n_iter, self.converged = 0, False
        self.objective_shares, self.disagreement_shares = [], []
        self._assemble()

    def _assemble(self):
        self.system = self.node.system()
        self.factor = self.engine.cholesky(self.system.damped_matrix(self.damping))

    def run(self):
        self.theta = self.system.target * 0.0
        step = moved = self.theta
        age, fresh = 0, set()
        distances = deque(maxlen=_N_SMOOTHED + 1 if self.node.asynchronous else 2)
        last = False
        while not last:
            self.n_iter += 1
            # A neighbour that leaves in this round still waits for this round's message.
            listeners = list(self.peers.open)
            fresh |= self._hear(self.earlier)
            step = self._step(step)
            self.theta, moved = self.theta + step, moved + step
            if fresh.issuperset(self.peers.open):
                distances.append(self.system.row_norm(moved))
                settled = self._error(distances) <= self.threshold
                around = [age, *(self.ages[i] for i in self.peers.open)]
                age = 1 + min(around) if settled else 0
                moved, fresh = self.theta * 0.0, set()
            self.converged = age > self.n_hops
            last = self.converged or self.n_iter == self.node.settings.max_iter
            self._tell(listeners, _FINISHED if last else age, last)
            fresh |= self._hear(set(self.peers.open) - self.earlier)
        self._record()
        self.inbox.close()

    def _error(self, distances):
        """Estimated error, from how far the last rounds that counted have moved.

        Out of step, rounds are irregular, and the contraction is a mean over several.
        """
        last, first = distances[-1], distances[0]
        contraction = self.contraction
        if contraction is None and 0.0 < last < first:
            contraction = (last / first) ** (1.0 / (len(distances) - 1))
        return remaining_error(last, np.inf if len(distances) == 1 else first, contraction)

    def _record(self):
        pull = self.system.pull(self.heard)
        residual = self.system.residual(self.theta, pull)
        self.objective_shares.append(self.system.objective_share(self.theta, residual))
        self.disagreement_shares.append(self.system.disagreement_share(self.theta, pull))
        return residual

    def _step(self, last_step):
        step = self.engine.solve(self.factor, self._record())
        if self.coefficients is None:
            return step
        momentum, gain = next(self.coefficients)
        return momentum * last_step + gain * step

    def _tell(self, listeners, age, last):
        values = self.engine.to_numpy(self.node.message(self.theta)).ravel()
        message = np.append(values, age)
        # In step, a neighbour that has left hears no more. Out of step it waits to hear the last.
        if last and self.node.asynchronous:
            listeners = self.ages
        for i in listeners:
            if i not in self.peers.failed:
                self.peers.send(i, message, essential=last)

    def _hear(self, neighbours):
        """Take in messages; return the neighbours that were heard."""
        messages, failed = self.inbox.collect([i for i in self.peers.open if i in neighbours])
        for i, message in messages.items():
            self.heard[i] = self.engine.asarray(
                message[:-N_FLAGS].reshape(self.length[i], self.n_outputs)
            )
            self.ages[i] = message[-1]
            self.ever_heard.add(i)
            if _is_last(message) and i in self.peers.open:
                self.peers.open.remove(i)
        for i in failed:
            if i in self.peers.open:
                self.peers.fail(i)
        self._let_go()
        return set(messages)

    def _let_go(self):
        """Drop the terms of failed neighbours, or leave them at their last message."""
        freeze = self.node.settings.on_failure == "freeze"
        gone = [
            i
            for i in self.peers.failed
            if i in self.node.shares and not (freeze and i in self.ever_heard)
        ]
        for i in gone:
            del self.node.shares[i]
        if gone:
            self._assemble()

    def neighbour_coefs(self):
        """Coefficients that the neighbours sent last."""
        if self.node.settings.anchors is not None:
            return {}
        return {i: self.engine.to_numpy(self.heard[i]) for i in self.ever_heard}


def _is_last(message):
    return message[-1] == _FINISHED
