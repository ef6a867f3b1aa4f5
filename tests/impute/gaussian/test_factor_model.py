import numpy as np
import pytest
from sklearn.impute import KNNImputer

from sklearn_ext import SupervisedKernelImputer
from sklearn_ext.impute import conditional_gaussian
from sklearn_ext.impute.gaussian._conditional import leave_one_out, pattern_table
from sklearn_ext.impute.gaussian._factor_model import (
    FactorCovariance,
    choose_factors,
    factor_leave_one_out,
    factor_posterior,
    fit_factors,
)
from tests.impute.tables import nrmse, with_missing


@pytest.fixture
def model():
    rng = np.random.RandomState(0)
    S = FactorCovariance(rng.randn(9, 3), rng.uniform(0.2, 1.0, 9))
    mean = rng.randn(9)
    X = mean + rng.randn(50, 3) @ S.loadings.T + rng.randn(50, 9) * np.sqrt(S.noise)
    samples, _ = with_missing(X, 0.4, 1)
    samples[0], samples[1] = X[0], np.nan
    return samples, mean, S


def wide(n=60, d=300, seed=0):
    rng = np.random.RandomState(seed)
    return rng.randn(n, 5) @ rng.randn(5, d) + rng.randn(n, d)


def test_the_posterior_is_that_of_the_dense_covariance(model, monkeypatch):
    samples, mean, S = model
    law = conditional_gaussian(samples, mean, S.dense())
    for elements in (2**22, 100):  # in one batch and in many
        monkeypatch.setattr("sklearn_ext.impute.gaussian._factor_model._ELEMENTS", elements)
        Z, V = factor_posterior(samples, mean, S)
        np.testing.assert_allclose(Z, law.completed, rtol=1e-10)
        np.testing.assert_allclose(V, law.variances, rtol=1e-10, atol=1e-15)


def test_leave_one_out_is_that_of_the_dense_covariance(model):
    samples, mean, S = model
    expected = leave_one_out(pattern_table(samples), mean, S.dense())
    found = factor_leave_one_out(samples, mean, S)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)


def test_draws_have_the_conditional_covariance(model):
    samples, mean, S = model
    one = np.repeat(samples[2:3], 20_000, axis=0)
    noise = np.random.RandomState(0).standard_normal((len(one), 12))
    drawn, _ = factor_posterior(one, mean, S, noise)
    missing = np.isnan(samples[2])
    law = conditional_gaussian(samples[2:3], mean, S.dense())
    np.testing.assert_allclose(drawn.mean(axis=0), law.completed[0], atol=0.03)
    np.testing.assert_allclose(
        np.cov(drawn.T)[np.ix_(missing, missing)],
        law.covariance_sum[np.ix_(missing, missing)],
        atol=0.05,
    )


def test_shrinking_divides_covariances_and_keeps_variances(model):
    _, _, S = model
    expected = S.dense() / 1.5
    np.fill_diagonal(expected, np.diag(S.dense()))
    np.testing.assert_allclose(S.shrunk(0.5).dense(), expected)


def test_the_fit_finds_the_factors_of_many_samples():
    rng = np.random.RandomState(0)
    S = FactorCovariance(rng.randn(12, 2), rng.uniform(0.3, 1.0, 12))
    X = 4.0 + rng.randn(5000, 2) @ S.loadings.T + rng.randn(5000, 12) * np.sqrt(S.noise)
    samples, _ = with_missing(X, 0.3, 0)
    fit = fit_factors(samples, 2, max_iter=200, tol=1e-5)
    assert fit.changes[-1] < 1e-5
    np.testing.assert_allclose(fit.mean, 4.0, atol=0.1)
    np.testing.assert_allclose(fit.cov.dense(), S.dense(), atol=0.4)


def test_the_rank_is_chosen_by_hidden_entries():
    rng = np.random.RandomState(0)
    X = wide(n=200, d=60)
    hidden = rng.rand(*X.shape) < 0.2
    assert choose_factors(X, hidden, None, tol=1e-3)[0] in (4, 8)
    rank, nu = choose_factors(rng.randn(200, 60), hidden, None, tol=1e-3)
    assert (rank, nu) == (1, 1.5)
    assert choose_factors(X, hidden, 0.3, tol=1e-3)[1] == 0.3
    assert choose_factors(X, np.zeros_like(hidden), None, tol=1e-3) == (1, 1.5)


def test_wide_tables_are_imputed_by_factors():
    X = wide()
    samples, missing = with_missing(X, 0.4, 0)
    y = (X[:, 0] > 0).astype(int)
    imputer = SupervisedKernelImputer(random_state=0).fit(samples, y)
    imputed, std = imputer.transform(samples, return_std=True)
    assert nrmse(imputed, X, missing) < 0.85 * nrmse(
        KNNImputer().fit_transform(samples), X, missing
    )
    z = (imputed - X)[missing] / std[missing]
    assert np.mean(np.abs(z) < 1.645) == pytest.approx(0.9, abs=0.04)
    assert imputer.covariance_.shape == (301, 301)
    assert imputer.score(X) > 0.5
    assert imputer.kernel_.shape == (60, 60)
    alone = np.vstack([imputer.transform(x[None]) for x in samples[:3]])
    np.testing.assert_allclose(alone, imputed[:3], rtol=1e-10)
    draws = imputer.set_params(sample_posterior=True).transform(samples)
    assert np.std((draws - imputed)[missing] / std[missing]) == pytest.approx(1.0, abs=0.05)
    given = SupervisedKernelImputer(shrinkage=0.5, random_state=0)
    assert given.fit(samples, y).shrinkage_ == pytest.approx(0.5)
