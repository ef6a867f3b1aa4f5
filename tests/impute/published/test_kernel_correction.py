import numpy as np
import pytest

from sklearn_ext.impute import correct_kernel
from sklearn_ext.impute.published import svm_duals
from sklearn_ext.impute.published._kernel_correction import optimal_factor, worst_perturbation


def value(base, factor, perturbation, a, eta):
    """Return the terms of the objective that depend on the factor or the perturbation."""
    return -0.5 * np.sum((a @ a.T) * base * factor * perturbation) + eta * np.sum((factor - 1) ** 2)


def test_the_factor_minimizes_the_objective(kernel_and_signs):
    base, y = kernel_and_signs
    a, _ = svm_duals(base, y, 1.0)
    ones = np.ones_like(base)
    factor = optimal_factor(base, a, 0.7)
    best = value(base, factor, ones, a, 0.7)
    rng = np.random.RandomState(1)
    for size in (1e-3, 0.1, 1.0):
        assert best <= value(base, factor + size * rng.randn(50, 50), ones, a, 0.7)
    gradient = 2 * 0.7 * (factor - 1) - 0.5 * (a @ a.T) * base
    np.testing.assert_allclose(gradient, 0.0, atol=1e-12)


def test_the_perturbation_is_the_worst_in_its_ball(kernel_and_signs):
    base, y = kernel_and_signs
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
def test_the_corrected_kernel_is_psd_and_nonnegative(kernel_and_signs, kappa):
    base, y = kernel_and_signs
    corrected = correct_kernel(base, lambda K: svm_duals(K, y, 1.0), kappa)
    kernel = base * corrected.factor
    assert np.linalg.eigvalsh(kernel).min() >= -1e-10
    assert kernel.min() >= 0.0
    apart = y != y.T
    assert (corrected.factor[apart] <= 1.0 + 1e-12).all()
    assert corrected.factor[apart].min() < 1.0 - kappa / 4.0


def test_small_kappa_changes_little_and_zero_nothing(kernel_and_signs):
    base, y = kernel_and_signs

    def solve(K):
        return svm_duals(K, y, 1.0)

    np.testing.assert_array_equal(correct_kernel(base, solve, 0.0).factor, 1.0)
    np.testing.assert_allclose(correct_kernel(base, solve, 1e-9).factor, 1.0, atol=1e-8)


def test_the_correction_separates_classes_better(kernel_and_signs):
    base, y = kernel_and_signs
    plain, _ = svm_duals(base, y, 1.0)
    corrected = correct_kernel(base, lambda K: svm_duals(K, y, 1.0), 0.5)
    kernel, a = base * corrected.factor, corrected.dual_coef

    def dual_value(K, a):
        return np.sum(y * a) - 0.5 * np.sum(a * (K @ a))

    assert dual_value(kernel, a) < dual_value(base, plain)


def test_a_kernel_without_labels_is_unchanged(kernel_and_signs):
    base, _ = kernel_and_signs
    corrected = correct_kernel(base, None, 0.5)
    np.testing.assert_array_equal(corrected.initial * corrected.factor, base)
    assert corrected.dual_coef.shape == (50, 0)
