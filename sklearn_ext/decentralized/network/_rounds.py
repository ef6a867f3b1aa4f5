"""The rounds of one node: solve, tell, hear, until all are settled."""

from collections import deque

import numpy as np

from ..maths._solvers import (
    chebyshev_coefficients,
    chebyshev_contraction,
    greedy_colors,
    remaining_error,
)
from ._communication import N_FLAGS
from ._neighbors import NewestInbox, SynchronousInbox

_FINISHED = np.inf  # age of a node that leaves
_N_SMOOTHED = 8  # rounds over which the contraction is taken where rounds are irregular
_ASYNCHRONOUS_DAMPING = 1.0


class Rounds:
    """The iteration of one node.

    A node is *settled* when its estimated error is below the tolerance. Its age is the number of
    rounds for which it and all that it hears of have been settled: one more than the smallest
    age around it. At an age above the network's diameter, every node has been settled; the node
    then says so in its last message and leaves. Rounds count only when every neighbour has been
    heard since the last one that counted.

    Parameters
    ----------
    node : DecentralizedNode
        A node whose set-up is done.
    """

    def __init__(self, node):
        settings, peers = node.settings, node.peers
        self.node, self.peers, self.engine = node, peers, node.engine
        self.n_outputs = node.rows.Y.shape[1]
        self.length = {
            i: int(settings.n_components[i]) if settings.anchors is None else len(settings.anchors)
            for i in peers.open
        }
        self.heard = {i: self.engine.zeros(size, self.n_outputs) for i, size in self.length.items()}
        self.ever_heard = set()
        shapes = {i: (size * self.n_outputs + N_FLAGS,) for i, size in self.length.items()}
        self.inbox = (
            NewestInbox(node.transport, shapes, _is_last, node.timeout)
            if node.asynchronous
            else SynchronousInbox(node.transport, shapes)
        )
        self.ages = dict.fromkeys(peers.open, 0)
        colors = [0] * settings.n_nodes
        if settings.solver == "gauss_seidel":
            colors = greedy_colors([settings.neighbours(j) for j in range(settings.n_nodes)])
        self.earlier = {i for i in peers.open if colors[i] < colors[node.rank]}
        self.threshold = settings.tol * (node.summary.energy / settings.n_nodes) ** 0.5
        self.damping = settings.damping
        if node.asynchronous:
            self.damping = max(self.damping, _ASYNCHRONOUS_DAMPING)
        self.contraction, self.coefficients = None, None
        if settings.solver == "chebyshev":
            self.contraction = chebyshev_contraction(settings.consensus_weight)
            self.coefficients = chebyshev_coefficients(settings.consensus_weight)
        self.n_iter, self.converged = 0, False
        self.objective_shares, self.disagreement_shares = [], []
        self._assemble()

    def _assemble(self):
        self.system = self.node.system()
        self.factor = self.engine.cholesky(self.system.damped_matrix(self.damping))

    def run(self):
        """Iterate until the network is settled or `max_iter` is reached."""
        self.theta = self.system.target * 0.0
        step = moved = self.theta
        age, fresh = 0, set()
        distances = deque(maxlen=_N_SMOOTHED + 1 if self.node.asynchronous else 2)
        last = False
        while not last:
            self.n_iter += 1
            # A neighbour that leaves in this round still waits for this round's message.
            listeners = list(self.peers.open)
            fresh |= self._hear(self.earlier)
            step = self._step(step)
            self.theta, moved = self.theta + step, moved + step
            if fresh.issuperset(self.peers.open):
                distances.append(self.system.row_norm(moved))
                settled = self._error(distances) <= self.threshold
                around = [age, *(self.ages[i] for i in self.peers.open)]
                age = 1 + min(around) if settled else 0
                moved, fresh = self.theta * 0.0, set()
            self.converged = age > self.node.n_hops
            last = self.converged or self.n_iter == self.node.settings.max_iter
            self._tell(listeners, _FINISHED if last else age, last)
            fresh |= self._hear(set(self.peers.open) - self.earlier)
        self._record()
        self.inbox.close()

    def _error(self, distances):
        """Estimated error, from how far the last rounds that counted have moved.

        Out of step, rounds are irregular, and the contraction is a mean over several.
        """
        last, first = distances[-1], distances[0]
        contraction = self.contraction
        if contraction is None and 0.0 < last < first:
            contraction = (last / first) ** (1.0 / (len(distances) - 1))
        return remaining_error(last, np.inf if len(distances) == 1 else first, contraction)

    def _record(self):
        pull = self.system.pull(self.heard)
        residual = self.system.residual(self.theta, pull)
        self.objective_shares.append(self.system.objective_share(self.theta, residual))
        self.disagreement_shares.append(self.system.disagreement_share(self.theta, pull))
        return residual

    def _step(self, last_step):
        step = self.engine.solve(self.factor, self._record())
        if self.coefficients is None:
            return step
        momentum, gain = next(self.coefficients)
        return momentum * last_step + gain * step

    def _tell(self, listeners, age, last):
        values = self.engine.to_numpy(self.node.message(self.theta)).ravel()
        message = np.append(values, age)
        # In step, a neighbour that has left hears no more. Out of step it waits to hear the last.
        if last and self.node.asynchronous:
            listeners = self.ages
        for i in listeners:
            if i not in self.peers.failed:
                self.peers.send(i, message, essential=last)

    def _hear(self, neighbours):
        """Take in messages; return the neighbours that were heard."""
        messages, failed = self.inbox.collect([i for i in self.peers.open if i in neighbours])
        for i, message in messages.items():
            self.heard[i] = self.engine.asarray(
                message[:-N_FLAGS].reshape(self.length[i], self.n_outputs)
            )
            self.ages[i] = message[-1]
            self.ever_heard.add(i)
            if _is_last(message) and i in self.peers.open:
                self.peers.open.remove(i)
        for i in failed:
            if i in self.peers.open:
                self.peers.fail(i)
        self._let_go()
        return set(messages)

    def _let_go(self):
        """Drop the terms of failed neighbours, or leave them at their last message."""
        freeze = self.node.settings.on_failure == "freeze"
        gone = [
            i
            for i in self.peers.failed
            if i in self.node.shares and not (freeze and i in self.ever_heard)
        ]
        for i in gone:
            del self.node.shares[i]
        if gone:
            self._assemble()

    def neighbour_coefs(self):
        """Coefficients that the neighbours sent last."""
        if self.node.settings.anchors is not None:
            return {}
        return {i: self.engine.to_numpy(self.heard[i]) for i in self.ever_heard}


def _is_last(message):
    return message[-1] == _FINISHED
