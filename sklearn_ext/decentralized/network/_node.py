"""The program of a node, which is the same for all nodes and on every transport.

1. Exchange the settings with all nodes; if they differ, every node raises the same error.
2. Announce the number of samples, the sums of the targets and the width of the inputs to the
   whole network, by flooding over neighbors.
3. Select a map on the node's own samples and send it to the neighbors.
4. Send each neighbor its Gram blocks: sums over the samples of this node.
5. Iterate: solve the node's own block with the last messages of the neighbors, and send the
   coefficients. With "cv", the folds and candidates iterate first, all at once; for every candidate
   of the width, steps 3 and 4 are repeated.
6. Announce to the whole network that the rounds are over, so that all nodes know the same failures.

With public anchors, steps 3 and 4 send nothing, and a round sends the values of the node's
function at the anchors.

**Samples can be reconstructed from Gram blocks.** The protocol does not send samples or labels, but
a neighbor can compute the samples from the blocks that it receives.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ...utils._typing import FloatArray, IntArray
from .._config import DeKRRConfig, node_generator
from .._node_samples import (
    NodeSamples,
    announce,
    select_node_map,
    sum_over_samples,
    summarize_network,
)
from .._parameter_choice import Candidate, choose_parameters
from .._result import NodeMemory
from ..math._consensus import Blocks
from ..math._cross_validation import add_folds, fold_numbers, squared_error
from ..math._engine import DeKRREngine
from ..math._graphs import connected_labels
from ..math._random_features import FeatureMap, map_from_message, message_shape, rounded_map
from ..math._statistics import NetworkSummary, NodeStatistics, pack_announcement
from ._neighbors import Neighbors
from ._rounds import NodeProblem, Part, Rounds
from ._settings import check_settings, describe_settings
from ._transport import NodeFailureError, Transport

_CV_TOLERANCE = 1e-4  # enough to compare candidates


@dataclass(frozen=True, eq=False)
class NodeResult:
    """Result of one node; the sum of a part over all nodes is the value of the network."""

    memory: NodeMemory
    coef: FloatArray
    neighbor_coefs: dict[int, FloatArray]
    gamma: float
    feature_selection: str
    alpha: float
    consensus_weight: float
    candidates: list[Candidate]
    mean: FloatArray
    total_weight: float
    n_iter: int
    converged: bool
    objective_parts: list[float]
    disagreement_parts: list[float]
    setup_floats: IntArray
    rounds_floats: IntArray
    setup_bytes: IntArray
    rounds_bytes: IntArray
    failed: list[int]


def run_node(
    rank: int,
    samples: NodeSamples,
    config: DeKRRConfig,
    transport: Transport,
    *,
    seed: int,
    engine: DeKRREngine,
    asynchronous: bool,
    timeout: float,
    memory: NodeMemory | None = None,
    settings: Mapping[str, Any] | None = None,
    after_round: Callable[[], bool] = bool,
) -> NodeResult:
    """Run the program of one node.

    Parameters
    ----------
    rank : int
        Index of this node.
    samples : NodeSamples
        Samples of this node.
    config : DeKRRConfig
    transport : Transport
    seed : int
        Seed that all nodes share; every node has its own stream of random numbers.
    engine : DeKRREngine
    asynchronous : bool
        Whether the node continues with the messages that have arrived.
    timeout : float
        Seconds after which a silent node counts as failed.
    memory : NodeMemory, default=None
        State of the node after an earlier fit, to which the samples are added.
    settings : dict, default=None
        Further settings that all nodes must share.
    after_round : callable, default=bool
        Called after each round, except those that choose parameters; returns whether to stop.

    Returns
    -------
    NodeResult

    Raises
    ------
    ValueError
        If the settings of the nodes differ.
    NodeFailureError
        If this node was excluded, or if a node failed before all others knew the same values.
    """
    neighbors = Neighbors(transport, rank, config.neighbors(rank), config.n_nodes, timeout)
    with neighbors:
        own = describe_settings(
            config, samples, asynchronous=asynchronous, update=memory is not None
        )
        check_settings(neighbors.introduce(own | dict(settings or {})))
        setup = NodeSetup(rank, config, engine, neighbors, asynchronous)
        if memory is None:
            state = setup.start(samples, node_generator(seed, rank))
        else:
            state = setup.add(samples, memory)
        setup_floats, setup_bytes = neighbors.floats_sent.copy(), neighbors.bytes_sent.copy()
        part = setup.part(state, state.consensus_weight)
        rounds = setup.iterate(state, [part], config.tol, after_round)
        failed = neighbors.agree_on_failures()
    to_numpy = engine.to_numpy
    return NodeResult(
        memory=NodeMemory(
            map=state.map,
            statistics=state.statistics.convert(to_numpy),
            shift=state.shift,
            neighbor_maps=state.neighbor_maps,
            blocks={i: (to_numpy(G), to_numpy(C)) for i, (G, C) in state.blocks.items()},
        ),
        coef=to_numpy(rounds.thetas[0]),
        neighbor_coefs=rounds.neighbor_coefs(),
        gamma=state.summary.gamma,
        feature_selection=setup.config.feature_selection,
        alpha=float(setup.config.alpha),
        consensus_weight=state.consensus_weight,
        candidates=list(state.candidates),
        mean=state.shift + state.offset,
        total_weight=state.summary.total_weight,
        n_iter=rounds.n_iter,
        converged=rounds.converged,
        objective_parts=rounds.objective_parts,
        disagreement_parts=rounds.disagreement_parts,
        setup_floats=setup_floats,
        rounds_floats=neighbors.floats_sent - setup_floats,
        setup_bytes=setup_bytes,
        rounds_bytes=neighbors.bytes_sent - setup_bytes,
        failed=failed,
    )


class NodeState(NamedTuple):
    """State of a node before its first round.

    Attributes
    ----------
    summary : NetworkSummary
    shift : ndarray of shape (k,)
        Offset that has been subtracted from the targets in `statistics`.
    offset : ndarray of shape (k,)
        Offset that remains to be subtracted.
    map : FeatureMap
    statistics : NodeStatistics
    neighbor_maps : dict of int to FeatureMap
    blocks : dict of int to (array, array)
    consensus_weight : float
    folds : list of (NodeStatistics, dict of int to (array, array))
        Sums over the samples of every fold, and the blocks of the neighbors.
    candidates : list of Candidate
        Parameters that cross-validation compared.
    """

    summary: NetworkSummary
    shift: FloatArray
    offset: FloatArray
    map: FeatureMap
    statistics: NodeStatistics
    neighbor_maps: dict[int, FeatureMap]
    blocks: dict[int, Blocks]
    consensus_weight: float = 0.0
    folds: Sequence[tuple[NodeStatistics, dict[int, Blocks]]] = ()
    candidates: Sequence[Candidate] = ()


class NodeSetup:
    """Messages that a node exchanges before its first round.

    Parameters
    ----------
    rank : int
    config : DeKRRConfig
    engine : DeKRREngine
    neighbors : Neighbors
    asynchronous : bool
    """

    def __init__(
        self,
        rank: int,
        config: DeKRRConfig,
        engine: DeKRREngine,
        neighbors: Neighbors,
        asynchronous: bool,
    ):
        self.rank = rank
        self.config = config
        self.engine = engine
        self.neighbors = neighbors
        self.asynchronous = asynchronous

    def start(self, samples: NodeSamples, rng: np.random.Generator) -> NodeState:
        """Set up the node for its first fit."""
        announced = announce(samples, self.config, self.rank, rng, self.engine)
        summary, self.config = summarize_network(
            self._agree(announced), self.config, samples.Y.shape[1]
        )
        samples = samples.minus(summary.mean)
        folds: list[NodeSamples] = []

        def prepare(trial: DeKRRConfig) -> NodeState:
            own = select_node_map(samples, trial, self.rank, float(trial.gamma), rng, self.engine)
            if trial.message_dtype != "float64":
                own = rounded_map(own)  # so that the neighbors have the same map
            neighbor_maps = {}
            if trial.anchors is None:
                neighbor_maps = self._exchange_maps(own, samples.X.shape[1])
            if not folds:
                folds.extend(self._divide(samples, rng))
            return self._sum_folds(summary, own, neighbor_maps, folds)

        self.config, state, candidates = choose_parameters(
            self.config, summary.gamma, prepare, self._score
        )
        alpha = float(self.config.alpha)
        summary = summary._replace(
            gamma=float(self.config.gamma), ridge=alpha * summary.samples_per_node
        )
        return state._replace(
            summary=summary,
            consensus_weight=float(self.config.consensus_weight),
            candidates=candidates,
        )

    def _divide(self, samples: NodeSamples, rng: np.random.Generator) -> list[NodeSamples]:
        """Return the samples of every fold, or all samples if no parameter is chosen."""
        if not self.config.cross_validates:
            return [samples]
        numbers = fold_numbers(self.config.cv, samples.index, rng)
        n_folds = int(self._agree(np.array([1.0 + max(numbers)]))[:, 0].max())
        return [samples.take(np.flatnonzero(numbers == fold)) for fold in range(n_folds)]

    def _sum_folds(
        self,
        summary: NetworkSummary,
        own: FeatureMap,
        neighbor_maps: dict[int, FeatureMap],
        folds: list[NodeSamples],
    ) -> NodeState:
        """Sum over the samples of every fold, and exchange the Gram blocks."""
        statistics = [sum_over_samples(part, own, neighbor_maps, self.engine) for part in folds]
        blocks = [self._exchange_blocks(part) for part in statistics]
        complete = [i for i in blocks[0] if all(i in part for part in blocks)]
        return NodeState(
            summary=summary,
            shift=summary.mean,
            offset=0.0 * summary.mean,
            map=own,
            statistics=add_folds([[part] for part in statistics])[0],
            neighbor_maps=neighbor_maps,
            blocks={
                i: (sum(part[i][0] for part in blocks), sum(part[i][1] for part in blocks))
                for i in complete
            },
            folds=list(zip(statistics, blocks, strict=True)),
        )

    def add(self, samples: NodeSamples, memory: NodeMemory) -> NodeState:
        """Add samples to the state after an earlier fit."""
        asarray, to_numpy = self.engine.asarray, self.engine.to_numpy
        samples = samples.minus(memory.shift)
        new = sum_over_samples(samples, memory.map, memory.neighbor_maps, self.engine)
        statistics = memory.statistics.convert(asarray) + new
        y_sum = to_numpy(statistics.y_sum)
        announced = pack_announcement(statistics.weight, y_sum, statistics.y_square)
        summary, _ = summarize_network(self._agree(announced), self.config, len(y_sum))
        return NodeState(
            summary=summary,
            shift=memory.shift,
            offset=summary.mean,
            map=memory.map,
            statistics=statistics,
            neighbor_maps=memory.neighbor_maps,
            blocks={
                i: (asarray(memory.blocks[i][0]) + gram, asarray(memory.blocks[i][1]) + cross)
                for i, (gram, cross) in self._exchange_blocks(new).items()
            },
            consensus_weight=float(self.config.consensus_weight),
        )

    def part(self, state: NodeState, consensus_weight: float) -> Part:
        """Return the problem on all samples."""
        return Part(
            statistics=state.statistics,
            blocks=state.blocks,
            weights=state.summary.weights,
            offset=state.offset,
            ridge=state.summary.ridge,
            consensus_weight=consensus_weight,
            scale=(state.summary.energy / self.config.n_nodes) ** 0.5,
        )

    def iterate(
        self,
        state: NodeState,
        parts: list[Part],
        tol: float,
        after_round: Callable[[], bool] = bool,
    ) -> Rounds:
        """Run the rounds of several problems at once."""
        # A neighbor may have failed after it sent its blocks.
        members = [
            i for i in self.neighbors.open if self.config.anchors is not None or i in state.blocks
        ]
        problem = NodeProblem(
            rank=self.rank,
            config=self.config,
            engine=self.engine,
            map=state.map,
            neighbors=members,
            parts=parts,
        )
        rounds = Rounds(problem, self.neighbors, asynchronous=self.asynchronous, tol=tol)
        rounds.run(after_round)
        return rounds

    def _score(self, state: NodeState, pairs: Sequence[tuple[float, float]]) -> FloatArray:
        """Cross-validate ridges and consensus weights, in one sequence of rounds.

        A fold is held out by subtracting its sums, so no features are computed again.
        """
        config, n_folds = self.config, len(state.folds)
        moments = np.stack([self._moments(part) for part, _ in state.folds])
        known = self._agree(moments.ravel()).reshape(config.n_nodes, n_folds, -1)
        network = np.nansum(known, axis=0)  # weight, sums and sum of squares of every fold
        parts = []
        for fold, (statistics, blocks) in enumerate(state.folds):
            training = network.sum(axis=0) - network[fold]
            mean = training[1:-1] / training[0] * config.fit_intercept
            shared = Part(
                statistics=state.statistics - statistics,
                blocks={
                    i: (gram - blocks[i][0], cross - blocks[i][1])
                    for i, (gram, cross) in state.blocks.items()
                },
                weights=known[:, :, 0].sum(axis=1) - known[:, fold, 0],
                offset=mean,
                ridge=0.0,
                consensus_weight=0.0,
                scale=(state.summary.energy / config.n_nodes) ** 0.5,
            )
            parts += [
                replace(shared, ridge=alpha * training[0] / config.n_nodes, consensus_weight=c)
                for alpha, c in pairs
            ]
        self.neighbors.reopen()
        rounds = self.iterate(state, parts, max(config.tol, _CV_TOLERANCE))
        self.neighbors.reopen()
        errors = [
            squared_error(
                state.folds[number // len(pairs)][0], theta, self.engine.asarray(part.offset)
            )
            for number, (part, theta) in enumerate(zip(parts, rounds.thetas, strict=True))
        ]
        total = np.nansum(self._agree(np.array(errors)), axis=0).reshape(n_folds, len(pairs)).T
        mean = network[:, 1:-1] / network[:, :1]
        spread = network[:, -1] - network[:, 0] * (mean**2).sum(axis=1)
        return total / np.where(spread > 0, spread, 1.0)

    def _moments(self, part: NodeStatistics) -> FloatArray:
        """Return the weight, the sums of the targets and the sum of their squares."""
        return np.array([part.weight, *self.engine.to_numpy(part.y_sum), part.y_square])

    def _agree(self, announced: FloatArray) -> FloatArray:
        """Announce this node's values, and return those of all nodes."""
        return agree(self.neighbors, self.rank, announced, self.config.adjacency)

    def _exchange_maps(self, own: FeatureMap, n_features: int) -> dict[int, FeatureMap]:
        sizes, paired, members = self.config.sizes, own.paired, self.neighbors.open
        received = self.neighbors.exchange(
            dict.fromkeys(members, own.to_message().ravel()),
            {i: int(np.prod(message_shape(n_features, int(sizes[i]), paired))) for i in members},
            self.config.setup_dtype,
        )
        return {
            i: map_from_message(
                message.reshape(message_shape(n_features, int(sizes[i]), paired)),
                int(sizes[i]),
                paired,
            )
            for i, message in received.items()
        }

    def _exchange_blocks(self, statistics: NodeStatistics) -> dict[int, Blocks]:
        """Send each neighbor its Gram blocks, and return the blocks of this node."""
        if self.config.anchors is not None:
            return {}
        sizes = self.config.sizes
        mine = int(sizes[self.rank])
        n_upper = mine * (mine + 1) // 2
        lengths = {i: n_upper + mine * int(sizes[i]) for i in self.neighbors.open}
        outgoing = {i: self._pack_blocks(i, statistics) for i in self.neighbors.open}
        received = self.neighbors.exchange(outgoing, lengths, self.config.setup_dtype)
        return {
            i: self._unpack_blocks(message, mine, int(sizes[i])) for i, message in received.items()
        }

    def _pack_blocks(self, i: int, statistics: NodeStatistics) -> FloatArray:
        gram = self.engine.to_numpy(statistics.neighbor_gram[i])
        cross = self.engine.to_numpy(statistics.cross[i])
        return np.concatenate((gram[np.triu_indices(len(gram))], cross.ravel()))

    def _unpack_blocks(self, message: FloatArray, mine: int, theirs: int) -> Blocks:
        """Return G_ji (D_j, D_j) and C_ij^T (D_j, D_i) from the message of neighbor i."""
        upper = np.triu_indices(mine)
        gram = np.zeros((mine, mine))
        gram[upper] = message[: upper[0].size]
        gram.T[upper] = gram[upper]
        cross = message[upper[0].size :].reshape(theirs, mine).T
        return self.engine.asarray(gram), self.engine.asarray(cross)


def agree(
    neighbors: Neighbors, rank: int, announced: FloatArray, adjacency: FloatArray
) -> FloatArray:
    """Announce a node's values, and return those of all nodes.

    Returns
    -------
    ndarray of shape (J, k)
        NaN for nodes that have failed. All remaining nodes know the same values.

    Raises
    ------
    NodeFailureError
        If this node cannot reach some others without a node that has failed.
    """
    known = neighbors.flood(announced)
    components = connected_labels(adjacency)
    unknown = np.flatnonzero(np.isnan(known).all(axis=1) & (components == components[rank]))
    cut_off = [int(i) for i in unknown if i not in neighbors.failed]
    if cut_off:
        node = neighbors.failed[0]
        raise NodeFailureError(
            node,
            f"Node {node} failed before all nodes knew the sums over the network, and node {rank} "
            f"cannot reach the nodes {cut_off} without it.",
        )
    return known
