import numpy as np
import pytest

from sklearn_ext.impute.published._incomplete_kernel import (
    common_sqdist,
    gaussian_kernel,
    missing_sqdist_bound,
    published_lower_bound,
)


@pytest.fixture
def table():
    rng = np.random.RandomState(0)
    X = rng.rand(12, 5)
    return X, rng.rand(12, 5) < 0.6


def pairs(n):
    return ((i, j) for i in range(n) for j in range(n))


def test_common_distances_sum_over_common_features(table):
    X, observed = table
    expected = np.zeros((12, 12))
    for i, j in pairs(12):
        for p in range(5):
            if observed[i, p] and observed[j, p]:
                expected[i, j] += (X[i, p] - X[j, p]) ** 2
    with_arbitrary_missing = np.where(observed, X, 1e3)
    D = common_sqdist(with_arbitrary_missing, observed)
    np.testing.assert_allclose(D, expected, atol=1e-12)
    other = common_sqdist(X[:4], observed[:4], X[4:], observed[4:])
    np.testing.assert_allclose(other, expected[:4, 4:], atol=1e-12)
    np.testing.assert_allclose(gaussian_kernel(D, 0.7), np.exp(-0.7 * expected), atol=1e-12)


@pytest.mark.parametrize("limits", [(0.0, 1.0), (np.full(5, -0.5), np.linspace(1, 2, 5))])
def test_the_bound_is_the_farthest_corner(table, limits):
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


def test_the_kernel_of_complete_data_is_within_the_bounds(table):
    X, observed = table
    everywhere = np.ones_like(observed)
    for values in (X, np.where(observed, X, 0.0), np.where(observed, X, 1.0)):
        rest = common_sqdist(values, everywhere) - common_sqdist(values, observed)
        factor = np.exp(-2.0 * rest)
        assert (factor <= 1.0 + 1e-12).all()
        lower = np.exp(-2.0 * missing_sqdist_bound(values, observed))
        assert (factor >= lower - 1e-12).all()


def test_the_published_bound_ignores_the_values(table):
    _, observed = table
    both = (~observed).astype(int) @ (~observed).T
    np.testing.assert_allclose(published_lower_bound(observed, 0.3), np.exp(-0.3 * (5 - both)))
