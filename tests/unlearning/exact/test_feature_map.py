"""Random features do not depend on how they are computed, and estimate the Gaussian kernel."""

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import rbf_kernel

from sklearn_ext.unlearning.exact import FeatureMap, RidgeScipyEngine, draw_frequencies
from sklearn_ext.unlearning.exact._engine_torch import RidgeTorchEngine


@pytest.fixture(params=["scipy", "torch"])
def engine(request):
    if request.param == "scipy":
        return RidgeScipyEngine()
    return RidgeTorchEngine(torch.device("cpu"))


def test_features_have_norm_one_and_estimate_the_kernel(engine):
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


def test_sums_over_blocks_equal_sums_over_all_samples(engine):
    rng = np.random.RandomState(0)
    X, W, alpha = rng.randn(70, 4), rng.randn(4, 10), rng.randn(70, 3)
    engine.block_elements = 20 * 16  # blocks of 16 rows
    features = FeatureMap(engine, lambda X: engine.fourier_features(X, W), 20)
    Z = engine.to_numpy(engine.fourier_features(X, W))
    np.testing.assert_array_equal(engine.to_numpy(features.matrix(X)), Z)
    expansion = engine.to_numpy(features.expansion(X, engine.asarray(alpha)))
    np.testing.assert_allclose(expansion, Z.T @ alpha, rtol=0, atol=1e-11)
    values = features.values(X, Z.T @ alpha)
    np.testing.assert_allclose(values, Z @ (Z.T @ alpha), rtol=0, atol=1e-11)


def test_large_angles_give_accurate_features():
    X, W = np.array([[1.0], [1e7]]), np.array([[0.1, 3.0]])
    Z = RidgeScipyEngine().fourier_features(X, W)
    np.testing.assert_allclose(Z, np.hstack((np.cos(X @ W), np.sin(X @ W))) / 2**0.5, atol=1e-15)
