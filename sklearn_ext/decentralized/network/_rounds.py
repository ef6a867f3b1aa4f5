"""The problem of one node, and its rounds: receive, solve, send, until the network has settled."""

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...utils._typing import FloatArray
from .._communication import N_FLAGS
from .._config import DeKRRConfig
from ..math._consensus import Blocks, NodeSystem, anchored_node_system, node_system
from ..math._engine import DeKRREngine, EngineArray
from ..math._graphs import diameter
from ..math._random_features import FeatureMap, map_features
from ..math._solvers import (
    chebyshev_coefficients,
    chebyshev_contraction,
    greedy_colors,
    remaining_error,
)
from ..math._statistics import NetworkSummary, NodeStatistics
from ._neighbors import Inbox, Neighbors, NewestInbox, SynchronousInbox
from ._transport import Transport

_FINISHED = np.inf  # age that a node sends with its last message
_N_SMOOTHED = 8  # rounds over which the contraction is averaged if rounds are irregular
_ASYNCHRONOUS_DAMPING = 1.0


@dataclass(frozen=True, eq=False)
class NodeProblem:
    """All data that a node needs for its rounds.

    Attributes
    ----------
    rank : int
        Index of the node.
    config : DeKRRConfig
    engine : DeKRREngine
    summary : NetworkSummary
    offset : ndarray of shape (k,)
        Offset of the targets in `statistics`.
    map : FeatureMap
    statistics : NodeStatistics
    neighbors : list of int
        Neighbors that have completed the setup.
    neighbor_maps : dict of int to FeatureMap
        Maps of the neighbors; empty with anchors.
    blocks : dict of int to (array, array)
        Sums over the samples of the neighbors; empty with anchors.
    """

    rank: int
    config: DeKRRConfig
    engine: DeKRREngine
    summary: NetworkSummary
    offset: FloatArray
    map: FeatureMap
    statistics: NodeStatistics
    neighbors: list[int]
    neighbor_maps: dict[int, FeatureMap]
    blocks: dict[int, Blocks]

    @property
    def n_outputs(self) -> int:
        """Number of outputs, k."""
        return self.statistics.moment.shape[1]

    @property
    def n_hops(self) -> int:
        """Diameter of the graph."""
        return diameter(self.config.adjacency)

    def anchor_features(self) -> EngineArray | None:
        """Return the features of the anchors, or None without anchors."""
        anchors = self.config.anchors
        return None if anchors is None else map_features(anchors, self.map, self.engine)

    def system(self, members: Collection[int], anchors: EngineArray | None) -> NodeSystem:
        """Assemble the node's block row of the linear system, with some of its neighbors."""
        parameters: dict[str, Any] = {
            "mean": self.engine.asarray(self.offset),
            "ridge": self.summary.ridge,
            "consensus_weight": self.config.consensus_weight,
        }
        if anchors is None:
            blocks = {i: block for i, block in self.blocks.items() if i in members}
            return node_system(
                self.rank, self.statistics, blocks, self.config.adjacency, **parameters
            )
        return anchored_node_system(
            self.rank,
            self.statistics,
            anchors,
            dict.fromkeys(members),
            self.summary.weights,
            self.config.adjacency,
            **parameters,
        )


class Rounds:
    """The iteration of one node.

    A node has *settled* when its estimated error is below the tolerance. Its age is the number of
    rounds for which it and all nodes whose messages it receives have been settled: one more than
    the smallest age among itself and its neighbors. An age above the diameter of the graph means
    that every node has settled. The node then marks its last message accordingly and stops. A round
    counts only if every neighbor has sent a message since the last round that counted.

    Parameters
    ----------
    problem : NodeProblem
        The problem of the node after its setup.
    neighbors : Neighbors
    transport : Transport
    asynchronous : bool
        Whether the node continues with the messages that have arrived.
    timeout : float
        Seconds after which a silent neighbor counts as failed.
    """

    def __init__(
        self,
        problem: NodeProblem,
        neighbors: Neighbors,
        transport: Transport,
        *,
        asynchronous: bool,
        timeout: float,
    ):
        config, engine = problem.config, problem.engine
        self._problem, self._neighbors, self._engine = problem, neighbors, engine
        self._config, self._asynchronous = config, asynchronous
        self._anchors = problem.anchor_features()
        self._members = list(problem.neighbors)
        self._lengths = {
            i: int(config.sizes[i]) if self._anchors is None else len(self._anchors)
            for i in neighbors.open
        }
        k = problem.n_outputs
        self._received = {i: engine.zeros(length, k) for i, length in self._lengths.items()}
        self._ever_received: set[int] = set()
        self._ages: dict[int, float] = dict.fromkeys(neighbors.open, 0)
        shapes = {i: (length * k + N_FLAGS,) for i, length in self._lengths.items()}
        self._inbox: Inbox = (
            NewestInbox(transport, shapes, _is_last, timeout)
            if asynchronous
            else SynchronousInbox(transport, shapes)
        )
        self._earlier = self._earlier_neighbors()
        self._threshold = config.tol * (problem.summary.energy / config.n_nodes) ** 0.5
        self._damping = config.damping
        if asynchronous:
            self._damping = max(self._damping, _ASYNCHRONOUS_DAMPING)
        self._contraction, self._coefficients = None, None
        if config.solver == "chebyshev":
            c = float(config.consensus_weight)
            self._contraction = chebyshev_contraction(c)
            self._coefficients = chebyshev_coefficients(c)
        self.n_iter, self.converged = 0, False
        self.objective_parts: list[float] = []
        self.disagreement_parts: list[float] = []
        self._assemble()
        self.theta = self._system.target * 0.0

    def _earlier_neighbors(self) -> set[int]:
        """Return the neighbors whose message of a round precedes this node's step."""
        if self._config.solver != "gauss_seidel":
            return set()
        config = self._config
        colors = greedy_colors([config.neighbors(j) for j in range(config.n_nodes)])
        return {i for i in self._neighbors.open if colors[i] < colors[self._problem.rank]}

    def _assemble(self) -> None:
        self._system = self._problem.system(self._members, self._anchors)
        self._factor = self._engine.cholesky(self._system.damped_matrix(self._damping))

    def run(self) -> None:
        """Iterate until the network has settled or `max_iter` is reached."""
        step = moved = self.theta
        age, fresh, n_hops = 0.0, set[int](), self._problem.n_hops
        distances: deque[float] = deque(maxlen=_N_SMOOTHED + 1 if self._asynchronous else 2)
        last = False
        while not last:
            self.n_iter += 1
            # A neighbor that stops in this round still waits for this round's message.
            listeners = list(self._neighbors.open)
            fresh |= self._receive(self._earlier)
            step = self._step(step)
            self.theta, moved = self.theta + step, moved + step
            if fresh.issuperset(self._neighbors.open):
                distances.append(self._system.prediction_norm(moved))
                settled = self._error(distances) <= self._threshold
                around = [age, *(self._ages[i] for i in self._neighbors.open)]
                age = 1 + min(around) if settled else 0.0
                moved, fresh = self.theta * 0.0, set()
            self.converged = age > n_hops
            last = self.converged or self.n_iter == self._config.max_iter
            self._send(listeners, _FINISHED if last else age, last)
            fresh |= self._receive(set(self._neighbors.open) - self._earlier)
        self._record()
        self._inbox.close()

    def _error(self, distances: deque[float]) -> float:
        """Estimate the error from the distances covered by the last counted rounds.

        In an asynchronous network, rounds are irregular, so the contraction is averaged over
        several.
        """
        last, first = distances[-1], distances[0]
        contraction = self._contraction
        if contraction is None and 0.0 < last < first:
            contraction = (last / first) ** (1.0 / (len(distances) - 1))
        return remaining_error(last, np.inf if len(distances) == 1 else first, contraction)

    def _record(self) -> EngineArray:
        """Record this node's parts of the curves, and return its residual."""
        pull = self._system.pull(self._received)
        residual = self._system.residual(self.theta, pull)
        self.objective_parts.append(self._system.objective_part(self.theta, residual))
        self.disagreement_parts.append(self._system.disagreement_part(self.theta, pull))
        return residual

    def _step(self, last_step: EngineArray) -> EngineArray:
        step = self._engine.solve(self._factor, self._record())
        if self._coefficients is None:
            return step
        momentum, gain = next(self._coefficients)
        return momentum * last_step + gain * step

    def _send(self, listeners: Collection[int], age: float, last: bool) -> None:
        values = self.theta if self._anchors is None else self._anchors @ self.theta
        message = np.append(self._engine.to_numpy(values).ravel(), age)
        # A synchronous neighbor that has stopped receives nothing more. An asynchronous one still
        # waits for the last message of every neighbor.
        if last and self._asynchronous:
            listeners = list(self._ages)
        for i in listeners:
            if i not in self._neighbors.failed:
                self._neighbors.send(i, message, essential=last)

    def _receive(self, neighbors: Collection[int]) -> set[int]:
        """Collect messages, and return the neighbors that have sent one."""
        messages, failed = self._inbox.collect([i for i in self._neighbors.open if i in neighbors])
        for i, message in messages.items():
            self._received[i] = self._engine.asarray(
                message[:-N_FLAGS].reshape(self._lengths[i], self._problem.n_outputs)
            )
            self._ages[i] = message[-1]
            self._ever_received.add(i)
            if _is_last(message) and i in self._neighbors.open:
                self._neighbors.finish(i)
        for i in failed:
            if i in self._neighbors.open:
                self._neighbors.fail(i)
        self._release_failed()
        return set(messages)

    def _release_failed(self) -> None:
        """Drop the terms of failed neighbors, unless they are frozen at their last message."""
        freeze = self._config.on_failure == "freeze"
        kept = [
            i
            for i in self._members
            if i not in self._neighbors.failed or (freeze and i in self._ever_received)
        ]
        if len(kept) < len(self._members):
            self._members = kept
            self._assemble()

    def neighbor_coefs(self) -> dict[int, FloatArray]:
        """Return the last coefficients of the neighbors, which are unknown with anchors."""
        if self._anchors is not None:
            return {}
        return {i: self._engine.to_numpy(self._received[i]) for i in self._ever_received}


def _is_last(message: FloatArray) -> bool:
    return bool(message[-1] == _FINISHED)
