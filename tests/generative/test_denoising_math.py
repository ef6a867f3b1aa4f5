import numpy as np
import pytest
import torch

from sklearn_ext.generative._denoising_math import (
    add_noise,
    antithetic_steps,
    clean_from_noise,
    denoising_losses,
    guided,
    noise_from_clean,
    step_down,
    step_variance,
)
from sklearn_ext.generative._sampling import follow_path
from sklearn_ext.generative._schedules import (
    SCHEDULES,
    cosine_levels,
    linear_levels,
    sampling_steps,
)
from sklearn_ext.neural import torch_generator


@pytest.fixture
def rows():
    generator = torch_generator(0)
    draw = [torch.randn(5, 3, generator=generator, dtype=torch.float64) for _ in range(2)]
    return draw[0], draw[1]


def test_noise_and_clean_rows_follow_from_each_other(rows):
    x, noise = rows
    for level in (1e-3, 0.4, torch.rand(5, 1, dtype=torch.float64)):
        x_t = add_noise(x, noise, level)
        torch.testing.assert_close(clean_from_noise(x_t, noise, level), x)
        torch.testing.assert_close(noise_from_clean(x_t, x, level), noise)


def test_losses_sum_over_all_axes_but_the_first():
    noise, estimate = torch.zeros(2, 2, 3), torch.ones(2, 2, 3)
    estimate[1] = 2
    assert denoising_losses(noise, estimate).tolist() == [6, 24]


@pytest.mark.parametrize("n", [1, 6, 7])
def test_steps_come_in_pairs_around_the_middle(n):
    steps = antithetic_steps(n, 1000, torch_generator(0))
    half = n // 2 + 1
    assert len(steps) == n
    assert (steps[half:] == 999 - steps[: n - half]).all()
    assert steps.min() >= 0
    assert steps.max() <= 999


def test_guidance_extrapolates_from_any_class_beyond_the_class():
    assert guided(2.0, 1.0, 0.0) == 2.0
    assert guided(2.0, 1.0, 1.0) == 3.0
    assert guided(2.0, 1.0, -1.0) == 1.0


def test_a_deterministic_step_with_the_true_noise_stays_on_the_path(rows):
    x, noise = rows
    x_t = add_noise(x, noise, 0.2)
    torch.testing.assert_close(step_down(x_t, noise, 0.2, 0.7), add_noise(x, noise, 0.7))
    torch.testing.assert_close(step_down(x_t, noise, 0.2, 1.0), x)


def test_a_bound_clips_the_clean_row_and_corrects_the_noise(rows):
    x, noise = rows
    x_t = add_noise(x, noise, 0.2)
    clipped = x.clamp(-0.5, 0.5)
    expected = add_noise(clipped, noise_from_clean(x_t, clipped, 0.2), 0.7)
    torch.testing.assert_close(step_down(x_t, noise, 0.2, 0.7, bound=0.5), expected)


def test_the_ancestral_variance_is_that_of_the_posterior():
    """Ho et al. (2020), Eq. 7: (1 - a_{t-1}) / (1 - a_t) beta_t."""
    levels = linear_levels(1000)
    for t in (1, 10, 500, 999):
        beta = 1 - levels[t] / levels[t - 1]
        expected = (1 - levels[t - 1]) / (1 - levels[t]) * beta
        assert step_variance(levels[t], levels[t - 1], 1.0) == pytest.approx(expected)
    assert step_variance(0.2, 0.7, 0.0) == 0
    assert step_variance(0.2, 1.0, 1.0) == 0


def test_the_linear_schedule_is_the_published_one():
    levels = linear_levels(1000)
    assert levels[0] == pytest.approx(1 - 1e-4)
    assert 1 - levels[-1] / levels[-2] == pytest.approx(0.02)
    assert levels[-1] == pytest.approx(4e-5, rel=0.02)


def test_the_cosine_schedule_is_the_published_one():
    levels = cosine_levels(100)
    u = np.arange(1, 100) / 100
    f = np.cos((u + 0.008) / 1.008 * np.pi / 2) ** 2 / np.cos(0.008 / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(levels[:-1], f)
    assert levels[-1] == pytest.approx(levels[-2] * 1e-3)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("n_timesteps", [2, 10, 100, 1000])
def test_every_schedule_falls_from_signal_to_noise(name, n_timesteps):
    levels = SCHEDULES[name](n_timesteps)
    assert levels.shape == (n_timesteps,)
    assert (np.diff(levels) < 0).all()
    assert 0 < levels[-1] < 1e-2
    assert levels[0] < 1


def test_sampling_visits_falling_steps_from_the_last_to_the_first():
    assert sampling_steps(10, 10) == list(range(9, -1, -1))
    assert sampling_steps(1000, 3) == [999, 500, 0]
    assert sampling_steps(1000, 3, last=10) == [10, 5, 0]
    assert sampling_steps(1000, 50, last=3) == [3, 2, 1, 0]
    assert sampling_steps(1000, 1) == [999]
    assert len(set(sampling_steps(1000, 50))) == 50


@pytest.mark.parametrize(
    ("n_steps", "eta", "spread"),
    [(1000, 0, 0.1994), (1000, 1, 0.1967), (100, 0, 0.188), (100, 1, 0.176), (50, 0, 0.177),
     (50, 1, 0.159)],
)  # fmt: skip
def test_the_exact_denoiser_of_a_gaussian_gives_the_gaussian(n_steps, eta, spread):
    """x ~ N(0.3, 0.2^2); few steps are known to shrink the spread."""
    levels = linear_levels(1000)

    def exact(x_t, time):
        a = levels[round(time * 1000)]
        return (x_t - a**0.5 * 0.3) * (1 - a) ** 0.5 / (0.04 * a + 1 - a)

    generator = torch_generator(1)
    noise = torch.randn(20_000, 1, generator=generator)
    steps = sampling_steps(1000, n_steps)
    x = follow_path(exact, noise, steps, levels, eta=eta, generator=generator, bound=None)
    assert x.mean().item() == pytest.approx(0.297, abs=0.005)
    assert x.std().item() == pytest.approx(spread, abs=0.003)
