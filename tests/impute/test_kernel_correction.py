import numpy as np
import pytest
from sklearn.svm import SVC

from sklearn_ext.impute._dual_machines import ridge_duals, svm_duals
from sklearn_ext.impute._incomplete_kernel import expected_kernel
from sklearn_ext.impute._kernel_correction import (
    correct_kernel,
    optimal_factor,
    worst_perturbation,
)
from tests.impute.tables import ENGINES


@pytest.fixture
def problem():
    rng = np.random.RandomState(0)
    Z, V = rng.rand(50, 3), 0.1 * rng.rand(50, 3) * (rng.rand(50, 3) < 0.4)
    y = np.where(Z[:, 0] + 0.2 * rng.randn(50) > 0.5, 1.0, -1.0)
    return expected_kernel(ENGINES[0], Z, V, 2.0), y[:, None]


def value(base, factor, perturbation, a, eta):
    """What the objective has that depends on the factor or the perturbation."""
    return -0.5 * np.sum((a @ a.T) * base * factor * perturbation) + eta * np.sum((factor - 1) ** 2)


def test_the_factor_is_optimal(problem):
    base, y = problem
    a, _ = svm_duals(base, y, 1.0)
    ones = np.ones_like(base)
    factor = optimal_factor(base, a, 0.7)
    best = value(base, factor, ones, a, 0.7)
    rng = np.random.RandomState(1)
    for size in (1e-3, 0.1, 1.0):
        assert best <= value(base, factor + size * rng.randn(50, 50), ones, a, 0.7)
    gradient = 2 * 0.7 * (factor - 1) - 0.5 * (a @ a.T) * base
    np.testing.assert_allclose(gradient, 0.0, atol=1e-12)


def test_the_perturbation_is_the_worst_in_its_ball(problem):
    base, y = problem
    a, _ = svm_duals(base, y, 1.0)
    ones = np.ones_like(base)
    E = worst_perturbation(base, ones, a, 3.0)
    assert np.linalg.norm(E - 1.0) == pytest.approx(3.0)
    worst = value(base, ones, E, a, 1.0)
    rng = np.random.RandomState(2)
    for _ in range(50):
        away = rng.randn(50, 50)
        assert worst >= value(base, ones, 1.0 + 3.0 * away / np.linalg.norm(away), a, 1.0)


@pytest.mark.parametrize("kappa", [0.1, 0.5, 1.0])
def test_the_corrected_kernel_is_positive_semidefinite_and_nonnegative(problem, kappa):
    base, y = problem
    corrected = correct_kernel(base, lambda K: svm_duals(K, y, 1.0), kappa)
    kernel = base * corrected.factor
    assert np.linalg.eigvalsh(kernel).min() >= -1e-10
    assert kernel.min() >= 0.0
    apart = y != y.T
    assert (corrected.factor[apart] <= 1.0 + 1e-12).all()
    assert corrected.factor[apart].min() < 1.0 - kappa / 4.0


def test_no_correction_is_the_base_kernel_and_a_small_one_is_close(problem):
    base, y = problem

    def solve(K):
        return svm_duals(K, y, 1.0)

    np.testing.assert_array_equal(correct_kernel(base, solve, 0.0).factor, 1.0)
    np.testing.assert_allclose(correct_kernel(base, solve, 1e-9).factor, 1.0, atol=1e-8)


def test_the_correction_separates_classes_better(problem):
    base, y = problem
    plain, _ = svm_duals(base, y, 1.0)
    corrected = correct_kernel(base, lambda K: svm_duals(K, y, 1.0), 0.5)
    kernel, a = base * corrected.factor, corrected.dual_coef

    def dual_value(K, a):
        return np.sum(y * a) - 0.5 * np.sum(a * (K @ a))

    assert dual_value(kernel, a) < dual_value(base, plain)


def test_machines_are_those_of_scikit_learn(problem):
    base, y = problem
    svc = SVC(kernel="precomputed").fit(base, y[:, 0])
    a, b = svm_duals(base, y, 1.0)
    np.testing.assert_allclose(base @ a[:, 0] + b, svc.decision_function(base), atol=1e-10)


def test_rows_without_label_have_no_weight(problem):
    base, y = problem
    some = y.copy()
    some[::3] = 0.0
    a, b = svm_duals(base, some, 1.0)
    np.testing.assert_array_equal(a[::3], 0.0)
    known = some[:, 0] != 0
    alone, b_alone = svm_duals(base[np.ix_(known, known)], y[known], 1.0)
    np.testing.assert_allclose(a[known], alone)
    np.testing.assert_allclose(b, b_alone)


def test_ridge_duals_solve_their_system(problem):
    base, y = problem
    targets = np.hstack((y, 2.0 * y + 1.0))
    targets[::4] = np.nan
    a, b = ridge_duals(base, targets, 2.0)
    np.testing.assert_array_equal(a[::4], 0.0)
    known = ~np.isnan(targets[:, 0])
    np.testing.assert_allclose(
        (base[np.ix_(known, known)] + 0.25 * np.eye(known.sum())) @ a[known] + b, targets[known]
    )


def test_a_class_without_rows_gets_a_machine_that_says_so(problem):
    base, y = problem
    a, b = svm_duals(base, np.hstack((y, -np.ones((50, 1)))), 1.0)
    expected, b_expected = svm_duals(base, y, 1.0)
    np.testing.assert_array_equal(a, np.hstack((expected, np.zeros((50, 1)))))
    np.testing.assert_array_equal(b, [*b_expected, -1.0])
