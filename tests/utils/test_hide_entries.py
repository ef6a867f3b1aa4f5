import numpy as np

from sklearn_ext.utils._random import hide_entries


def table_with_missing_values():
    rng = np.random.RandomState(0)
    return np.where(rng.rand(100, 6) < 0.4, np.nan, rng.randn(100, 6))


def test_a_fifth_of_the_observed_entries_is_hidden():
    X = table_with_missing_values()
    hidden = hide_entries(X, 0.2, np.random.RandomState(0))
    assert hidden.sum() == round(0.2 * np.sum(~np.isnan(X)))
    assert not np.isnan(X[hidden]).any()


def test_two_entries_per_column_stay_observed():
    X = np.full((9, 3), np.nan)
    X[0, 0] = X[1, 0] = X[:3, 1] = 1.0
    X[:, 2] = 1.0
    for seed in range(20):
        hidden = hide_entries(X, 0.2, np.random.RandomState(seed))
        left = np.sum(~np.isnan(X) & ~hidden, axis=0)
        assert left[0] == 2
        assert (left[1:] >= 2).all()
