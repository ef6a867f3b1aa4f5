"""The program of a node, which is the same for all nodes and on every transport.

1. Announce the number of samples, the sums of the targets and the width of the inputs to the
   whole network, by flooding over neighbors.
2. Select a map on the node's own samples and send it to the neighbors.
3. Send each neighbor its Gram blocks: sums over the samples of this node.
4. Iterate: solve the node's own block with the last messages of the neighbors, and send the
   coefficients.

With public anchors, steps 2 and 3 send nothing, and a round sends the values of the node's
function at the anchors.

**Samples can be reconstructed from Gram blocks.** The protocol does not send samples or labels, but
a neighbor can compute the samples from the blocks that it receives.
"""

from dataclasses import dataclass

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
from .._result import NodeMemory
from ..math._consensus import Blocks
from ..math._engine import DeKRREngine
from ..math._graphs import diameter
from ..math._random_features import FeatureMap, map_from_message, message_shape
from ..math._statistics import NetworkSummary, NodeStatistics
from ._neighbors import Neighbors
from ._rounds import NodeProblem, Rounds
from ._transport import Transport


@dataclass(frozen=True, eq=False)
class NodeResult:
    """Result of one node; the sum of a part over all nodes is the value of the network."""

    memory: NodeMemory
    coef: FloatArray
    neighbor_coefs: dict[int, FloatArray]
    gamma: float
    mean: FloatArray
    total_weight: float
    n_iter: int
    converged: bool
    objective_parts: list[float]
    disagreement_parts: list[float]
    setup_sent: IntArray
    rounds_sent: IntArray
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
) -> NodeResult:
    """Run the program of one node.

    Parameters
    ----------
    rank : int
        Index of the node.
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
        Seconds after which a silent neighbor counts as failed.
    memory : NodeMemory, default=None
        State of the node after an earlier fit, to which the samples are added.

    Returns
    -------
    NodeResult
    """
    neighbors = Neighbors(transport, config.neighbors(rank), config.n_nodes)
    setup = NodeSetup(rank, config, engine, neighbors)
    if memory is None:
        problem, shift = setup.start(samples, node_generator(seed, rank))
    else:
        problem, shift = setup.add(samples, memory), memory.shift
    setup_sent = neighbors.sent.copy()
    rounds = Rounds(problem, neighbors, transport, asynchronous=asynchronous, timeout=timeout)
    rounds.run()
    to_numpy = engine.to_numpy
    return NodeResult(
        memory=NodeMemory(
            map=problem.map,
            statistics=problem.statistics.convert(to_numpy),
            shift=shift,
            neighbor_maps=problem.neighbor_maps,
            blocks={i: (to_numpy(G), to_numpy(C)) for i, (G, C) in problem.blocks.items()},
        ),
        coef=to_numpy(rounds.theta),
        neighbor_coefs=rounds.neighbor_coefs(),
        gamma=problem.summary.gamma,
        mean=shift + problem.offset,
        total_weight=problem.summary.total_weight,
        n_iter=rounds.n_iter,
        converged=rounds.converged,
        objective_parts=rounds.objective_parts,
        disagreement_parts=rounds.disagreement_parts,
        setup_sent=setup_sent,
        rounds_sent=neighbors.sent - setup_sent,
        failed=neighbors.failed,
    )


class NodeSetup:
    """Messages that a node exchanges before its first round.

    Parameters
    ----------
    rank : int
    config : DeKRRConfig
    engine : DeKRREngine
    neighbors : Neighbors
    """

    def __init__(self, rank: int, config: DeKRRConfig, engine: DeKRREngine, neighbors: Neighbors):
        self.rank = rank
        self.config = config
        self.engine = engine
        self.neighbors = neighbors

    def start(
        self, samples: NodeSamples, rng: np.random.Generator
    ) -> tuple[NodeProblem, FloatArray]:
        """Set up the node; return its problem and the offset subtracted from its targets."""
        config = self.config
        summary = self._agree(announce(samples, config, rng))
        samples = samples.minus(summary.mean)
        own = select_node_map(samples, config, self.rank, summary.gamma, rng, self.engine)
        neighbor_maps = {}
        if config.anchors is None:
            neighbor_maps = self._exchange_maps(own, samples.X.shape[1])
        statistics = sum_over_samples(samples, own, neighbor_maps, self.engine)
        blocks = self._exchange_blocks(statistics)
        problem = self._problem(summary, 0.0 * summary.mean, own, statistics, neighbor_maps, blocks)
        return problem, summary.mean

    def add(self, samples: NodeSamples, memory: NodeMemory) -> NodeProblem:
        """Add samples to the state after an earlier fit."""
        asarray, to_numpy = self.engine.asarray, self.engine.to_numpy
        samples = samples.minus(memory.shift)
        new = sum_over_samples(samples, memory.map, memory.neighbor_maps, self.engine)
        statistics = memory.statistics.convert(asarray) + new
        y_sum = to_numpy(statistics.y_sum)
        summary = self._agree(np.array([statistics.weight, *y_sum, statistics.y_square, np.nan]))
        blocks = {
            i: (asarray(memory.blocks[i][0]) + gram, asarray(memory.blocks[i][1]) + cross)
            for i, (gram, cross) in self._exchange_blocks(new).items()
        }
        return self._problem(
            summary, summary.mean, memory.map, statistics, memory.neighbor_maps, blocks
        )

    def _problem(
        self,
        summary: NetworkSummary,
        offset: FloatArray,
        own: FeatureMap,
        statistics: NodeStatistics,
        neighbor_maps: dict[int, FeatureMap],
        blocks: dict[int, Blocks],
    ) -> NodeProblem:
        members = self.neighbors.open if self.config.anchors is not None else blocks
        return NodeProblem(
            rank=self.rank,
            config=self.config,
            engine=self.engine,
            summary=summary,
            offset=offset,
            map=own,
            statistics=statistics,
            neighbors=list(members),
            neighbor_maps=neighbor_maps,
            blocks=blocks,
        )

    def _agree(self, announced: FloatArray) -> NetworkSummary:
        """Announce this node's values and combine those of all nodes."""
        config = self.config
        known = self.neighbors.flood(self.rank, announced, diameter(config.adjacency))
        return summarize_network(known, config)

    def _exchange_maps(self, own: FeatureMap, n_features: int) -> dict[int, FeatureMap]:
        sizes, paired, members = self.config.sizes, self.config.paired, self.neighbors.open
        received = self.neighbors.exchange(
            dict.fromkeys(members, own.to_message()),
            {i: message_shape(n_features, int(sizes[i]), paired) for i in members},
        )
        return {
            i: map_from_message(message, int(sizes[i]), paired) for i, message in received.items()
        }

    def _exchange_blocks(self, statistics: NodeStatistics) -> dict[int, Blocks]:
        """Send each neighbor its Gram blocks, and return the blocks of this node."""
        if self.config.anchors is not None:
            return {}
        sizes = self.config.sizes
        mine = int(sizes[self.rank])
        n_upper = mine * (mine + 1) // 2
        shapes = {i: (n_upper + mine * int(sizes[i]),) for i in self.neighbors.open}
        outgoing = {i: self._pack_blocks(i, statistics) for i in self.neighbors.open}
        return {
            i: self._unpack_blocks(message, mine, int(sizes[i]))
            for i, message in self.neighbors.exchange(outgoing, shapes).items()
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
