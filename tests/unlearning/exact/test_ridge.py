"""The formulas of exact forgetting equal dense solves, on every engine."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.model_selection import LeaveOneOut, cross_val_predict

from sklearn_ext.unlearning.exact import (
    IllConditionedError,
    RidgeScipyEngine,
    condition,
    dual_bordering,
    dual_downdate,
    dual_elimination,
    dual_fit,
    primal_elimination,
    primal_fit,
    primal_update,
)
from sklearn_ext.unlearning.exact._engine_torch import RidgeTorchEngine

LAMBDA = 0.03


@pytest.fixture(params=["scipy", "torch"])
def engine(request):
    return RidgeScipyEngine() if request.param == "scipy" else RidgeTorchEngine(torch.device("cpu"))


class Problem:
    """A weighted ridge regression on samples r and u, and its solutions by dense solves."""

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
    """Build a symmetric matrix from its lower triangle; the upper one may hold anything."""
    A = np.tril(engine.to_numpy(A))
    return A + np.tril(A, -1).T


def native(engine, *arrays):
    return [engine.asarray(a) for a in arrays]


def fitted_dual(engine, problem, rows):
    Z, Y, ridge = native(engine, problem.Z[rows], problem.Y[rows], LAMBDA / problem.s[rows])
    return dual_fit(engine, Z, Y, ridge)


def close(actual, expected, tol=1e-11):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tol * abs(expected).max())


def test_dual_fit_equals_ridge_regression(engine):
    problem = Problem(30, 50)
    everything = np.arange(30)
    alpha, G = fitted_dual(engine, problem, everything)
    close(problem.Z.T @ engine.to_numpy(alpha), problem.coef(everything))
    close(lower(engine, G), problem.dual_inverse(everything))


def test_dual_elimination_equals_fit_without_the_samples(engine):
    problem = Problem(30, 50)
    alpha, G = fitted_dual(engine, problem, np.arange(30))
    V, c, S = dual_elimination(engine, G, alpha, problem.u)
    w = problem.coef(problem.r)
    close(problem.Y[problem.u] - engine.to_numpy(S), problem.Z[problem.u] @ w)
    close(problem.Z[problem.r].T @ engine.to_numpy((alpha - V @ c)[problem.r]), w)
    close(lower(engine, dual_downdate(engine, G, V, problem.r)), problem.dual_inverse(problem.r))


def test_bordering_equals_fit_with_the_samples(engine):
    problem = Problem(30, 50)
    first, last = np.arange(26), np.arange(26, 30)
    alpha, G = fitted_dual(engine, problem, first)
    own = problem.Z[last] @ problem.Z[last].T + np.diag(LAMBDA / problem.s[last])
    given = native(engine, problem.Z[first] @ problem.Z[last].T, own, problem.Y[last])
    alpha, G = dual_bordering(engine, G, alpha, *given)
    everything = np.arange(30)
    close(problem.Z.T @ engine.to_numpy(alpha), problem.coef(everything))
    close(lower(engine, G), problem.dual_inverse(everything))


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_primal_elimination_equals_fit_of_the_changed_samples(engine, sign):
    problem = Problem(60, 8)
    everything = np.arange(60)
    before, after = (everything, problem.r) if sign < 0 else (problem.r, everything)
    A, B = native(engine, *problem.sums(before))
    w, P = primal_fit(engine, A, B)
    close(engine.to_numpy(w), problem.coef(before))
    V, w = primal_elimination(
        engine, condition(A, P), P, w, *native(engine, *problem.weighted(problem.u)), sign
    )
    close(engine.to_numpy(w), problem.coef(after))
    inverse = np.linalg.inv(problem.sums(after)[0])
    assert 1 / 8 < condition(A, P) / np.linalg.cond(problem.sums(before)[0]) < 8
    close(lower(engine, primal_update(engine, P, V, sign)), inverse)


def test_dual_and_primal_inverses_are_linked(engine):
    problem = Problem(20, 20)
    problem.s[:] = 1.0
    everything = np.arange(20)
    _, G = fitted_dual(engine, problem, everything)
    _, P = primal_fit(engine, *native(engine, *problem.sums(everything)))
    G, P = lower(engine, G), lower(engine, P)
    close(problem.Z.T @ G, P @ problem.Z.T)
    close(LAMBDA * G, np.eye(20) - problem.Z @ P @ problem.Z.T)


def test_one_sample_gives_the_leave_one_out_prediction(engine):
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


def test_update_that_loses_all_precision_is_refused(engine):
    # Without the three samples, three directions of the features are lost.
    Z = np.eye(6)
    Y = np.ones((6, 1))
    A, B = native(engine, Z.T @ Z + 1e-14 * np.eye(6), Z.T @ Y)
    w, P = primal_fit(engine, A, B)
    with pytest.raises(IllConditionedError):
        primal_elimination(engine, condition(A, P), P, w, *native(engine, Z[:3], Y[:3]), -1.0)


def test_forgetting_that_worsens_bad_conditioning_is_refused(engine):
    # Only the first sample has its direction: without it, the inverse grows by 10,000 there.
    Z = np.diag([1.0, 30.0, 0.0])
    for n_columns, sign, refused in ((2, -1.0, False), (3, 1.0, False), (3, -1.0, True)):
        A = Z[:, :n_columns].T @ Z[:, :n_columns] + 1e-4 * np.eye(n_columns)
        A, row, Y = native(engine, A, Z[:1, :n_columns], np.ones((1, 1)))
        B = Z[:, :n_columns].T @ np.ones((3, 1))
        w, P = primal_fit(engine, A, *native(engine, B))
        if refused:
            with pytest.raises(IllConditionedError):
                primal_elimination(engine, condition(A, P), P, w, row, Y, sign)
        else:
            primal_elimination(engine, condition(A, P), P, w, row, Y, sign)


def test_descent_with_exact_labels_ends_in_retrained_weights():
    engine = RidgeScipyEngine()
    rng = np.random.default_rng(0)
    Z, Y = rng.normal(size=(40, 120)), rng.normal(size=(40, 2))
    u, r = np.arange(6), np.arange(6, 40)
    spectrum = np.linalg.eigvalsh(Z @ Z.T)
    assert spectrum[-1] / spectrum[0] < 200
    start, target = np.linalg.pinv(Z) @ Y, np.linalg.pinv(Z[r]) @ Y[r]
    alpha, G = dual_fit(engine, Z, Y, np.zeros(40))
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
