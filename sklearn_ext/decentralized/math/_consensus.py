r"""The quadratic problem that the network solves.

Node j of J has coefficients :math:`\theta_j`, the function :math:`f_j(x) = z_j(x)^T\theta_j`,
samples :math:`(X_j, y_j)` and neighbors :math:`N_j`. With edge weights :math:`a_{ji}`, degrees
:math:`d_j = \sum_i a_{ji}`, the consensus weight c and the ridge :math:`\kappa` of every node, the
objective is

.. math::
    F(\theta) = \sum_j \lVert f_j(X_j) - y_j \rVert^2 + \kappa \lVert\theta_j\rVert^2
    + c \sum_j \sum_{i \in N_j} \frac{a_{ji}}{d_j} \lVert f_j(X_j) - f_i(X_j) \rVert^2 .

Its minimizer solves :math:`A\theta = r` with :math:`r_j = Z_j^Ty_j` and the blocks

.. math::
    A_{jj} = G_{jj} + \kappa I + c P_{jj}, \quad
    P_{jj} = \sum_i \frac{a_{ji}}{d_j} G_{jj} + \frac{a_{ij}}{d_i} G_{ji}, \qquad
    A_{ji} = -c P_{ji}, \quad P_{ji} = \frac{a_{ji}}{d_j} C_{ji} + \frac{a_{ij}}{d_i} C_{ij}^T ,

in the notation of :mod:`._statistics`. A is symmetric and positive definite, and so is
:math:`2\,\mathrm{blockdiag}(A_{jj}) - A`, whose quadratic form is that of F with the sign of the
coupling flipped. Hence block Jacobi converges, and F decreases in every round, on every graph and
for every c.

With c = 0, every node solves its own ridge regression. With one common map and large c, the
solution tends to the pooled ridge regression of all samples. **With different maps and large c, it
tends to zero**: functions in the spans of two different finite dictionaries agree on generic
samples only if both vanish.

With public anchors R (m samples) in place of the nodes' own samples, the term of a pair is
:math:`c\,(a_{ji} n_j/d_j + a_{ij} n_i/d_i)/m\;\lVert f_j(R) - f_i(R) \rVert^2`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from ...utils._typing import FloatArray
from ._engine import DeKRREngine, EngineArray, make_engine
from ._statistics import NodeStatistics

Blocks = tuple[EngineArray, EngineArray]  # G_ji (D_j, D_j) and C_ij^T (D_j, D_i)


@dataclass(frozen=True, eq=False)
class NodeSystem:
    r"""The block row of the linear system that belongs to one node.

    Attributes
    ----------
    gram : array of shape (D_j, D_j)
        :math:`G_{jj}`.
    ridge : float
        :math:`\kappa`.
    consensus_weight : float
        c.
    agreement : array of shape (D_j, D_j)
        :math:`P_{jj}`.
    coupling : dict of int to array
        The matrix by which the message of neighbor i is multiplied: :math:`P_{ji}` if messages are
        coefficients.
    target : array of shape (D_j, k)
        :math:`r_j`.
    energy : float
        :math:`\lVert y_j \rVert^2`.
    inverse_degree : float
        :math:`1/d_j`, zero for an isolated node.
    """

    gram: EngineArray
    ridge: float
    consensus_weight: float
    agreement: EngineArray
    coupling: dict[int, EngineArray]
    target: EngineArray
    energy: float
    inverse_degree: float

    @cached_property
    def matrix(self) -> EngineArray:
        """:math:`A_{jj}`."""
        A = self.gram + self.consensus_weight * self.agreement
        A.reshape(-1)[:: len(A) + 1] += self.ridge
        return A

    def damped_matrix(self, damping: float) -> EngineArray:
        r"""Return :math:`A_{jj} + s\,(c/d_j)\,G_{jj}`, the metric of a damped step."""
        weight = damping * self.consensus_weight * self.inverse_degree
        return self.matrix + weight * self.gram if weight else self.matrix

    def pull(self, received: Mapping[int, EngineArray] | Sequence[EngineArray]) -> EngineArray:
        r"""Sum the couplings times the neighbors' messages: :math:`\sum_i P_{ji}\theta_i`."""
        return sum(block @ received[i] for i, block in self.coupling.items())

    def residual(self, theta: EngineArray, pull: EngineArray) -> EngineArray:
        r"""Return :math:`r_j - \sum_i A_{ji}\theta_i`."""
        return self.target - self.matrix @ theta + self.consensus_weight * pull

    def objective_part(self, theta: EngineArray, residual: EngineArray) -> float:
        """Return this node's part of F; the parts of all nodes sum to F."""
        return self.energy - float((theta * (self.target + residual)).sum())

    def disagreement_part(self, theta: EngineArray, pull: EngineArray) -> float:
        r"""Return this node's part of :math:`\theta^TP\theta`, the consensus term with c = 1."""
        return float((theta * (self.agreement @ theta - pull)).sum())

    def prediction_norm(self, theta: EngineArray) -> float:
        r"""Return :math:`\lVert Z_j(X_j)\theta \rVert`."""
        return max(float((theta * (self.gram @ theta)).sum()), 0.0) ** 0.5


@dataclass(frozen=True, eq=False)
class ConsensusSystem:
    """The linear system of the whole network.

    Attributes
    ----------
    nodes : list of NodeSystem
    engine : DeKRREngine
    total_weight : float
        Sum of the sample weights of all nodes.
    """

    nodes: list[NodeSystem]
    engine: DeKRREngine
    total_weight: float = field(default=1.0)

    @property
    def consensus_weight(self) -> float:
        """The weight c."""
        return self.nodes[0].consensus_weight

    def with_parameters(self, ridge: float, c: float) -> "ConsensusSystem":
        """Return the same problem with another ridge and consensus weight."""
        nodes = [replace(node, ridge=ridge, consensus_weight=c) for node in self.nodes]
        return replace(self, nodes=nodes)

    @cached_property
    def energy(self) -> float:
        """Sum of squares of all targets."""
        return sum(node.energy for node in self.nodes)

    def pulls(self, thetas: Sequence[EngineArray]) -> list[EngineArray]:
        """Return :meth:`NodeSystem.pull` of every node."""
        return [node.pull(thetas) for node in self.nodes]

    def residuals(
        self, thetas: Sequence[EngineArray], pulls: Sequence[EngineArray] | None = None
    ) -> list[EngineArray]:
        r"""Return the blocks of :math:`r - A\theta`; the gradient of F is -2 times this."""
        pulls = self.pulls(thetas) if pulls is None else pulls
        return [
            node.residual(theta, pull)
            for node, theta, pull in zip(self.nodes, thetas, pulls, strict=True)
        ]

    def objective(
        self, thetas: Sequence[EngineArray], residuals: Sequence[EngineArray] | None = None
    ) -> float:
        """Return F at the given coefficients."""
        residuals = self.residuals(thetas) if residuals is None else residuals
        return sum(
            node.objective_part(theta, residual)
            for node, theta, residual in zip(self.nodes, thetas, residuals, strict=True)
        )

    def disagreement(
        self, thetas: Sequence[EngineArray], pulls: Sequence[EngineArray] | None = None
    ) -> float:
        """Return the root mean square, over samples, of a node's difference from its neighbors."""
        pulls = self.pulls(thetas) if pulls is None else pulls
        total = sum(
            node.disagreement_part(theta, pull)
            for node, theta, pull in zip(self.nodes, thetas, pulls, strict=True)
        )
        return (max(total, 0.0) / self.total_weight) ** 0.5

    def zeros(self) -> list[EngineArray]:
        """Return coefficients of zero."""
        return [node.target * 0.0 for node in self.nodes]

    def dense(self) -> tuple[EngineArray, EngineArray, list[slice]]:
        """Return A, r and the rows of A that belong to each node."""
        starts = np.cumsum([0, *(len(node.target) for node in self.nodes)]).tolist()
        A = self.engine.zeros(starts[-1], starts[-1])
        r = self.engine.zeros(starts[-1], self.nodes[0].target.shape[1])
        blocks = [slice(a, b) for a, b in pairwise(starts)]
        for rows, node in zip(blocks, self.nodes, strict=True):
            A[rows, rows] = node.matrix
            r[rows] = node.target
            for i, coupling in node.coupling.items():
                A[rows, blocks[i]] = -node.consensus_weight * coupling
        return A, r, blocks


def node_system(
    rank: int,
    own: NodeStatistics,
    blocks: Mapping[int, Blocks],
    adjacency: FloatArray,
    *,
    mean: EngineArray,
    ridge: float,
    consensus_weight: float,
) -> NodeSystem:
    """Assemble the system of a node that is compared with its neighbors at the samples of both.

    Parameters
    ----------
    rank : int
        Index j of the node.
    own : NodeStatistics
    blocks : dict of int to (array, array)
        :math:`G_{ji}` (D_j, D_j) and :math:`C_{ij}^T` (D_j, D_i), sums over the samples of
        neighbor i. A neighbor that is missing here does not enter the objective.
    adjacency : ndarray of shape (J, J)
    mean : array of shape (k,)
        Offset that is subtracted from the targets.
    ridge, consensus_weight : float

    Returns
    -------
    NodeSystem
    """
    degree = adjacency.sum(axis=1)
    agreement, coupling = own.gram * 0.0, {}
    for i, (neighbor_gram, cross) in blocks.items():
        here, there = adjacency[rank, i] / degree[rank], adjacency[i, rank] / degree[i]
        agreement = agreement + here * own.gram + there * neighbor_gram
        coupling[i] = here * own.cross[i] + there * cross
    return _assembled(own, degree[rank], agreement, coupling, mean, ridge, consensus_weight)


def anchored_node_system(
    rank: int,
    own: NodeStatistics,
    anchors: EngineArray,
    neighbors: Mapping[int, EngineArray | None],
    weights: FloatArray,
    adjacency: FloatArray,
    *,
    mean: EngineArray,
    ridge: float,
    consensus_weight: float,
) -> NodeSystem:
    """Assemble the system of a node that is compared with its neighbors at public anchors.

    Parameters
    ----------
    rank, own, adjacency, mean, ridge, consensus_weight
        See :func:`node_system`.
    anchors : array of shape (m, D_j)
        :math:`Q_j`, the node's features at the anchors.
    neighbors : dict of int to array of shape (m, q) or None
        The matrix that turns a message of neighbor i into its function at the anchors:
        :math:`Q_i` if messages are coefficients, None if they are these values.
    weights : ndarray of shape (J,)
        Sum :math:`n_i` of the sample weights of every node.

    Returns
    -------
    NodeSystem
    """
    degree = adjacency.sum(axis=1)
    scale, coupling = 0.0, {}
    for i, features in neighbors.items():
        pair = adjacency[rank, i] / degree[rank] * weights[rank]
        pair = (pair + adjacency[i, rank] / degree[i] * weights[i]) / len(anchors)
        scale += pair
        coupling[i] = pair * (anchors.T if features is None else anchors.T @ features)
    agreement = scale * (anchors.T @ anchors)
    return _assembled(own, degree[rank], agreement, coupling, mean, ridge, consensus_weight)


def _assembled(
    own: NodeStatistics,
    degree: float,
    agreement: EngineArray,
    coupling: dict[int, EngineArray],
    mean: EngineArray,
    ridge: float,
    consensus_weight: float,
) -> NodeSystem:
    return NodeSystem(
        gram=own.gram,
        ridge=ridge,
        consensus_weight=consensus_weight,
        agreement=agreement,
        coupling=coupling,
        target=own.target(mean),
        energy=own.energy(mean),
        inverse_degree=1.0 / degree if degree else 0.0,
    )


def consensus_system(
    statistics: Sequence[NodeStatistics],
    adjacency: FloatArray,
    *,
    ridge: float,
    consensus_weight: float,
    mean: EngineArray | None = None,
    anchors: Sequence[EngineArray] | None = None,
    engine: DeKRREngine | None = None,
) -> ConsensusSystem:
    r"""Assemble the linear system whose solution minimizes the network's objective.

    .. math::
        F(\theta) = \sum_j \lVert f_j(X_j) - y_j \rVert^2 + \kappa \lVert\theta_j\rVert^2
        + c \sum_j \sum_{i \in N_j} \frac{a_{ji}}{d_j} \lVert f_j(X_j) - f_i(X_j) \rVert^2

    Parameters
    ----------
    statistics : list of J NodeStatistics
        Sums over the samples of every node.
    adjacency : ndarray of shape (J, J)
        Weights :math:`a_{ji}` of the edges.
    ridge : float
        Ridge :math:`\kappa` of every node.
    consensus_weight : float
        Weight c of the disagreement.
    mean : array of shape (k,), default=None
        Offset that is subtracted from the targets; None subtracts nothing.
    anchors : list of J arrays of shape (m, D_j), default=None
        Features of the public anchors in the map of every node. None compares the functions of
        neighbors at the samples of both.
    engine : DeKRREngine, default=None
        Engine that computed the statistics; None means the numba engine.

    Returns
    -------
    ConsensusSystem
        Its methods return the objective, the residuals and the dense matrix.

    Examples
    --------
    The solution of two nodes makes the gradient vanish:

    >>> import numpy as np
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn_ext.decentralized import (
    ...     DeKRRConfig, NodeSamples, consensus_system, make_graph, solve_dekrr
    ... )
    >>> X, y = load_diabetes(return_X_y=True)
    >>> samples = [NodeSamples.from_arrays(X[k::2], y[k::2]) for k in range(2)]
    >>> config = DeKRRConfig(make_graph("path", 2), n_components=10, fit_intercept=False)
    >>> result = solve_dekrr(samples, config)
    >>> system = consensus_system(
    ...     [memory.statistics for memory in result.memories.values()],
    ...     config.adjacency, ridge=config.alpha * len(X) / 2, consensus_weight=0.5,
    ... )
    >>> bool(max(abs(r).max() for r in system.residuals(result.coefs)) < 1e-6)
    True
    >>> bool(np.isclose(system.objective(result.coefs), result.objective_curve[-1]))
    True
    """
    engine = make_engine() if engine is None else engine
    mean = 0.0 * statistics[0].y_sum if mean is None else mean
    weights = np.array([own.weight for own in statistics])
    shared: dict[str, Any] = {"mean": mean, "ridge": ridge, "consensus_weight": consensus_weight}
    nodes = []
    for j, own in enumerate(statistics):
        if anchors is None:
            blocks = {
                i: (statistics[i].neighbor_gram[j], statistics[i].cross[j].T) for i in own.cross
            }
            nodes.append(node_system(j, own, blocks, adjacency, **shared))
        else:
            features = {i: anchors[i] for i in np.flatnonzero(adjacency[j]).tolist()}
            nodes.append(
                anchored_node_system(j, own, anchors[j], features, weights, adjacency, **shared)
            )
    return ConsensusSystem(nodes, engine, sum(own.weight for own in statistics))
