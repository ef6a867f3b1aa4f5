"""The problem of one node, and its rounds: receive, solve, send, until the network has settled."""

from collections import deque
from collections.abc import Callable, Collection, Iterator
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
from ..math._statistics import NodeStatistics
from ._neighbors import Neighbors
from ._transport import Bytes, decode, encode

_FINISHED = np.inf  # age that a node sends with its last message
_N_SMOOTHED = 8  # rounds over which the contraction is averaged if rounds are irregular
_ASYNCHRONOUS_DAMPING = 1.0
_FLAG_BYTES = 8


@dataclass(frozen=True, eq=False)
class Part:
    """One quadratic problem; a fit has one, and cross-validation one per fold and candidate.

    Attributes
    ----------
    statistics : NodeStatistics
    blocks : dict of int to (array, array)
        Sums over the samples of the neighbors; empty with anchors.
    weights : ndarray of shape (J,)
        Sum of the sample weights of every node.
    offset : ndarray of shape (k,)
        Offset of the targets in `statistics`.
    ridge, consensus_weight : float
    scale : float
        Size of the targets of a node, to which the tolerance is relative.
    """

    statistics: NodeStatistics
    blocks: dict[int, Blocks]
    weights: FloatArray
    offset: FloatArray
    ridge: float
    consensus_weight: float
    scale: float


@dataclass(frozen=True, eq=False)
class NodeProblem:
    """All data that a node needs for its rounds.

    Attributes
    ----------
    rank : int
        Index of the node.
    config : DeKRRConfig
    engine : DeKRREngine
    map : FeatureMap
    neighbors : list of int
        Neighbors that have completed the setup.
    parts : list of Part
    """

    rank: int
    config: DeKRRConfig
    engine: DeKRREngine
    map: FeatureMap
    neighbors: list[int]
    parts: list[Part]

    @property
    def n_outputs(self) -> int:
        """Number of outputs, k."""
        return self.parts[0].statistics.moment.shape[1]

    def anchor_features(self) -> EngineArray | None:
        """Return the features of the anchors, or None without anchors."""
        anchors = self.config.anchors
        return None if anchors is None else map_features(anchors, self.map, self.engine)

    def system(
        self, part: Part, members: Collection[int], anchors: EngineArray | None
    ) -> NodeSystem:
        """Assemble the node's block row of a linear system, with some of its neighbors."""
        parameters: dict[str, Any] = {
            "mean": self.engine.asarray(part.offset),
            "ridge": part.ridge,
            "consensus_weight": part.consensus_weight,
        }
        if anchors is None:
            blocks = {i: block for i, block in part.blocks.items() if i in members}
            return node_system(
                self.rank, part.statistics, blocks, self.config.adjacency, **parameters
            )
        return anchored_node_system(
            self.rank,
            part.statistics,
            anchors,
            dict.fromkeys(members),
            part.weights,
            self.config.adjacency,
            **parameters,
        )


class _Iterate:
    """The iteration of one part."""

    def __init__(self, part: Part, config: DeKRRConfig, asynchronous: bool):
        self.part = part
        self._contraction: float | None = None
        self._coefficients: Iterator[tuple[float, float]] | None = None
        if config.solver == "chebyshev":
            self._contraction = chebyshev_contraction(part.consensus_weight)
            self._coefficients = chebyshev_coefficients(part.consensus_weight)
        self._distances: deque[float] = deque(maxlen=_N_SMOOTHED + 1 if asynchronous else 2)

    def assemble(self, system: NodeSystem, engine: DeKRREngine, damping: float) -> None:
        """Use a system with the neighbors that are left."""
        self.system = system
        self._engine = engine
        self._factor = engine.cholesky(system.damped_matrix(damping))

    def start(self) -> None:
        """Begin with coefficients of zero."""
        self.theta = self._step = self._moved = self.system.target * 0.0

    def advance(self, residual: EngineArray) -> None:
        """Take a step."""
        step = self._engine.solve(self._factor, residual)
        if self._coefficients is not None:
            momentum, gain = next(self._coefficients)
            step = momentum * self._step + gain * step
        self._step = step
        self.theta, self._moved = self.theta + step, self._moved + step

    def error(self) -> float:
        """Estimate the error after a counted round, relative to the scale of the targets.

        The estimate uses the distances covered in the last counted rounds. In an asynchronous
        network, rounds are irregular, so the contraction is averaged over several of them.
        """
        self._distances.append(self.system.prediction_norm(self._moved))
        self._moved = self.theta * 0.0
        last, first = self._distances[-1], self._distances[0]
        contraction = self._contraction
        if contraction is None and 0.0 < last < first:
            contraction = (last / first) ** (1.0 / (len(self._distances) - 1))
        previous = np.inf if len(self._distances) == 1 else first
        return remaining_error(last, previous, contraction)


class Rounds:
    """The rounds of one node.

    A node has *settled* when its estimated error, and the change that it has not sent, are below
    the tolerance. Its age is the number of rounds for which it and all nodes whose messages it
    receives have been settled: one more than the smallest age among itself and its neighbors. An
    age above the diameter of the graph means that every node has settled. The node then marks its
    last message accordingly and stops. A round counts only if every neighbor has sent a message
    since the last round that counted.

    Messages with less than double precision contain differences from the values that the neighbors
    have, so that rounding errors shrink with the steps.

    Parameters
    ----------
    problem : NodeProblem
        The problem of the node after its setup.
    neighbors : Neighbors
    asynchronous : bool
        Whether the node continues with the messages that have arrived.
    tol : float
    """

    def __init__(
        self, problem: NodeProblem, neighbors: Neighbors, *, asynchronous: bool, tol: float
    ):
        config, engine = problem.config, problem.engine
        self._problem, self._neighbors, self._engine = problem, neighbors, engine
        self._config, self._asynchronous, self._tol = config, asynchronous, tol
        self._anchors = problem.anchor_features()
        self._members = list(problem.neighbors)
        lengths = {
            i: int(config.sizes[i]) if self._anchors is None else len(self._anchors)
            for i in neighbors.open
        }
        k, n_parts = problem.n_outputs, len(problem.parts)
        self._received = {i: np.zeros((n_parts, length, k)) for i, length in lengths.items()}
        self._latest = {i: engine.zeros(n_parts, length, k) for i, length in lengths.items()}
        self._ever_received: set[int] = set()
        self._ages: dict[int, float] = dict.fromkeys(neighbors.open, 0)
        self._earlier = self._earlier_neighbors()
        self._damping = config.damping
        if asynchronous:
            self._damping = max(self._damping, _ASYNCHRONOUS_DAMPING)
        self._n_hops, self._n_failed = diameter(config.adjacency), 0
        self.n_iter, self.converged = 0, False
        self.objective_parts: list[float] = []
        self.disagreement_parts: list[float] = []
        self._iterates = [_Iterate(part, config, asynchronous) for part in problem.parts]
        self._assemble()
        for iterate in self._iterates:
            iterate.start()
        self._sent_thetas = [iterate.theta for iterate in self._iterates]
        self._sent = np.zeros(self._values().shape)

    @property
    def thetas(self) -> list[EngineArray]:
        """Coefficients of every part."""
        return [iterate.theta for iterate in self._iterates]

    def _earlier_neighbors(self) -> set[int]:
        """Return the neighbors whose message of a round precedes this node's step."""
        if self._config.solver != "gauss_seidel":
            return set()
        config = self._config
        colors = greedy_colors([config.neighbors(j) for j in range(config.n_nodes)])
        return {i for i in self._neighbors.open if colors[i] < colors[self._problem.rank]}

    def _assemble(self) -> None:
        for iterate in self._iterates:
            system = self._problem.system(iterate.part, self._members, self._anchors)
            iterate.assemble(system, self._engine, self._damping)

    def run(self, after_round: Callable[[], bool] = bool) -> None:
        """Iterate until the network has settled, `max_iter` is reached or `after_round` stops."""
        age, fresh, last = 0.0, set[int](), False
        while not last:
            self.n_iter += 1
            # A neighbor that stops in this round still waits for this round's message.
            listeners = list(self._neighbors.open)
            if self._earlier:
                fresh |= self._receive(self._earlier)
            for number, iterate in enumerate(self._iterates):
                iterate.advance(self._residual(number))
            is_censored, unsent = self._check_censoring()
            if fresh.issuperset(self._neighbors.open):
                settled = [
                    max(iterate.error(), change) <= self._tol * iterate.part.scale
                    for iterate, change in zip(self._iterates, unsent, strict=True)
                ]
                around = [age, *(self._ages[i] for i in self._neighbors.open)]
                age = 1 + min(around) if all(settled) else 0.0
                fresh = set()
            self.converged = age > self._n_hops
            stop = after_round()
            last = self.converged or self.n_iter == self._config.max_iter or stop
            self._send(listeners, _FINISHED if last else age, last, is_censored and not last)
            if not (last and self._asynchronous):
                fresh |= self._receive(set(self._neighbors.open) - self._earlier)
        self._residual(0)

    def _residual(self, number: int) -> EngineArray:
        """Return the residual of a part; for the first one, also record its curves."""
        iterate = self._iterates[number]
        system, theta = iterate.system, iterate.theta
        pull = system.pull({i: self._latest[i][number] for i in system.coupling})
        residual = system.residual(theta, pull)
        if number == 0:
            self.objective_parts.append(system.objective_part(theta, residual))
            self.disagreement_parts.append(system.disagreement_part(theta, pull))
        return residual

    def _check_censoring(self) -> tuple[bool, list[float]]:
        """Return whether this round's update is withheld, and the changes that remain unsent."""
        level = self._config.censoring * self._config.censoring_decay**self.n_iter
        if level > 0.0:
            changes = [
                iterate.system.prediction_norm(iterate.theta - sent)
                for iterate, sent in zip(self._iterates, self._sent_thetas, strict=True)
            ]
            if all(
                change <= level * iterate.part.scale
                for iterate, change in zip(self._iterates, changes, strict=True)
            ):
                return True, changes
        return False, [0.0] * len(self._iterates)

    def _values(self) -> FloatArray:
        """Return the values that neighbors receive, of shape (n_parts, length, k)."""
        values = [
            theta if self._anchors is None else self._anchors @ theta for theta in self.thetas
        ]
        return np.stack([self._engine.to_numpy(value) for value in values])

    def _send(self, listeners: Collection[int], age: float, last: bool, is_censored: bool) -> None:
        payload, n_floats = encode([age]), N_FLAGS
        if not is_censored:
            body = self._encoded(self._values())
            payload, n_floats = np.concatenate((body, payload)), self._sent.size + N_FLAGS
            self._sent_thetas = self.thetas
        self._neighbors.send_round(listeners, payload, n_floats, last)

    def _encoded(self, values: FloatArray) -> Bytes:
        dtype = self._config.message_dtype
        if dtype == "float64":
            return encode(values)
        body = encode(values - self._sent, dtype)
        self._sent = self._sent + decode(body, dtype).reshape(values.shape)
        return body

    def _receive(self, neighbors: Collection[int]) -> set[int]:
        """Take in messages, and return the neighbors that have sent one."""
        messages = (
            self._neighbors.receive_arrived()
            if self._asynchronous
            else self._neighbors.receive_round([i for i in self._neighbors.open if i in neighbors])
        )
        for i, payloads in messages.items():
            for payload in payloads:
                self._take(i, payload[:-_FLAG_BYTES])
                self._ages[i] = float(decode(payload[-_FLAG_BYTES:])[0])
            self._latest[i] = self._engine.asarray(self._received[i])
            self._ever_received.add(i)
            if self._ages[i] == _FINISHED:
                self._neighbors.finish(i)
        self._release_failed()
        return set(messages)

    def _take(self, i: int, body: Bytes) -> None:
        if not body.size:
            return  # the neighbor has changed too little to send an update
        values = decode(body, self._config.message_dtype).reshape(self._received[i].shape)
        is_difference = self._config.message_dtype != "float64"
        self._received[i] = self._received[i] + values if is_difference else values

    def _release_failed(self) -> None:
        """Drop the terms of failed neighbors, unless they are frozen at their last message."""
        failed = self._neighbors.failed
        freeze = self._config.on_failure == "freeze"
        kept = [
            i for i in self._members if i not in failed or (freeze and i in self._ever_received)
        ]
        if len(kept) < len(self._members):
            self._members = kept
            self._assemble()
        if len(failed) > self._n_failed:
            self._n_failed = len(failed)
            # Without the nodes that have failed, the others may be farther apart.
            adjacency = self._config.adjacency.copy()
            adjacency[failed] = adjacency[:, failed] = 0.0
            self._n_hops = diameter(adjacency)

    def neighbor_coefs(self) -> dict[int, FloatArray]:
        """Return the last coefficients of the neighbors, which are unknown with anchors."""
        if self._anchors is not None:
            return {}
        return {i: self._received[i][0] for i in self._ever_received}
