import numpy as np
import pytest

from sklearn_ext.impute import expected_gaussian_kernel


@pytest.fixture
def kernel_and_signs():
    """An expected kernel of 50 samples, and a column of labels of -1 and 1."""
    rng = np.random.RandomState(0)
    Z, V = rng.rand(50, 3), 0.1 * rng.rand(50, 3) * (rng.rand(50, 3) < 0.4)
    y = np.where(Z[:, 0] + 0.2 * rng.randn(50) > 0.5, 1.0, -1.0)
    return expected_gaussian_kernel(Z, V, 2.0), y[:, None]
