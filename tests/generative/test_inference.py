import pytest
import torch

from sklearn_ext.generative import linear_levels
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

    def exact(x_t, time):
        a = levels[round(time * 1000)]
        return (x_t - a**0.5 * 0.3) * (1 - a) ** 0.5 / (0.04 * a + 1 - a)

    generator = torch_generator(1)
    noise = torch.randn(20_000, 1, generator=generator)
    steps = sampling_steps(1000, n_steps)
    x = follow_path(exact, noise, steps, levels, eta=eta, generator=generator)
    assert x.mean().item() == pytest.approx(0.297, abs=0.005)
    assert x.std().item() == pytest.approx(spread, abs=0.003)
