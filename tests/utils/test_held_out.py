import numpy as np
import pytest

from sklearn_ext.utils._random import held_out_mask


def mask(codes, fraction, seed=0):
    return held_out_mask(np.asarray(codes), fraction, np.random.RandomState(seed))


def test_every_class_is_held_out_in_proportion():
    codes = np.repeat([0, 1, 2], [100, 50, 10])
    held_out = mask(codes, 0.2)
    assert held_out.sum() == 32
    assert np.bincount(codes[held_out]).tolist() == [20, 10, 2]


def test_small_classes_give_a_sample_in_turn():
    codes = np.repeat(np.arange(30), 5)
    counts = [np.bincount(codes[mask(codes, 0.1, seed)], minlength=30) for seed in range(20)]
    assert {int(c.sum()) for c in counts} == {15}
    assert max(c.max() for c in counts) == 1
    assert (np.sum(counts, axis=0) > 0).all()


def test_the_last_sample_of_a_class_is_kept_for_training():
    codes = np.array([0, 1, 1, 2])
    for seed in range(5):
        assert np.flatnonzero(mask(codes, 0.9, seed)).tolist() in ([1], [2])
    with pytest.raises(ValueError, match="needs a class with at least two samples"):
        mask([0, 1, 2], 0.5)


@pytest.mark.parametrize(("n", "fraction"), [(100, 0.2), (31, 0.5), (12, 0.1)])
def test_the_fraction_is_exact_and_classes_are_in_both_parts(n, fraction):
    codes = np.random.RandomState(0).randint(3, size=n)
    held_out = mask(codes, fraction, seed=1)
    assert held_out.sum() == round(fraction * n)
    for label in range(3):
        expected = fraction * (codes == label).sum()
        assert abs((codes[held_out] == label).sum() - expected) < 2
        assert label in codes[~held_out]
