import numpy as np
import pytest

from sklearn_ext.impute import conditional_gaussian
from sklearn_ext.impute.gaussian import _conditional, _engine_numba, make_engine
from sklearn_ext.impute.gaussian._em import fit_gaussian
from sklearn_ext.impute.gaussian._missing_patterns import group_samples
from tests.impute.tables import ENGINES, correlated, covariance

every_engine = pytest.mark.parametrize("engine", ENGINES, ids=lambda e: e.name)


def conditional(x, mean, cov):
    """Return the completed sample and the covariance of its missing values by the textbook."""
    o, m = ~np.isnan(x), np.isnan(x)
    W = np.linalg.solve(cov[np.ix_(o, o)], cov[np.ix_(o, m)]).T
    z = x.copy()
    z[m] = mean[m] + W @ (x - mean)[o]
    C = np.zeros_like(cov)
    C[np.ix_(m, m)] = cov[np.ix_(m, m)] - W @ cov[np.ix_(o, m)]
    return z, C


def test_samples_are_grouped_by_pattern():
    X = correlated(40, 11, 0)
    patterns = group_samples(~np.isnan(X))
    np.testing.assert_array_equal(patterns.observed[patterns.of_sample], ~np.isnan(X))
    assert len(np.unique(patterns.observed, axis=0)) == len(patterns.observed)
    np.testing.assert_array_equal(np.sort(patterns.order), np.arange(40))
    sizes = np.diff(patterns.starts)
    expected = np.repeat(np.arange(len(sizes)), sizes)
    np.testing.assert_array_equal(patterns.of_sample[patterns.order], expected)


@every_engine
@pytest.mark.parametrize("ratio", [0.15, 0.5, 0.85])  # both forms of the conditional law
def test_conditional_moments_match_the_textbook_formula(engine, ratio):
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


def test_the_public_function_matches_the_engine():
    X = correlated(50, 6, 1)
    mean, cov = covariance(6, 2)
    law = conditional_gaussian(X, mean, cov)
    expected = [conditional(x, mean, cov) for x in X]
    np.testing.assert_allclose(law.completed, [z for z, _ in expected], atol=1e-10)
    np.testing.assert_allclose(law.variances, [np.diag(C) for _, C in expected], atol=1e-10)
    np.testing.assert_allclose(law.covariance_sum, sum(C for _, C in expected), atol=1e-9)


@every_engine
def test_draws_have_the_conditional_mean_and_covariance(engine):
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
def test_leave_one_out_equals_hiding_the_entry(engine):
    X = correlated(30, 5, 4)
    mean, cov = covariance(5, 5)
    predicted, variances = engine.leave_one_out(engine.table(X), mean, cov)
    np.testing.assert_array_equal(np.isnan(predicted), np.isnan(X))
    np.testing.assert_array_equal(np.isnan(variances), np.isnan(X))
    for i, p in np.argwhere(~np.isnan(X)):
        hidden = X[i].copy()
        hidden[p] = np.nan
        assert predicted[i, p] == pytest.approx(conditional(hidden, mean, cov)[0][p], abs=1e-10)
        law = conditional_gaussian(hidden[None], mean, cov)
        assert variances[i, p] == pytest.approx(law.variances[0, p], abs=1e-10)


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
                *engine.leave_one_out(table, mean, cov),
                fit_gaussian(engine, X, 0.1).cov,
            ]
        )
    for a, b in zip(*both, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-8)


def test_results_do_not_depend_on_threads(monkeypatch):
    monkeypatch.setattr("sklearn_ext.impute.gaussian._conditional._BLOCK_COST", 500.0)
    X = correlated(200, 6, 8)
    mean, cov = covariance(6, 9)
    one, four = make_engine(), make_engine(n_jobs=4)
    assert len(one.table(X).blocks) > 4
    for a, b in zip(
        one.moments(one.table(X), mean, cov), four.moments(four.table(X), mean, cov), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_kernels_are_compiled_for_one_type_of_array():
    X = correlated(50, 6, 1)
    mean, cov = covariance(6, 2)
    noise = np.random.RandomState(0).standard_normal(X.shape)
    fixed = cov.copy()
    fixed.flags.writeable = False
    engine = make_engine()
    expected = engine.moments(engine.table(X), mean, cov)[1]
    for other in (np.asfortranarray(cov), np.kron(cov, np.ones((2, 2)))[::2, ::2], fixed):
        table = engine.table(np.asfortranarray(X))
        moments = engine.moments(table, np.repeat(mean, 2)[::2], other)
        np.testing.assert_array_equal(moments[1], expected)
        engine.draw(table, mean, other, np.asfortranarray(noise))
        engine.leave_one_out(table, mean, other)
        Z, V = (values[:, ::2] for values in engine.posterior(table, mean, other))
        engine.expected_kernel(Z, V, Z, V, 1)
        missing = np.isnan(X[:, ::2])
        engine.smooth(Z, V, missing, (Z, V, ~missing, Z), 1)
    kernels = [v for m in (_conditional, _engine_numba) for v in vars(m).values() if is_kernel(v)]
    assert len(kernels) == 3
    assert {k.py_func.__name__: len(k.signatures) for k in kernels if len(k.signatures) > 1} == {}


def is_kernel(value):
    """Return whether an object is a compiled function that Python calls directly."""
    is_compiled = hasattr(value, "py_func")
    return is_compiled and not value.targetoptions.get("no_cpython_wrapper")
