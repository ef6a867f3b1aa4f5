"""The quadratic problem: gradient, definiteness, limits and symmetries."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.linalg import block_diag
from scipy.stats import ortho_group
from sklearn.linear_model import Ridge

from sklearn_ext.decentralized import consensus_system, make_graph
from sklearn_ext.decentralized.math import FeatureMap, solve_direct, solve_jacobi
from tests.decentralized.problems import ENGINE, make_problem, smooth_targets

every_graph = pytest.mark.parametrize("graph", ["ring", "star", "path", "complete", "random"])
FOLD_KEYS = ("X", "Y", "weights")


def random_thetas(problem, seed=0):
    rng = np.random.default_rng(seed)
    k = problem.Y[0].shape[1]
    return [rng.normal(size=(z.n_components, k)) for z in problem.maps]


def weighted_graph():
    rng = np.random.default_rng(3)
    upper = np.triu(rng.uniform(0.2, 2.0, (5, 5)) * (rng.random((5, 5)) < 0.8), 1)
    return upper + upper.T


@pytest.mark.parametrize("graph", ["ring", "star", "path", "complete", "random", weighted_graph()])
def test_objective_and_gradient_match_the_sum_over_samples(graph):
    problem = make_problem(graph, n_outputs=2)
    problem.weights[1][::2] = 2.5
    system, thetas = problem.system(), random_thetas(problem)
    assert system.objective(thetas) == pytest.approx(problem.objective(thetas), rel=1e-12)
    # Central differences of a quadratic are exact up to rounding.
    for j, residual in enumerate(system.residuals(thetas)):
        for place in [(0, 0), (3, 1), (7, 0)]:
            shifted = []
            for step in (1.0, -1.0):
                moved = [theta.copy() for theta in thetas]
                moved[j][place] += step
                shifted.append(problem.objective(moved))
            slope = (shifted[0] - shifted[1]) / 2.0
            assert -2.0 * residual[place] == pytest.approx(slope, rel=1e-8, abs=1e-8)


@every_graph
@pytest.mark.parametrize("c", [0.01, 1.0, 100.0])
def test_matrix_is_symmetric_and_jacobi_must_converge(graph, c):
    problem = make_problem(graph, c=c)
    A, _, blocks = problem.system().dense()
    size = np.linalg.norm(A)
    np.testing.assert_allclose(A, A.T, atol=1e-10 * size)
    diagonal = block_diag(*(A[rows, rows] for rows in blocks))
    for matrix in (A, 2.0 * diagonal - A):
        assert np.linalg.eigvalsh(matrix)[0] >= problem.ridge - 1e-10 * size


def test_dense_system_gives_the_residuals_of_the_blocks():
    problem = make_problem("random", n_outputs=2)
    system, thetas = problem.system(), random_thetas(problem)
    A, r, _ = system.dense()
    np.testing.assert_allclose(
        np.vstack(system.residuals(thetas)), r - A @ np.vstack(thetas), atol=1e-11
    )


@every_graph
@pytest.mark.parametrize("c", [0.01, 1.0, 100.0])
def test_undamped_jacobi_never_increases_the_objective(graph, c):
    system = make_problem(graph, c=c).system()
    curve = np.array(solve_jacobi(system, tol=0.0, max_iter=60).objective_curve)
    assert (np.diff(curve) <= 1e-12 * curve[0]).all()


@pytest.mark.parametrize("c", [0.01, 1.0, 100.0])
def test_random_participation_never_increases_the_objective(c):
    problem = make_problem("random", n_nodes=7, c=c)
    system, rng = problem.system(), np.random.default_rng(0)
    thetas = system.zeros()
    factors = [ENGINE.cholesky(node.matrix) for node in system.nodes]
    values = [system.objective(thetas)]
    for _ in range(60):
        residuals = system.residuals(thetas)
        for j in np.flatnonzero(rng.random(7) < 0.4):
            thetas[j] = thetas[j] + ENGINE.solve(factors[j], residuals[j])
        values.append(system.objective(thetas))
    assert (np.diff(values) <= 1e-12 * values[0]).all()
    assert values[-1] < 0.9 * values[0]


def ridge_coefs(Z, Y, penalty):
    return Ridge(alpha=penalty, fit_intercept=False, solver="cholesky").fit(Z, Y).coef_.reshape(-1)


def test_zero_consensus_weight_gives_local_ridge_regressions():
    problem = make_problem(c=0.0)
    for j, theta in enumerate(solve_direct(problem.system()).coefs):
        expected = ridge_coefs(problem.features(j, problem.X[j]), problem.Y[j], problem.ridge)
        np.testing.assert_allclose(theta[:, 0], expected, rtol=1e-8, atol=1e-8)


def test_single_node_solves_ridge_regression():
    problem = make_problem("complete", n_nodes=1, c=5.0)
    expected = ridge_coefs(problem.features(0, problem.X[0]), problem.Y[0], problem.ridge)
    theta = solve_direct(problem.system()).coefs[0]
    np.testing.assert_allclose(theta[:, 0], expected, rtol=1e-8, atol=1e-8)


def test_isolated_node_solves_its_own_ridge_regression():
    adjacency = np.zeros((4, 4))
    adjacency[:3, :3] = make_graph("ring", 3)
    problem = make_problem(adjacency, n_nodes=4, c=2.0)
    expected = ridge_coefs(problem.features(3, problem.X[3]), problem.Y[3], problem.ridge)
    for solve in (solve_direct, solve_jacobi):
        theta = solve(problem.system(), tol=1e-12, damping=5.0).coefs[3]
        np.testing.assert_allclose(theta[:, 0], expected, rtol=1e-8, atol=1e-8)


def test_common_map_and_large_weight_give_pooled_ridge():
    def gap(c):
        problem = make_problem("random", common_map=True, c=c)
        Z = np.vstack([problem.features(0, X) for X in problem.X])
        # The ridge of a node times the number of nodes is the ridge of the pooled problem.
        pooled = ridge_coefs(Z, np.vstack(problem.Y), problem.ridge * 5)
        thetas = solve_direct(problem.system()).coefs
        return max(np.linalg.norm(Z @ (theta[:, 0] - pooled)) for theta in thetas)

    assert gap(1e6) < 1e-5
    assert gap(1e4) / gap(1e5) == pytest.approx(10.0, abs=0.5)


def test_different_maps_and_large_weight_give_zero():
    problem = make_problem(c=1e8)
    thetas = solve_direct(problem.system()).coefs
    spread = np.vstack(problem.Y).std()
    assert abs(problem.predict(thetas, np.vstack(problem.X))).max() < 1e-2 * spread
    assert make_problem(c=1.0).system().disagreement(thetas) < 1e-2 * spread


def test_disagreement_is_measured_at_the_samples():
    problem = make_problem("star")
    thetas = random_thetas(problem)
    squares, n_samples = 0.0, sum(map(len, problem.X))
    for j, X in enumerate(problem.X):
        values = problem.predict(thetas, X)
        others = np.flatnonzero(problem.adjacency[j])
        squares += sum(((values[j] - values[i]) ** 2).sum() for i in others) / len(others)
    expected = (squares / n_samples) ** 0.5
    assert problem.system().disagreement(thetas) == pytest.approx(expected, rel=1e-9)


def everywhere(problem, thetas):
    return problem.predict(thetas, np.vstack(problem.X))


def test_renumbering_nodes_renumbers_the_solution():
    problem = make_problem("random", n_nodes=6)
    order = [3, 1, 5, 0, 2, 4]
    renumbered = replace(
        problem,
        **{key: [getattr(problem, key)[j] for j in order] for key in ("X", "Y", "weights", "maps")},
        adjacency=problem.adjacency[np.ix_(order, order)],
    )
    X = np.vstack(problem.X)
    expected = problem.predict(solve_direct(problem.system()).coefs, X)[order]
    actual = renumbered.predict(solve_direct(renumbered.system()).coefs, X)
    np.testing.assert_allclose(actual, expected, atol=1e-9)


def test_order_of_samples_does_not_matter():
    problem = make_problem()
    rng = np.random.default_rng(0)
    orders = [rng.permutation(len(X)) for X in problem.X]
    permuted = replace(
        problem,
        X=[X[order] for X, order in zip(problem.X, orders, strict=True)],
        Y=[Y[order] for Y, order in zip(problem.Y, orders, strict=True)],
    )
    np.testing.assert_allclose(
        everywhere(problem, solve_direct(permuted.system()).coefs),
        everywhere(problem, solve_direct(problem.system()).coefs),
        atol=1e-9,
    )


def test_solution_scales_and_rotates_with_the_targets():
    problem = make_problem(n_outputs=3)
    rotation = -4.0 * ortho_group.rvs(3, random_state=0)
    turned = replace(problem, Y=[Y @ rotation for Y in problem.Y])
    np.testing.assert_allclose(
        everywhere(problem, solve_direct(turned.system()).coefs),
        everywhere(problem, solve_direct(problem.system()).coefs) @ rotation,
        atol=1e-9,
    )


def test_shifted_phases_undo_a_translation():
    problem = make_problem()
    v = np.array([0.7, -1.3])
    moved = replace(
        problem,
        X=[X + v for X in problem.X],
        maps=[FeatureMap(z.frequencies, z.phases - v @ z.frequencies) for z in problem.maps],
    )
    np.testing.assert_allclose(
        everywhere(moved, solve_direct(moved.system()).coefs),
        everywhere(problem, solve_direct(problem.system()).coefs),
        atol=1e-9,
    )


def test_disconnected_components_are_independent():
    adjacency = np.zeros((6, 6))
    adjacency[:3, :3] = adjacency[3:, 3:] = make_graph("path", 3)
    problem = make_problem(adjacency, n_nodes=6)
    thetas = solve_direct(problem.system()).coefs
    for part in (slice(0, 3), slice(3, 6)):
        alone = replace(
            problem,
            **{key: getattr(problem, key)[part] for key in ("X", "Y", "weights", "maps")},
            adjacency=adjacency[part, part],
        )
        for apart, jointly in zip(solve_direct(alone.system()).coefs, thetas[part], strict=True):
            np.testing.assert_allclose(apart, jointly, atol=1e-9)


def test_weights_replicate_samples_and_outputs_are_independent():
    problem = make_problem(n_outputs=2)
    rng = np.random.default_rng(0)
    counts = [rng.integers(0, 4, len(X)) for X in problem.X]
    weighted = replace(problem, weights=[n.astype(float) for n in counts])
    replicated = replace(
        problem,
        X=[np.repeat(X, n, axis=0) for X, n in zip(problem.X, counts, strict=True)],
        Y=[np.repeat(Y, n, axis=0) for Y, n in zip(problem.Y, counts, strict=True)],
        weights=[np.ones(n.sum()) for n in counts],
    )
    both = everywhere(problem, solve_direct(weighted.system()).coefs)
    np.testing.assert_allclose(
        both, everywhere(problem, solve_direct(replicated.system()).coefs), atol=1e-9
    )
    for k in range(2):
        single = replace(weighted, Y=[Y[:, [k]] for Y in problem.Y])
        column = everywhere(problem, solve_direct(single.system()).coefs)
        np.testing.assert_allclose(column[..., 0], both[..., k], atol=1e-9)


def test_subtracting_a_fold_leaves_the_other_samples():
    problem = make_problem(n_outputs=2)
    total = problem.statistics()
    first = replace(problem, **{k: [a[:5] for a in getattr(problem, k)] for k in FOLD_KEYS})
    rest = replace(problem, **{k: [a[5:] for a in getattr(problem, k)] for k in FOLD_KEYS})
    for whole, held_out, expected in zip(total, first.statistics(), rest.statistics(), strict=True):
        left = whole - held_out
        np.testing.assert_allclose(left.gram, expected.gram, atol=1e-11)
        np.testing.assert_allclose(left.moment, expected.moment, atol=1e-11)
        for i in expected.cross:
            np.testing.assert_allclose(left.cross[i], expected.cross[i], atol=1e-11)
            np.testing.assert_allclose(left.neighbor_gram[i], expected.neighbor_gram[i], atol=1e-11)


@pytest.mark.parametrize("graph", ["star", "ring"])
def test_anchors_give_the_solution_of_an_explicit_system(graph):
    problem = make_problem(graph)
    R = np.vstack(problem.X)
    anchors = [problem.features(j, R) for j in range(5)]
    system = consensus_system(
        problem.statistics(),
        problem.adjacency,
        ridge=problem.ridge,
        consensus_weight=problem.c,
        anchors=anchors,
    )
    n = np.array([len(X) for X in problem.X])
    degree = problem.adjacency.sum(axis=1)
    starts = np.cumsum([0, *(z.n_components for z in problem.maps)])
    A, r = np.eye(starts[-1]) * problem.ridge, np.zeros((starts[-1], 1))
    for j in range(5):
        rows = slice(starts[j], starts[j + 1])
        Z = problem.features(j, problem.X[j])
        A[rows, rows] += Z.T @ Z
        r[rows] = Z.T @ problem.Y[j]
        for i in np.flatnonzero(problem.adjacency[j]):
            # Each row of D has the coefficients of f_j - f_i at one anchor.
            D = np.zeros((len(R), starts[-1]))
            D[:, rows] = anchors[j]
            D[:, starts[i] : starts[i + 1]] = -anchors[i]
            A += problem.c * n[j] / degree[j] / len(R) * D.T @ D
    expected = np.linalg.solve(A, r)
    np.testing.assert_allclose(np.vstack(solve_direct(system).coefs), expected, atol=1e-9)


def test_smooth_targets_are_learned():
    problem = make_problem(c=0.3)
    thetas = solve_direct(problem.system()).coefs
    X = np.random.default_rng(9).uniform(-0.8, 0.8, (200, 2))
    Y = smooth_targets(X, 1, np.random.default_rng(1))
    errors = ((problem.predict(thetas, X) - Y) ** 2).mean(axis=(1, 2))
    assert (errors < 0.5 * Y.var()).all()
