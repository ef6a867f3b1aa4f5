"""When a node may stop: scripted errors of its own, and scripted messages of its neighbors."""

from types import SimpleNamespace

import numpy as np
import pytest

from sklearn_ext.decentralized.network._rounds import Rounds

FINISHED = np.inf
TOL = 0.1


class Scripted(Rounds):
    """A node whose estimated errors are known, and so are the ages that its neighbors send.

    Parameters
    ----------
    errors : list of callable
        Error of each part in a round, given the number of counted rounds.
    messages : callable
        Ages by neighbor that arrive after a round, given its number.
    """

    def __init__(self, errors, messages, *, n_hops=2, scale=1.0, unsent=0.0, max_iter=30):
        def part(error):
            counted = iter(range(1, 100))
            return SimpleNamespace(
                advance=lambda residual: None,
                error=lambda: error(next(counted)),
                part=SimpleNamespace(scale=scale),
            )

        self._iterates = [part(error) for error in errors]
        self._neighbors = SimpleNamespace(open=sorted(messages(1)))
        self._ages = dict.fromkeys(self._neighbors.open, 0.0)
        self._config = SimpleNamespace(max_iter=max_iter)
        self._messages, self._unsent = messages, unsent
        self._earlier, self._asynchronous, self._tol = set(), False, TOL
        self._n_hops, self.n_iter, self.converged = n_hops, 0, False
        self.sent = []

    def _residual(self, number):
        return None

    def _check_censoring(self):
        return False, [self._unsent] * len(self._iterates)

    def _send(self, listeners, age, last, is_censored):
        self.sent.append(age)

    def _receive(self, neighbors):
        arrived = self._messages(self.n_iter)
        self._ages |= {i: age for i, age in arrived.items() if age is not None}
        return {i for i, age in arrived.items() if age is not None}


def settled(k):
    return 0.0


def unsettled(k):
    return 1.0


def in_step(n):
    """A neighbor that has settled as early as the node itself."""
    return {1: n - 1}


def test_a_node_stops_once_its_news_has_crossed_the_network():
    # The first round does not count, because nothing has arrived before it.
    for n_hops in (1, 2, 5):
        node = Scripted([settled], in_step, n_hops=n_hops)
        node.run()
        assert node.converged
        assert node.sent == [*range(n_hops + 1), FINISHED]


def test_no_node_stops_beside_one_that_has_not_settled():
    node = Scripted([settled], lambda n: {1: 0, 2: n - 1})
    node.run()
    assert not node.converged
    assert node.sent == [0] + [1] * 28 + [FINISHED]  # max_iter ends it


def test_the_age_of_others_does_not_replace_its_own():
    node = Scripted([settled], lambda n: {1: 20})
    node.run()
    assert node.sent == [0, 1, 2, FINISHED]


def test_an_error_above_the_tolerance_starts_the_count_anew():
    node = Scripted([lambda k: 1.0 if k == 2 else 0.0], lambda n: {1: 20})
    node.run()
    assert node.sent == [0, 1, 0, 1, 2, FINISHED]


def test_all_parts_must_have_settled():
    node = Scripted([settled, unsettled], in_step)
    node.run()
    assert not node.converged
    assert set(node.sent[:-1]) == {0}


def test_the_tolerance_is_relative_to_the_targets():
    near = [lambda k: 0.5]
    for scale, converges in ((10.0, True), (1.0, False)):
        node = Scripted(near, in_step, scale=scale)
        node.run()
        assert node.converged is converges


def test_a_change_that_was_not_sent_is_an_error():
    node = Scripted([settled], in_step, unsent=0.2)
    node.run()
    assert not node.converged


@pytest.mark.parametrize("period", [2, 3])
def test_rounds_count_once_every_neighbor_has_sent(period):
    def messages(n):
        return {1: 20 if n % period == 1 else None, 2: 20}

    node = Scripted([settled], messages)
    node.run()
    # Rounds 2, 2 + period and 2 + 2 * period follow a message of the slow neighbor.
    assert node.n_iter == 2 + 2 * period


def test_without_a_failed_node_news_takes_longer():
    ring = np.roll(np.eye(6), 1, axis=0) + np.roll(np.eye(6), -1, axis=0)
    node = Scripted([settled], in_step, n_hops=3)
    node._config = SimpleNamespace(adjacency=ring, on_failure="drop")
    node._neighbors, node._members = SimpleNamespace(failed=[4]), [1, 5]
    node._n_failed, node._ever_received = 0, set()
    node._release_failed()
    assert node._n_hops == 4
