import numpy as np
import pytest

from sklearn_ext.impute import expected_gaussian_kernel
from sklearn_ext.impute.published._incomplete_kernel import common_sqdist, gaussian_kernel
from tests.impute.tables import ENGINES

every_engine = pytest.mark.parametrize("engine", ENGINES, ids=lambda e: e.name)


@every_engine
def test_the_expected_kernel_is_the_integral_over_gaussians(engine):
    """The integral is computed by quadrature, which is exact for smooth functions."""
    rng = np.random.RandomState(1)
    Z, V = rng.rand(6, 3), rng.rand(6, 3) * (rng.rand(6, 3) < 0.5)
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    std = np.sqrt(V[:, None] + V)[..., None]  # of the difference between two samples
    differences = (Z[:, None] - Z)[..., None] + std * nodes
    means = np.exp(-0.8 * differences**2) @ weights / weights.sum()
    expected = means.prod(axis=2)  # the features are independent
    np.fill_diagonal(expected, 1.0)
    K = expected_gaussian_kernel(Z, V, 0.8, engine=engine)
    np.testing.assert_allclose(K, expected, rtol=1e-10)


@every_engine
def test_without_variances_it_is_the_gaussian_kernel(engine):
    X = np.random.RandomState(0).rand(12, 5)
    K = expected_gaussian_kernel(X, np.zeros_like(X), 1.3, engine=engine)
    D = common_sqdist(X, np.ones_like(X, dtype=bool))
    np.testing.assert_allclose(K, gaussian_kernel(D, 1.3), atol=1e-12)


@pytest.mark.parametrize("gamma", [0.1, 1.0, 5.0, 50.0])
def test_it_is_positive_semidefinite_unlike_the_common_kernel(gamma):
    rng = np.random.RandomState(2)
    Z, V = rng.rand(60, 4), rng.rand(60, 4) * (rng.rand(60, 4) < 0.5)
    K = expected_gaussian_kernel(Z, V, gamma)
    assert np.linalg.eigvalsh(K).min() >= -1e-10
    common = gaussian_kernel(common_sqdist(Z, V == 0), gamma)
    assert np.linalg.eigvalsh(common).min() < -0.01
