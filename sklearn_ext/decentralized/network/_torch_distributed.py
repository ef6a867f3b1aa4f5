"""A network of processes: one node each, on torch.distributed with gloo."""

from collections import defaultdict, deque
from datetime import timedelta

import numpy as np

from ._neighbors import NodeFailureError

_N_PENDING = 64  # sends to a neighbour that may be under way: their buffers must stay alive


class TorchDistributedNetwork:
    """One process a node: under ``torchrun``, every process holds only its own rows.

    The rank of the process is the number of its node. Messages go between neighbours only; no
    rank is special, though that which holds the rendezvous store must live until all have met.

    Parameters
    ----------
    asynchronous : bool, default=False
        Whether nodes go on with whatever they have heard, in place of rounds in step. Steps are
        then damped, with ``damping`` of at least 1.
    timeout : float, default=60.0
        Seconds after which a silent neighbour is taken for dead. Longer than the slowest node
        needs for its features; a process that dies is noticed at once.

    See Also
    --------
    InProcessNetwork : All nodes in one process.

    Notes
    -----
    If ``torch.distributed`` has no process group yet, the first use makes one with gloo, from the
    environment that ``torchrun`` sets.

    Examples
    --------
    >>> from sklearn_ext import DecentralizedRFKRR, TorchDistributedNetwork
    >>> krr = DecentralizedRFKRR(
    ...     graph="ring", network=TorchDistributedNetwork(), aggregate="neighborhood"
    ... )
    >>> krr.network.timeout
    60.0
    """

    holds_all = False

    def __init__(self, *, asynchronous: bool = False, timeout: float = 60.0):
        if not timeout > 0.0:
            raise ValueError(f"timeout must be positive, got {timeout!r}.")
        self.asynchronous = asynchronous
        self.timeout = timeout

    @property
    def in_step(self):
        """Whether every round hears every neighbour's message of that round."""
        return not self.asynchronous

    def size(self, n_nodes: int) -> int:
        """Return the number of nodes: of processes.

        Parameters
        ----------
        n_nodes : int
            The number that the estimator was given; it has no effect.

        Returns
        -------
        int
        """
        return _process_group().get_world_size()

    def ranks(self, n_nodes: int) -> list[int]:
        """Return the number of the node that this process holds: its rank.

        Parameters
        ----------
        n_nodes : int
            The number that the estimator was given; it has no effect.

        Returns
        -------
        list of int
        """
        return [_process_group().get_rank()]

    def run(self, programs: dict) -> dict:
        """Run the program of this process' node.

        Parameters
        ----------
        programs : dict of int to callable
            From the node's number to a function of its transport.

        Returns
        -------
        dict
            From the node's number to what its program returned.
        """
        ((rank, program),) = programs.items()
        transport = _GlooTransport(self.timeout)
        result = program(transport)
        transport.close()
        return {rank: result}


def _process_group():
    import torch.distributed as dist

    if not dist.is_initialized():
        dist.init_process_group("gloo")
    return dist


class _GlooTransport:
    def __init__(self, timeout):
        self._dist = _process_group()
        self._timeout = timedelta(seconds=timeout)
        self._works = defaultdict(deque)

    def send(self, i, array, essential=True):
        import torch

        buffer = torch.from_numpy(np.array(array, dtype=np.float64, order="C"))
        pending = self._works[i]
        try:
            if len(pending) == _N_PENDING:
                pending.popleft()[0].wait(self._timeout)
            pending.append((self._dist.isend(buffer, dst=i), buffer))
        except RuntimeError:
            raise NodeFailureError(i) from None

    def recv(self, i, shape):
        import torch

        buffer = torch.empty(shape, dtype=torch.float64)
        try:
            self._dist.irecv(buffer, src=i).wait(self._timeout)
        except RuntimeError:
            raise NodeFailureError(i) from None
        return buffer.numpy()

    def close(self):
        """Let the last messages arrive: they would be lost with the process."""
        for works in self._works.values():
            try:
                for work, _ in works:
                    work.wait(self._timeout)
            except RuntimeError:
                continue  # the neighbour is gone: there is nobody to wait for
