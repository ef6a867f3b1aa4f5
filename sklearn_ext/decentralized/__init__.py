"""Decentralised kernel ridge regression: nodes that keep their rows and talk to neighbours."""

from ._classifier import DecentralizedRFClassifier
from ._graphs import check_graph, make_graph
from ._in_process import InProcessNetwork
from ._networked import network_minmax
from ._regressor import DecentralizedRFKRR
from ._torch_distributed import TorchDistributedNetwork

__all__ = [
    "DecentralizedRFClassifier",
    "DecentralizedRFKRR",
    "InProcessNetwork",
    "TorchDistributedNetwork",
    "check_graph",
    "make_graph",
    "network_minmax",
]
