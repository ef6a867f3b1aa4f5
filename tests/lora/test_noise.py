"""The strength, the scale and the draws of the noise."""

import math
import threading

import numpy as np
import pytest
import torch

from sklearn_ext.lora import default_sigma, noise_scale, noise_strength
from sklearn_ext.lora._noise import WeightNoise, scratch_buffer
from tests.lora.layers import randomized, scale_of


def factors(m=40, n=60, r=4, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    shapes = ((m, n), (r, n), (m, r))
    return [torch.randn(*shape, generator=generator, dtype=dtype) for shape in shapes]


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
def test_filter_norms_equal_those_of_the_merged_weight(dtype, rtol):
    W, A, B = factors(dtype=dtype)
    expected = (W + 0.7 * B @ A).square().sum(dim=1)
    params = {"sigma": math.sqrt(W.shape[1]), "scaling": 0.7}
    scale = noise_scale(W, A, B, **params)
    torch.testing.assert_close(scale.square(), expected, rtol=rtol, atol=0)
    known = noise_scale(W, A, B, **params, weight_norms=W.square().sum(dim=1))
    torch.testing.assert_close(known.square(), expected, rtol=rtol, atol=0)


def test_filter_norms_of_a_zero_weight_are_zero():
    _, A, B = factors(r=4)
    norms = noise_scale(-(B @ A), A, B, math.sqrt(A.shape[1])).square()
    assert (norms >= 0).all()
    assert norms.max() < 1e-3


def test_the_size_of_draws_is_sigma_times_the_weight():
    layer = randomized(torch.nn.Linear(30, 12))
    W = layer.weight.detach()
    sigma = 0.3
    std = scale_of(layer, sigma)
    draws = torch.stack([WeightNoise(std, seed).sample(W) for seed in range(4000)])
    expected = sigma * W.norm(dim=1) / math.sqrt(30)
    torch.testing.assert_close(draws.std(dim=(0, 2)), expected, rtol=0.01, atol=0)
    relative = draws.square().sum(dim=(1, 2)).mean().sqrt() / (sigma * W.norm())
    assert abs(relative - 1) < 0.005


def test_a_grouped_convolution_uses_the_fan_in_per_filter():
    layer = randomized(torch.nn.Conv2d(6, 4, 3, groups=2))
    expected = 0.1 * layer.weight.detach().flatten(1).norm(dim=1) / math.sqrt(3 * 9)
    torch.testing.assert_close(scale_of(layer, 0.1), expected)


@pytest.mark.parametrize("inputs", [32, 1024])
def test_output_variance_grows_equally_for_any_width(inputs):
    generator = torch.Generator().manual_seed(0)
    W = torch.randn(16, inputs, generator=generator)
    x = torch.randn(2000, inputs, generator=generator)
    std = noise_scale(W, torch.zeros(1, inputs), torch.zeros(16, 1), 0.3)
    noisy = torch.cat([x @ (W + WeightNoise(std, seed).sample(W)).T for seed in range(100, 120)])
    ratio = (noisy.var(dim=0) / (x @ W.T).var(dim=0)).mean()
    assert ratio == pytest.approx(1 + 0.3**2, abs=0.02)


def test_draws_depend_on_the_seed_alone():
    before = torch.get_rng_state()
    W, scale = torch.zeros(50, 3), torch.ones(50)
    first, second, other = (WeightNoise(scale, seed).sample(W) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_cosine_rises_from_zero_to_sigma():
    n_steps = 50
    strengths = [noise_strength(t / n_steps, 0.2) for t in range(n_steps)]
    assert strengths[0] == 0
    assert strengths[n_steps // 2] == pytest.approx(0.1)
    assert strengths[-1] == pytest.approx(0.2, rel=0.01)
    assert (np.diff(strengths) > 0).all()


def test_linear_constant_and_callable_schedules():
    assert noise_strength(0.25, 2.0, "linear") == 0.5
    assert noise_strength(0.0, 2.0, "constant") == 2.0
    assert noise_strength(0.5, 2.0, lambda progress: progress**2) == 0.5


def test_threads_share_weights_but_not_buffers():
    layer = randomized(torch.nn.Linear(50, 40))
    W = layer.frozen_weight
    expected = {seed: W + WeightNoise(torch.ones(40), seed).sample(W) for seed in range(4)}
    wrong = []

    def work(seed):
        for _ in range(50):
            noisy = WeightNoise(torch.ones(40), seed).noisy_weight(W, W.dtype)
            if not torch.equal(noisy, expected[seed]):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    mine = scratch_buffer((3,), torch.float32, torch.device("cpu"))
    assert scratch_buffer((3,), torch.float32, torch.device("cpu")) is mine


def test_buffers_are_reused_on_the_cpu_only():
    first, second = (scratch_buffer((3,), torch.float32, torch.device("meta")) for _ in range(2))
    assert first is not second


def test_the_default_strength_grows_with_the_length_of_training():
    strengths = [default_sigma(n) for n in (0.5, 1, 3, 10, 20, 100)]
    np.testing.assert_allclose(strengths, [0.0025, 0.005, 0.015, 0.05, 0.1, 0.1])
