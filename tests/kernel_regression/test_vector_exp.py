import numpy as np
from numba import njit

from sklearn_ext.kernel_regression.engines._lab_engine_numba import exp_nonpositive


@njit
def apply(x):
    out = np.empty_like(x)
    for i in range(x.size):
        out[i] = exp_nonpositive(x[i])
    return out


def test_exp_in_double_precision_is_exact_to_two_ulp():
    x = -np.concatenate((np.linspace(0, 40, 100_001), np.geomspace(1e-300, 708, 10_001)))
    np.testing.assert_array_max_ulp(apply(x), np.exp(x), maxulp=2)


def test_exp_in_single_precision_is_exact_to_two_ulp():
    x = -np.concatenate((np.linspace(0, 80, 100_001), np.geomspace(1e-30, 87, 10_001)))
    x = x.astype(np.float32)
    y = apply(x)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, np.exp(x.astype(np.float64)), rtol=2e-7)
    edges = apply(np.array([0.0, -0.0, -1e4, -3e38], dtype=np.float32))
    np.testing.assert_array_equal(edges[:2], 1.0)
    assert ((edges[2:] > 0.0) & (edges[2:] < 1e-37)).all()


def test_exp_of_zero_is_one_and_underflow_stays_positive():
    y = apply(np.array([0.0, -0.0, -1e4, -1e308]))
    np.testing.assert_array_equal(y[:2], 1.0)
    assert (y[2:] > 0.0).all()
    assert (y[2:] < 1e-300).all()
