r"""The quadratic whose minimiser is the network's answer.

Node j of J has coefficients :math:`\theta_j`, the function :math:`f_j(x) = z_j(x)^T\theta_j`, rows
:math:`(X_j, y_j)` and neighbours :math:`N_j`. With edge weights :math:`a_{ji}`, degrees
:math:`d_j = \sum_i a_{ji}`, the consensus weight c and a ridge :math:`\kappa` a node,

.. math::
    F(\theta) = \sum_j \lVert f_j(X_j) - y_j \rVert^2 + \kappa \lVert\theta_j\rVert^2
    + c \sum_j \sum_{i \in N_j} \frac{a_{ji}}{d_j} \lVert f_j(X_j) - f_i(X_j) \rVert^2 .

Its minimiser solves :math:`A\theta = r` with :math:`r_j = Z_j^Ty_j` and the blocks

.. math::
    A_{jj} = G_{jj} + \kappa I + c P_{jj}, \quad
    P_{jj} = \sum_i \frac{a_{ji}}{d_j} G_{jj} + \frac{a_{ij}}{d_i} G_{ji}, \qquad
    A_{ji} = -c P_{ji}, \quad P_{ji} = \frac{a_{ji}}{d_j} C_{ji} + \frac{a_{ij}}{d_i} C_{ij}^T ,

in the notation of :mod:`._statistics`. A is symmetric and positive definite, and so is
:math:`2\,\mathrm{blockdiag}(A_{jj}) - A`: its quadratic form is F's with the sign of the coupling
flipped. Hence block Jacobi converges, and F falls in every round, on every graph and for every c.

Limits: c = 0 gives every node its own ridge regression; one common map and large c give the
pooled ridge regression of all rows. **Different maps and large c give zero**: functions of two
finite dictionaries agree on generic rows only if both vanish.

With public anchors R (m rows) in place of the nodes' own rows, the pair term is
:math:`c\,(a_{ji} n_j/d_j + a_{ij} n_i/d_i)/m\;\lVert f_j(R) - f_i(R) \rVert^2`.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise

import numpy as np


@dataclass(frozen=True)
class NodeSystem:
    r"""What one node knows of the system.

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
    coupling : dict of arrays by neighbour i
        What multiplies the message of neighbour i: :math:`P_{ji}` where neighbours send
        coefficients.
    target : array of shape (D_j, k)
        :math:`r_j`.
    energy : float
        :math:`\lVert y_j \rVert^2`.
    inverse_degree : float
        :math:`1/d_j`, zero for an isolated node.
    """

    gram: object
    ridge: float
    consensus_weight: float
    agreement: object
    coupling: dict
    target: object
    energy: float
    inverse_degree: float

    @cached_property
    def matrix(self):
        """:math:`A_{jj}`."""
        A = self.gram + self.consensus_weight * self.agreement
        A.reshape(-1)[:: len(A) + 1] += self.ridge
        return A

    def damped_matrix(self, damping):
        r""":math:`A_{jj} + s\,(c/d_j)\,G_{jj}`, the metric of a damped step."""
        weight = damping * self.consensus_weight * self.inverse_degree
        return self.matrix + weight * self.gram if weight else self.matrix

    def pull(self, received):
        r"""Sum of the couplings times the neighbours' messages, :math:`\sum_i P_{ji}\theta_i`."""
        return sum(block @ received[i] for i, block in self.coupling.items())

    def residual(self, theta, pull):
        r""":math:`r_j - \sum_i A_{ji}\theta_i`."""
        return self.target - self.matrix @ theta + self.consensus_weight * pull

    def objective_share(self, theta, residual):
        """Return this node's part of F; the parts of all nodes sum to F."""
        return self.energy - float((theta * (self.target + residual)).sum())

    def disagreement_share(self, theta, pull):
        r"""Return this node's part of :math:`\theta^TP\theta`, the consensus term with c = 1."""
        return float((theta * (self.agreement @ theta - pull)).sum())

    def row_norm(self, theta):
        r""":math:`\lVert Z_j(X_j)\theta \rVert`."""
        return max(float((theta * (self.gram @ theta)).sum()), 0.0) ** 0.5


@dataclass(frozen=True)
class ConsensusSystem:
    """The systems of all nodes, in one place."""

    nodes: list
    engine: object
    total_weight: float = field(default=1.0)

    @property
    def consensus_weight(self):
        return self.nodes[0].consensus_weight

    def with_consensus_weight(self, c):
        """Return the same problem with another consensus weight."""
        return replace(self, nodes=[replace(node, consensus_weight=c) for node in self.nodes])

    @cached_property
    def energy(self):
        return sum(node.energy for node in self.nodes)

    def pulls(self, thetas):
        return [node.pull(thetas) for node in self.nodes]

    def residuals(self, thetas, pulls=None):
        r"""Blocks of :math:`r - A\theta`; the gradient of F is -2 times this."""
        pulls = self.pulls(thetas) if pulls is None else pulls
        return [
            node.residual(theta, pull)
            for node, theta, pull in zip(self.nodes, thetas, pulls, strict=True)
        ]

    def objective(self, thetas, residuals=None):
        """F at given coefficients."""
        residuals = self.residuals(thetas) if residuals is None else residuals
        return sum(
            node.objective_share(theta, residual)
            for node, theta, residual in zip(self.nodes, thetas, residuals, strict=True)
        )

    def gap(self, thetas, pulls=None):
        """Root mean square, over rows, of the disagreement of a node with its neighbours."""
        pulls = self.pulls(thetas) if pulls is None else pulls
        total = sum(
            node.disagreement_share(theta, pull)
            for node, theta, pull in zip(self.nodes, thetas, pulls, strict=True)
        )
        return (max(total, 0.0) / self.total_weight) ** 0.5

    def zeros(self):
        return [node.target * 0.0 for node in self.nodes]

    def dense(self):
        """Return A, r and the slice of each node."""
        starts = np.cumsum([0, *(len(node.target) for node in self.nodes)])
        A = self.engine.zeros(starts[-1], starts[-1])
        r = self.engine.zeros(starts[-1], self.nodes[0].target.shape[1])
        blocks = [slice(a, b) for a, b in pairwise(starts)]
        for rows, node in zip(blocks, self.nodes, strict=True):
            A[rows, rows] = node.matrix
            r[rows] = node.target
            for i, coupling in node.coupling.items():
                A[rows, blocks[i]] = -node.consensus_weight * coupling
        return A, r, blocks


def node_system(rank, own, shares, adjacency, *, mean, ridge, consensus_weight):
    """Assemble a node's system from its sums and its neighbours' shares.

    Parameters
    ----------
    rank : int
        Number j of the node.
    own : NodeStatistics
    shares : dict of (foreign, cross), by neighbour i
        :math:`G_{ji}` (D_j, D_j) and :math:`C_{ij}^T` (D_j, D_i), sums over the rows of i. A
        neighbour that is left out is left out of the objective.
    adjacency : ndarray of shape (J, J)
    mean : array of shape (k,)
        What is subtracted from the targets.
    ridge, consensus_weight : float

    Returns
    -------
    NodeSystem
    """
    degree = adjacency.sum(axis=1)
    agreement, coupling = own.gram * 0.0, {}
    for i, (foreign, cross) in shares.items():
        here, there = adjacency[rank, i] / degree[rank], adjacency[i, rank] / degree[i]
        agreement = agreement + here * own.gram + there * foreign
        coupling[i] = here * own.cross[i] + there * cross
    return NodeSystem(
        gram=own.gram,
        ridge=ridge,
        consensus_weight=consensus_weight,
        agreement=agreement,
        coupling=coupling,
        target=own.target(mean),
        energy=own.energy(mean),
        inverse_degree=1.0 / degree[rank] if degree[rank] else 0.0,
    )


def anchor_system(rank, own, anchors, others, weights, adjacency, *, mean, ridge, consensus_weight):
    """Assemble a node's system where agreement is asked for at public anchors.

    Parameters
    ----------
    rank, own, adjacency, mean, ridge, consensus_weight
        As for :func:`node_system`.
    anchors : array of shape (m, D_j)
        :math:`Q_j`, the node's features at the anchors.
    others : dict of arrays of shape (m, q), by neighbour i
        What turns neighbour i's message into its function at the anchors: :math:`Q_i` where
        messages are coefficients, None where they are the values themselves.
    weights : ndarray of shape (J,)
        Weight :math:`n_i` of every node's rows.

    Returns
    -------
    NodeSystem
    """
    degree = adjacency.sum(axis=1)
    scale, coupling = 0.0, {}
    for i, values in others.items():
        pair = adjacency[rank, i] / degree[rank] * weights[rank]
        pair = (pair + adjacency[i, rank] / degree[i] * weights[i]) / len(anchors)
        scale += pair
        coupling[i] = pair * (anchors.T if values is None else anchors.T @ values)
    return NodeSystem(
        gram=own.gram,
        ridge=ridge,
        consensus_weight=consensus_weight,
        agreement=scale * (anchors.T @ anchors),
        coupling=coupling,
        target=own.target(mean),
        energy=own.energy(mean),
        inverse_degree=1.0 / degree[rank] if degree[rank] else 0.0,
    )


def consensus_system(engine, statistics, adjacency, *, mean, ridge, consensus_weight):
    """Assemble the systems of all nodes, where agreement is asked for at the nodes' rows."""
    nodes = []
    for j, own in enumerate(statistics):
        shares = {i: (statistics[i].foreign[j], statistics[i].cross[j].T) for i in own.cross}
        nodes.append(
            node_system(
                j, own, shares, adjacency, mean=mean, ridge=ridge, consensus_weight=consensus_weight
            )
        )
    return ConsensusSystem(nodes, engine, sum(own.weight for own in statistics))


def anchored_consensus_system(
    engine, statistics, anchors, adjacency, *, mean, ridge, consensus_weight
):
    """Assemble the systems of all nodes, where agreement is asked for at public anchors."""
    weights = np.array([own.weight for own in statistics])
    nodes = [
        anchor_system(
            j,
            own,
            anchors[j],
            {i: anchors[i] for i in np.flatnonzero(adjacency[j])},
            weights,
            adjacency,
            mean=mean,
            ridge=ridge,
            consensus_weight=consensus_weight,
        )
        for j, own in enumerate(statistics)
    ]
    return ConsensusSystem(nodes, engine, float(weights.sum()))
