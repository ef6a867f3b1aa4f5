import numpy as np
import pytest
from scipy.optimize import minimize

from sklearn_ext.impute._primal_machine import squared_hinge_machines


@pytest.mark.parametrize("C", [0.01, 1.0, 100.0])
def test_it_minimises_the_squared_hinge_loss(C):
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


def test_separable_classes_and_one_sided_margins_end():
    X = np.array([[-3.0], [-2.0], [2.0], [3.0]])
    coef, intercept = squared_hinge_machines(X, np.sign(X), 1e6)
    assert coef[0, 0] == pytest.approx(0.5, rel=1e-3)
    assert intercept[0] == pytest.approx(0.0, abs=1e-6)
