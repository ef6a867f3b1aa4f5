"""A network in one process: one thread per node, queues for edges, and simulated faults."""

import queue
import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...utils._random import local_random_state
from ...utils._typing import FloatArray, RandomState
from ._transport import NodeFailureError, Program, check_timeout

_CLOSED = object()
_LOST = None


class _CrashError(Exception):
    """Simulates the crash of a node."""


class InProcessNetwork:
    """Run all nodes in this process, one thread each, and exchange real messages.

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
        Number of rounds after which a node fails silently, by index of the node.
    timeout : float, default=30.0
        Seconds after which a silent neighbor counts as failed.
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
        return not self.asynchronous and self.loss_probability == 0.0

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
        queues: _Queues = {
            (i, j): queue.SimpleQueue() for i in programs for j in programs if i != j
        }
        results: dict[int, Any] = {}
        errors: list[BaseException] = []

        def host(rank: int, program: Program, seed: int) -> None:
            transport = _QueueTransport(rank, queues, self, np.random.default_rng(seed))
            try:
                results[rank] = program(transport)
            except _CrashError:
                results[rank] = None
            except BaseException as error:
                errors.append(error)
            finally:
                transport.close()

        threads = [
            threading.Thread(target=host, args=(rank, program, seed))
            for (rank, program), seed in zip(programs.items(), seeds, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return dict(sorted(results.items()))


_Queues = dict[tuple[int, int], "queue.SimpleQueue[Any]"]


class _QueueTransport:
    """The queues of one node, with the faults of the network."""

    def __init__(
        self, rank: int, queues: _Queues, network: InProcessNetwork, rng: np.random.Generator
    ):
        self._rank = rank
        self._queues = queues
        self._rng = rng
        self._loss = network.loss_probability
        self._delay = 0.0 if network.delays is None else network.delays.get(rank, 0.0)
        self._last_round = np.inf
        if network.failures is not None:
            self._last_round = network.failures.get(rank, np.inf)
        self._timeout = network.timeout
        self._n_sent: dict[int, int] = {}

    def send(self, i: int, array: FloatArray, essential: bool = True) -> None:
        """Send an array to neighbor i; a message that is not essential may be lost."""
        lost = False
        if not essential:
            self._n_sent[i] = self._n_sent.get(i, 0) + 1
            if self._n_sent[i] > self._last_round:
                raise _CrashError
            time.sleep(self._delay)
            lost = self._rng.random() < self._loss
        self._queues[self._rank, i].put(_LOST if lost else np.array(array))

    def recv(self, i: int, shape: tuple[int, ...]) -> FloatArray | None:
        """Wait for the next array of neighbor i; None if it was lost."""
        try:
            message = self._queues[i, self._rank].get(timeout=self._timeout)
        except queue.Empty:
            raise NodeFailureError(i) from None
        if message is _CLOSED:
            raise NodeFailureError(i)
        if message is not _LOST and message.shape != shape:
            raise ValueError(
                f"Node {i} sent an array of shape {message.shape} to node {self._rank}, which "
                f"expected {shape}."
            )
        return message

    def close(self) -> None:
        """Signal to all neighbors that no further message follows."""
        for (sender, _), messages in self._queues.items():
            if sender == self._rank:
                messages.put(_CLOSED)
