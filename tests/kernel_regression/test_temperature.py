import numpy as np
import pytest
from scipy.special import softmax

from sklearn_ext.kernel_regression import fit_temperature


@pytest.mark.parametrize("temperature", [0.3, 2.0])
def test_the_temperature_behind_the_labels_is_found(temperature):
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(20_000, 4))
    proba = softmax(scores / temperature, axis=1)
    y = (proba.cumsum(axis=1) > rng.random((len(scores), 1))).argmax(axis=1)
    assert fit_temperature(scores, y, np.ones(len(y))) == pytest.approx(temperature, rel=0.05)


def test_only_ratios_of_weights_matter():
    rng = np.random.default_rng(0)
    scores, y = rng.normal(size=(30, 3)), rng.integers(3, size=30)
    weights = np.where(np.arange(30) < 10, 5.0, 1.0)
    heavy = fit_temperature(scores, y, weights)
    assert heavy == pytest.approx(fit_temperature(scores, y, 7.0 * weights), rel=1e-4)
    assert heavy != pytest.approx(fit_temperature(scores, y, np.ones(30)), rel=1e-2)


def test_a_few_perfect_samples_do_not_give_certainty():
    scores = np.array([[1.0, -1.0], [-1.0, 1.0]])
    T = fit_temperature(scores, np.array([0, 1]), np.ones(2))
    # With two samples, smoothing gives the true class a probability of exactly 3/4.
    np.testing.assert_allclose(softmax(scores[0] / T)[0], 0.75, rtol=1e-3)


def test_rows_that_stand_for_copies_are_smoothed_like_copies():
    scores, y = np.array([[2.0, -1.0], [2.0, -1.0], [0.5, 1.0]]), np.array([0, 1, 1])
    copies = np.array([40, 5, 9])
    merged = fit_temperature(scores, y, copies, n_samples=copies.sum())
    repeated = fit_temperature(np.repeat(scores, copies, 0), np.repeat(y, copies), np.ones(54))
    assert merged == pytest.approx(repeated, rel=1e-4)
