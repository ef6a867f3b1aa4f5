import numpy as np
import pytest
from sklearn.linear_model import Ridge

from sklearn_ext.kernel_regression import make_engine
from sklearn_ext.kernel_regression._lab_refit import (
    RIDGES,
    choose_ridge,
    normal_equations,
    ridge_coefficients,
)


def problem(n):
    rng = np.random.default_rng(0)
    X, centers = rng.normal(size=(n, 3)), rng.normal(size=(12, 3))
    Y = np.column_stack((np.sin(X[:, 0]), X[:, 1])) + 0.1 * rng.normal(size=(n, 2))
    return X, Y, rng.uniform(1, 3, size=(n, 1)), centers, np.full((12, 3), 0.6)


@pytest.mark.parametrize("name", ["numba", "torch"])
def test_coefficients_are_those_of_ridge_regression(name):
    X, Y, weights, centers, theta = problem(80)
    engine = make_engine(name)
    arrays = engine.asarray(centers), engine.asarray(theta)
    chunks = [(X[s], Y[s], weights[s]) for s in (slice(0, 30), slice(30, 80))]
    gram, moments = normal_equations(engine, "rbf", chunks, *arrays, 2)
    coef = ridge_coefficients(gram, moments, 0.01)
    K = engine.to_numpy(engine.kernel("rbf", engine.asarray(X), *arrays)[0])
    expected = Ridge(0.01 * weights.sum(), fit_intercept=False, tol=1e-12)
    expected.fit(K, Y, sample_weight=weights[:, 0])
    np.testing.assert_allclose(coef, expected.coef_.T, rtol=1e-6)


def test_the_ridge_has_the_smallest_weighted_error():
    X, Y, weights, centers, theta = problem(60)
    engine = make_engine()
    K = engine.kernel("rbf", X, centers, theta)[0].copy()
    train, held_out = slice(0, 30), slice(30, 60)
    chunk = (X[train], Y[train], weights[train])
    equations = normal_equations(engine, "rbf", [chunk], centers, theta, 2)
    fit = choose_ridge(*equations, K[held_out], Y[held_out], weights[held_out])
    errors = [
        ((K[held_out] @ ridge_coefficients(*equations, ridge) - Y[held_out]) ** 2).sum(axis=1)
        for ridge in RIDGES
    ]
    losses = [weights[held_out, 0] @ e for e in errors]
    rises = np.flatnonzero(np.diff(losses) > 0)
    best = rises[0] if len(rises) else len(RIDGES) - 1
    assert fit.ridge == RIDGES[best]
    np.testing.assert_allclose(fit.errors, errors[best])
