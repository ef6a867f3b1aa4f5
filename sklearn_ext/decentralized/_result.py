"""Result of a decentralized fit."""

from dataclasses import dataclass, field
from typing import Any

from ..utils._typing import FloatArray
from ._parameter_choice import Candidate
from .math._random_features import FeatureMap
from .math._statistics import NodeStatistics


@dataclass(frozen=True, eq=False)
class NodeMemory:
    """State of a node, in numpy arrays, for adding samples later.

    Attributes
    ----------
    map : FeatureMap
        Map of the node.
    statistics : NodeStatistics
        Sums over the samples of the node, from whose targets `shift` has been subtracted.
    shift : ndarray of shape (k,)
        Offset of the targets at the first fit.
    neighbor_maps : dict of int to FeatureMap
        Maps that the neighbors have sent. Empty without a network.
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
        How the nodes have selected their features.
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
        Parameters that cross-validation has compared.
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
