import numpy as np
import pytest

from sklearn_ext.generative import add_noise, clean_from_noise, noise_from_clean
from sklearn_ext.ood._diffusion_path import (
    CallableDenoiser,
    cosine_signal_level,
    denoise,
    guided_noise,
    regenerate,
)


class KnownNoise:
    """A denoiser that knows the clean rows."""

    def __init__(self, clean):
        self.clean = clean

    def signal_level(self, t):
        return cosine_signal_level(t)

    def predict_noise(self, x_t, t, y=None):
        return noise_from_clean(x_t, self.clean, self.signal_level(t))


@pytest.fixture
def rows():
    return np.random.RandomState(0).uniform(-1, 1, size=(7, 5)).astype(np.float32)


@pytest.mark.parametrize(
    ("t", "level"),
    [(0.1, 0.972), (0.2, 0.899), (0.3, 0.787), (0.45, 0.572), (0.6, 0.341), (0.75, 0.144)],
)
def test_the_cosine_schedule_has_its_published_values(t, level):
    assert cosine_signal_level(t) == pytest.approx(level, abs=6e-4)


def test_the_signal_falls_and_stays_inside_the_unit_interval():
    levels = [cosine_signal_level(t) for t in np.linspace(0, 1, 51)]
    assert 0 < levels[-1] < levels[0] < 1
    assert (np.diff(levels) < 0).all()


@pytest.mark.parametrize("level", [0.05, 0.5, 0.95])
def test_noise_and_clean_row_determine_each_other(rows, level):
    noise = np.random.RandomState(1).randn(*rows.shape).astype(np.float32)
    x_t = add_noise(rows, noise, level)
    np.testing.assert_allclose(clean_from_noise(x_t, noise, level), rows, atol=1e-5)
    np.testing.assert_allclose(noise_from_clean(x_t, rows, level), noise, atol=1e-5)
    assert x_t.dtype == np.float32


@pytest.mark.parametrize("n_steps", [1, 2, 7])
def test_a_denoiser_that_knows_the_row_returns_to_it(rows, n_steps):
    x_t = np.random.RandomState(1).randn(*rows.shape).astype(np.float32)
    actual = denoise(KnownNoise(rows), x_t, 0.9, n_steps, -1.0, 1.0)
    np.testing.assert_allclose(actual, rows, atol=1e-5)


def test_steps_agree_with_the_recursion_written_out(rows):
    def half(x_t, t, y):
        return 0.5 * x_t

    a = [cosine_signal_level(t) for t in (0.6, 0.4, 0.2)]
    x = rows.astype(np.float64)
    for k in range(3):
        clean = np.clip((x - np.sqrt(1 - a[k]) * 0.5 * x) / np.sqrt(a[k]), -0.6, 0.6)
        if k < 2:
            noise = (x - np.sqrt(a[k]) * clean) / np.sqrt(1 - a[k])
            x = np.sqrt(a[k + 1]) * clean + np.sqrt(1 - a[k + 1]) * noise
    actual = denoise(CallableDenoiser(half), rows, 0.6, 3, -0.6, 0.6)
    np.testing.assert_allclose(actual, clean, atol=1e-5)
    assert np.abs(actual).max() == pytest.approx(0.6)


def test_guidance_goes_from_the_free_through_the_conditional_estimate(rows):
    denoiser = CallableDenoiser(lambda x_t, t, y: x_t if y is None else x_t + 1)
    y = np.zeros(len(rows), dtype=int)
    for guidance, shift in ((-1.0, 0.0), (0.0, 1.0), (1.5, 2.5)):
        actual = guided_noise(denoiser, rows, 0.3, y, guidance)
        np.testing.assert_allclose(actual, rows + shift, atol=1e-6)
    np.testing.assert_array_equal(guided_noise(denoiser, rows, 0.3, None, 2.5), rows)


def test_every_row_meets_the_same_noise(rows):
    noise = np.random.RandomState(1).randn(3, 5).astype(np.float32)
    seen = []
    denoiser = CallableDenoiser(lambda x_t, t, y: seen.append((x_t.copy(), y)) or x_t)
    out = regenerate(denoiser, rows, noise, 0.2, 1, -1.0, 1.0, y=np.arange(7))
    assert out.shape == (3, 7, 5)
    (x_t, y), level = seen[0], cosine_signal_level(0.2)
    for repeat in range(3):
        block = slice(7 * repeat, 7 * repeat + 7)
        expected = np.sqrt(level) * rows + np.sqrt(1 - level) * noise[repeat]
        np.testing.assert_allclose(x_t[block], expected, atol=1e-6)
        np.testing.assert_array_equal(y[block], np.arange(7))


def test_images_keep_their_shape_on_the_path():
    images = np.zeros((4, 1, 3, 3), dtype=np.float32)
    noise = np.ones((2, 1, 3, 3), dtype=np.float32)
    shapes = []
    denoiser = CallableDenoiser(lambda x_t, t, y: shapes.append(x_t.shape) or x_t)
    assert regenerate(denoiser, images, noise, 0.5, 2, -1, 1).shape == (2, 4, 1, 3, 3)
    assert shapes == [(8, 1, 3, 3)] * 2


def test_a_callable_may_bring_its_own_schedule():
    def function(x_t, t, y):
        return x_t

    assert CallableDenoiser(function).signal_level(0.3) == cosine_signal_level(0.3)
    function.signal_level = lambda t: 1 - t
    assert CallableDenoiser(function).signal_level(0.3) == 0.7


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x_t, t, y: x_t[:, :2], r"returned shape \(7, 2\)"),
        (lambda x_t, t, y: x_t * np.nan, "NaN or infinity"),
    ],
)
def test_a_callable_must_return_finite_noise_of_the_right_shape(rows, function, message):
    with pytest.raises(ValueError, match=message):
        CallableDenoiser(function).predict_noise(rows, 0.2)
