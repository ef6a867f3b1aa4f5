"""Identities behind exact forgetting, on every engine."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import LeaveOneOut, cross_val_predict

from sklearn_ext.unlearning.exact._engine import ScipyEngine
from sklearn_ext.unlearning.exact._engine_torch import TorchEngine
from sklearn_ext.unlearning.exact._feature_map import RowFeatures, draw_frequencies
from sklearn_ext.unlearning.exact._ridge import (
    IllConditionedError,
    condition,
    dual_downdate,
    dual_elimination,
    dual_fit,
    dual_learn,
    primal_elimination,
    primal_fit,
    primal_update,
)

LAMBDA = 0.03


@pytest.fixture(params=["scipy", "torch"])
def engine(request):
    return ScipyEngine() if request.param == "scipy" else TorchEngine(torch.device("cpu"))


class Problem:
    """Rows r and u of a ridge regression with weights; its solutions by dense solves."""

    def __init__(self, n, p, seed=0):
        rng = np.random.default_rng(seed)
        self.Z, self.Y = rng.normal(size=(n, p)), rng.normal(size=(n, 3))
        self.s = rng.uniform(0.5, 2.0, size=n)
        self.u = np.array([0, 3, n - 2])
        self.r = np.setdiff1d(np.arange(n), self.u)

    def coef(self, rows):
        Z, Y, s = self.Z[rows], self.Y[rows], self.s[rows, None]
        return np.linalg.solve(Z.T @ (s * Z) + LAMBDA * np.eye(Z.shape[1]), Z.T @ (s * Y))

    def dual_inverse(self, rows):
        Z = self.Z[rows]
        return np.linalg.inv(Z @ Z.T + np.diag(LAMBDA / self.s[rows]))

    def weighted(self, rows):
        root = np.sqrt(self.s[rows, None])
        return root * self.Z[rows], root * self.Y[rows]

    def sums(self, rows):
        Z, Y = self.weighted(rows)
        return Z.T @ Z + LAMBDA * np.eye(Z.shape[1]), Z.T @ Y


def lower(engine, A):
    """A symmetric matrix from its lower triangle, the upper one being nobody's business."""
    A = np.tril(engine.to_numpy(A))
    return A + np.tril(A, -1).T


def native(engine, *arrays):
    return [engine.asarray(a) for a in arrays]


def fitted_dual(engine, problem, rows):
    Z, Y, ridge = native(engine, problem.Z[rows], problem.Y[rows], LAMBDA / problem.s[rows])
    return dual_fit(engine, Z, Y, ridge)[:2]


def close(actual, expected, tol=1e-11):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tol * abs(expected).max())


def test_the_dual_fit_is_ridge_regression(engine):
    problem = Problem(30, 50)
    everything = np.arange(30)
    alpha, G = fitted_dual(engine, problem, everything)
    close(problem.Z.T @ engine.to_numpy(alpha), problem.coef(everything))
    close(lower(engine, G), problem.dual_inverse(everything))


def test_elimination_in_the_dual_is_a_fit_without_the_rows(engine):
    problem = Problem(30, 50)
    alpha, G = fitted_dual(engine, problem, np.arange(30))
    V, c, S = dual_elimination(engine, G, alpha, problem.u)
    w = problem.coef(problem.r)
    close(problem.Y[problem.u] - engine.to_numpy(S), problem.Z[problem.u] @ w)
    close(problem.Z[problem.r].T @ engine.to_numpy((alpha - V @ c)[problem.r]), w)
    close(lower(engine, dual_downdate(engine, G, V, problem.r)), problem.dual_inverse(problem.r))


def test_bordering_is_a_fit_with_the_rows(engine):
    problem = Problem(30, 50)
    first, last = np.arange(26), np.arange(26, 30)
    alpha, G = fitted_dual(engine, problem, first)
    own = problem.Z[last] @ problem.Z[last].T + np.diag(LAMBDA / problem.s[last])
    given = native(engine, problem.Z[first] @ problem.Z[last].T, own, problem.Y[last])
    alpha, G = dual_learn(engine, G, alpha, *given)
    everything = np.arange(30)
    close(problem.Z.T @ engine.to_numpy(alpha), problem.coef(everything))
    close(lower(engine, G), problem.dual_inverse(everything))


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_elimination_in_the_primal_is_a_fit_of_other_rows(engine, sign):
    problem = Problem(60, 8)
    everything = np.arange(60)
    before, after = (everything, problem.r) if sign < 0 else (problem.r, everything)
    A, B = native(engine, *problem.sums(before))
    w, P, number = primal_fit(engine, A, B)
    close(engine.to_numpy(w), problem.coef(before))
    V, w = primal_elimination(engine, A, P, w, *native(engine, *problem.weighted(problem.u)), sign)
    close(engine.to_numpy(w), problem.coef(after))
    inverse = np.linalg.inv(problem.sums(after)[0])
    assert number == pytest.approx(condition(A, P))
    assert 1 / 8 < number / np.linalg.cond(problem.sums(before)[0]) < 8
    close(lower(engine, primal_update(engine, P, V, sign)), inverse)


def test_the_two_forms_are_linked(engine):
    problem = Problem(20, 20)
    problem.s[:] = 1.0
    everything = np.arange(20)
    _, G = fitted_dual(engine, problem, everything)
    _, P, _ = primal_fit(engine, *native(engine, *problem.sums(everything)))
    G, P = lower(engine, G), lower(engine, P)
    close(problem.Z.T @ G, P @ problem.Z.T)
    close(LAMBDA * G, np.eye(20) - problem.Z @ P @ problem.Z.T)


def test_one_row_gives_the_leave_one_out_prediction(engine):
    problem = Problem(25, 40)
    problem.s[:] = 1.0
    alpha, G = fitted_dual(engine, problem, np.arange(25))
    labels = [
        problem.Y[i] - engine.to_numpy(dual_elimination(engine, G, alpha, np.array([i]))[2])[0]
        for i in range(25)
    ]
    ridge = Ridge(alpha=LAMBDA, fit_intercept=False, solver="cholesky")
    expected = cross_val_predict(ridge, problem.Z, problem.Y, cv=LeaveOneOut())
    close(np.array(labels), expected, 1e-9)


def test_an_update_without_digits_left_is_refused(engine):
    # Without the three rows, three directions of the features are lost.
    Z = np.eye(6)
    Y = np.ones((6, 1))
    A, B = native(engine, Z.T @ Z + 1e-14 * np.eye(6), Z.T @ Y)
    w, P, _ = primal_fit(engine, A, B)
    with pytest.raises(IllConditionedError):
        primal_elimination(engine, A, P, w, *native(engine, Z[:3], Y[:3]), -1.0)


def test_forgetting_that_makes_an_ill_conditioned_matrix_worse_is_refused(engine):
    # The first row alone holds its direction: without it, the inverse grows by 10,000 there.
    Z = np.diag([1.0, 30.0, 0.0])
    for n_columns, sign, refused in ((2, -1.0, False), (3, 1.0, False), (3, -1.0, True)):
        A = Z[:, :n_columns].T @ Z[:, :n_columns] + 1e-4 * np.eye(n_columns)
        A, row, Y = native(engine, A, Z[:1, :n_columns], np.ones((1, 1)))
        w, P, _ = primal_fit(engine, A, row.T)
        if refused:
            with pytest.raises(IllConditionedError):
                primal_elimination(engine, A, P, w, row, Y, sign)
        else:
            primal_elimination(engine, A, P, w, row, Y, sign)


def test_gradient_descent_with_optimal_labels_ends_in_the_retrained_weights():
    engine = ScipyEngine()
    rng = np.random.default_rng(0)
    Z, Y = rng.normal(size=(40, 120)), rng.normal(size=(40, 2))
    u, r = np.arange(6), np.arange(6, 40)
    spectrum = np.linalg.eigvalsh(Z @ Z.T)
    assert spectrum[-1] / spectrum[0] < 200
    start, target = np.linalg.pinv(Z) @ Y, np.linalg.pinv(Z[r]) @ Y[r]
    alpha, G, _ = dual_fit(engine, Z, Y, np.zeros(40))
    labels = Y[u] - dual_elimination(engine, G, alpha, u)[2]

    def distance(labels):
        w, targets = start.copy(), np.vstack((labels, Y[r]))
        for _ in range(10_000):
            w -= Z.T @ (Z @ w - targets) / spectrum[-1]
        return np.linalg.norm(w - target) / np.linalg.norm(target)

    before = np.linalg.norm(start - target) / np.linalg.norm(target)
    assert before > 0.1
    assert distance(labels) < 1e-10
    assert distance(rng.permutation(Y[u])) > before


def test_features_have_norm_one_and_estimate_the_gaussian_kernel(engine):
    rng = np.random.RandomState(0)
    X = rng.randn(12, 5)
    W = draw_frequencies(rng, 5, 20_000, gamma=0.3)
    Z = engine.to_numpy(engine.fourier_features(X, W, constant=True))
    np.testing.assert_array_equal(Z[:, -1], 1.0)
    Z = Z[:, :-1]
    np.testing.assert_allclose(
        Z, np.hstack((np.cos(X @ W), np.sin(X @ W))) / 20_000**0.5, atol=1e-15
    )
    np.testing.assert_allclose((Z**2).sum(axis=1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(Z @ Z.T, rbf_kernel(X, gamma=0.3), atol=0.02)


def test_sums_over_blocks_of_rows_are_those_over_all(engine):
    rng = np.random.RandomState(0)
    X, W, alpha = rng.randn(70, 4), rng.randn(4, 10), rng.randn(70, 3)
    engine.block_elements = 20 * 16  # blocks of 16 rows
    features = RowFeatures(engine, lambda X: engine.fourier_features(X, W), 20)
    Z = engine.to_numpy(engine.fourier_features(X, W))
    np.testing.assert_array_equal(engine.to_numpy(features.matrix(X)), Z)
    close(engine.to_numpy(features.expansion(X, engine.asarray(alpha))), Z.T @ alpha)
    close(features.values(X, Z.T @ alpha), Z @ (Z.T @ alpha))


def test_large_angles_are_no_exception():
    X, W = np.array([[1.0], [1e7]]), np.array([[0.1, 3.0]])
    Z = ScipyEngine().fourier_features(X, W)
    np.testing.assert_allclose(Z, np.hstack((np.cos(X @ W), np.sin(X @ W))) / 2**0.5, atol=1e-15)
