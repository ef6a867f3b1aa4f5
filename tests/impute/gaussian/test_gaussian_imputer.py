import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.preprocessing import StandardScaler

from sklearn_ext import SupervisedKernelImputer
from sklearn_ext.impute import GaussianImputerConfig, fit_gaussian_imputer
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


def test_the_config_is_frozen():
    with pytest.raises(AttributeError):
        GaussianImputerConfig().tol = 0.1
