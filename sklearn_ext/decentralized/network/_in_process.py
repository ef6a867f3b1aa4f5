"""A network in one process: one thread per node, queues for edges, and simulated faults."""

import queue
import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...utils._random import local_random_state
from ...utils._typing import RandomState
from ._transport import Frame, Kind, NodeFailureError, Program, check_timeout


class _CrashError(BaseException):
    """Simulates the crash of a node, which sends no notice to the others."""


class InProcessNetwork:
    """Run all nodes in this process, with one thread per node, and exchange real messages.

    Parameters
    ----------
    asynchronous : bool, default=False
        Whether nodes continue with the messages that have arrived instead of waiting for each
        other in every round. Steps are then damped, with a ``damping`` of at least 1.
    loss_probability : float, default=0.0
        Probability that a message of a round is lost; the receiver keeps the previous one.
        Messages of the setup, and the last message of a node, always arrive.
    delays : dict of int to float, default=None
        Seconds that a node takes to send each message of a round, by index of the node.
    failures : dict of int to int, default=None
        Number of rounds after which a node stops without notice, by index of the node.
    timeout : float, default=30.0
        Seconds after which a silent node counts as failed. Only that node is excluded: nodes that
        wait for it report to their neighbors.
    random_state : int, RandomState instance or None, default=None
        Seeds the losses.

    Raises
    ------
    ValueError
        If `loss_probability` or `timeout` is out of range.

    See Also
    --------
    TorchDistributedNetwork : One process per node.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn_ext import DecentralizedRFKRR, InProcessNetwork
    >>> X, y = load_diabetes(return_X_y=True)
    >>> krr = DecentralizedRFKRR(
    ...     n_nodes=5, graph="ring", alpha=1e-3, network=InProcessNetwork(), random_state=0
    ... )
    >>> krr.fit(X, y).n_floats_sent_["round"]
    1010
    """

    holds_all = True

    def __init__(
        self,
        *,
        asynchronous: bool = False,
        loss_probability: float = 0.0,
        delays: dict[int, float] | None = None,
        failures: dict[int, int] | None = None,
        timeout: float = 30.0,
        random_state: RandomState = None,
    ):
        if not 0.0 <= loss_probability < 1.0:
            raise ValueError(f"loss_probability must be in [0, 1), got {loss_probability!r}.")
        check_timeout(timeout)
        self.asynchronous = asynchronous
        self.loss_probability = loss_probability
        self.delays = delays
        self.failures = failures
        self.timeout = timeout
        self.random_state = random_state

    @property
    def in_step(self) -> bool:
        """Whether every round receives the message of every neighbor in that round."""
        return not self.asynchronous and self.is_lossless

    @property
    def is_lossless(self) -> bool:
        """Whether every message arrives."""
        return self.loss_probability == 0.0

    def size(self, n_nodes: int) -> int:
        """Return the number of nodes.

        Parameters
        ----------
        n_nodes : int
            Parameter `n_nodes` of the estimator.

        Returns
        -------
        int
        """
        return n_nodes

    def ranks(self, n_nodes: int) -> list[int]:
        """Return the indices of the nodes that this process holds, which are all nodes.

        Parameters
        ----------
        n_nodes : int
            Parameter `n_nodes` of the estimator.

        Returns
        -------
        list of int
        """
        return list(range(n_nodes))

    def run(self, programs: Mapping[int, Program]) -> dict[int, Any]:
        """Run one program per node, and wait for all of them.

        Parameters
        ----------
        programs : dict of int to callable
            The program of every node, which is called with its transport.

        Returns
        -------
        dict of int to object
            Results of the programs; None for a node that has failed.
        """
        seeds = local_random_state(self.random_state).randint(2**31 - 1, size=len(programs))
        mailboxes: _Mailboxes = {rank: queue.SimpleQueue() for rank in programs}
        results: dict[int, Any] = {}
        errors: list[BaseException] = []

        def host(rank: int, program: Program, seed: int) -> None:
            transport = self._transport(rank, mailboxes, np.random.default_rng(seed))
            try:
                results[rank] = program(transport)
            except _CrashError:
                results[rank] = None
            except NodeFailureError as error:
                results[rank] = None
                if error.node != rank:
                    errors.append(error)
            except BaseException as error:
                errors.append(error)
            finally:
                transport.close()

        threads = [
            threading.Thread(target=host, args=(rank, program, seed))
            for (rank, program), seed in zip(programs.items(), seeds, strict=True)
        ]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        except BaseException:  # Ctrl-C ends the programs, too, which would run on unseen
            for mailbox in mailboxes.values():
                mailbox.put(None)
            for thread in threads:
                if thread.is_alive():
                    thread.join()
            raise
        if errors:
            raise errors[0]
        return dict(sorted(results.items()))

    def _transport(
        self, rank: int, mailboxes: "_Mailboxes", rng: np.random.Generator
    ) -> "_QueueTransport":
        return _QueueTransport(rank, mailboxes, self, rng)


_Mailboxes = dict[int, "queue.SimpleQueue[tuple[int, Frame | None] | None]"]


class _QueueTransport:
    """The mailbox of one node, with the faults of the network."""

    def __init__(
        self,
        rank: int,
        mailboxes: _Mailboxes,
        network: InProcessNetwork,
        rng: np.random.Generator,
    ):
        self._rank = rank
        self._mailboxes = mailboxes
        self._rng = rng
        self._loss = network.loss_probability
        self._delay = 0.0 if network.delays is None else network.delays.get(rank, 0.0)
        self._last_round = np.inf
        if network.failures is not None:
            self._last_round = network.failures.get(rank, np.inf)
        self._n_sent: dict[int, int] = {}

    def send(self, i: int, frame: Frame) -> None:
        """Send a frame to node i; a message of a round may be lost."""
        if frame.kind == Kind.ROUND:
            self._n_sent[i] = self._n_sent.get(i, 0) + 1
            if self._n_sent[i] > self._last_round:
                raise _CrashError
            time.sleep(self._delay)
            if self._rng.random() < self._loss:
                frame = Frame(Kind.LOST)
        self._mailboxes[i].put((self._rank, frame))

    def receive(self, patience: float) -> tuple[int, Frame | None] | None:
        """Return the next frame and its sender, or None if nothing has arrived in time."""
        try:
            arrived = self._mailboxes[self._rank].get(block=patience > 0, timeout=patience or None)
        except queue.Empty:
            return None
        if arrived is None:
            raise _CrashError
        return arrived

    def close(self) -> None:
        """Signal to all nodes that no further frame follows."""
        for mailbox in self._mailboxes.values():
            mailbox.put((self._rank, None))
