"""Tables with holes that the tests of imputation share."""

import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine

from sklearn_ext.impute._gaussian_engine_numba import NumbaEngine
from sklearn_ext.impute._gaussian_engine_torch import TorchEngine

LOADERS = {
    "iris": load_iris,
    "wine": load_wine,
    "breast_cancer": load_breast_cancer,
    "diabetes": load_diabetes,
}
ENGINES = [NumbaEngine(), TorchEngine()]


def scaled(name):
    """A set of scikit-learn, each feature scaled to [0, 1], and its targets."""
    X, y = LOADERS[name](return_X_y=True)
    return (X - X.min(axis=0)) / np.ptp(X, axis=0), y


def with_holes(X, ratio, seed):
    """Hide a share of the entries completely at random; return rows and the mask of holes."""
    holes = np.random.RandomState(seed).rand(*X.shape) < ratio
    return np.where(holes, np.nan, X), holes


def nrmse(filled, X, holes):
    """Root mean squared error at the holes over the standard deviation of their true values."""
    return np.sqrt(np.mean((filled - X)[holes] ** 2)) / np.std(X[holes])


def central_differences(value, x, step=1e-4):
    """Numerical gradient of a function of a vector; exact for quadratic ones."""
    gradient = np.empty_like(x)
    for k in range(len(x)):
        away = np.zeros_like(x)
        away[k] = step
        gradient[k] = (value(x + away) - value(x - away)) / (2.0 * step)
    return gradient


def correlated(n, d, seed, ratio=0.4):
    """Gaussian rows with holes, among them complete, equal and empty ones."""
    rng = np.random.RandomState(seed)
    X = rng.randn(n, d) @ rng.randn(d, d) + rng.randn(d)
    rows, _ = with_holes(X, ratio, seed + 1)
    rows[:3] = X[:3]
    rows[3:6] = rows[6]
    rows[6:8] = np.nan
    return rows


def covariance(d, seed):
    A = np.random.RandomState(seed).randn(3 * d, d)
    return np.random.RandomState(seed + 1).randn(d), A.T @ A / (3 * d)
