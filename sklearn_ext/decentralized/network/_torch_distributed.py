"""A network of processes, one node each, on torch.distributed with gloo."""

import os
import queue
import threading
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from weakref import WeakKeyDictionary

from ._transport import Frame, Kind, Program, check_timeout

_TAG = 7301  # keeps our frames apart from other messages of the process group
_FOREVER = timedelta(days=365)
# By process group, the processes that ended without a goodbye. Their connections stay broken.
_LOST: WeakKeyDictionary[Any, set[int]] = WeakKeyDictionary()


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
        Seconds after which a silent node counts as failed, and for which the processes wait for
        each other at the start. It must exceed the time that the slowest node needs for its
        features; the end of a process is detected immediately. Only a silent node is excluded:
        nodes that wait for it report to their neighbors.

    Raises
    ------
    ValueError
        If `timeout` is not positive and finite.

    See Also
    --------
    InProcessNetwork : All nodes in one process.

    Notes
    -----
    If ``torch.distributed`` has no process group yet, the first use creates one with gloo, from the
    environment variables that ``torchrun`` sets. A :class:`TimeoutError` names the processes that
    have not joined within `timeout` seconds, for example because their samples were invalid.

    ``torchrun`` ends all processes as soon as one fails. Start the processes one by one, with these
    variables set, if the others should finish (see :ref:`dekrr`). A process that was excluded
    cannot return; start all processes again.

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

    @property
    def is_lossless(self) -> bool:
        """Whether every message arrives."""
        return True

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
        return _process_group(self.timeout).get_world_size()

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
        return [_process_group(self.timeout).get_rank()]

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
        transport = _GlooTransport(rank, self.timeout)
        try:
            return {rank: program(transport)}
        finally:
            transport.close()


def _process_group(timeout: float) -> Any:
    """Return `torch.distributed` after all processes have joined."""
    import torch.distributed as dist

    if not dist.is_initialized():
        limit = timedelta(seconds=timeout)
        rank, size = (int(_variable(name)) for name in ("RANK", "WORLD_SIZE"))
        # Under torchrun, the store is in the process of the launcher.
        holds_store = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
        try:
            store = dist.TCPStore(
                _variable("MASTER_ADDR"),
                int(_variable("MASTER_PORT")),
                size,
                holds_store,
                limit,
                wait_for_workers=False,  # so that missing processes can be named
            )
        except RuntimeError as error:
            raise TimeoutError(
                "The process of node 0, where all processes meet, was not found within "
                f"timeout={timeout} seconds: {error}"
            ) from error
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        shared = dist.PrefixStore(f"sklearn_ext/{attempt}", store)
        _meet(shared, rank, size, timeout)
        dist.init_process_group("gloo", store=shared, rank=rank, world_size=size, timeout=limit)
    return dist


def _variable(name: str) -> str:
    """Return an environment variable that ``torchrun`` sets."""
    if name not in os.environ:
        raise ValueError(
            f"The environment variable {name} must be set in every process, as torchrun does."
        )
    return os.environ[name]


def _meet(store: Any, rank: int, size: int, timeout: float) -> None:
    """Wait until all processes have joined, and name those that have not."""
    store.set(f"joined/{rank}", "")
    deadline = time.monotonic() + timeout
    missing = list(range(size))
    while missing:
        try:
            missing = [i for i in missing if not store.check([f"joined/{i}"])]
        except RuntimeError as error:
            raise TimeoutError(
                f"The processes of the nodes {missing} have not joined, and the process with the "
                "rendezvous store has ended."
            ) from error
        if missing and time.monotonic() > deadline:
            raise TimeoutError(
                f"The processes of the nodes {missing} have not joined within timeout={timeout} "
                "seconds."
            )
        time.sleep(0.01)


class _GlooTransport:
    """Frames between this process and all others.

    One thread per process receives, because gloo closes the connection when a wait expires, and
    does not tell whether a message has arrived.
    """

    def __init__(self, rank: int, timeout: float):
        self._dist = _process_group(timeout)
        self._timeout = timedelta(seconds=timeout)
        self._pending: defaultdict[int, deque[tuple[Any, Any]]] = defaultdict(deque)
        self._mailbox: queue.SimpleQueue[tuple[int, Frame | None]] = queue.SimpleQueue()
        others = [i for i in range(self._dist.get_world_size()) if i != rank]
        self._lost = _LOST.setdefault(self._dist.group.WORLD, set())
        self._finished: set[int] = set()
        self._readers = {
            i: threading.Thread(target=self._read, args=(i,), daemon=True)
            for i in others
            if i not in self._lost
        }
        for i in others:
            if i in self._readers:
                self._readers[i].start()
            else:
                self._mailbox.put((i, None))

    def _read(self, i: int) -> None:
        import torch

        try:
            while True:
                header = torch.empty(2, dtype=torch.int64)
                self._dist.irecv(header, src=i, tag=_TAG).wait(_FOREVER)
                kind, size = header.tolist()
                payload = torch.empty(size, dtype=torch.uint8)
                if size:
                    self._dist.irecv(payload, src=i, tag=_TAG).wait(_FOREVER)
                if kind == Kind.GOODBYE:
                    self._finished.add(i)
                self._mailbox.put((i, Frame(Kind(kind), payload.numpy())))
                if kind == Kind.GOODBYE:
                    return
        except RuntimeError:
            self._mailbox.put((i, None))

    def send(self, i: int, frame: Frame) -> None:
        """Send a frame to node i."""
        import torch

        buffers = [torch.tensor([frame.kind, frame.payload.nbytes], dtype=torch.int64)]
        if frame.payload.nbytes:
            buffers.append(torch.from_numpy(frame.payload.copy()))
        pending = self._pending[i]
        while pending and pending[0][0].is_completed():
            pending.popleft()
        try:
            for buffer in buffers:
                pending.append((self._dist.isend(buffer, dst=i, tag=_TAG), buffer))
        except RuntimeError:
            return  # the thread that receives from this node notices the end of the connection

    def receive(self, patience: float) -> tuple[int, Frame | None] | None:
        """Return the next frame and its sender, or None if nothing has arrived in time."""
        try:
            return self._mailbox.get(block=patience > 0, timeout=patience or None)
        except queue.Empty:
            return None

    def close(self) -> None:
        """Wait until the last frames have arrived, because the process may end afterwards."""
        self._lost |= self._readers.keys() - self._finished
        for i, pending in self._pending.items():
            try:
                for work, _ in pending:
                    if i not in self._lost:
                        work.wait(self._timeout)
            except RuntimeError:
                continue  # this node has ended and needs no frame
