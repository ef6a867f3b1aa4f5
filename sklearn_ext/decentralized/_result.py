"""Result of a decentralized fit, and the functions that it gives the nodes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..utils._typing import Array, FloatArray
from ._node_samples import encode_nodes
from ._parameter_choice import Candidate
from .math._engine import DeKRREngine
from .math._random_features import FeatureMap, evaluate, mean_values
from .math._statistics import NodeStatistics


@dataclass(frozen=True, eq=False)
class NodeMemory:
    """State of a node, in NumPy arrays, for adding samples later.

    Attributes
    ----------
    map : FeatureMap
        Map of the node.
    statistics : NodeStatistics
        Sums over the samples of the node, from whose targets `shift` has been subtracted.
    shift : ndarray of shape (k,)
        Offset of the targets at the first fit.
    neighbor_maps : dict of int to FeatureMap
        Maps that the neighbors sent. Empty without a network.
    blocks : dict of int to (ndarray, ndarray)
        Sums over the samples of the neighbors. Empty without a network or with anchors.
    """

    map: FeatureMap
    statistics: NodeStatistics
    shift: FloatArray
    neighbor_maps: dict[int, FeatureMap] = field(default_factory=dict)
    blocks: dict[int, tuple[FloatArray, FloatArray]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class DeKRRResult:
    """Outcome of a fit, with or without a network.

    Attributes
    ----------
    maps : list of FeatureMap or None
        Maps of all nodes; None for a node whose map this process lacks.
    coefs : list of ndarray of shape (D_j, k) or None
        Coefficients of all nodes.
    mean : ndarray of shape (k,)
        Offset that was subtracted from the targets.
    gamma : float
        Coefficient of the kernel.
    alpha : float
        Ridge per sample.
    feature_selection : str
        How the nodes selected their features.
    consensus_weight : float
        Weight of the disagreement.
    n_iter : int
        Number of rounds.
    converged : bool
        Whether the tolerance was met.
    objective_curve, disagreement_curve : ndarray of shape (n_rounds + 1,)
        Objective and disagreement before every round and at the end.
    communication : dict
        Number of floats in the messages, as returned by `_communication.cost_report`.
    bytes_sent : dict or None
        Bytes at the transport, as returned by `_communication.byte_report`; None without a network.
    memories : dict of int to NodeMemory
        State of the nodes of this process, by index.
    candidates : list of Candidate
        Parameters that cross-validation compared.
    failed : tuple of int
        Indices of the nodes that failed during the fit.
    """

    maps: list[FeatureMap | None]
    coefs: list[FloatArray | None]
    mean: FloatArray
    gamma: float
    alpha: float
    feature_selection: str
    consensus_weight: float
    n_iter: int
    converged: bool
    objective_curve: FloatArray
    disagreement_curve: FloatArray
    communication: dict[str, Any]
    memories: dict[int, NodeMemory]
    bytes_sent: dict[str, Any] | None = None
    candidates: list[Candidate] = field(default_factory=list)
    failed: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class NodeFunctions:
    """The functions of the nodes that a process knows.

    Attributes
    ----------
    nodes : ndarray of shape (J,)
        Labels of all nodes.
    known : dict of int to (FeatureMap, ndarray of shape (D_j, k))
        Maps and coefficients, by index of the node.
    adjacency : ndarray of shape (J, J)
    local, failed : ndarray
        Labels of the nodes whose samples this process holds, and of those that have failed.
    intercept : ndarray of shape (k,)
    engine : DeKRREngine
    """

    nodes: Array
    known: Mapping[int, tuple[FeatureMap, FloatArray]]
    adjacency: FloatArray
    local: Array
    failed: Array
    intercept: FloatArray
    engine: DeKRREngine

    def values(self, X: Any, node: Any, aggregate: str) -> FloatArray:
        """Return the values for samples, of shape (n, k).

        Parameters
        ----------
        X : ndarray or CSR matrix of shape (n, d)
        node : label, array-like of n labels, or None
        aggregate : {"mean", "neighborhood"}

        Raises
        ------
        ValueError
            If a label is unknown, or if this process lacks a function that is needed.
        """
        if aggregate == "mean" and node is None:
            return self._mean_over(X, self._all())
        if node is None:
            if len(self.local) != 1:
                raise ValueError(
                    "node must be passed to predict with aggregate='neighborhood', got None."
                )
            node = self.local[0]
        codes = encode_nodes(node, X.shape[0], self.nodes)
        out = np.empty((X.shape[0], len(self.intercept)))
        for j in np.unique(codes).tolist():
            out[codes == j] = self._mean_over(X[codes == j], self._members(j, aggregate))
        return out

    def values_of_nodes(self, X: Any) -> FloatArray:
        """Return the values of every node's function, of shape (J, n, k); NaN for unknown ones."""
        out = np.full((len(self.nodes), X.shape[0], len(self.intercept)), np.nan)
        maps, coefs = zip(*self.known.values(), strict=True)
        out[list(self.known)] = evaluate(X, maps, coefs, self.engine) + self.intercept
        return out

    def _all(self) -> list[int]:
        """Return the indices of all nodes except those that failed before their first message."""
        known = list(self.known)
        settled = np.isin(self.nodes, self.failed)
        settled[known] = True
        if not settled.all():
            raise ValueError(
                "aggregate='mean' needs the functions of all nodes, but this process has only "
                "those of its neighborhood. Set aggregate='neighborhood' or pass node to "
                f"predict, for example node={self.local[0]!r}."
            )
        return known

    def _members(self, j: int, aggregate: str) -> list[int]:
        """Return the nodes over which the values of node j are averaged."""
        if j not in self.known:
            raise ValueError(
                f"node must be one of {self.nodes[list(self.known)].tolist()}, whose functions "
                f"this process has, got {self.nodes[j].item()!r}."
            )
        if aggregate == "mean":
            return [j]
        return [j, *(i for i in np.flatnonzero(self.adjacency[j]).tolist() if i in self.known)]

    def _mean_over(self, X: Any, numbers: list[int]) -> FloatArray:
        maps, coefs = zip(*(self.known[j] for j in numbers), strict=True)
        return mean_values(X, maps, coefs, self.engine) + self.intercept
