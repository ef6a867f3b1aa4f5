import numpy as np
import pytest
from sklearn.metrics import pairwise_distances

from sklearn_ext.impute.published._s_stress import (
    best_entry,
    fit_by_adam,
    fit_by_lbfgs,
    fit_sample,
    sqdist,
    stress,
    target_sqdist,
)
from tests.impute.tables import central_differences


@pytest.fixture
def problem():
    rng = np.random.RandomState(0)
    X = rng.rand(30, 4)
    W = rng.rand(30, 30)
    W = W + W.T
    np.fill_diagonal(W, 0.0)
    return X, rng.rand(30, 4) < 0.2, W


def test_target_distances_invert_the_kernel(problem):
    X, _, _ = problem
    D = sqdist(X)
    np.testing.assert_allclose(D, pairwise_distances(X) ** 2, atol=1e-12)
    np.testing.assert_allclose(target_sqdist(np.exp(-0.3 * D), 0.3), D, atol=1e-12)


def test_targets_are_finite_for_invalid_kernel_entries():
    K = np.array([[1.0, 1.5], [1.5, 1.0]])
    T = target_sqdist(K, 2.0)
    assert T[0, 1] == pytest.approx(-np.log(1.5) / 2.0)
    assert np.isfinite(target_sqdist(np.array([[1.0, 0.0], [-0.2, 1.0]]), 1.0)).all()


def test_the_gradient_matches_central_differences(problem):
    X, _, W = problem
    T = np.random.RandomState(1).rand(30, 30)
    T = T + T.T
    np.fill_diagonal(T, 0.0)

    def value(x):
        return stress(x.reshape(X.shape), T, W)[0]

    gradient = stress(X, T, W)[1].ravel()
    expected = central_differences(value, X.ravel(), step=1e-5)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-6)


def test_the_best_entry_is_never_worse_than_a_grid():
    rng = np.random.RandomState(0)
    t = np.linspace(0.0, 1.0, 2001)
    for _ in range(500):
        m = rng.randint(1, 6)
        w, a, b = rng.rand(m), rng.uniform(-0.5, 1.5, m), rng.uniform(-1.0, 0.5, m)

        def quartic(t, w=w, a=a, b=b):
            return np.sum(w[:, None] * ((t - a[:, None]) ** 2 + b[:, None]) ** 2, axis=0)

        best = best_entry(w.sum(), -3 * (w @ a), w @ (3 * a**2 + b), -(w @ (a * (a**2 + b))))
        assert 0.0 <= best <= 1.0
        assert quartic(np.array([best]))[0] <= quartic(t).min() + 1e-12


def test_coordinate_sweeps_never_raise_the_stress(problem):
    X, _, _ = problem
    rng = np.random.RandomState(2)
    missing = np.array([True, False, True, True])
    targets = np.sum((X[1:] - X[0]) ** 2, axis=1) + 0.3 * rng.randn(29)
    start = np.where(missing, rng.rand(4), X[0])
    values = []
    for max_sweeps in range(11):
        found = fit_sample(start, missing, X[1:], targets, max_sweeps=max_sweeps)
        np.testing.assert_array_equal(found[~missing], X[0, ~missing])
        values.append(np.sum((np.sum((X[1:] - found) ** 2, axis=1) - targets) ** 2))
    assert (np.diff(values) <= 1e-10).all()
    assert values[-1] < values[0]


@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_true_distances_recover_the_samples(problem, solver):
    X, missing, W = problem
    T = sqdist(X)
    start = np.where(missing, 0.5, X)
    if solver == "adam":
        found, _, root = fit_by_adam(start, missing, T)
        assert root < 0.05
    else:
        found = fit_by_lbfgs(start, missing, T, W)
    np.testing.assert_array_equal(found[~missing], X[~missing])
    np.testing.assert_allclose(found, X, atol=5e-3)


def test_a_sample_is_recovered_from_its_distances(problem):
    X, _, _ = problem
    missing = np.array([True, False, True, False])
    start = np.where(missing, 0.5, X[0])
    found = fit_sample(start, missing, X[1:], np.sum((X[1:] - X[0]) ** 2, axis=1))
    np.testing.assert_allclose(found, X[0], atol=1e-4)
