import numpy as np
import pytest

from sklearn_ext.utils._rows import (
    count_samples,
    draw_samples,
    find_rows,
    group_equal_rows,
    merge_duplicate_rows,
    row_keys,
)


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


@pytest.mark.parametrize("n_levels", [2, 5, 1000])
def test_groups_are_those_of_unique_in_order_of_occurrence(n_levels):
    X = np.random.default_rng(n_levels).integers(n_levels, size=(60, 3)) * 1.0
    rows = np.arange(60)[::-2]
    groups = group_equal_rows(X, rows)
    _, inverse = np.unique(X[rows], axis=0, return_inverse=True)
    pairs = set(zip(groups.tolist(), inverse.ravel().tolist(), strict=True))
    assert len(pairs) == groups.max() + 1 == inverse.max() + 1
    first = [np.flatnonzero(groups == g)[0] for g in range(groups.max() + 1)]
    assert first == sorted(first)


# Samples 0 and 1 have equal features and different targets; sample 2 stands alone.
@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([30.0, 12.0, 6.0], [5.0, 2.0, 1.0]),  # integers, in units of their greatest divisor
        ([3e14, 1e14, 1e14], [3.0, 1.0, 1.0]),
        ([1.5, 0.5, 4.0], [3.0, 1.0, 1.0]),  # counts divided by a constant
        ([0.0011, 0.001, 0.5], [1.0, 1.0, 1.0]),
    ],
)
def test_weights_count_samples_where_targets_differ(weights, expected):
    X = np.array([[1.0, 2.0], [1.0, 2.0], [1.0, 3.0]])
    np.testing.assert_array_equal(count_samples(X, np.arange(3), np.array(weights)), expected)


@pytest.mark.parametrize("n_drawn", [1, 7, 100, 1009])
def test_each_row_is_drawn_in_proportion_to_its_count(n_drawn):
    counts = np.concatenate(([500.0, 400.0, 9.0], np.ones(100)))
    drawn = draw_samples(counts, n_drawn, np.random.RandomState(0))
    assert drawn.sum() == n_drawn
    assert (drawn <= counts).all()
    assert (drawn >= 0).all()
    np.testing.assert_array_less(np.abs(drawn - counts * n_drawn / 1009), 1.0 + 1e-9)


def test_single_samples_are_drawn_with_equal_probability():
    rng = np.random.RandomState(0)
    frequency = np.mean([draw_samples(np.ones(10), 3, rng) for _ in range(2000)], axis=0)
    np.testing.assert_allclose(frequency, 0.3, atol=0.04)


def test_rows_are_found_at_their_first_index():
    X = np.array([[1.0, 2.0], [3.0, 2.0], [1.0, 2.0], [0.0, 5.0]])
    rows = np.array([[1.0, 2.0], [-0.0, 5.0], [3.0, 5.0]])
    np.testing.assert_array_equal(find_rows(X, rows), [0, 3, -1])
