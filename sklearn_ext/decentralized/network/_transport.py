"""Protocols of the networks and transports that carry messages between nodes."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ...utils._typing import FloatArray


class NodeFailureError(RuntimeError):
    """A neighbor has failed, or has been silent for too long."""

    def __init__(self, node: int):
        super().__init__(f"Node {node} has failed.")
        self.node = node


class Transport(Protocol):
    """Carries arrays between one node and its neighbors.

    Both methods raise :class:`NodeFailureError` if the neighbor has failed.
    """

    def send(self, i: int, array: FloatArray, essential: bool = True) -> None:
        """Send an array to neighbor i without waiting.

        A message that is not essential may be lost if the network loses messages.
        """

    def recv(self, i: int, shape: tuple[int, ...]) -> FloatArray | None:
        """Wait, for a bounded time, for the next array of neighbor i; None if it was lost."""


Program = Callable[[Any], Any]  # takes the transport of a node, and returns the node's result


class Network(Protocol):
    """Runs the programs of the nodes that this process holds.

    Attributes
    ----------
    holds_all : bool
        Whether this process holds all nodes.
    asynchronous : bool
        Whether nodes continue with the messages that have arrived.
    timeout : float
        Seconds after which a silent neighbor counts as failed.
    """

    holds_all: bool
    asynchronous: bool
    timeout: float

    @property
    def in_step(self) -> bool:
        """Whether every round receives the message of every neighbor in that round."""

    def size(self, n_nodes: int) -> int:
        """Return the number of nodes."""

    def ranks(self, n_nodes: int) -> list[int]:
        """Return the indices of the nodes that this process holds."""

    def run(self, programs: Mapping[int, Program]) -> dict[int, Any]:
        """Run one program per node and return the results."""


def check_timeout(timeout: float) -> None:
    """Check that a timeout is positive."""
    if not timeout > 0.0:
        raise ValueError(f"timeout must be positive, got {timeout!r}.")
