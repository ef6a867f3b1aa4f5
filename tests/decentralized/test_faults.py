"""If a node dies or freezes at any moment, the others exclude it alone and agree."""

import threading
import time
from collections import defaultdict, deque
from functools import partial
from itertools import count

import numpy as np
import pytest
from sklearn.datasets import make_friedman1

from sklearn_ext import DecentralizedRFKRR, InProcessNetwork
from sklearn_ext.decentralized import DeKRRConfig, NodeSamples, make_graph
from sklearn_ext.decentralized.math import connected_parts, make_engine
from sklearn_ext.decentralized.network import NodeFailureError, run_node
from sklearn_ext.decentralized.network._in_process import _CrashError, _QueueTransport
from sklearn_ext.decentralized.network._transport import Kind

X, Y = make_friedman1(320, noise=0.3, random_state=0)
TIMEOUT = 1.0


class _ShufflingTransport(_QueueTransport):
    """Delivers frames of different senders in random order, and those of one sender in turn."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._waiting = defaultdict(deque)

    def receive(self, patience):
        if self._rng.random() < 0.2:
            time.sleep(0.001)  # for more frames to choose from
        arrived = super().receive(0.0 if any(self._waiting.values()) else patience)
        while arrived is not None:
            self._waiting[arrived[0]].append(arrived)
            arrived = super().receive(0.0)
        senders = [i for i, frames in self._waiting.items() if frames]
        return self._waiting[self._rng.choice(senders)].popleft() if senders else None


class _FaultyTransport(_ShufflingTransport):
    """Dies or freezes after it has sent a given number of frames."""

    def __init__(self, *arguments, n_frames, freezes, sent):
        super().__init__(*arguments)
        self._n_frames, self._freezes, self._sent = n_frames, freezes, sent

    def send(self, i, frame):
        if len(self._sent) == self._n_frames:
            raise _CrashError
        self._sent.append(frame.kind)
        super().send(i, frame)

    def close(self):
        if not (self._freezes and len(self._sent) == self._n_frames):
            super().close()


class FaultyNetwork(InProcessNetwork):
    """A network in which one node fails after it has sent a given number of frames."""

    def __init__(self, victim, n_frames, freezes):
        super().__init__(timeout=TIMEOUT, random_state=n_frames)
        self.victim = victim
        self.sent = []  # by the victim
        self.fault = {"n_frames": n_frames, "freezes": freezes, "sent": self.sent}

    def _transport(self, rank, mailboxes, rng):
        if rank != self.victim:
            return _ShufflingTransport(rank, mailboxes, self, rng)
        return _FaultyTransport(rank, mailboxes, self, rng, **self.fault)


def outcomes(network, config, seed=0):
    """Run all nodes, and return the result or the error of each, or None if it has failed."""

    def caught(program, transport):
        try:
            return program(transport)
        except NodeFailureError as error:
            return error

    programs = {}
    for rank in range(config.n_nodes):
        rows = np.arange(rank, len(X), config.n_nodes)
        # Nodes differ, so that it matters whose sums are known.
        samples = NodeSamples.from_arrays(X[rows], Y[rows] + 10.0 * rank)
        program = partial(
            run_node,
            rank,
            samples,
            config,
            seed=seed,
            engine=make_engine(),
            asynchronous=network.asynchronous,
            timeout=network.timeout,
        )
        programs[rank] = partial(caught, program)
    return network.run(programs)


def check_random_fault(seed):
    """Check the survivors of a random fault, and return whether they excluded the victim."""
    rng = np.random.default_rng(seed)
    n_nodes = int(rng.integers(3, 8))
    kind = str(rng.choice(["random", "ring", "path", "star", "complete"]))
    adjacency = make_graph(kind, n_nodes, random_state=int(seed))
    victim = int(rng.integers(n_nodes))
    parameters = {
        "n_components": 6,
        "alpha": 1e-2,
        "max_iter": 40,
        "on_failure": str(rng.choice(["freeze", "drop"])),
    }
    config = DeKRRConfig(adjacency, **parameters)
    # The set-up sends about 30 frames to each neighbor, and the rounds send as many.
    n_frames = int(rng.integers(30 * adjacency[victim].sum()) * rng.choice([0.2, 1.0]))
    network = FaultyNetwork(victim, n_frames, freezes=bool(rng.integers(2)))
    results = outcomes(network, config)
    survivors = [results[rank] for rank in range(n_nodes) if rank != victim]
    remaining = np.delete(np.delete(adjacency, victim, 0), victim, 1)
    for result in survivors:
        if isinstance(result, NodeFailureError):
            # Without the victim, some nodes cannot reach the others.
            assert result.node == victim
            assert connected_parts(remaining) > 1
    finished = [result for result in survivors if not isinstance(result, NodeFailureError)]
    named = {tuple(result.failed) for result in finished}
    # The failure goes unnoticed if all rounds of the victim were over and it has said so.
    had_finished = Kind.CLOSING in network.sent
    assert had_finished or named <= {(victim,)}
    if connected_parts(remaining) == 1:
        assert len(finished) == n_nodes - 1
        assert named == {() if had_finished else (victim,)}
        agreed = {(result.mean[0], result.gamma, result.total_weight) for result in finished}
        assert len(agreed) == 1
    return not had_finished


@pytest.mark.parametrize("seed", range(8))
def test_only_the_victim_is_excluded(seed):
    check_random_fault(seed)


@pytest.mark.parametrize("kind", ["ring", "complete"])
def test_a_node_may_die_before_any_of_its_frames(kind):
    config = DeKRRConfig(make_graph(kind, 4), n_components=6, alpha=1e-2)
    for n_frames in count():
        network = FaultyNetwork(2, n_frames, freezes=False)
        results = outcomes(network, config, seed=n_frames)
        survivors = [results[i] for i in (0, 1, 3)]
        assert len({(result.mean[0], result.gamma) for result in survivors}) == 1
        expected = () if Kind.CLOSING in network.sent else (2,)
        assert {tuple(result.failed) for result in survivors} == {expected}
        if results[2] is not None:
            break
    assert n_frames > 30


@pytest.mark.slow
def test_only_the_victim_is_excluded_from_many_networks():
    excluded = [check_random_fault(seed) for seed in range(100, 300)]
    assert np.mean(excluded) > 0.5


def test_a_slow_node_is_excluded_and_told_so():
    config = DeKRRConfig(make_graph("ring", 5), n_components=6, alpha=1e-2)
    network = InProcessNetwork(delays={2: 1.0}, timeout=0.5)
    results = outcomes(network, config)
    assert results[2].node == 2
    assert "Node 2, which is this one, was excluded" in str(results[2])
    assert [results[i].failed for i in (0, 1, 3, 4)] == [[2]] * 4


def test_failed_bridge_ends_the_fit_with_its_name():
    config = DeKRRConfig(make_graph("path", 4), n_components=6)
    results = outcomes(FaultyNetwork(1, n_frames=8, freezes=False), config)
    assert isinstance(results[0], NodeFailureError)
    assert "Node 1 failed before all nodes knew" in str(results[0])
    assert "node 0 cannot reach the nodes [3] without it" in str(results[0])


def test_ctrl_c_ends_the_programs_of_all_nodes(monkeypatch):
    n_threads, join = threading.active_count(), threading.Thread.join

    def press_ctrl_c(thread, timeout=None):
        monkeypatch.setattr(threading.Thread, "join", join)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "join", press_ctrl_c)
    network = InProcessNetwork()
    krr = DecentralizedRFKRR(n_components=6, network=network, max_iter=10**9, tol=0.0)
    with pytest.raises(KeyboardInterrupt):
        krr.fit(X, Y, node=np.arange(len(X)) % 3)
    assert threading.active_count() == n_threads
    assert not hasattr(krr, "node_coef_")


def test_failure_of_all_nodes_ends_the_fit():
    network = InProcessNetwork(failures={0: 1, 1: 1})
    krr = DecentralizedRFKRR(n_components=6, graph="path", network=network)
    with pytest.raises(NodeFailureError, match=r"All nodes have failed: \[0, 1\]"):
        krr.fit(X, Y, node=np.arange(len(X)) % 2)
    assert not hasattr(krr, "node_coef_")
