import numpy as np
import pytest

from sklearn_ext.impute.gaussian._residual_smoothing import (
    Smoothing,
    choose_smoothing,
    make_anchors,
    smooth,
)
from sklearn_ext.utils._random import hide_entries
from tests.impute.tables import ENGINES, correlated, covariance, with_missing

every_engine = pytest.mark.parametrize("engine", ENGINES, ids=lambda e: e.name)


@every_engine
def test_smoothing_is_kernel_regression_of_residuals(engine):
    X = correlated(25, 4, 2)
    mean, cov = covariance(4, 3)
    unit = np.array([1.0, 2.0, 0.5, 3.0])
    anchors = make_anchors(engine, X[:15], mean, cov, unit)
    Z, V = engine.posterior(engine.table(X), mean, cov)
    missing = np.isnan(X)
    shift = smooth(engine, Z, V, missing, anchors, Smoothing(0.4, 0.7, 1.0), unit)
    z, v = Z / unit, V / unit**2
    expected = np.zeros(X.shape)
    for i, p in np.argwhere(missing):
        total, mass = 0.0, 0.7
        for j in range(15):
            if anchors.observed[j, p]:
                terms = (z[i] - anchors.Z[j]) ** 2 + v[i] + anchors.V[j]
                k = np.exp(-0.4 * np.delete(terms, p).sum())
                total += k * anchors.residuals[j, p]
                mass += k
        expected[i, p] = unit[p] * total / mass
    np.testing.assert_allclose(shift, expected, atol=1e-12)


def test_residuals_are_those_of_left_out_entries():
    X = correlated(25, 4, 4)
    mean, cov = covariance(4, 5)
    engine = ENGINES[0]
    anchors = make_anchors(engine, X, mean, cov, np.ones(4))
    i, p = np.argwhere(~np.isnan(X))[7]
    hidden = X.copy()
    hidden[i, p] = np.nan
    Z, _ = engine.posterior(engine.table(hidden), mean, cov)
    assert anchors.residuals[i, p] == pytest.approx(X[i, p] - Z[i, p], abs=1e-10)
    np.testing.assert_array_equal(anchors.residuals[np.isnan(X)], 0.0)


def choice_for(X):
    rng = np.random.RandomState(0)
    hidden = [hide_entries(X, 0.2, rng) for _ in range(2)]
    unit = np.nanmax(X, axis=0) - np.nanmin(X, axis=0)
    return choose_smoothing(ENGINES[0], X, 0.02, hidden, unit, max_iter=30, tol=1e-3)


def test_smoothing_is_on_for_curved_data_and_off_for_gaussian():
    rng = np.random.RandomState(0)
    u, v = rng.uniform(-1, 1, (2, 300))
    surface = np.column_stack((u, v, u * v, u**2 - v**2))
    surface = (surface - surface.mean(axis=0)) / surface.std(axis=0)
    assert choice_for(with_missing(surface, 0.1, 0)[0]) is not None
    gaussian = rng.randn(300, 4) @ rng.randn(4, 4)
    assert choice_for(with_missing(gaussian / gaussian.std(axis=0), 0.3, 1)[0]) is None
