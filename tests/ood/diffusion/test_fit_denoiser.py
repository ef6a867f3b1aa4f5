import numpy as np
import pytest

from sklearn_ext.generative import cosine_signal_level
from sklearn_ext.ood.diffusion._fit_denoiser import CallableDenoiser


def test_a_callable_may_have_its_own_schedule():
    def function(x_t, t, y):
        return x_t

    assert CallableDenoiser(function).signal_level(0.3) == cosine_signal_level(0.3)
    function.signal_level = lambda t: 1 - t
    assert CallableDenoiser(function).signal_level(0.3) == 0.7


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x_t, t, y: x_t[:, :2], r"got shape \(7, 2\)"),
        (lambda x_t, t, y: x_t + np.nan, "NaN or infinity"),
    ],
)
def test_a_callable_must_return_finite_noise_of_the_right_shape(function, message):
    samples = np.zeros((7, 5), dtype=np.float32)
    with pytest.raises(ValueError, match=message):
        CallableDenoiser(function).predict_noise(samples, 0.2)
