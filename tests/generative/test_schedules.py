import numpy as np
import pytest

from sklearn_ext.generative import cosine_levels, cosine_signal_level, linear_levels
from sklearn_ext.generative._schedules import SCHEDULES, sampling_steps


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


def test_sampling_steps_fall_from_the_last_to_the_first():
    assert sampling_steps(10, 10) == list(range(9, -1, -1))
    assert sampling_steps(1000, 3) == [999, 500, 0]
    assert sampling_steps(1000, 3, last=10) == [10, 5, 0]
    assert sampling_steps(1000, 50, last=3) == [3, 2, 1, 0]
    assert sampling_steps(1000, 1) == [999]
    assert len(set(sampling_steps(1000, 50))) == 50


@pytest.mark.parametrize(
    ("t", "level"),
    [(0.1, 0.972), (0.2, 0.899), (0.3, 0.787), (0.45, 0.572), (0.6, 0.341), (0.75, 0.144)],
)
def test_the_cosine_level_has_its_published_values(t, level):
    assert cosine_signal_level(t) == pytest.approx(level, abs=6e-4)


def test_the_cosine_level_falls_inside_the_unit_interval():
    levels = [cosine_signal_level(t) for t in np.linspace(0, 1, 51)]
    assert 0 < levels[-1] < levels[0] < 1
    assert (np.diff(levels) < 0).all()


def test_the_cosine_level_is_the_schedule_in_continuous_time():
    levels = cosine_levels(100)
    np.testing.assert_allclose([cosine_signal_level((t + 1) / 100) for t in range(98)], levels[:98])
