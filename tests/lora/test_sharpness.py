"""Expected sharpness, and its expansion for small noise."""

import pytest
import torch
from torch import nn

from sklearn_ext.lora import expected_sharpness, inject_lora, lora_layers
from sklearn_ext.lora._noise import _scratch
from tests.lora.layers import scale_of


@pytest.fixture
def problem():
    """A 5-6-3 tanh network with two adapted layers, inputs and targets."""
    generator = torch.Generator().manual_seed(0)
    module = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5, generator=generator)
    x = torch.randn(40, 5, generator=generator, dtype=torch.float64)
    y = torch.randint(3, (40,), generator=generator)
    inject_lora(module, r=2, target_modules="all", random_state=0)
    for layer in lora_layers(module).values():
        nn.init.normal_(layer.lora_B.weight, std=0.1, generator=generator)
    return module.eval(), x, y


def second_order(module, x, y, sigma):
    """Return half the sum of variances times the diagonal of the Hessian."""
    layers = list(lora_layers(module).values())
    merged = [layer.weight.detach() for layer in layers]
    biases = [layer.bias for layer in layers]

    def loss(*weights):
        hidden = torch.tanh(nn.functional.linear(x, weights[0], biases[0]))
        return nn.functional.cross_entropy(nn.functional.linear(hidden, weights[1], biases[1]), y)

    hessian = torch.autograd.functional.hessian(loss, tuple(merged))
    total = 0.0
    for k, (layer, W) in enumerate(zip(layers, merged, strict=True)):
        diagonal = hessian[k][k].reshape(W.numel(), W.numel()).diagonal().view_as(W)
        total += (scale_of(layer, sigma).square()[:, None] * diagonal).sum().item() / 2
    return total


@pytest.mark.parametrize("n_draws", [4000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_sharpness_is_a_weighted_trace_of_the_hessian(problem, n_draws):
    module, x, y = problem
    layers = lora_layers(module).values()

    def loss():
        return nn.functional.cross_entropy(module(x), y).item()

    measured = expected_sharpness(loss, layers, sigma=0.1, n_draws=n_draws, seed=0)
    assert measured == pytest.approx(second_order(module, x, y, 0.1), rel=0.05)
    assert all(layer.noise is None for layer in layers)
    assert not hasattr(_scratch, "buffers")


def test_sharpness_is_zero_without_noise_and_seeded(problem):
    module, x, y = problem
    layers = lora_layers(module).values()

    def loss():
        return nn.functional.cross_entropy(module(x), y).item()

    assert expected_sharpness(loss, layers, sigma=0.0, n_draws=3, seed=0) == pytest.approx(0)
    values = [expected_sharpness(loss, layers, sigma=0.2, n_draws=5, seed=s) for s in (1, 1, 2)]
    assert values[0] == values[1] != values[2]
