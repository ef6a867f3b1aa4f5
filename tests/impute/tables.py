"""Tables with missing values that the tests of imputation share."""

import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine

from sklearn_ext.impute.gaussian import make_engine

LOADERS = {
    "iris": load_iris,
    "wine": load_wine,
    "breast_cancer": load_breast_cancer,
    "diabetes": load_diabetes,
}
ENGINES = [make_engine("numba"), make_engine("torch")]


def scaled(name):
    """Return a data set of scikit-learn, each feature scaled to [0, 1], and its targets."""
    X, y = LOADERS[name](return_X_y=True)
    return (X - X.min(axis=0)) / np.ptp(X, axis=0), y


def with_missing(X, ratio, seed):
    """Return X without a fraction of its entries, removed completely at random, and their mask."""
    missing = np.random.RandomState(seed).rand(*X.shape) < ratio
    return np.where(missing, np.nan, X), missing


def nrmse(imputed, X, missing):
    """Return the root mean squared error divided by the standard deviation of the true values."""
    return np.sqrt(np.mean((imputed - X)[missing] ** 2)) / np.std(X[missing])


def central_differences(value, x, step=1e-4):
    """Return the numerical gradient of a function of a vector; it is exact for quadratics."""
    gradient = np.empty_like(x)
    for k in range(len(x)):
        away = np.zeros_like(x)
        away[k] = step
        gradient[k] = (value(x + away) - value(x - away)) / (2.0 * step)
    return gradient


def correlated(n, d, seed, ratio=0.4):
    """Return Gaussian samples with missing values; some are complete, some equal, some empty."""
    rng = np.random.RandomState(seed)
    X = rng.randn(n, d) @ rng.randn(d, d) + rng.randn(d)
    samples, _ = with_missing(X, ratio, seed + 1)
    samples[:3] = X[:3]
    samples[3:6] = samples[6]
    samples[6:8] = np.nan
    return samples


def covariance(d, seed):
    """Return a random mean vector and covariance matrix."""
    A = np.random.RandomState(seed).randn(3 * d, d)
    return np.random.RandomState(seed + 1).randn(d), A.T @ A / (3 * d)
