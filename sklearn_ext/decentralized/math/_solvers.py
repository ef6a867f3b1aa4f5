r"""Solvers of the network's linear system, all with the same signature.

Every solver takes a :class:`._consensus.ConsensusSystem` and returns a :class:`Solution`. With
:math:`g = \mathrm{blockdiag}(M_j)^{-1}(r - A\theta)`, one round of

- ``jacobi`` adds g, where :math:`M_j = A_{jj} + s\,(c/d_j)\,G_{jj}`. Without damping (s = 0), this
  is block Jacobi; with s = 5, it is the scheme of Yang et al. It converges for every s;
- ``gauss_seidel`` does the same for each color of the graph in turn, with the newest coefficients
  of the neighbors;
- ``chebyshev`` adds a fixed combination of g and the last step, which saves rounds if c is large;
- ``cg`` takes a step of conjugate gradients, preconditioned with :math:`A_{jj}`. It needs two sums
  over the network in each round.

``direct`` factorizes A. The spectrum of :math:`\mathrm{blockdiag}(A_{jj})^{-1}A` lies below 2;
if the inputs of neighbors are similar, its lower end is near :math:`1/(1+2c)`. The steps of
Chebyshev's iteration are chosen for a quarter of that; components with smaller eigenvalues also
converge, but more slowly.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Protocol

import numpy as np

from ._consensus import ConsensusSystem
from ._engine import EngineArray, Factor

_LARGEST_CONTRACTION = 0.999
_LARGEST_DIRECT = 6000  # unknowns; the memory of the factor grows with their square

Coefs = Sequence[EngineArray]


@dataclass(frozen=True, eq=False)
class Solution:
    """Coefficients of all nodes, and the curves of the solver.

    Attributes
    ----------
    coefs : list of J arrays of shape (D_j, k)
    n_iter : int
    converged : bool
    objective_curve, disagreement_curve : list of n_iter + 1 floats
        Values before every round and at the end.
    """

    coefs: list[EngineArray]
    n_iter: int
    converged: bool
    objective_curve: list[float]
    disagreement_curve: list[float]


class Solver(Protocol):
    """Signature of the solvers."""

    def __call__(
        self,
        system: ConsensusSystem,
        *,
        tol: float = 1e-6,
        max_iter: int = 500,
        damping: float = 0.0,
        start: Coefs | None = None,
        after_round: Callable[[], bool] = bool,
    ) -> Solution:
        """Solve the system, starting from `start` or from zero.

        `after_round` is called after each round, and returns whether to stop.
        """


def remaining_error(step: float, previous: float, contraction: float | None = None) -> float:
    """Estimate the error that remains after a step from the contraction q: step * q / (1 - q).

    Parameters
    ----------
    step, previous : float
        Norms of this step and of the previous one, which is infinity for the first step.
    contraction : float, default=None
        q, if it is known; None takes the ratio of the two norms.
    """
    if step == 0.0:
        return 0.0
    if contraction is None:
        if not 0.0 < previous < np.inf:
            return np.inf
        contraction = min(step / previous, _LARGEST_CONTRACTION)
    return step * contraction / (1.0 - contraction)


def chebyshev_interval(consensus_weight: float) -> tuple[float, float]:
    """Return the interval of eigenvalues for which the steps are chosen."""
    return 0.25 / (1.0 + 2.0 * consensus_weight), 2.0


def chebyshev_contraction(consensus_weight: float) -> float:
    """Return the mean factor by which a round of Chebyshev's iteration reduces the error."""
    low, high = chebyshev_interval(consensus_weight)
    return (high**0.5 - low**0.5) / (high**0.5 + low**0.5)


def chebyshev_coefficients(consensus_weight: float) -> Iterator[tuple[float, float]]:
    """Yield (momentum, gain) of each round, whose step is d = momentum * d + gain * g."""
    low, high = chebyshev_interval(consensus_weight)
    center, radius = (high + low) / 2.0, (high - low) / 2.0
    ratio = center / radius
    rho = 1.0 / ratio
    yield 0.0, 1.0 / center
    while True:
        following = 1.0 / (2.0 * ratio - rho)
        yield following * rho, 2.0 * following / radius
        rho = following


def greedy_colors(neighbors: Sequence[Sequence[int]]) -> list[int]:
    """Color the nodes so that neighbors differ, with few colors, though not always the fewest.

    Parameters
    ----------
    neighbors : list of lists of int

    Returns
    -------
    list of int
    """
    colors: dict[int, int] = {}
    for j in sorted(range(len(neighbors)), key=lambda j: -len(neighbors[j])):
        taken = {colors.get(i) for i in neighbors[j]}
        colors[j] = next(color for color in range(len(neighbors)) if color not in taken)
    return [colors[j] for j in range(len(neighbors))]


class _Monitor:
    """Curves and the stopping test of the iterative solvers."""

    def __init__(self, system: ConsensusSystem, tol: float, contraction: float | None = None):
        self._system = system
        self._threshold = tol * system.energy**0.5
        self._contraction = contraction
        self._previous = np.inf
        self.objective_curve: list[float] = []
        self.disagreement_curve: list[float] = []

    def record(self, thetas: Coefs, pulls: Coefs, residuals: Coefs) -> None:
        self.objective_curve.append(self._system.objective(thetas, residuals))
        self.disagreement_curve.append(self._system.disagreement(thetas, pulls))

    def record_at(self, thetas: Coefs) -> None:
        pulls = self._system.pulls(thetas)
        self.record(thetas, pulls, self._system.residuals(thetas, pulls))

    def is_done(self, steps: Coefs) -> bool:
        squares = (
            node.prediction_norm(step) ** 2
            for node, step in zip(self._system.nodes, steps, strict=True)
        )
        step = sum(squares) ** 0.5
        error = remaining_error(step, self._previous, self._contraction)
        self._previous = step
        return error <= self._threshold

    def solution(self, thetas: list[EngineArray], n_iter: int, converged: bool) -> Solution:
        self.record_at(thetas)
        return Solution(thetas, n_iter, converged, self.objective_curve, self.disagreement_curve)


def _begin(system: ConsensusSystem, start: Coefs | None) -> list[EngineArray]:
    return system.zeros() if start is None else list(start)


def _factors(system: ConsensusSystem, damping: float = 0.0) -> list[Factor]:
    return [system.engine.cholesky(node.damped_matrix(damping)) for node in system.nodes]


def solve_direct(
    system: ConsensusSystem,
    *,
    tol: float = 1e-6,
    max_iter: int = 500,
    damping: float = 0.0,
    start: Coefs | None = None,
    after_round: Callable[[], bool] = bool,
) -> Solution:
    """Factorize A, which is a single round; the keyword arguments have no effect."""
    A, r, blocks = system.dense()
    theta = system.engine.solve(system.engine.cholesky(A), r)
    monitor = _Monitor(system, tol)
    monitor.record_at(system.zeros())
    after_round()
    return monitor.solution([theta[rows] for rows in blocks], 1, True)


def solve_jacobi(
    system: ConsensusSystem,
    *,
    tol: float = 1e-6,
    max_iter: int = 500,
    damping: float = 0.0,
    start: Coefs | None = None,
    after_round: Callable[[], bool] = bool,
) -> Solution:
    """Solve every node's own block with the last coefficients of its neighbors."""
    factors, monitor = _factors(system, damping), _Monitor(system, tol)
    return _iterate_jacobi(
        system, factors, monitor, repeat((0.0, 1.0)), max_iter, start, after_round
    )


def _iterate_jacobi(
    system: ConsensusSystem,
    factors: Sequence[Factor],
    monitor: _Monitor,
    coefficients: Iterable[tuple[float, float]],
    max_iter: int,
    start: Coefs | None,
    after_round: Callable[[], bool],
) -> Solution:
    """Add momentum times the last step plus gain times the step of block Jacobi."""
    thetas, steps = _begin(system, start), system.zeros()
    for n_iter, (momentum, gain) in zip(range(1, max_iter + 1), coefficients, strict=False):
        pulls = system.pulls(thetas)
        residuals = system.residuals(thetas, pulls)
        monitor.record(thetas, pulls, residuals)
        own = map(system.engine.solve, factors, residuals)
        steps = [momentum * d + gain * g for d, g in zip(steps, own, strict=True)]
        thetas = [theta + d for theta, d in zip(thetas, steps, strict=True)]
        is_done = monitor.is_done(steps)
        if after_round() or is_done:
            return monitor.solution(thetas, n_iter, is_done)
    return monitor.solution(thetas, max_iter, False)


def solve_gauss_seidel(
    system: ConsensusSystem,
    *,
    tol: float = 1e-6,
    max_iter: int = 500,
    damping: float = 0.0,
    start: Coefs | None = None,
    after_round: Callable[[], bool] = bool,
) -> Solution:
    """Solve the blocks of all nodes, one color of the graph after another."""
    thetas = _begin(system, start)
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
        is_done = monitor.is_done(steps)
        if after_round() or is_done:
            return monitor.solution(thetas, n_iter, is_done)
    return monitor.solution(thetas, max_iter, False)


def solve_chebyshev(
    system: ConsensusSystem,
    *,
    tol: float = 1e-6,
    max_iter: int = 500,
    damping: float = 0.0,
    start: Coefs | None = None,
    after_round: Callable[[], bool] = bool,
) -> Solution:
    """Accelerate block Jacobi by Chebyshev's semi-iteration."""
    c = system.consensus_weight
    factors, monitor = _factors(system, damping), _Monitor(system, tol, chebyshev_contraction(c))
    coefficients = chebyshev_coefficients(c)
    return _iterate_jacobi(system, factors, monitor, coefficients, max_iter, start, after_round)


def solve_cg(
    system: ConsensusSystem,
    *,
    tol: float = 1e-6,
    max_iter: int = 500,
    damping: float = 0.0,
    start: Coefs | None = None,
    after_round: Callable[[], bool] = bool,
) -> Solution:
    """Run conjugate gradients for every output, preconditioned with the nodes' own blocks."""
    thetas = _begin(system, start)
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
        # The product of A with the directions, which `residuals` subtracts from the targets.
        curved = [
            node.target - residual
            for node, residual in zip(system.nodes, system.residuals(directions), strict=True)
        ]
        length = _ratio(product, _dots(directions, curved))
        steps = [d * length for d in directions]
        thetas = [theta + step for theta, step in zip(thetas, steps, strict=True)]
        pulls = system.pulls(thetas)
        residuals = system.residuals(thetas, pulls)
        is_done = monitor.is_done(steps)
        if after_round() or is_done:
            return monitor.solution(thetas, n_iter, is_done)
    return monitor.solution(thetas, max_iter, False)


def _dots(left: Iterable[EngineArray], right: Iterable[EngineArray]) -> EngineArray:
    return sum((a * b).sum(0) for a, b in zip(left, right, strict=True))


def _ratio(numerator: EngineArray, denominator: EngineArray) -> EngineArray:
    """Divide the outputs; one whose denominator is zero has been solved and gives zero."""
    solved = denominator == 0
    return numerator * ~solved / (denominator + solved)


def solve_jointly(
    system: ConsensusSystem,
    *,
    tol: float = 1e-6,
    max_iter: int = 500,
    damping: float = 0.0,
    start: Coefs | None = None,
    after_round: Callable[[], bool] = bool,
) -> Solution:
    """Factorize A if it is small enough, and run conjugate gradients otherwise."""
    n_unknowns = sum(len(node.target) for node in system.nodes)
    solve = solve_direct if n_unknowns <= _LARGEST_DIRECT else solve_cg
    return solve(
        system,
        tol=tol,
        max_iter=max_iter,
        damping=damping,
        start=start,
        after_round=after_round,
    )


SOLVERS: dict[str, Solver] = {
    "auto": solve_jointly,
    "direct": solve_direct,
    "jacobi": solve_jacobi,
    "gauss_seidel": solve_gauss_seidel,
    "chebyshev": solve_chebyshev,
    "cg": solve_cg,
}
