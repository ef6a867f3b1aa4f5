"""All solvers find the same solution, and damped Jacobi follows the paper's iteration."""

import numpy as np
import pytest
import torch

from sklearn_ext.decentralized.math import (
    SOLVERS,
    _solvers,
    greedy_colors,
    solve_direct,
    solve_jacobi,
)
from sklearn_ext.decentralized.math._engine_torch import DeKRRTorchEngine
from tests.decentralized.problems import make_problem


@pytest.mark.parametrize("graph", ["ring", "star", "complete", "random"])
@pytest.mark.parametrize("c", [0.0, 0.5, 8.0])
@pytest.mark.parametrize(
    ("solver", "damping"),
    [("jacobi", 0.0), ("jacobi", 5.0), ("gauss_seidel", 0.0), ("chebyshev", 0.0), ("cg", 0.0)],
)
def test_all_solvers_agree(graph, c, solver, damping):
    problem = make_problem(graph, c=c, n_outputs=2)
    X, spread = np.vstack(problem.X), np.vstack(problem.Y).std()
    expected = problem.predict(solve_direct(problem.system()).coefs, X)
    solution = SOLVERS[solver](problem.system(), tol=1e-9, max_iter=5000, damping=damping)
    assert solution.converged
    actual = problem.predict(solution.coefs, X)
    np.testing.assert_allclose(actual, expected, atol=1e-6 * spread)
    assert len(solution.objective_curve) == len(solution.disagreement_curve) == solution.n_iter + 1
    best = problem.objective(solve_direct(problem.system()).coefs)
    assert solution.objective_curve[-1] == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("solver", ["jacobi", "gauss_seidel", "chebyshev", "cg"])
def test_few_rounds_do_not_converge_but_a_warm_start_does(solver):
    problem = make_problem(c=4.0)
    short = SOLVERS[solver](problem.system(), tol=1e-12, max_iter=3)
    assert (short.n_iter, short.converged) == (3, False)
    start = solve_direct(problem.system()).coefs
    warm = SOLVERS[solver](problem.system(), tol=1e-6, start=start)
    assert warm.converged
    assert warm.n_iter <= 2


def test_zero_targets_give_zero_coefficients():
    problem = make_problem(n_outputs=2)
    problem.Y = [Y * [1.0, 0.0] for Y in problem.Y]
    for solver in SOLVERS.values():
        thetas = solver(problem.system(), tol=1e-9).coefs
        assert all((theta[:, 1] == 0.0).all() for theta in thetas)
        assert all(theta[:, 0].any() for theta in thetas)


def test_rounds_follow_the_iteration_of_the_paper():
    """Compare damping 5 with the iteration of the paper, written out with its inverses."""
    problem = make_problem("circulant", n_nodes=7, c=1.0)
    degree, s = 4, 5.0
    features = [[problem.features(i, X) for i in range(7)] for X in problem.X]
    thetas = [np.zeros((z.n_components, 1)) for z in problem.maps]
    trace = []
    for _ in range(20):
        new = []
        for j in range(7):
            Z, weight = features[j][j], problem.c / degree
            A = (1.0 + s * weight) * Z.T @ Z + problem.ridge * np.eye(Z.shape[1])
            b = Z.T @ problem.Y[j] + s * weight * Z.T @ (Z @ thetas[j])
            for i in np.flatnonzero(problem.adjacency[j]):
                mine = features[i][j]
                A += weight * (Z.T @ Z + mine.T @ mine)
                b += weight * (Z.T @ features[j][i] + mine.T @ features[i][i]) @ thetas[i]
            new.append(np.linalg.inv(A) @ b)
        thetas = new
        own = np.vstack([features[j][j] @ thetas[j] for j in range(7)])
        trace.append(((own - np.vstack(problem.Y)) ** 2).sum() / np.vstack(problem.Y).var())
    ours = []
    for n_rounds in range(1, 21):
        coefs = solve_jacobi(problem.system(), tol=0.0, max_iter=n_rounds, damping=s).coefs
        own = np.vstack([features[j][j] @ coefs[j] for j in range(7)])
        ours.append(((own - np.vstack(problem.Y)) ** 2).sum() / np.vstack(problem.Y).var())
    np.testing.assert_allclose(ours, trace, rtol=1e-10)


def test_neighbors_have_different_colors():
    problem = make_problem("random", n_nodes=20)
    neighbors = [np.flatnonzero(row) for row in problem.adjacency]
    colors = greedy_colors(neighbors)
    assert all(colors[i] != colors[j] for j in range(20) for i in neighbors[j])
    assert len(set(colors)) <= max(map(len, neighbors)) + 1


@pytest.mark.parametrize("solver", list(SOLVERS))
def test_torch_and_numba_give_the_same_solution(solver):
    problem = make_problem("star", c=1.5, n_outputs=2)
    X = np.vstack(problem.X)
    expected = problem.predict(solve_direct(problem.system()).coefs, X)
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-4)):
        engine = DeKRRTorchEngine("cpu", dtype)
        solution = SOLVERS[solver](problem.system(engine), tol=1e-12, max_iter=3000)
        thetas = [engine.to_numpy(theta) for theta in solution.coefs]
        np.testing.assert_allclose(problem.predict(thetas, X), expected, atol=tolerance)


def test_large_systems_use_conjugate_gradients(monkeypatch):
    problem = make_problem()
    assert SOLVERS["auto"](problem.system()).n_iter == 1
    monkeypatch.setattr(_solvers, "_LARGEST_DIRECT", 20)
    assert SOLVERS["auto"](problem.system()).n_iter > 1


@pytest.mark.parametrize("c", [0.0, 0.5, 8.0])
def test_chebyshev_contraction_is_the_rate_of_its_polynomial(c):
    """The largest error over the interval is that of the Chebyshev polynomial."""
    low, high = _solvers.chebyshev_interval(c)
    eigenvalues = np.linspace(low, high, 2001)
    errors, step = np.ones_like(eigenvalues), np.zeros_like(eigenvalues)
    q = _solvers.chebyshev_contraction(c)
    for n, (momentum, gain) in zip(range(1, 30), _solvers.chebyshev_coefficients(c), strict=False):
        step = momentum * step - gain * eigenvalues * errors
        errors = errors + step
        assert abs(errors).max() == pytest.approx(2.0 * q**n / (1.0 + q ** (2 * n)), rel=1e-6)


def test_remaining_error_is_that_of_a_geometric_series():
    steps = 0.7 ** np.arange(200)
    rest = steps[3:].sum()
    assert _solvers.remaining_error(steps[2], steps[1]) == pytest.approx(rest)
    assert _solvers.remaining_error(steps[2], np.inf, 0.7) == pytest.approx(rest)
    assert _solvers.remaining_error(1.0, np.inf) == np.inf
    assert _solvers.remaining_error(0.0, np.inf) == 0.0
