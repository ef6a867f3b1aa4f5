import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.preprocessing import StandardScaler

from sklearn_ext import SupervisedKernelImputer
from sklearn_ext.impute import (
    GaussianImputerConfig,
    conditional_gaussian,
    fit_gaussian_imputer,
)
from sklearn_ext.impute.gaussian import make_engine
from tests.impute.tables import with_missing


@pytest.fixture
def iris():
    X, y = load_iris(return_X_y=True)
    return with_missing(X, 0.3, 0)[0], y


def test_the_algorithm_on_arrays_is_that_of_the_estimator(iris):
    X, y = iris
    scaler = StandardScaler().fit(X)
    labels = (y[:, None] == np.arange(2)).astype(float)
    rng = np.random.RandomState(0)
    config = GaussianImputerConfig()
    Z = scaler.transform(X)
    imputation = fit_gaussian_imputer(Z, labels, config, rng, strata=y)
    imputer = SupervisedKernelImputer(clip=False, random_state=0)
    expected = imputer.fit_transform(X, y)
    completed, _ = imputation.transform(Z, labels)
    np.testing.assert_allclose(scaler.inverse_transform(completed), expected, atol=1e-10)
    completed, variances = imputation.transform(Z)
    new, std = imputer.transform(X, return_std=True)
    np.testing.assert_allclose(scaler.inverse_transform(completed), new, atol=1e-10)
    np.testing.assert_allclose(np.sqrt(variances) * scaler.scale_, std, atol=1e-10)
    assert imputation.shrinkage == imputer.shrinkage_


def test_engines_are_interchangeable(iris):
    X, _ = iris
    Z = StandardScaler().fit_transform(X)
    config = GaussianImputerConfig(shrinkage=0.1)
    expected, _ = fit_gaussian_imputer(Z, None, config, np.random.RandomState(0)).transform(Z)
    engine = make_engine("torch")
    imputation = fit_gaussian_imputer(Z, None, config, np.random.RandomState(0), engine=engine)
    np.testing.assert_allclose(imputation.transform(Z, engine=engine)[0], expected, atol=1e-8)


def test_units_of_labels_do_not_matter(iris):
    X, y = iris
    Z, labels = StandardScaler().fit_transform(X), y[:, None].astype(float)
    config = GaussianImputerConfig(shrinkage=0.1)
    completed = []
    for given in (labels, 50.0 * labels - 7.0):
        imputation = fit_gaussian_imputer(Z, given, config, np.random.RandomState(0))
        completed.append(imputation.transform(Z, given)[0])
    np.testing.assert_allclose(*completed, atol=1e-10)
    without = imputation.transform(Z)[0]
    assert abs(completed[0] - without).max() > 0.1  # the labels are used


def test_variances_follow_the_errors_of_left_out_entries():
    """Columns whose errors exceed their conditional standard deviations get larger variances."""
    rng = np.random.default_rng(0)
    X = rng.standard_t(3, (120, 4)) @ (np.eye(4) + 0.5) + 1.0
    X[rng.random(X.shape) < 0.2] = np.nan
    config = GaussianImputerConfig(shrinkage=0.2, residual_smoothing=False)
    imputation = fit_gaussian_imputer(X, None, config, np.random.RandomState(0))
    errors = np.full(X.shape, np.nan)
    for i, p in np.argwhere(~np.isnan(X)):
        hidden = X[[i]].copy()
        hidden[0, p] = np.nan
        law = conditional_gaussian(hidden, imputation.mean, imputation.cov)
        errors[i, p] = (law.completed[0, p] - X[i, p]) ** 2 / law.variances[0, p]
    # Ten average errors stabilize the mean of a column.
    n = (~np.isnan(X)).sum(axis=0)
    expected = (np.nansum(errors, axis=0) + 10.0 * np.nanmean(errors)) / (n + 10.0)
    np.testing.assert_allclose(imputation.spread**2, expected, rtol=1e-8)
    law = conditional_gaussian(X, imputation.mean, imputation.cov)
    np.testing.assert_allclose(imputation.transform(X)[1], law.variances * expected, atol=1e-10)


def test_the_config_is_frozen():
    with pytest.raises(AttributeError):
        GaussianImputerConfig().tol = 0.1
