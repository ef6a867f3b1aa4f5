import numpy as np
import pytest

from sklearn_ext.generative import cosine_signal_level, noise_from_clean
from sklearn_ext.ood import regenerate
from sklearn_ext.ood.diffusion._fit_denoiser import CallableDenoiser
from sklearn_ext.ood.diffusion._regeneration import draw_from_noise, guided_noise


class KnownNoise:
    """The exact denoiser of given clean samples."""

    def __init__(self, clean):
        self.clean = clean

    def signal_level(self, t):
        return cosine_signal_level(t)

    def predict_noise(self, x_t, t, y=None):
        return noise_from_clean(x_t, self.clean, self.signal_level(t))


@pytest.fixture
def samples():
    return np.random.RandomState(0).uniform(-1, 1, size=(7, 5)).astype(np.float32)


@pytest.mark.parametrize("n_steps", [1, 2, 7])
def test_an_exact_denoiser_returns_the_clean_samples(samples, n_steps):
    rng = np.random.RandomState(1)
    x, noise = (rng.randn(n, 5).astype(np.float32) for n in (7, 1))
    denoiser = KnownNoise(samples)
    actual = regenerate(x, noise, denoiser, noise_level=0.9, n_steps=n_steps)
    np.testing.assert_allclose(actual, samples[None], atol=1e-5)
    actual = draw_from_noise(
        x, denoiser, n_steps=n_steps, guidance=0.0, codes=None, bounds=(-1.0, 1.0)
    )
    np.testing.assert_allclose(actual, samples, atol=1e-3)


def test_steps_agree_with_the_explicit_recursion(samples):
    def half(x_t, t, y):
        return 0.5 * x_t

    a = [cosine_signal_level(t) for t in (0.6, 0.4, 0.2)]
    x = np.sqrt(a[0]) * 2 * samples.astype(np.float64)
    for k in range(3):
        clean = np.clip((x - np.sqrt(1 - a[k]) * 0.5 * x) / np.sqrt(a[k]), -0.6, 0.6)
        if k < 2:
            noise = (x - np.sqrt(a[k]) * clean) / np.sqrt(1 - a[k])
            x = np.sqrt(a[k + 1]) * clean + np.sqrt(1 - a[k + 1]) * noise
    actual = regenerate(
        2 * samples,
        np.zeros((1, 5), dtype=np.float32),
        CallableDenoiser(half),
        noise_level=0.6,
        n_steps=3,
        bounds=(-0.6, 0.6),
    )[0]
    np.testing.assert_allclose(actual, clean, atol=1e-5)
    assert np.abs(actual).max() == pytest.approx(0.6)


def test_guidance_extrapolates_the_conditional_estimate(samples):
    denoiser = CallableDenoiser(lambda x_t, t, y: x_t if y is None else x_t + 1)
    y = np.zeros(len(samples), dtype=int)
    for guidance, shift in ((-1.0, 0.0), (0.0, 1.0), (1.5, 2.5)):
        actual = guided_noise(denoiser, samples, 0.3, y, guidance)
        np.testing.assert_allclose(actual, samples + shift, atol=1e-6)
    np.testing.assert_array_equal(guided_noise(denoiser, samples, 0.3, None, 2.5), samples)


def test_all_samples_get_the_same_noise(samples):
    noise = np.random.RandomState(1).randn(3, 5).astype(np.float32)
    seen = []
    denoiser = CallableDenoiser(lambda x_t, t, y: seen.append((x_t.copy(), y)) or x_t)
    out = regenerate(samples, noise, denoiser, noise_level=0.2, codes=np.arange(7))
    assert out.shape == (3, 7, 5)
    (x_t, y), level = seen[0], cosine_signal_level(0.2)
    for repeat in range(3):
        block = slice(7 * repeat, 7 * repeat + 7)
        expected = np.sqrt(level) * samples + np.sqrt(1 - level) * noise[repeat]
        np.testing.assert_allclose(x_t[block], expected, atol=1e-6)
        np.testing.assert_array_equal(y[block], np.arange(7))


def test_images_keep_their_shape():
    images = np.zeros((4, 1, 3, 3), dtype=np.float32)
    noise = np.ones((2, 1, 3, 3), dtype=np.float32)
    shapes = []
    denoiser = CallableDenoiser(lambda x_t, t, y: shapes.append(x_t.shape) or x_t)
    assert regenerate(images, noise, denoiser, noise_level=0.5, n_steps=2).shape == (2, 4, 1, 3, 3)
    assert shapes == [(8, 1, 3, 3)] * 2
