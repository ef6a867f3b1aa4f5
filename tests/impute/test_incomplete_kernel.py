import numpy as np
import pytest

from sklearn_ext.impute._incomplete_kernel import (
    common_sqdist,
    expected_kernel,
    gaussian_kernel,
    missing_sqdist_bound,
    published_lower_bound,
)
from tests.impute.tables import ENGINES

every_engine = pytest.mark.parametrize("engine", ENGINES, ids=lambda e: e.name)


@pytest.fixture
def table():
    rng = np.random.RandomState(0)
    X = rng.rand(12, 5)
    return X, rng.rand(12, 5) < 0.6


def pairs(n):
    return ((i, j) for i in range(n) for j in range(n))


def test_common_distances_are_sums_over_features_that_both_rows_have(table):
    X, observed = table
    expected = np.zeros((12, 12))
    for i, j in pairs(12):
        for p in range(5):
            if observed[i, p] and observed[j, p]:
                expected[i, j] += (X[i, p] - X[j, p]) ** 2
    holes_hold_anything = np.where(observed, X, 1e3)
    D = common_sqdist(holes_hold_anything, observed)
    np.testing.assert_allclose(D, expected, atol=1e-12)
    other = common_sqdist(X[:4], observed[:4], X[4:], observed[4:])
    np.testing.assert_allclose(other, expected[:4, 4:], atol=1e-12)
    np.testing.assert_allclose(gaussian_kernel(D, 0.7), np.exp(-0.7 * expected), atol=1e-12)


@pytest.mark.parametrize("limits", [(0.0, 1.0), (np.full(5, -0.5), np.linspace(1, 2, 5))])
def test_the_bound_is_the_farthest_corner_of_what_is_unknown(table, limits):
    X, observed = table
    low, high = (np.broadcast_to(v, 5) for v in limits)
    expected = np.zeros((12, 12))
    for i, j in pairs(12):
        for p in range(5 if i != j else 0):
            a, b = observed[i, p], observed[j, p]
            if not a and not b:
                expected[i, j] += (high[p] - low[p]) ** 2
            elif a != b:
                x = X[i, p] if a else X[j, p]
                expected[i, j] += max(x - low[p], high[p] - x) ** 2
    F = missing_sqdist_bound(np.where(observed, X, 1e3), observed, *limits)
    np.testing.assert_allclose(F, expected, atol=1e-12)


def test_the_complete_kernel_is_within_the_bounds(table):
    X, observed = table
    everywhere = np.ones_like(observed)
    for values in (X, np.where(observed, X, 0.0), np.where(observed, X, 1.0)):
        rest = common_sqdist(values, everywhere) - common_sqdist(values, observed)
        factor = np.exp(-2.0 * rest)
        assert (factor <= 1.0 + 1e-12).all()
        lower = np.exp(-2.0 * missing_sqdist_bound(values, observed))
        assert (factor >= lower - 1e-12).all()


def test_the_published_bound_counts_features_and_ignores_values(table):
    _, observed = table
    both = (~observed).astype(int) @ (~observed).T
    np.testing.assert_allclose(published_lower_bound(observed, 0.3), np.exp(-0.3 * (5 - both)))


@every_engine
def test_the_expected_kernel_is_the_mean_over_draws(engine):
    rng = np.random.RandomState(1)
    Z, V = rng.rand(6, 3), rng.rand(6, 3) * (rng.rand(6, 3) < 0.5)
    draws = Z + np.sqrt(V) * rng.randn(1_000_000, 6, 3)
    K = expected_kernel(engine, Z, V, 0.8)
    for i, j in ((0, 1), (2, 3), (4, 5)):
        sampled = np.exp(-0.8 * np.sum((draws[:, i] - draws[:, j]) ** 2, axis=1))
        assert K[i, j] == pytest.approx(sampled.mean(), abs=1e-3)
    np.testing.assert_array_equal(np.diag(K), 1.0)


@every_engine
def test_without_uncertainty_it_is_the_gaussian_kernel(engine, table):
    X, observed = table
    K = expected_kernel(engine, X, np.zeros_like(X), 1.3)
    D = common_sqdist(X, np.ones_like(observed))
    np.testing.assert_allclose(K, gaussian_kernel(D, 1.3), atol=1e-12)


@pytest.mark.parametrize("gamma", [0.1, 1.0, 5.0, 50.0])
def test_the_expected_kernel_is_positive_semidefinite_where_the_common_one_is_not(gamma):
    rng = np.random.RandomState(2)
    Z, V = rng.rand(60, 4), rng.rand(60, 4) * (rng.rand(60, 4) < 0.5)
    K = expected_kernel(ENGINES[0], Z, V, gamma)
    assert np.linalg.eigvalsh(K).min() >= -1e-10
    common = gaussian_kernel(common_sqdist(Z, V == 0), gamma)
    assert np.linalg.eigvalsh(common).min() < -0.01
