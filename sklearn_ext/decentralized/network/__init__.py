"""Decentralized fitting by messages: the program of a node, and networks that run it."""

from ._in_process import InProcessNetwork
from ._network_fit import network_minmax, solve_dekrr_over_network
from ._node import run_node
from ._torch_distributed import TorchDistributedNetwork
from ._transport import Network, NodeFailureError, Transport

__all__ = [
    "InProcessNetwork",
    "Network",
    "NodeFailureError",
    "TorchDistributedNetwork",
    "Transport",
    "network_minmax",
    "run_node",
    "solve_dekrr_over_network",
]
