import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from sklearn_ext.impute.gaussian._em import (
    SHRINKAGES,
    choose_shrinkage,
    fit_gaussian,
    hide,
    observed_moments,
    shrink,
)
from sklearn_ext.utils._random import hide_entries
from tests.impute.tables import ENGINES, correlated, covariance, with_missing

every_engine = pytest.mark.parametrize("engine", ENGINES, ids=lambda e: e.name)


@every_engine
def test_complete_data_give_the_sample_mean_and_covariance(engine):
    X = np.random.RandomState(0).randn(50, 4) @ np.random.RandomState(1).randn(4, 4)
    fit = fit_gaussian(engine, X, 0.0)
    np.testing.assert_allclose(fit.mean, X.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(fit.cov, np.cov(X.T, bias=True), rtol=2e-6, atol=1e-12)
    assert len(fit.changes) == 2


@every_engine
def test_infinite_shrinkage_imputes_column_means(engine):
    X = correlated(60, 4, 10)
    fit = fit_gaussian(engine, X, 1e12, max_iter=200, tol=1e-12)
    Z, _ = engine.posterior(engine.table(X), fit.mean, fit.cov)
    expected = np.where(np.isnan(X), np.nanmean(X, axis=0), X)
    np.testing.assert_allclose(Z, expected, atol=1e-6)


@every_engine
def test_one_incomplete_column_is_imputed_by_least_squares(engine):
    rng = np.random.RandomState(0)
    X = rng.randn(120, 4) @ rng.randn(4, 4)
    X[:, 2] += rng.randn(120)
    X[rng.rand(120) < 0.4, 2] = np.nan
    fit = fit_gaussian(engine, X, 0.0, max_iter=500, tol=1e-8)
    Z, _ = engine.posterior(engine.table(X), fit.mean, fit.cov)
    known, others = ~np.isnan(X[:, 2]), np.delete(X, 2, axis=1)
    line = LinearRegression().fit(others[known], X[known, 2])
    np.testing.assert_allclose(Z[~known, 2], line.predict(others[~known]), atol=1e-3)


def test_the_fit_includes_the_variance_of_missing_values():
    rng = np.random.RandomState(0)
    X = rng.randn(3000, 1)
    X[rng.rand(3000) < 0.7] = np.nan
    fit = fit_gaussian(ENGINES[0], X, 0.0, max_iter=300, tol=1e-10)
    assert fit.cov[0, 0] == pytest.approx(np.nanvar(X), rel=1e-4)


def test_shrinkage_divides_covariances_and_keeps_variances():
    _, cov = covariance(4, 11)
    out = shrink(cov, 0.25, np.ones(4))
    off = ~np.eye(4, dtype=bool)
    np.testing.assert_allclose(out[off], cov[off] / 1.25)
    np.testing.assert_allclose(np.diag(out), np.diag(cov) + 1e-6)


def test_covariances_are_multiplied_by_the_reliability():
    _, cov = covariance(4, 11)
    reliability = np.array([1.0, 0.5, 0.2, 1.0])
    out = shrink(cov, 0.25, np.ones(4), reliability)
    assert out[0, 3] == pytest.approx(cov[0, 3] / 1.25)
    assert out[1, 2] == pytest.approx(0.1 * cov[1, 2] / 1.25)
    np.testing.assert_allclose(np.diag(out), np.diag(cov) + 1e-6)
    assert np.linalg.eigvalsh(out).min() > 0.0


def test_constant_and_empty_columns_start_from_variance_one():
    X = np.array([[1.0, np.nan, 2.0], [1.0, np.nan, 4.0]])
    mean, variance = observed_moments(X)
    np.testing.assert_array_equal(mean, [1.0, 0.0, 3.0])
    np.testing.assert_array_equal(variance, [1.0, 1.0, 1.0])


def test_correlated_columns_are_shrunk_less_than_independent():
    rng = np.random.RandomState(0)
    common = rng.randn(400, 1)
    related = np.hstack([common + 0.1 * rng.randn(400, 1) for _ in range(5)])
    unrelated = rng.randn(40, 8)
    chosen = []
    for X in (related, unrelated):
        X, _ = with_missing(X, 0.3, 1)
        hidden = hide_entries(X, 0.2, rng)
        chosen.append(choose_shrinkage(ENGINES[0], X, hidden, max_iter=30, tol=1e-3)[0])
    assert chosen[0] <= 0.02
    assert chosen[1] == SHRINKAGES[0]


def test_labels_are_not_hidden():
    X = np.zeros((4, 3))
    hidden = np.ones((4, 2), dtype=bool)
    np.testing.assert_array_equal(np.isnan(hide(X, hidden)).all(axis=0), [True, True, False])
