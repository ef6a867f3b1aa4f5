"""A network of processes, one node each, on torch.distributed with gloo."""

from collections import defaultdict, deque
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import numpy as np

from ...utils._typing import FloatArray
from ._transport import NodeFailureError, Program, check_timeout

_N_PENDING = 64  # pending sends to a neighbor, whose buffers must be kept


class TorchDistributedNetwork:
    """Run one process per node under ``torchrun``; every process holds only its own samples.

    The rank of the process is the index of its node. Messages are sent only between neighbors. No
    rank has a special role, but the process with the rendezvous store must run until all processes
    have joined.

    Parameters
    ----------
    asynchronous : bool, default=False
        Whether nodes continue with the messages that have arrived instead of waiting for each
        other in every round. Steps are then damped, with a ``damping`` of at least 1.
    timeout : float, default=60.0
        Seconds after which a silent neighbor counts as failed. It must exceed the time that the
        slowest node needs for its features; the end of a process is detected immediately.

    Raises
    ------
    ValueError
        If `timeout` is not positive.

    See Also
    --------
    InProcessNetwork : All nodes in one process.

    Notes
    -----
    If ``torch.distributed`` has no process group yet, the first use creates one with gloo, from the
    environment variables that ``torchrun`` sets.

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
        check_timeout(timeout)
        self.asynchronous = asynchronous
        self.timeout = timeout

    @property
    def in_step(self) -> bool:
        """Whether every round receives the message of every neighbor in that round."""
        return not self.asynchronous

    def size(self, n_nodes: int) -> int:
        """Return the number of nodes, which is the number of processes.

        Parameters
        ----------
        n_nodes : int
            Parameter `n_nodes` of the estimator, which is ignored.

        Returns
        -------
        int
        """
        return _process_group().get_world_size()

    def ranks(self, n_nodes: int) -> list[int]:
        """Return the index of the node that this process holds, which is its rank.

        Parameters
        ----------
        n_nodes : int
            Parameter `n_nodes` of the estimator, which is ignored.

        Returns
        -------
        list of int
        """
        return [_process_group().get_rank()]

    def run(self, programs: Mapping[int, Program]) -> dict[int, Any]:
        """Run the program of the node of this process.

        Parameters
        ----------
        programs : dict of int to callable
            The program of the node, which is called with its transport.

        Returns
        -------
        dict of int to object
            Result of the program.
        """
        ((rank, program),) = programs.items()
        transport = _GlooTransport(self.timeout)
        result = program(transport)
        transport.close()
        return {rank: result}


def _process_group() -> Any:
    import torch.distributed as dist

    if not dist.is_initialized():
        dist.init_process_group("gloo")
    return dist


class _GlooTransport:
    """Point-to-point messages of one process."""

    def __init__(self, timeout: float):
        self._dist = _process_group()
        self._timeout = timedelta(seconds=timeout)
        self._pending: defaultdict[int, deque[tuple[Any, Any]]] = defaultdict(deque)

    def send(self, i: int, array: FloatArray, essential: bool = True) -> None:
        """Send an array to neighbor i; no message is ever lost."""
        import torch

        buffer = torch.from_numpy(np.array(array, dtype=np.float64, order="C"))
        pending = self._pending[i]
        try:
            if len(pending) == _N_PENDING:
                pending.popleft()[0].wait(self._timeout)
            pending.append((self._dist.isend(buffer, dst=i), buffer))
        except RuntimeError:
            raise NodeFailureError(i) from None

    def recv(self, i: int, shape: tuple[int, ...]) -> FloatArray:
        """Wait for the next array of neighbor i."""
        import torch

        buffer = torch.empty(shape, dtype=torch.float64)
        try:
            self._dist.irecv(buffer, src=i).wait(self._timeout)
        except RuntimeError:
            raise NodeFailureError(i) from None
        return buffer.numpy()

    def close(self) -> None:
        """Wait until the last messages have arrived, because the process may end afterwards."""
        for pending in self._pending.values():
            try:
                for work, _ in pending:
                    work.wait(self._timeout)
            except RuntimeError:
                continue  # the neighbor has failed and needs no message
