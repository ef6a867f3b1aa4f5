import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics.pairwise import laplacian_kernel
from sklearn.model_selection import LeaveOneOut, cross_val_predict

from sklearn_ext.kernel_regression import make_engine
from sklearn_ext.kernel_regression._lab_defaults import (
    ALPHAS,
    MEDIAN_EXPONENT,
    leave_one_out_alpha,
    median_theta,
)


@pytest.mark.parametrize("noise", [0.0, 0.3, 2.0])
def test_alpha_minimizes_the_error_of_refits_without_a_sample(noise):
    rng = np.random.default_rng(0)
    X = rng.uniform(-2, 2, size=(40, 2))
    Y = np.column_stack((np.sin(2 * X[:, 0]), X[:, 1])) + noise * rng.normal(size=(40, 2))
    Y -= Y.mean(axis=0)
    errors = [
        (
            cross_val_predict(
                KernelRidge(alpha=a, kernel="laplacian", gamma=0.7), X, Y, cv=LeaveOneOut()
            )
            - Y
        )
        for a in ALPHAS
    ]
    best = ALPHAS[np.argmin([(e**2).mean() for e in errors])]
    assert leave_one_out_alpha(laplacian_kernel(X, gamma=0.7), Y, np.ones((40, 1))) == best


def test_noise_raises_the_ridge():
    rng = np.random.default_rng(0)
    X = rng.uniform(-2, 2, size=(200, 1))
    K = laplacian_kernel(X, gamma=1.0)
    y = np.sin(3 * X)
    noisy = y + rng.normal(size=y.shape)
    weights = np.where(X > 0, 1.0, 1e-6)
    assert leave_one_out_alpha(K, y, np.ones_like(y)) < 0.01
    assert leave_one_out_alpha(K, noisy, np.ones_like(y)) > 0.3
    assert leave_one_out_alpha(K, np.where(X > 0, y, noisy), weights) < 0.1


@pytest.mark.parametrize("kernel", ["exponential", "laplacian", "rbf"])
@pytest.mark.parametrize("n_features", [1, 8, 300])
def test_the_initial_bandwidth_fixes_the_median_exponent(kernel, n_features):
    X = np.random.default_rng(0).normal(size=(1000, n_features))
    theta = np.full((1000, n_features), median_theta(X, kernel))
    K, _ = make_engine("numba").kernel(kernel, X[::2], X[1::2], theta[1::2])
    assert np.median(-np.log(np.diag(K))) == pytest.approx(MEDIAN_EXPONENT)
