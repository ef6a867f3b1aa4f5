r"""Solvers of the network's quadratic, all with one signature.

Every solver takes a :class:`._consensus.ConsensusSystem` and returns a :class:`Solution`. With
:math:`g = \mathrm{blockdiag}(M_j)^{-1}(r - A\theta)`, one round of

- ``jacobi`` adds g, with :math:`M_j = A_{jj} + s\,(c/d_j)\,G_{jj}`; damping s = 0 is plain block
  Jacobi, s = 5 the scheme of Yang et al. It converges for every s;
- ``gauss_seidel`` does the same colour by colour of the graph, with the newest neighbours;
- ``chebyshev`` adds a fixed combination of g and the last step, which makes up for a large c;
- ``cg`` is conjugate gradients, preconditioned with :math:`A_{jj}`; it needs two sums over the
  network a round.

``direct`` factorises A. The spectrum of :math:`\mathrm{blockdiag}(A_{jj})^{-1}A` lies below 2;
where neighbours' inputs look alike its lower end is near :math:`1/(1+2c)`.
Chebyshev's steps are chosen for a quarter of that; eigenvalues below it converge too, only slower.
"""

from dataclasses import dataclass

import numpy as np

_LARGEST_CONTRACTION = 0.999
_LARGEST_DIRECT = 6000  # unknowns: the factor takes their square in memory


@dataclass(frozen=True)
class Solution:
    """Coefficients of all nodes, and how the solver got there."""

    coefs: list
    n_iter: int
    converged: bool
    objective_curve: list
    gap_curve: list


def remaining_error(step, previous, contraction=None):
    """Estimate the error that is left after a step, from the contraction q: step q / (1 - q).

    Parameters
    ----------
    step, previous : float
        Norms of this step and of the one before it; infinity where there was none.
    contraction : float, default=None
        q, where it is known; None takes the ratio of the two norms.
    """
    if step == 0.0:
        return 0.0
    if contraction is None:
        if not previous < np.inf:
            return np.inf
        contraction = min(step / previous, _LARGEST_CONTRACTION)
    return step * contraction / (1.0 - contraction)


def chebyshev_interval(consensus_weight):
    """Interval of eigenvalues for which Chebyshev's steps are chosen."""
    return 0.25 / (1.0 + 2.0 * consensus_weight), 2.0


def chebyshev_contraction(consensus_weight):
    """Mean factor by which a round of Chebyshev's iteration shrinks the error."""
    low, high = chebyshev_interval(consensus_weight)
    return (high**0.5 - low**0.5) / (high**0.5 + low**0.5)


def chebyshev_coefficients(consensus_weight):
    """Yield (momentum, gain) of each round: d = momentum d + gain g."""
    low, high = chebyshev_interval(consensus_weight)
    center, radius = (high + low) / 2.0, (high - low) / 2.0
    ratio = center / radius
    rho = 1.0 / ratio
    yield 0.0, 1.0 / center
    while True:
        following = 1.0 / (2.0 * ratio - rho)
        yield following * rho, 2.0 * following / radius
        rho = following


def greedy_colors(neighbours):
    """Colour the nodes so that neighbours differ; few colours, not always the fewest.

    Parameters
    ----------
    neighbours : list of iterables of int

    Returns
    -------
    list of int
    """
    colors = [None] * len(neighbours)
    for j in sorted(range(len(neighbours)), key=lambda j: -len(neighbours[j])):
        taken = {colors[i] for i in neighbours[j]}
        colors[j] = next(color for color in range(len(neighbours)) if color not in taken)
    return colors


class _Monitor:
    """Curves and the stopping test of the iterative solvers."""

    def __init__(self, system, tol, contraction=None):
        self._system = system
        self._threshold = tol * system.energy**0.5
        self._contraction = contraction
        self._previous = np.inf
        self.objective_curve, self.gap_curve = [], []

    def record(self, thetas, pulls, residuals):
        self.objective_curve.append(self._system.objective(thetas, residuals))
        self.gap_curve.append(self._system.gap(thetas, pulls))

    def record_at(self, thetas):
        pulls = self._system.pulls(thetas)
        self.record(thetas, pulls, self._system.residuals(thetas, pulls))

    def is_done(self, steps):
        squares = (
            node.row_norm(step) ** 2 for node, step in zip(self._system.nodes, steps, strict=True)
        )
        step = sum(squares) ** 0.5
        error = remaining_error(step, self._previous, self._contraction)
        self._previous = step
        return error <= self._threshold

    def solution(self, thetas, n_iter, converged):
        self.record_at(thetas)
        return Solution(thetas, n_iter, converged, self.objective_curve, self.gap_curve)


def _factors(system, damping=0.0):
    return [system.engine.cholesky(node.damped_matrix(damping)) for node in system.nodes]


def solve_direct(system, *, tol=1e-6, max_iter=500, damping=0.0, start=None):
    """Factorise A: exact, so that `tol`, `max_iter`, `damping` and `start` have no effect."""
    A, r, blocks = system.dense()
    theta = system.engine.solve(system.engine.cholesky(A), r)
    monitor = _Monitor(system, tol)
    monitor.record_at(system.zeros())
    return monitor.solution([theta[rows] for rows in blocks], 1, True)


def solve_jacobi(system, *, tol=1e-6, max_iter=500, damping=0.0, start=None):
    """Block Jacobi: every node solves its own block with its neighbours' last coefficients."""
    thetas = system.zeros() if start is None else list(start)
    factors, monitor = _factors(system, damping), _Monitor(system, tol)
    for n_iter in range(1, max_iter + 1):
        pulls = system.pulls(thetas)
        residuals = system.residuals(thetas, pulls)
        monitor.record(thetas, pulls, residuals)
        steps = list(map(system.engine.solve, factors, residuals))
        thetas = [theta + step for theta, step in zip(thetas, steps, strict=True)]
        if monitor.is_done(steps):
            return monitor.solution(thetas, n_iter, True)
    return monitor.solution(thetas, max_iter, False)


def solve_gauss_seidel(system, *, tol=1e-6, max_iter=500, damping=0.0, start=None):
    """Block Gauss-Seidel: the nodes of one colour at once, one colour after the other."""
    thetas = system.zeros() if start is None else list(start)
    factors, monitor = _factors(system, damping), _Monitor(system, tol)
    colors = greedy_colors([list(node.coupling) for node in system.nodes])
    order = sorted(range(len(colors)), key=colors.__getitem__)
    for n_iter in range(1, max_iter + 1):
        monitor.record_at(thetas)
        steps = [None] * len(thetas)
        for j in order:
            node = system.nodes[j]
            residual = node.residual(thetas[j], node.pull(thetas))
            steps[j] = system.engine.solve(factors[j], residual)
            thetas[j] = thetas[j] + steps[j]
        if monitor.is_done(steps):
            return monitor.solution(thetas, n_iter, True)
    return monitor.solution(thetas, max_iter, False)


def solve_chebyshev(system, *, tol=1e-6, max_iter=500, damping=0.0, start=None):
    """Chebyshev's semi-iteration on block Jacobi."""
    thetas = system.zeros() if start is None else list(start)
    factors = _factors(system, damping)
    monitor = _Monitor(system, tol, chebyshev_contraction(system.consensus_weight))
    steps = system.zeros()
    coefficients = chebyshev_coefficients(system.consensus_weight)
    for n_iter, (momentum, gain) in zip(range(1, max_iter + 1), coefficients, strict=False):
        pulls = system.pulls(thetas)
        residuals = system.residuals(thetas, pulls)
        monitor.record(thetas, pulls, residuals)
        gradients = map(system.engine.solve, factors, residuals)
        steps = [momentum * d + gain * g for d, g in zip(steps, gradients, strict=True)]
        thetas = [theta + d for theta, d in zip(thetas, steps, strict=True)]
        if monitor.is_done(steps):
            return monitor.solution(thetas, n_iter, True)
    return monitor.solution(thetas, max_iter, False)


def solve_cg(system, *, tol=1e-6, max_iter=500, damping=0.0, start=None):
    """Conjugate gradients, preconditioned with the nodes' own blocks, output by output."""
    thetas = system.zeros() if start is None else list(start)
    factors = _factors(system, damping)
    monitor = _Monitor(system, tol, chebyshev_contraction(system.consensus_weight))
    pulls = system.pulls(thetas)
    residuals = system.residuals(thetas, pulls)
    directions, product = system.zeros(), None
    for n_iter in range(1, max_iter + 1):
        monitor.record(thetas, pulls, residuals)
        scaled = list(map(system.engine.solve, factors, residuals))
        last, product = product, _dots(residuals, scaled)
        if last is not None:
            directions = [d * _ratio(product, last) for d in directions]
        directions = [d + z for d, z in zip(directions, scaled, strict=True)]
        curved = [
            target - residual
            for target, residual in zip(
                (node.target for node in system.nodes), system.residuals(directions), strict=True
            )
        ]
        length = _ratio(product, _dots(directions, curved))
        steps = [d * length for d in directions]
        thetas = [theta + step for theta, step in zip(thetas, steps, strict=True)]
        pulls = system.pulls(thetas)
        residuals = system.residuals(thetas, pulls)
        if monitor.is_done(steps):
            return monitor.solution(thetas, n_iter, True)
    return monitor.solution(thetas, max_iter, False)


def _dots(left, right):
    return sum((a * b).sum(0) for a, b in zip(left, right, strict=True))


def _ratio(numerator, denominator):
    """Quotient by output; an output that is solved already has nothing left to divide."""
    solved = denominator == 0
    return numerator * ~solved / (denominator + solved)


def solve_jointly(system, **parameters):
    """Factorise A where it is small enough, else take conjugate gradients."""
    n_unknowns = sum(len(node.target) for node in system.nodes)
    solve = solve_direct if n_unknowns <= _LARGEST_DIRECT else solve_cg
    return solve(system, **parameters)


SOLVERS = {
    "auto": solve_jointly,
    "direct": solve_direct,
    "jacobi": solve_jacobi,
    "gauss_seidel": solve_gauss_seidel,
    "chebyshev": solve_chebyshev,
    "cg": solve_cg,
}
