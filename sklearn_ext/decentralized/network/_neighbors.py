"""A node's neighbours: sending, hearing, noticing who is gone, counting floats.

A *transport* carries arrays between this node and its neighbours with two methods:

``send(i, array, essential=True)``
    Hand an array to neighbour i without waiting for it. A message that is not essential may be
    lost where the network loses messages.
``recv(i, shape)``
    Return the next array of neighbour i, or None if it was lost. Wait a bounded time.

Both raise :class:`NodeFailureError` where the neighbour is gone.
"""

import threading

import numpy as np


class NodeFailureError(RuntimeError):
    """A neighbour is gone, or silent for too long."""

    def __init__(self, node):
        super().__init__(f"node {node} is gone")
        self.node = node


class Peers:
    """The neighbours of one node.

    Attributes
    ----------
    open : list of int
        Neighbours that still talk.
    failed : list of int
        Neighbours that are gone.
    sent : ndarray of shape (J,)
        Floats sent to each node so far.
    """

    def __init__(self, transport, neighbours, n_nodes):
        self._transport = transport
        self.open = list(neighbours)
        self.failed = []
        self.sent = np.zeros(n_nodes, dtype=np.int64)

    def fail(self, i):
        self.failed.append(i)
        self.open.remove(i)

    def send(self, i, array, *, essential=True):
        try:
            self._transport.send(i, array, essential)
        except NodeFailureError:
            self.fail(i)
        else:
            self.sent[i] += array.size

    def exchange(self, messages, shapes):
        """Send an array to every open neighbour and return what they send back, by neighbour."""
        for i in list(self.open):
            self.send(i, messages[i])
        received = {}
        for i in list(self.open):
            try:
                received[i] = self._transport.recv(i, shapes[i])
            except NodeFailureError:
                self.fail(i)
        return received

    def flood(self, rank, values, n_hops):
        """Tell all nodes, through neighbours only; return what all told, NaN where unknown."""
        known = np.full((len(self.sent), len(values)), np.nan)
        known[rank] = values
        for _ in range(n_hops):
            shapes = dict.fromkeys(self.open, known.shape)
            for message in self.exchange(dict.fromkeys(self.open, known), shapes).values():
                known = np.where(np.isnan(known), message, known)
        return known


class SynchronousInbox:
    """Waits for one message of every neighbour asked for: rounds in step."""

    def __init__(self, transport, shapes):
        self._transport = transport
        self._shapes = shapes

    def collect(self, neighbours):
        """Return messages by neighbour, None where it was lost, and the neighbours that failed."""
        messages, failed = {}, []
        for i in neighbours:
            try:
                messages[i] = self._transport.recv(i, self._shapes[i])
            except NodeFailureError:
                failed.append(i)
        return {i: message for i, message in messages.items() if message is not None}, failed

    def close(self):
        """There is nothing to wait for: every message was awaited in its round."""


class NewestInbox:
    """Takes whatever has arrived: one thread a neighbour keeps its newest message.

    Waiting with a short timeout instead would not do: an expired wait closes a connection of gloo
    for good, and it cannot be asked whether something has arrived.
    """

    PATIENCE = 0.02  # seconds that a round waits for something new

    def __init__(self, transport, shapes, is_last, timeout):
        self._transport = transport
        self._is_last = is_last
        self._timeout = timeout
        self._newest, self._failed = {}, []
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._listen, args=(i, shape), daemon=True)
            for i, shape in shapes.items()
        ]
        for thread in self._threads:
            thread.start()

    def _listen(self, i, shape):
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

    def collect(self, neighbours):
        """Return what is new since the last call, and the neighbours that failed since."""
        with self._changed:
            if neighbours and not self._newest and not self._failed:
                self._changed.wait(self.PATIENCE)
            messages, failed = self._newest, self._failed
            self._newest, self._failed = {}, []
        return messages, failed

    def close(self):
        """Hear all neighbours out, so that none is cut off in its last message."""
        for thread in self._threads:
            thread.join(self._timeout)
