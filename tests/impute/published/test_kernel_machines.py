import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.svm import SVC

from sklearn_ext.impute.published import (
    least_squares_machines,
    ridge_duals,
    squared_hinge_machines,
    svm_duals,
)


def test_dual_machines_are_those_of_scikit_learn(kernel_and_signs):
    base, y = kernel_and_signs
    svc = SVC(kernel="precomputed").fit(base, y[:, 0])
    a, b = svm_duals(base, y, 1.0)
    np.testing.assert_allclose(base @ a[:, 0] + b, svc.decision_function(base), atol=1e-10)


def test_unlabeled_samples_have_no_weight(kernel_and_signs):
    base, y = kernel_and_signs
    some = y.copy()
    some[::3] = 0.0
    a, b = svm_duals(base, some, 1.0)
    np.testing.assert_array_equal(a[::3], 0.0)
    known = some[:, 0] != 0
    alone, b_alone = svm_duals(base[np.ix_(known, known)], y[known], 1.0)
    np.testing.assert_allclose(a[known], alone)
    np.testing.assert_allclose(b, b_alone)


def test_ridge_duals_solve_their_linear_system(kernel_and_signs):
    base, y = kernel_and_signs
    targets = np.hstack((y, 2.0 * y + 1.0))
    targets[::4] = np.nan
    a, b = ridge_duals(base, targets, 2.0)
    np.testing.assert_array_equal(a[::4], 0.0)
    known = ~np.isnan(targets[:, 0])
    np.testing.assert_allclose(
        (base[np.ix_(known, known)] + 0.25 * np.eye(known.sum())) @ a[known] + b, targets[known]
    )


def test_a_sample_of_weight_two_counts_twice(kernel_and_signs):
    base, y = kernel_and_signs
    weights = 1.0 + (np.arange(50) % 3 == 0)
    twice = np.repeat(np.arange(50), weights.astype(int))
    for fit in (svm_duals, ridge_duals):
        a, b = fit(base, y, 2.0, weights=weights)
        a_copies, b_copies = fit(base[np.ix_(twice, twice)], y[twice], 2.0)
        expected = base[:, twice] @ a_copies + b_copies
        np.testing.assert_allclose(base @ a + b, expected, atol=5e-3)
    features = np.random.RandomState(0).randn(50, 4)
    for machines in (squared_hinge_machines, least_squares_machines):
        found = machines(features, y, 2.0, weights=weights)
        for actual, expected in zip(found, machines(features[twice], y[twice], 2.0), strict=True):
            np.testing.assert_allclose(actual, expected, atol=1e-10)


def test_an_absent_class_gets_a_constant_machine(kernel_and_signs):
    base, y = kernel_and_signs
    a, b = svm_duals(base, np.hstack((y, -np.ones((50, 1)))), 1.0)
    expected, b_expected = svm_duals(base, y, 1.0)
    np.testing.assert_array_equal(a, np.hstack((expected, np.zeros((50, 1)))))
    np.testing.assert_array_equal(b, [*b_expected, -1.0])


@pytest.mark.parametrize("C", [0.01, 1.0, 100.0])
def test_the_primal_machine_minimizes_its_objective(C):
    rng = np.random.RandomState(0)
    X = rng.randn(200, 5)
    signs = np.where(X[:, :2] @ rng.randn(2, 3) + 0.5 * rng.randn(200, 3) > 0.3, 1.0, -1.0)
    coef, intercept = squared_hinge_machines(X, signs, C)
    for k in range(3):

        def value_and_gradient(w, y=signs[:, k]):
            slack = np.maximum(0.0, 1.0 - y * (X @ w[:5] + w[5]))
            pull = 2.0 * C * slack * y
            value = 0.5 * w[:5] @ w[:5] + C * slack @ slack
            return value, np.append(w[:5] - X.T @ pull, -pull.sum())

        found = np.append(coef[:, k], intercept[k])
        value, gradient = value_and_gradient(found)
        np.testing.assert_allclose(gradient, 0.0, atol=1e-8 * (1.0 + C))
        best = minimize(value_and_gradient, np.zeros(6), jac=True)
        assert value <= best.fun + 1e-8


def test_the_primal_machine_stops_on_separable_classes():
    X = np.array([[-3.0], [-2.0], [2.0], [3.0]])
    coef, intercept = squared_hinge_machines(X, np.sign(X), 1e6)
    assert coef[0, 0] == pytest.approx(0.5, rel=1e-3)
    assert intercept[0] == pytest.approx(0.0, abs=1e-6)


def test_least_squares_machines_minimize_their_objective():
    rng = np.random.RandomState(0)
    features, signs = rng.randn(50, 4) + 1.0, np.sign(rng.randn(50, 3))
    coef, intercept = least_squares_machines(features, signs, 0.7)

    def gradient(k):
        rest = signs[:, k] - features @ coef[:, k] - intercept[k]
        return np.append(coef[:, k] - 1.4 * features.T @ rest, rest.sum())

    for k in range(3):
        np.testing.assert_allclose(gradient(k), 0.0, atol=1e-10)
