"""Communication of a node with its neighbors: messages, failures and counts of floats."""

import threading
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

import numpy as np

from ...utils._typing import FloatArray
from ._transport import NodeFailureError, Transport

Shapes = Mapping[int, tuple[int, ...]]
Messages = dict[int, FloatArray]


class Neighbors:
    """The neighbors of one node.

    Parameters
    ----------
    transport : Transport
    neighbors : collection of int
    n_nodes : int

    Attributes
    ----------
    open : list of int
        Neighbors that still send messages.
    failed : list of int
        Neighbors that have failed.
    sent : ndarray of shape (J,)
        Floats sent to each node so far.
    """

    def __init__(self, transport: Transport, neighbors: Collection[int], n_nodes: int):
        self._transport = transport
        self.open = list(neighbors)
        self.failed: list[int] = []
        self.sent = np.zeros(n_nodes, dtype=np.int64)

    def fail(self, i: int) -> None:
        """Record that a neighbor has failed."""
        self.failed.append(i)
        self.open.remove(i)

    def finish(self, i: int) -> None:
        """Record that a neighbor has sent its last message."""
        self.open.remove(i)

    def send(self, i: int, array: FloatArray, *, essential: bool = True) -> None:
        """Send an array to one neighbor and count its floats."""
        try:
            self._transport.send(i, array, essential)
        except NodeFailureError:
            self.fail(i)
        else:
            self.sent[i] += array.size

    def exchange(self, messages: Mapping[int, FloatArray], shapes: Shapes) -> Messages:
        """Send an array to every open neighbor and return the arrays that they send."""
        for i in list(self.open):
            self.send(i, messages[i])
        received = {}
        for i in list(self.open):
            try:
                message = self._transport.recv(i, shapes[i])
            except NodeFailureError:
                self.fail(i)
            else:
                assert message is not None  # essential messages are never lost
                received[i] = message
        return received

    def flood(self, rank: int, values: FloatArray, n_hops: int) -> FloatArray:
        """Send values to all nodes through the neighbors, and return the values of all nodes.

        Parameters
        ----------
        rank : int
            Index of this node.
        values : ndarray of shape (k,)
        n_hops : int
            Diameter of the graph.

        Returns
        -------
        ndarray of shape (J, k)
            NaN for nodes from which nothing has arrived.
        """
        known = np.full((len(self.sent), len(values)), np.nan)
        known[rank] = values
        for _ in range(n_hops):
            shapes = dict.fromkeys(self.open, known.shape)
            for message in self.exchange(dict.fromkeys(self.open, known), shapes).values():
                known = np.where(np.isnan(known), message, known)
        return known


class Inbox(Protocol):
    """Collects the messages of a round."""

    def collect(self, neighbors: Collection[int]) -> tuple[Messages, list[int]]:
        """Return new messages by neighbor, and the neighbors that have failed."""

    def close(self) -> None:
        """Wait for messages that are still in transit."""


class SynchronousInbox:
    """Waits for one message of each requested neighbor."""

    def __init__(self, transport: Transport, shapes: Shapes):
        self._transport = transport
        self._shapes = shapes

    def collect(self, neighbors: Collection[int]) -> tuple[Messages, list[int]]:
        """Return messages by neighbor without those that were lost, and the failed neighbors."""
        messages, failed = {}, []
        for i in neighbors:
            try:
                message = self._transport.recv(i, self._shapes[i])
            except NodeFailureError:
                failed.append(i)
            else:
                if message is not None:
                    messages[i] = message
        return messages, failed

    def close(self) -> None:
        """Do nothing: every message has been awaited in its round."""


class NewestInbox:
    """Returns the newest messages, which one thread per neighbor stores as they arrive.

    Waiting with a short timeout is not an alternative: a wait that expires closes the connection of
    gloo permanently, and gloo does not report whether a message has arrived.
    """

    PATIENCE = 0.02  # seconds that a round waits for a new message

    def __init__(
        self,
        transport: Transport,
        shapes: Shapes,
        is_last: Callable[[FloatArray], bool],
        timeout: float,
    ):
        self._transport = transport
        self._is_last = is_last
        self._timeout = timeout
        self._newest: Messages = {}
        self._failed: list[int] = []
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._listen, args=(i, shape), daemon=True)
            for i, shape in shapes.items()
        ]
        for thread in self._threads:
            thread.start()

    def _listen(self, i: int, shape: tuple[int, ...]) -> None:
        while True:
            try:
                message = self._transport.recv(i, shape)
            except NodeFailureError:
                with self._changed:
                    self._failed.append(i)
                    self._changed.notify()
                return
            if message is None:
                continue
            with self._changed:
                self._newest[i] = message
                self._changed.notify()
            if self._is_last(message):
                return

    def collect(self, neighbors: Collection[int]) -> tuple[Messages, list[int]]:
        """Return the messages and the failed neighbors since the last call."""
        with self._changed:
            if neighbors and not self._newest and not self._failed:
                self._changed.wait(self.PATIENCE)
            messages, failed = self._newest, self._failed
            self._newest, self._failed = {}, []
        return messages, failed

    def close(self) -> None:
        """Wait for the last message of every neighbor, so that no neighbor is cut off."""
        for thread in self._threads:
            thread.join(self._timeout)
