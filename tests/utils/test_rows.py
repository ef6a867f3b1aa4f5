import numpy as np
import pytest

from sklearn_ext.utils._rows import merge_duplicate_rows, row_keys


@pytest.mark.parametrize("n_levels", [2, 5, 1000])
def test_rows_are_those_of_unique_and_weights_add_up(n_levels):
    rng = np.random.default_rng(n_levels)
    X, Y = rng.integers(n_levels, size=(200, 3)) * 1.0, rng.integers(2, size=(200, 2)) * 1.0
    weights = rng.integers(0, 3, size=200) * 1.0
    rows, merged = merge_duplicate_rows(X, Y, weights)

    kept = np.flatnonzero(weights)
    table = np.hstack((Y, X))
    expected, inverse = np.unique(table[kept], axis=0, return_inverse=True)
    np.testing.assert_array_equal(table[rows], expected)
    np.testing.assert_array_equal(merged, np.bincount(inverse, weights=weights[kept]))


def test_the_first_of_equal_rows_is_kept():
    X, Y = np.zeros((5, 2)), np.array([[1.0], [0.0], [1.0], [0.0], [1.0]])
    rows, weights = merge_duplicate_rows(X, Y, np.array([0.0, 1.0, 2.0, 3.0, 4.0]))
    np.testing.assert_array_equal(rows, [1, 2])
    np.testing.assert_array_equal(weights, [4.0, 6.0])


def test_keys_ignore_the_sign_of_zero():
    assert row_keys(np.array([[0.0, 1.0]])) == row_keys(np.array([[-0.0, 1.0]]))
    assert row_keys(np.array([[0.0, 1.0]])) != row_keys(np.array([[1.0, 0.0]]))
