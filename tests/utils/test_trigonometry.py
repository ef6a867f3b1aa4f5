import numpy as np
import pytest

from sklearn_ext.utils._trigonometry import cosines_and_sines, scaled_cosines, scaled_pairs


@pytest.mark.parametrize("largest", [1.0, 1e3, 2.9e6, 1e9])
def test_cosines_and_sines_are_exact_to_rounding(largest):
    angles = np.random.default_rng(0).uniform(-largest, largest, size=(7, 50))
    cosines, sines = np.cos(angles), np.sin(angles)
    np.testing.assert_allclose(scaled_cosines(angles.copy(), 3.0), 3 * cosines, atol=2e-15)
    found = cosines_and_sines(angles.copy())
    np.testing.assert_allclose(found, (cosines, sines), rtol=0, atol=5e-16)
    pairs = scaled_pairs(np.hstack([angles, np.zeros((7, 50)), np.ones((7, 1))]), 50, 2.0)
    expected = np.hstack([2 * cosines, 2 * sines, np.ones((7, 1))])
    np.testing.assert_allclose(pairs, expected, rtol=0, atol=2e-15)
