import numpy as np
import pytest
import torch

from sklearn_ext import ConditionalDDPM
from sklearn_ext.generative import Sampler, draw_samples, linear_levels, reconstruct_samples
from sklearn_ext.generative._inference import follow_path
from sklearn_ext.generative._schedules import sampling_steps
from sklearn_ext.neural import torch_generator


@pytest.mark.parametrize(
    ("n_steps", "eta", "spread"),
    [(1000, 0, 0.1994), (1000, 1, 0.1967), (100, 0, 0.188), (100, 1, 0.176), (50, 0, 0.177),
     (50, 1, 0.159)],
)  # fmt: skip
def test_an_exact_denoiser_samples_its_distribution(n_steps, eta, spread):
    """x ~ N(0.3, 0.2^2). Few steps shrink the spread."""
    levels = linear_levels(1000)

    def exact(x_t, step):
        a = levels[step]
        return (x_t - a**0.5 * 0.3) * (1 - a) ** 0.5 / (0.04 * a + 1 - a)

    generator = torch_generator(1)
    noise = torch.randn(20_000, 1, generator=generator)
    steps = sampling_steps(1000, n_steps)
    x = follow_path(exact, noise, steps, levels, eta=eta, generator=generator)
    assert x.mean().item() == pytest.approx(0.297, abs=0.005)
    assert x.std().item() == pytest.approx(spread, abs=0.003)


@pytest.fixture(scope="module")
def diffusion():
    X = np.random.RandomState(0).normal(size=(20, 3))
    y = np.arange(20) % 2
    model = ConditionalDDPM(width=8, max_iter=5, n_timesteps=50, random_state=0).fit(X, y)
    return model.diffusion_


def test_samples_are_in_the_unit_range_and_repeatable(diffusion):
    codes = torch.tensor([0, 1, diffusion.null_code])
    sampler = Sampler(n_steps=4, guidance=1.0, eta=0.5)
    first, second = (draw_samples(diffusion, codes, sampler, torch_generator(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert first.shape == (3, 3)
    assert first.abs().max() <= 1


def test_reconstructions_start_at_the_given_step(diffusion):
    """A barely trained network removes little noise, so the error grows with the first step."""
    x, codes = torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64)
    errors = [
        reconstruct_samples(diffusion, x, codes, start, Sampler(), torch_generator(0)).abs().max()
        for start in (0, 5, 20)
    ]
    assert errors[0] < errors[1] < errors[2]
