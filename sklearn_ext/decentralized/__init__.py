"""Decentralized kernel ridge regression: nodes keep their samples and exchange messages."""

from ._classifier import DecentralizedRFClassifier
from ._config import DeKRRConfig
from ._node_samples import NodeSamples
from ._private import GaussianRelease, solve_dekrr_privately
from ._regressor import DecentralizedRFKRR
from ._simulation import solve_dekrr
from .math import check_graph, consensus_system, gaussian_noise_scale, make_graph
from .network import (
    InProcessNetwork,
    NodeFailureError,
    TorchDistributedNetwork,
    network_minmax,
    solve_dekrr_over_network,
)

__all__ = [
    "DeKRRConfig",
    "DecentralizedRFClassifier",
    "DecentralizedRFKRR",
    "GaussianRelease",
    "InProcessNetwork",
    "NodeFailureError",
    "NodeSamples",
    "TorchDistributedNetwork",
    "check_graph",
    "consensus_system",
    "gaussian_noise_scale",
    "make_graph",
    "network_minmax",
    "solve_dekrr",
    "solve_dekrr_over_network",
    "solve_dekrr_privately",
]
