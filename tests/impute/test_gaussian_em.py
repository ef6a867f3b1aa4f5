import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from sklearn_ext.impute._gaussian_em import fit_gaussian, observed_moments, shrink
from sklearn_ext.impute._gaussian_engine_numba import NumbaEngine
from sklearn_ext.impute._missing_patterns import group_rows
from tests.impute.tables import ENGINES, correlated, covariance

every_engine = pytest.mark.parametrize("engine", ENGINES, ids=lambda e: e.name)


def conditional(x, mean, cov):
    """Mean and covariance of the holes of one row, by the textbook formula."""
    o, m = ~np.isnan(x), np.isnan(x)
    W = np.linalg.solve(cov[np.ix_(o, o)], cov[np.ix_(o, m)]).T
    z = x.copy()
    z[m] = mean[m] + W @ (x - mean)[o]
    C = np.zeros_like(cov)
    C[np.ix_(m, m)] = cov[np.ix_(m, m)] - W @ cov[np.ix_(o, m)]
    return z, C


def test_rows_are_grouped_by_pattern():
    X = correlated(40, 11, 0)
    patterns = group_rows(~np.isnan(X))
    np.testing.assert_array_equal(patterns.observed[patterns.of_row], ~np.isnan(X))
    assert len(np.unique(patterns.observed, axis=0)) == len(patterns.observed)
    np.testing.assert_array_equal(np.sort(patterns.order), np.arange(40))
    sizes = np.diff(patterns.starts)
    expected = np.repeat(np.arange(len(sizes)), sizes)
    np.testing.assert_array_equal(patterns.of_row[patterns.order], expected)


@every_engine
@pytest.mark.parametrize("ratio", [0.15, 0.5, 0.85])  # both forms of the conditional law
def test_conditional_moments_follow_the_textbook(engine, ratio):
    X = correlated(50, 6, 1, ratio)
    mean, cov = covariance(6, 2)
    expected = [conditional(x, mean, cov) for x in X]
    table = engine.table(X)
    Z, V = engine.posterior(table, mean, cov)
    np.testing.assert_allclose(Z, [z for z, _ in expected], atol=1e-10)
    np.testing.assert_allclose(V, [np.diag(C) for _, C in expected], atol=1e-10)
    first, second = engine.moments(table, mean, cov)
    R = Z - mean
    np.testing.assert_allclose(first, R.sum(axis=0), atol=1e-10)
    np.testing.assert_allclose(second, R.T @ R + sum(C for _, C in expected), atol=1e-9)


@every_engine
def test_draws_have_the_conditional_law(engine):
    x = np.array([np.nan, 0.3, np.nan, -1.0, np.nan])
    mean, cov = covariance(5, 3)
    z, C = conditional(x, mean, cov)
    X = np.tile(x, (40_000, 1))
    noise = np.random.RandomState(0).randn(*X.shape)
    draws = engine.draw(engine.table(X), mean, cov, noise)
    np.testing.assert_array_equal(draws[:, [1, 3]], X[:, [1, 3]])
    np.testing.assert_allclose(draws.mean(axis=0), z, atol=0.03)
    np.testing.assert_allclose(np.cov(draws.T), C, atol=0.05)


@every_engine
def test_leaving_an_entry_out_is_hiding_it(engine):
    X = correlated(30, 5, 4)
    mean, cov = covariance(5, 5)
    predicted = engine.leave_one_out(engine.table(X), mean, cov)
    np.testing.assert_array_equal(np.isnan(predicted), np.isnan(X))
    for i, p in np.argwhere(~np.isnan(X)):
        hidden = X[i].copy()
        hidden[p] = np.nan
        assert predicted[i, p] == pytest.approx(conditional(hidden, mean, cov)[0][p], abs=1e-10)


def test_engines_agree():
    X = correlated(80, 7, 6)
    mean, cov = covariance(7, 7)
    noise = np.random.RandomState(1).randn(*X.shape)
    both = []
    for engine in ENGINES:
        table = engine.table(X)
        both.append(
            [
                *engine.moments(table, mean, cov),
                *engine.posterior(table, mean, cov),
                engine.draw(table, mean, cov, noise),
                engine.leave_one_out(table, mean, cov),
                fit_gaussian(engine, X, 0.1).cov,
            ]
        )
    for a, b in zip(*both, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-8)


def test_threads_change_nothing(monkeypatch):
    monkeypatch.setattr("sklearn_ext.impute._gaussian_engine_numba._BLOCK_COST", 500.0)
    X = correlated(200, 6, 8)
    mean, cov = covariance(6, 9)
    one, four = NumbaEngine(), NumbaEngine(n_jobs=4)
    assert len(one.table(X).blocks) > 4
    for a, b in zip(
        one.moments(one.table(X), mean, cov), four.moments(four.table(X), mean, cov), strict=True
    ):
        np.testing.assert_array_equal(a, b)


@every_engine
def test_without_holes_it_is_the_sample_mean_and_covariance(engine):
    X = np.random.RandomState(0).randn(50, 4) @ np.random.RandomState(1).randn(4, 4)
    fit = fit_gaussian(engine, X, 0.0)
    np.testing.assert_allclose(fit.mean, X.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(fit.cov, np.cov(X.T, bias=True), rtol=2e-6, atol=1e-12)
    assert len(fit.changes) == 2


@every_engine
def test_with_infinite_shrinkage_holes_get_column_means(engine):
    X = correlated(60, 4, 10)
    fit = fit_gaussian(engine, X, 1e12, max_iter=200, tol=1e-12)
    Z, _ = engine.posterior(engine.table(X), fit.mean, fit.cov)
    expected = np.where(np.isnan(X), np.nanmean(X, axis=0), X)
    np.testing.assert_allclose(Z, expected, atol=1e-6)


@every_engine
def test_holes_in_one_column_are_filled_by_least_squares(engine):
    rng = np.random.RandomState(0)
    X = rng.randn(120, 4) @ rng.randn(4, 4)
    X[:, 2] += rng.randn(120)
    X[rng.rand(120) < 0.4, 2] = np.nan
    fit = fit_gaussian(engine, X, 0.0, max_iter=500, tol=1e-8)
    Z, _ = engine.posterior(engine.table(X), fit.mean, fit.cov)
    known, others = ~np.isnan(X[:, 2]), np.delete(X, 2, axis=1)
    line = LinearRegression().fit(others[known], X[known, 2])
    np.testing.assert_allclose(Z[~known, 2], line.predict(others[~known]), atol=1e-3)


def test_the_variance_of_holes_is_not_forgotten():
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


def test_moments_of_columns_that_do_not_vary_or_are_empty_can_start_a_fit():
    X = np.array([[1.0, np.nan, 2.0], [1.0, np.nan, 4.0]])
    mean, variance = observed_moments(X)
    np.testing.assert_array_equal(mean, [1.0, 0.0, 3.0])
    np.testing.assert_array_equal(variance, [1.0, 1.0, 1.0])
