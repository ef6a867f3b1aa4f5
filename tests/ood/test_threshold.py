import numpy as np
import pytest

from sklearn_ext.ood._threshold import rejection_threshold


def test_new_rows_fall_below_the_threshold_at_the_given_rate():
    rng = np.random.RandomState(0)
    below = [rng.rand() < rejection_threshold(rng.rand(39), 0.05) for _ in range(20000)]
    assert np.mean(below) == pytest.approx(0.05, abs=0.005)


def test_few_scores_give_the_least_of_them():
    assert rejection_threshold(np.array([3.0, 1.0, 2.0]), 0.05) == 1.0
