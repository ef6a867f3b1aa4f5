"""Sums over samples, written out."""

import numpy as np
import pytest

from sklearn_ext.decentralized.math import node_statistics
from sklearn_ext.decentralized.math._engine_torch import DeKRRTorchEngine
from tests.decentralized.problems import ENGINE, random_map


@pytest.mark.parametrize("engine", [ENGINE, DeKRRTorchEngine("cpu")])
@pytest.mark.parametrize("values", [(1.0,), (2.0,), (0.5, 1.0), (0.3, 2.0, 5.0)])
def test_sums_weight_every_sample(engine, values):
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(30, 2)), rng.normal(size=(30, 2))
    weights = np.resize(values, 30)
    own, other = random_map(2, 5, rng), random_map(2, 4, rng)
    sums = node_statistics(X, Y, weights, own, {3: other}, engine).convert(engine.to_numpy)
    Z, Z_other = (
        np.sqrt(2.0 / len(z.phases)) * np.cos(X @ z.frequencies + z.phases) for z in (own, other)
    )
    W = np.diag(weights)
    np.testing.assert_allclose(sums.gram, Z.T @ W @ Z, atol=1e-12)
    np.testing.assert_allclose(sums.cross[3], Z.T @ W @ Z_other, atol=1e-12)
    np.testing.assert_allclose(sums.neighbor_gram[3], Z_other.T @ W @ Z_other, atol=1e-12)
    np.testing.assert_allclose(sums.moment, Z.T @ W @ Y, atol=1e-12)
    np.testing.assert_allclose(sums.feature_sum, Z.T @ weights, atol=1e-12)
    np.testing.assert_allclose(sums.y_sum, weights @ Y, atol=1e-12)
    assert sums.weight == pytest.approx(weights.sum())
    assert sums.y_square == pytest.approx((weights @ Y**2).sum())
