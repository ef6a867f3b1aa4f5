import numpy as np
import pytest
import torch

from sklearn_ext.unlearning.networks import blend, gradual_masks
from sklearn_ext.unlearning.networks._natmu_blending import (
    match_samples,
    rank_classes,
    tent,
    uniform_masks,
)


def test_an_even_tent_has_two_peaks():
    np.testing.assert_allclose(tent(8), [0, 0.25, 0.5, 0.75, 0.75, 0.5, 0.25, 0])


def test_an_odd_tent_is_interpolated():
    np.testing.assert_allclose(tent(7), np.array([0, 2, 4, 6, 4, 2, 0]) / 9)


def test_gradual_masks_of_32_pixels():
    first, second, third, fourth = gradual_masks(32, 32, 4, 0.0)
    np.testing.assert_allclose(first + third, 15 / 16)
    np.testing.assert_allclose(second + fourth, 15 / 16)
    np.testing.assert_array_equal(second, first.T)
    for mask in (first, second, third, fourth):
        assert mask.mean() == pytest.approx(0.46875)
        assert (mask.min(), mask.max()) == (0.0, 15 / 16)


def test_each_axis_has_its_own_profile():
    masks = gradual_masks(6, 10, 2, 0.0)
    np.testing.assert_allclose(masks[0], np.repeat(tent(6)[:, None], 10, axis=1))
    np.testing.assert_allclose(masks[1], np.repeat(tent(10)[None], 6, axis=0))


@pytest.mark.parametrize(("delta", "weight"), [(1.0, 1.0), (-1.0, 0.0)])
def test_extreme_shifts_give_constant_masks(delta, weight):
    assert (gradual_masks(8, 8, 4, delta) == weight).all()
    assert (uniform_masks(4, delta) == weight).all()


def test_more_than_four_masks_repeat():
    masks = gradual_masks(8, 8, 6, -0.1)
    np.testing.assert_array_equal(masks[4:], masks[:2])


def test_uniform_masks_shift_the_mean_weight():
    np.testing.assert_allclose(uniform_masks(2, -0.05), [[0.42], [0.42]])


def test_ranking_omits_the_own_class_and_absent_classes():
    scores = np.array([[9.0, 5.0, 7.0, 8.0], [1.0, 2.0, 3.0, 4.0]])
    admissible = np.array([True, True, True, False])
    ranking = rank_classes(scores, np.array([0, 2]), admissible)
    assert [classes.tolist() for classes in ranking] == [[2, 1], [1, 0]]


def test_saturated_probabilities_do_not_affect_the_ranking():
    log_p = torch.tensor([[200.0, 0.0, 1.0, 2.0]]).log_softmax(dim=1).numpy()
    assert np.exp(log_p[0, 1:]).max() == 0  # all underflow to one tie
    (classes,) = rank_classes(log_p, np.array([0]), np.ones(4, dtype=bool))
    assert classes.tolist() == [3, 2, 1]


def test_samples_are_drawn_once_and_follow_the_ranking():
    retained = np.repeat([0, 1, 2], 10)
    ranking = [np.array([2, 1]), np.array([1, 0]), np.array([0, 2])]
    index, exhausted = match_samples(ranking, retained, 2, np.random.RandomState(0))
    assert not exhausted
    assert len(set(index[:, 1])) == len(index) == 6
    assert index[:, 0].tolist() == [0, 0, 1, 1, 2, 2]
    assert index[:, 2].tolist() == [0, 1] * 3
    assert retained[index[:, 1]].tolist() == [2, 1, 1, 0, 0, 2]


def test_an_empty_stock_is_skipped_for_the_next_class():
    retained = np.array([1, 2, 2, 2])
    ranking = [np.array([1, 2])] * 3
    index, exhausted = match_samples(ranking, retained, 1, np.random.RandomState(0))
    assert not exhausted
    assert retained[index[:, 1]].tolist() == [1, 2, 2]


def test_exhausted_stock_is_refilled_and_reported():
    retained = np.array([0, 1, 1])
    index, exhausted = match_samples([np.array([1])] * 5, retained, 1, np.random.RandomState(0))
    assert exhausted
    assert retained[index[:, 1]].tolist() == [1] * 5
    assert set(index[:4, 1]) == {1, 2}


def test_only_empty_stock_is_refilled():
    retained = np.array([0] * 6 + [1])
    index, exhausted = match_samples([np.array([0, 1])] * 3, retained, 2, np.random.RandomState(0))
    assert exhausted
    assert retained[index[:, 1]].tolist() == [0, 1] * 3
    assert len(set(index[::2, 1])) == 3  # there were enough of them


def test_blend_is_a_weighted_mean():
    forget, retained = np.full((2, 3), 4.0), np.zeros((2, 3))
    np.testing.assert_array_equal(
        blend(forget, retained, np.array([[0.25], [1.0]])), [[1.0] * 3, [4.0] * 3]
    )
