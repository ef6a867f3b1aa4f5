"""Communication of a node with the others: messages, failures, and counts of what is sent.

A node that waits for a message reports this to its neighbors several times within `timeout`. A
silent node is therefore busy, frozen or dead, and only that node is excluded: those that wait for
it are not silent. A node that detects a failure notifies its neighbors, which pass the notice on,
and the failed node itself, which may be alive but slow and then ends its fit with an error.
"""

import json
import time
from collections import deque
from collections.abc import Collection, Mapping
from typing import Any, Self

import numpy as np

from ...utils._typing import FloatArray
from ._transport import Bytes, Frame, Kind, NodeFailureError, Transport, decode, encode

Sizes = Mapping[int, int]
Messages = dict[int, FloatArray]
_Inbox = dict[int, deque[Frame]]

_SIGNS_OF_LIFE = 4  # how often a waiting node reports within the timeout
_PATIENCE = 0.02  # seconds for which an asynchronous round waits for a new message


class Neighbors:
    """The other nodes, as one node sees them.

    Parameters
    ----------
    transport : Transport
    rank : int
        Index of this node.
    neighbors : collection of int
        Indices of its neighbors.
    n_nodes : int
    timeout : float
        Seconds after which a silent node counts as failed.

    Attributes
    ----------
    open : list of int
        Neighbors that still send messages.
    failed : list of int
        Nodes of the network that have failed.
    floats_sent, bytes_sent : ndarray of shape (J,)
        Numbers, and bytes on the wire, sent to each node so far.
    """

    def __init__(
        self,
        transport: Transport,
        rank: int,
        neighbors: Collection[int],
        n_nodes: int,
        timeout: float,
    ):
        self._transport = transport
        self._rank = rank
        self._neighbors = list(neighbors)
        self._timeout = timeout
        self.open = list(neighbors)
        self.failed: list[int] = []
        self.floats_sent = np.zeros(n_nodes, dtype=np.int64)
        self.bytes_sent = np.zeros(n_nodes, dtype=np.int64)
        others = [i for i in range(n_nodes) if i != rank]
        self._inbox: _Inbox = {i: deque() for i in others}
        self._closing: _Inbox = {i: deque() for i in others}
        self._ended: set[int] = set()
        # Only time spent listening counts as silence, so that a busy or suspended node does not
        # exclude the others.
        self._silence = dict.fromkeys(others, 0.0)
        self._last_sent = dict.fromkeys(neighbors, time.monotonic())
        self._is_closing = False

    def introduce(self, settings: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
        """Exchange the settings with all nodes, not only with neighbors.

        Nodes may disagree on the edges of the graph, which only an exchange among all reveals.

        Returns
        -------
        dict of int to dict
            Settings of this node and of all others that have not failed.
        """
        own = json.dumps(settings, sort_keys=True, default=lambda number: number.item())
        frame = Frame(Kind.DATA, np.frombuffer(own.encode(), dtype=np.uint8))
        for i in self._inbox:
            self._post(i, frame)
            if i not in self._neighbors:
                self._post(i, Frame(Kind.GOODBYE))
        known = {self._rank: json.loads(own)}
        for i in self._inbox:
            answer = self._expect(i)
            if answer is not None:
                known[i] = json.loads(answer.payload.tobytes())
        return dict(sorted(known.items()))

    def send(self, i: int, values: FloatArray, dtype: str = "float64") -> None:
        """Send numbers to one neighbor; they always arrive."""
        self._post(i, Frame(Kind.DATA, encode(values, dtype)), values.size)

    def exchange(self, messages: Messages, sizes: Sizes, dtype: str = "float64") -> Messages:
        """Send numbers to every open neighbor and return those that they send."""
        for i in list(self.open):
            self.send(i, messages[i], dtype)
        received = {}
        for i in list(self.open):
            frame = self._expect(i)
            if frame is not None:
                received[i] = self._read(i, frame, sizes[i], dtype)
        return received

    def _read(self, i: int, frame: Frame, size: int, dtype: str) -> FloatArray:
        values = decode(frame.payload, dtype)
        if len(values) != size:
            raise ValueError(
                f"Node {i} sent {len(values)} numbers to node {self._rank}, which expected {size}."
            )
        return values

    def flood(self, values: FloatArray, *, closing: bool = False) -> FloatArray:
        """Send values to all nodes through the neighbors, and return the values of all nodes.

        Every node passes on the values that are new to it, in one hop fewer than there are nodes.
        All survivors then know the same values, whichever nodes fail meanwhile, as long as the
        survivors are connected: each failure delays the values by at most one hop.

        Parameters
        ----------
        values : ndarray of shape (k,)
        closing : bool, default=False
            Whether the rounds are over, although messages of slower nodes may still arrive.

        Returns
        -------
        ndarray of shape (J, k)
            NaN for nodes from which nothing has arrived.
        """
        kind, inbox = (Kind.CLOSING, self._closing) if closing else (Kind.DATA, self._inbox)
        n_nodes = len(self.floats_sent)
        known = np.full((n_nodes, len(values)), np.nan)
        known[self._rank] = values
        has = np.zeros(n_nodes, dtype=bool)
        has[self._rank] = True
        new: dict[int, set[int]] = {self._rank: set()}  # node: neighbors that have sent its values
        for _ in range(n_nodes - 1):
            for i in list(self.open):
                rows = sorted(j for j, senders in new.items() if i not in senders)
                message = np.column_stack((rows, known[rows])) if rows else np.empty(0)
                self._post(i, Frame(kind, encode(message)), 0 if closing else message.size)
            new = {}
            for i in list(self.open):
                frame = self._expect(i, inbox)
                if frame is None:
                    continue
                for row in decode(frame.payload).reshape(-1, 1 + len(values)):
                    j = int(row[0])
                    if not has[j]:
                        known[j], has[j], new[j] = row[1:], True, set()
                    if j in new:
                        new[j].add(i)
        return known

    def send_round(
        self, neighbors: Collection[int], payload: Bytes, n_floats: int, last: bool
    ) -> None:
        """Send the message of a round to the given neighbors; the last one always arrives."""
        frame = Frame(Kind.DATA if last else Kind.ROUND, payload)
        for i in neighbors:
            if i not in self.failed:
                self._post(i, frame, n_floats)

    def receive_round(self, neighbors: Collection[int]) -> dict[int, list[Bytes]]:
        """Wait for one message from each of the given neighbors; lost ones are left out."""
        received = {}
        for i in neighbors:
            frame = self._expect(i)
            if frame is not None and frame.kind != Kind.LOST:
                received[i] = [frame.payload]
        return received

    def receive_arrived(self) -> dict[int, list[Bytes]]:
        """Return the messages of neighbors since the last call, after a short wait for any."""
        if self.open and not any(self._inbox[i] for i in self.open):
            self._listen(_PATIENCE)
        while self._listen(0.0):
            pass
        received = {}
        for i in list(self.open):
            frames = [frame for frame in self._inbox[i] if frame.kind != Kind.LOST]
            self._inbox[i].clear()
            if frames:
                received[i] = [frame.payload for frame in frames]
            elif i in self._ended or self._silence[i] > self._timeout:
                self._fail(i)
        return received

    def finish(self, i: int) -> None:
        """Record that a neighbor has sent its last message of the rounds."""
        if i in self.open:  # its failure may have been reported before its last message was read
            self.open.remove(i)

    def reopen(self) -> None:
        """Expect further messages from all neighbors that have not failed."""
        self.open = [i for i in self._neighbors if i not in self.failed]

    def agree_on_failures(self) -> list[int]:
        """Return the nodes that have failed, the same at all nodes that can reach each other.

        A node may die while it sends its last message, which some of its neighbors have then
        received. Therefore all nodes that have finished their rounds announce it, and a node that
        nobody has heard of has failed.
        """
        self.reopen()
        return self.missing(self.flood(np.ones(1), closing=True))

    def missing(self, known: FloatArray) -> list[int]:
        """Return the failed nodes whose values have not been flooded, in the order of nodes."""
        return [i for i in sorted(self.failed) if np.isnan(known[i]).all()]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: Any) -> None:
        """Say goodbye, unless the program is interrupted or the node crashes."""
        if kind is None or issubclass(kind, Exception):
            self.close()

    def close(self) -> None:
        """Say goodbye, and wait until all others have, so that no node is cut off."""
        self._is_closing = True
        for i in self._neighbors:
            self._post(i, Frame(Kind.GOODBYE))
        while any(
            self._silence[i] <= self._timeout
            for i in self._inbox
            if i not in self._ended and i not in self.failed
        ):
            self._listen(self._timeout / _SIGNS_OF_LIFE / 2)

    def _post(self, i: int, frame: Frame, n_floats: int = 0) -> None:
        self._transport.send(i, frame)
        self._last_sent[i] = time.monotonic()
        self.floats_sent[i] += n_floats
        self.bytes_sent[i] += frame.n_bytes

    def _expect(self, i: int, inbox: _Inbox | None = None) -> Frame | None:
        """Wait for the next frame of node i; None if it has failed."""
        inbox = self._inbox if inbox is None else inbox
        while not inbox[i]:
            if i in self.failed:
                return None
            if i in self._ended or self._silence[i] > self._timeout:
                self._fail(i)
                return None
            self._listen(self._timeout / _SIGNS_OF_LIFE / 2)
        return inbox[i].popleft()

    def _listen(self, patience: float) -> bool:
        """Process the next frame, and return whether one has arrived."""
        start = time.monotonic()
        arrived = self._transport.receive(patience)
        now = time.monotonic()
        waited = min(now - start, patience)  # no more, in case the process was suspended
        for i in self._silence:
            self._silence[i] += waited
        for i in self._neighbors:
            if i not in self.failed and now - self._last_sent[i] > self._timeout / _SIGNS_OF_LIFE:
                self._post(i, Frame(Kind.WAITING))
        if arrived is None:
            return False
        i, frame = arrived
        self._silence[i] = 0.0
        if frame is None or frame.kind == Kind.GOODBYE:
            self._ended.add(i)
        elif frame.kind == Kind.FAILED:
            self._fail(int(decode(frame.payload)[0]), by=i)
        elif frame.kind != Kind.WAITING:
            (self._closing if frame.kind == Kind.CLOSING else self._inbox)[i].append(frame)
        return True

    def _fail(self, i: int, by: int | None = None) -> None:
        """Exclude a node, and notify the neighbors and the node itself."""
        if i == self._rank and self._is_closing:
            return
        if i == self._rank:
            raise NodeFailureError(
                i,
                f"Node {i}, which is this one, was excluded from the fit: node {by} waited for it "
                f"for longer than timeout={self._timeout} seconds or lost the connection.",
            )
        if i in self.failed:
            return
        self.failed.append(i)
        if i in self.open:
            self.open.remove(i)
        notice = Frame(Kind.FAILED, encode([i]))
        for peer in {*self._neighbors, i}:
            if peer == i or peer not in self.failed:
                self._post(peer, notice)
