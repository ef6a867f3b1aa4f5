"""Decentralised kernel ridge regression: nodes that keep their rows and talk to neighbours."""

from ._classifier import DecentralizedRFClassifier
from ._regressor import DecentralizedRFKRR
from .maths._graphs import check_graph, make_graph
from .network._in_process import InProcessNetwork
from .network._network_fit import network_minmax
from .network._torch_distributed import TorchDistributedNetwork

__all__ = [
    "DecentralizedRFClassifier",
    "DecentralizedRFKRR",
    "InProcessNetwork",
    "TorchDistributedNetwork",
    "check_graph",
    "make_graph",
    "network_minmax",
]
