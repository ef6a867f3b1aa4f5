import numpy as np
import pytest
import torch

from sklearn_ext.generative import (
    add_noise,
    clean_from_noise,
    ddim_step,
    denoising_losses,
    guided,
    linear_levels,
    noise_from_clean,
)
from sklearn_ext.generative._denoising_math import antithetic_steps, step_variance
from sklearn_ext.neural import torch_generator


@pytest.fixture
def pair():
    generator = torch_generator(0)
    draw = [torch.randn(5, 3, generator=generator, dtype=torch.float64) for _ in range(2)]
    return draw[0], draw[1]


def test_noise_and_clean_samples_determine_each_other(pair):
    x, noise = pair
    for level in (1e-3, 0.4, torch.rand(5, 1, dtype=torch.float64)):
        x_t = add_noise(x, noise, level)
        torch.testing.assert_close(clean_from_noise(x_t, noise, level), x)
        torch.testing.assert_close(noise_from_clean(x_t, x, level), noise)


@pytest.mark.parametrize("level", [0.05, 0.5, 0.95])
def test_arrays_stay_arrays_of_single_precision(pair, level):
    x, noise = (tensor.float().numpy() for tensor in pair)
    x_t = add_noise(x, noise, level)
    np.testing.assert_allclose(clean_from_noise(x_t, noise, level), x, atol=1e-5)
    np.testing.assert_allclose(noise_from_clean(x_t, x, level), noise, atol=1e-5)
    assert x_t.dtype == np.float32


def test_losses_sum_over_all_axes_but_the_first():
    noise, estimate = torch.zeros(2, 2, 3), torch.ones(2, 2, 3)
    estimate[1] = 2
    assert denoising_losses(noise, estimate).tolist() == [6, 24]


@pytest.mark.parametrize("n", [1, 6, 7])
def test_antithetic_steps_come_in_pairs_around_the_middle(n):
    steps = antithetic_steps(n, 1000, torch_generator(0))
    half = n // 2 + 1
    assert len(steps) == n
    assert (steps[half:] == 999 - steps[: n - half]).all()
    assert steps.min() >= 0
    assert steps.max() <= 999


def test_guidance_extrapolates_beyond_the_class():
    assert guided(2.0, 1.0, 0.0) == 2.0
    assert guided(2.0, 1.0, 1.0) == 3.0
    assert guided(2.0, 1.0, -1.0) == 1.0


def test_a_ddim_step_with_the_true_noise_stays_on_the_path(pair):
    x, noise = pair
    x_t = add_noise(x, noise, 0.2)
    torch.testing.assert_close(ddim_step(x_t, noise, 0.2, 0.7), add_noise(x, noise, 0.7))
    torch.testing.assert_close(ddim_step(x_t, noise, 0.2, 1.0), x)


def test_bounds_clip_the_clean_sample_and_correct_the_noise(pair):
    x, noise = pair
    x_t = add_noise(x, noise, 0.2)
    clipped = x.clamp(-0.5, 0.5)
    expected = add_noise(clipped, noise_from_clean(x_t, clipped, 0.2), 0.7)
    torch.testing.assert_close(ddim_step(x_t, noise, 0.2, 0.7, bounds=(-0.5, 0.5)), expected)


def test_the_ancestral_variance_is_that_of_the_posterior():
    """Ho et al. (2020), Eq. 7: (1 - a_{t-1}) / (1 - a_t) beta_t."""
    levels = linear_levels(1000)
    for t in (1, 10, 500, 999):
        beta = 1 - levels[t] / levels[t - 1]
        expected = (1 - levels[t - 1]) / (1 - levels[t]) * beta
        assert step_variance(levels[t], levels[t - 1], 1.0) == pytest.approx(expected)
    assert step_variance(0.2, 0.7, 0.0) == 0
    assert step_variance(0.2, 1.0, 1.0) == 0


def test_a_ddim_step_is_the_same_for_arrays_and_tensors(pair):
    x_t, noise = pair
    for eta, bounds in ((0.0, None), (0.5, (-0.4, 0.6)), (0.0, (np.full(3, -0.4), np.ones(3)))):
        as_tensors = (
            None if bounds is None else tuple(torch.as_tensor(np.float64(b)) for b in bounds)
        )
        arrays = ddim_step(
            x_t.numpy(), noise.numpy(), 0.3, 0.8, eta=eta, fresh_noise=noise.numpy(), bounds=bounds
        )
        tensors = ddim_step(x_t, noise, 0.3, 0.8, eta=eta, fresh_noise=noise, bounds=as_tensors)
        np.testing.assert_allclose(arrays, tensors.numpy(), rtol=1e-12)
