import numpy as np
import pytest
from sklearn.svm import SVC

from sklearn_ext.impute.published._incomplete_kernel import (
    common_sqdist,
    gaussian_kernel,
    missing_sqdist_bound,
)
from sklearn_ext.impute.published._stage_one import (
    clip_spectrum,
    factor_gradient,
    free_intercept,
    objective,
    perturbation_gradient,
    project_alpha,
    project_kernel,
    run_stage_one,
)
from tests.impute.tables import central_differences


@pytest.fixture
def problem():
    rng = np.random.RandomState(0)
    X = rng.rand(24, 5)
    y = np.where(X[:, 0] + X[:, 1] + 0.2 * rng.randn(24) > 1.0, 1.0, -1.0)
    observed = rng.rand(24, 5) < 0.6
    common = gaussian_kernel(common_sqdist(X, observed), 1.5)
    lower = np.exp(-1.5 * missing_sqdist_bound(X, observed))
    return common, lower, y


def test_gradients_match_central_differences(problem):
    common, _, y = problem
    rng = np.random.RandomState(1)
    K, E, alpha = 1 + 0.1 * rng.randn(24, 24), 1 + 0.1 * rng.randn(24, 24), rng.rand(24)
    a = alpha * y
    cases = [
        (
            K,
            lambda x: objective(common, x.reshape(24, 24), E, alpha, y, 0.4),
            lambda x: factor_gradient(common, x.reshape(24, 24), E, a, 0.4).ravel(),
        ),
        (
            E,
            lambda x: objective(common, K, x.reshape(24, 24), alpha, y, 0.4),
            lambda x: perturbation_gradient(common, K, a).ravel(),
        ),
    ]
    for start, value, gradient in cases:
        expected = central_differences(value, start.ravel())
        np.testing.assert_allclose(gradient(start.ravel()), expected, rtol=1e-6, atol=1e-9)
    symmetric = common * (K + K.T) * (E + E.T)
    ones = np.ones((24, 24))

    def value(x):
        return objective(symmetric, ones, ones, x, y, 0.4)

    gradient = 1.0 - y * (symmetric @ (y * alpha))
    np.testing.assert_allclose(gradient, central_differences(value, alpha), rtol=1e-6)


def test_the_projection_of_alpha_is_feasible_and_nearest():
    rng = np.random.RandomState(0)
    for _ in range(30):
        n = rng.randint(3, 30)
        y = rng.choice([-1.0, 1.0], n)
        y[:2] = -1.0, 1.0
        x, C = 3.0 * rng.randn(n), rng.uniform(0.3, 2.0)
        alpha = project_alpha(x, y, C)
        assert alpha.min() >= 0.0
        assert alpha.max() <= C
        assert abs(y @ alpha) <= 1e-12 * n
        for _ in range(20):  # another feasible point, with the same weight on either class
            other = rng.uniform(0.0, C, n)
            plus, minus = other[y > 0].sum(), other[y < 0].sum()
            other[y > 0] *= min(1.0, minus / plus)
            other[y < 0] *= min(1.0, plus / minus)
            assert np.linalg.norm(alpha - x) <= np.linalg.norm(other - x) + 1e-12


def test_the_projection_ignores_unlabeled_samples():
    y = np.array([1.0, -1.0, 0.0])
    np.testing.assert_allclose(project_alpha(np.array([0.5, 0.3, 9.0]), y, 1.0), [0.4, 0.4, 1.0])


@pytest.mark.parametrize("floor", [0.0, 1e-8, 0.5])
def test_clip_spectrum_raises_low_eigenvalues(floor):
    A = np.random.RandomState(0).randn(15, 15)
    for K in (A + A.T, A @ A.T - 0.1 * np.eye(15), -(A @ A.T)):
        values, vectors = np.linalg.eigh(K)
        expected = (vectors * np.maximum(values, floor)) @ vectors.T
        np.testing.assert_allclose(clip_spectrum(K, floor), expected, atol=1e-10)


def test_projected_kernels_have_unit_diagonal():
    A = np.random.RandomState(0).randn(15, 15)
    K = project_kernel(A)
    np.testing.assert_array_equal(np.diag(K), 1.0)
    assert K.min() >= 1e-8
    np.testing.assert_allclose(K, K.T, atol=1e-12)


@pytest.mark.parametrize("C", [0.05, 1.0])
def test_the_intercept_is_that_of_scikit_learn(problem, C):
    common, _, y = problem
    K = clip_spectrum(common, 1e-8)
    machine = SVC(kernel="precomputed", C=C, tol=1e-10).fit(K, y)
    a = np.zeros(24)
    a[machine.support_] = machine.dual_coef_[0]
    b = free_intercept(y - K @ a, a, y, C)
    assert b == pytest.approx(machine.intercept_[0], abs=1e-5)


def test_stage_one_lowers_similarities_between_classes(problem):
    common, lower, y = problem
    options = {"C": 1.0, "eta": 1.0, "radius": 0.5, "max_iter": 30}
    stage = run_stage_one(common, lower, y, **options)
    np.testing.assert_allclose(stage.kernel, common * stage.factor)
    apart = y[:, None] != y
    together = ~apart & ~np.eye(24, dtype=bool)
    assert stage.factor[apart].mean() < stage.factor[together].mean()
    assert len(stage.objective) == 30
    assert abs(stage.dual_coef.sum()) < 1e-8


def test_an_unlabeled_sample_gets_no_weight(problem):
    common, lower, y = problem
    y = y.copy()
    y[:4] = 0.0
    stage = run_stage_one(common, lower, y, C=1.0, eta=1.0, radius=0.0, max_iter=5)
    np.testing.assert_array_equal(stage.dual_coef[:4], 0.0)


def test_it_stops_when_alpha_changes_little(problem):
    common, lower, y = problem
    options = {"C": 1.0, "eta": 5.0, "radius": 0.0}
    stage = run_stage_one(common, lower, y, **options, tol=0.5)
    assert len(stage.objective) == 3
