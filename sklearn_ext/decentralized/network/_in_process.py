"""A network in one process: a thread a node, queues for edges, and faults on request."""

import queue
import threading
import time

import numpy as np

from ...utils._random import local_random_state
from ._neighbors import NodeFailureError

_CLOSED = object()
_LOST = None


class _CrashError(Exception):
    """The node dies here, as the user asked."""


class InProcessNetwork:
    """All nodes in this process, a thread each, exchanging real messages.

    Parameters
    ----------
    asynchronous : bool, default=False
        Whether nodes go on with whatever they have heard, in place of rounds in step. Steps are
        then damped, with ``damping`` of at least 1.
    loss_probability : float, default=0.0
        Probability that a message of a round is lost; the receiver keeps the one before. Messages
        of the set-up, and a node's last one, always arrive.
    delays : dict of int to float, default=None
        Seconds that each message of a round takes a node to send, by the node's number.
    failures : dict of int to int, default=None
        Number of rounds after which a node dies without a word, by the node's number.
    timeout : float, default=30.0
        Seconds after which a silent neighbour is taken for dead.
    random_state : int, RandomState instance or None, default=None
        Seed of the losses.

    See Also
    --------
    TorchDistributedNetwork : One process a node.

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
        delays: dict | None = None,
        failures: dict | None = None,
        timeout: float = 30.0,
        random_state=None,
    ):
        if not 0.0 <= loss_probability < 1.0:
            raise ValueError(f"loss_probability must be in [0, 1), got {loss_probability!r}.")
        if not timeout > 0.0:
            raise ValueError(f"timeout must be positive, got {timeout!r}.")
        self.asynchronous = asynchronous
        self.loss_probability = loss_probability
        self.delays = delays
        self.failures = failures
        self.timeout = timeout
        self.random_state = random_state

    @property
    def in_step(self):
        """Whether every round hears every neighbour's message of that round."""
        return not self.asynchronous and self.loss_probability == 0.0

    def size(self, n_nodes: int) -> int:
        """Return the number of nodes.

        Parameters
        ----------
        n_nodes : int
            The number that the estimator was given.

        Returns
        -------
        int
        """
        return n_nodes

    def ranks(self, n_nodes: int) -> list[int]:
        """Return the numbers of the nodes that this process holds.

        Parameters
        ----------
        n_nodes : int
            The number that the estimator was given.

        Returns
        -------
        list of int
        """
        return list(range(n_nodes))

    def run(self, programs: dict) -> dict:
        """Run a program for each node until all have ended.

        Parameters
        ----------
        programs : dict of int to callable
            From a node's number to a function of its transport.

        Returns
        -------
        dict
            From a node's number to what its program returned; None for a node that died.
        """
        seeds = local_random_state(self.random_state).randint(2**31 - 1, size=len(programs))
        queues = {(i, j): queue.SimpleQueue() for i in programs for j in programs if i != j}
        results, errors = {}, []

        def host(rank, program, seed):
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


class _QueueTransport:
    """Queues of one node, with the network's faults."""

    def __init__(self, rank, queues, network, rng):
        self._rank = rank
        self._queues = queues
        self._rng = rng
        self._loss = network.loss_probability
        self._delay = (network.delays or {}).get(rank, 0.0)
        self._last_round = (network.failures or {}).get(rank, np.inf)
        self._timeout = network.timeout
        self._n_sent = {}

    def send(self, i, array, essential=True):
        lost = False
        if not essential:
            self._n_sent[i] = self._n_sent.get(i, 0) + 1
            if self._n_sent[i] > self._last_round:
                raise _CrashError
            time.sleep(self._delay)
            lost = self._rng.random() < self._loss
        self._queues[self._rank, i].put(_LOST if lost else np.array(array))

    def recv(self, i, shape):
        try:
            message = self._queues[i, self._rank].get(timeout=self._timeout)
        except queue.Empty:
            raise NodeFailureError(i) from None
        if message is _CLOSED:
            raise NodeFailureError(i)
        if message is not _LOST and message.shape != shape:
            raise ValueError(
                f"node {i} sent an array of shape {message.shape} to node {self._rank}, which "
                f"expected {shape}."
            )
        return message

    def close(self):
        for (sender, _), messages in self._queues.items():
            if sender == self._rank:
                messages.put(_CLOSED)
