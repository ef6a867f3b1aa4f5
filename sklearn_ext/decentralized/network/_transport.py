"""Frames, and the protocols of the networks and transports that carry them between nodes."""

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

HEADER_BYTES = 16  # the kind of a frame and the length of its payload, as two 64-bit integers
DTYPES = ("float64", "float32", "bfloat16")


class Kind(IntEnum):
    """Meaning of a frame."""

    DATA = 0  # always arrives
    ROUND = 1  # message of a round, which a network may lose
    LOST = 2  # stands for a message of a round that was lost
    WAITING = 3  # the sender is alive and waits for another node
    FAILED = 4  # the payload names a node that has failed
    GOODBYE = 5  # no further frame follows
    CLOSING = 6  # announces that the rounds are over, and may overtake those of slower nodes


class Frame(NamedTuple):
    """A message.

    Attributes
    ----------
    kind : Kind
    payload : ndarray of uint8
    """

    kind: Kind
    payload: Bytes = np.empty(0, dtype=np.uint8)

    @property
    def n_bytes(self) -> int:
        """Bytes on the wire."""
        return HEADER_BYTES + self.payload.nbytes


def encode(values: Any, dtype: str = "float64") -> Bytes:
    """Convert numbers to the bytes of "float64", "float32" or "bfloat16"."""
    if dtype != "bfloat16":
        return np.frombuffer(np.asarray(values, dtype=dtype).tobytes(), dtype=np.uint8)
    bits = np.asarray(values, dtype=np.float32).view(np.uint32)
    # Round to the nearest number whose lower 16 bits are zero, and ties to even.
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16
    return np.frombuffer(rounded.astype(np.uint16).tobytes(), dtype=np.uint8)


def decode(payload: Bytes, dtype: str = "float64") -> NDArray[np.float64]:
    """Invert :func:`encode`."""
    if dtype != "bfloat16":
        return np.frombuffer(payload.tobytes(), dtype=dtype).astype(np.float64)
    bits = np.frombuffer(payload.tobytes(), dtype=np.uint16).astype(np.uint32) << 16
    return bits.view(np.float32).astype(np.float64)


class NodeFailureError(RuntimeError):
    """A node has failed or has been silent for too long, and the fit cannot go on.

    Parameters
    ----------
    node : int
        Index of the node.
    message : str, default=None
        Description of the failure; None means "Node ... has failed."

    Examples
    --------
    >>> from sklearn_ext.decentralized import NodeFailureError
    >>> NodeFailureError(2)
    NodeFailureError('Node 2 has failed.')
    """

    def __init__(self, node: int, message: str | None = None):
        super().__init__(f"Node {node} has failed." if message is None else message)
        self.node = node


class Transport(Protocol):
    """Carries frames between one node and all others."""

    def send(self, i: int, frame: Frame) -> None:
        """Send a frame to node i without waiting."""

    def receive(self, patience: float) -> tuple[int, Frame | None] | None:
        """Return the next frame and its sender, in the order in which every node has sent.

        None instead of a frame means that the connection has ended, and None instead of the pair
        that nothing has arrived within `patience` seconds.
        """


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
        Seconds after which a silent node counts as failed.
    """

    holds_all: bool
    asynchronous: bool
    timeout: float

    @property
    def in_step(self) -> bool:
        """Whether every round receives the message of every neighbor in that round."""

    @property
    def is_lossless(self) -> bool:
        """Whether every message arrives."""

    def size(self, n_nodes: int) -> int:
        """Return the number of nodes."""

    def ranks(self, n_nodes: int) -> list[int]:
        """Return the indices of the nodes that this process holds."""

    def run(self, programs: Mapping[int, Program]) -> dict[int, Any]:
        """Run one program per node and return the results."""


def check_timeout(timeout: float) -> None:
    """Check that a timeout is positive and finite."""
    if not 0.0 < timeout < float("inf"):
        raise ValueError(f"timeout must be positive and finite, got {timeout!r}.")
