"""Adapted layers compute with W + s B A, plus the noise during a step."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from sklearn_ext.lora import inject_lora, lora_layers
from sklearn_ext.lora._noise import WeightNoise, noise_buffer
from sklearn_ext.lora.layers import LoRALinear, noisy_output
from tests.lora.layers import LAYERS, adapted_layer, randomized


@pytest.fixture(params=LAYERS)
def case(request):
    build, shape = LAYERS[request.param]
    torch.manual_seed(0)
    return build().double(), torch.randn(*shape, dtype=torch.float64)


def plain(base, weight):
    copied = copy.deepcopy(base)
    copied.weight = nn.Parameter(weight.detach().clone())
    return copied


def noise_for(layer, seed=5, sigma=0.3, **params):
    return WeightNoise(
        torch.rand(len(layer.frozen_weight), dtype=torch.float64) * sigma, seed, **params
    )


def test_a_new_update_does_not_change_the_outputs(case):
    base, x = case
    expected = copy.deepcopy(base)(x)
    layer = adapted_layer(base)
    assert torch.equal(layer(x), expected)
    assert torch.equal(layer.weight, layer.base_layer.weight)


def test_outputs_are_those_of_the_merged_weight(case):
    base, x = case
    layer = randomized(copy.deepcopy(base))
    torch.testing.assert_close(layer(x), plain(base, layer.weight)(x), rtol=0, atol=1e-12)


def test_gradients_of_the_factors_follow_the_chain_rule(case):
    base, x = case
    layer = randomized(copy.deepcopy(base))
    layer(x).square().sum().backward()
    reference = plain(base, layer.weight)
    reference(x).square().sum().backward()
    Q = reference.weight.grad.flatten(1)
    A, B, s = layer.lora_A.weight, layer.lora_B.weight, layer.scaling
    expected_A = s * B.flatten(1).T @ Q
    expected_B = s * Q @ A.flatten(1).T
    torch.testing.assert_close(A.grad.flatten(1), expected_A, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(B.grad.flatten(1), expected_B, rtol=1e-10, atol=1e-10)
    assert layer.base_layer.weight.grad is None


@pytest.mark.parametrize("stored", [False, True])
def test_functional_noise_equals_noise_in_place(case, stored):
    base, x = case
    layer = randomized(copy.deepcopy(base))
    W = layer.frozen_weight
    kept = W.clone()
    noise = noise_for(layer, buffer=noise_buffer(W) if stored else None)
    results = []
    for in_place in (False, True):
        leaf = x.clone().requires_grad_()
        layer.zero_grad()
        if in_place:
            W += noise.sample(W)
            layer.noise = None
        else:
            layer.noise = noise
        # The order of a sum depends on the memory format, which the noisy weight does not keep.
        loss = layer(leaf).contiguous().square().mean()
        loss.backward()
        gradients = leaf.grad, layer.lora_A.weight.grad, layer.lora_B.weight.grad
        results.append((loss.detach(), *(g.clone() for g in gradients)))
        if not in_place:
            assert torch.equal(W, kept)
    (loss, *gradients), (loss_in_place, *gradients_in_place) = results
    rounding = 1e-13 if layer.weight_space else 0  # there the terms are added in a different order
    torch.testing.assert_close(loss, loss_in_place, rtol=rounding, atol=0)
    for ours, in_place in zip(gradients, gradients_in_place, strict=True):
        torch.testing.assert_close(ours, in_place, rtol=0, atol=1e-12)


def test_gradients_of_noisy_products_match_differences(case):
    base, x = case
    base.weight.requires_grad_(False)
    noise = noise_for(adapted_layer(copy.deepcopy(base)))
    bias = base.bias

    def output(x, *_):
        return noisy_output(base, x, noise)

    inputs = (x.requires_grad_(),) if bias is None else (x.requires_grad_(), bias)
    assert torch.autograd.gradcheck(output, inputs)


def test_the_weight_includes_update_and_noise(case):
    base, _ = case
    layer = randomized(base)
    merged = layer.weight.detach()
    layer.noise = noise_for(layer)
    torch.testing.assert_close(layer.weight, merged + layer.noise.sample(merged))
    layer.eval()
    assert torch.equal(layer.weight, merged)


def test_noise_applies_in_its_own_mode_only(case):
    base, x = case
    layer = randomized(base)
    quiet = layer(x)
    layer.noise = noise_for(layer)
    assert not torch.allclose(layer(x), quiet)
    assert torch.equal(layer.eval()(x), quiet)
    layer.noise = noise_for(layer, training=False)
    assert not torch.allclose(layer(x), quiet)
    assert torch.equal(layer.train()(x), quiet)


def test_merging_keeps_the_frozen_weight_bit_for_bit(case):
    base, x = case
    layer = randomized(base)
    W, before = layer.base_layer.weight.clone(), layer(x)
    layer.merge()
    torch.testing.assert_close(layer(x), before, rtol=0, atol=1e-12)
    assert torch.equal(layer.base_layer.weight, W)
    layer.unmerge()
    assert torch.equal(layer(x), before)


@pytest.mark.parametrize("merged", [False, True])
def test_threads_can_share_a_layer(merged):
    layer = randomized(nn.Conv1d(32, 32, 3, groups=32))
    if merged:
        layer.merge()
    W, x = layer.base_layer.weight.clone(), torch.randn(4, 32, 50)
    expected = layer(x)
    with ThreadPoolExecutor(4) as threads:
        outputs = list(threads.map(lambda _: layer(x), range(400)))
    assert all(torch.equal(output, expected) for output in outputs)
    assert torch.equal(layer.base_layer.weight, W)


def test_local_noise_has_the_distribution_of_weight_noise():
    layer = randomized(nn.Linear(6, 4).double())
    x = torch.randn(6, dtype=torch.float64)
    std = torch.rand(4, dtype=torch.float64)
    samples = x.expand(40_000, 6)
    shift = WeightNoise(std, 0, local=True).output_noise(samples)
    torch.testing.assert_close(shift.std(dim=0), std * x.norm(), rtol=0.02, atol=0)
    assert torch.corrcoef(shift.T).fill_diagonal_(0).abs().max() < 0.03
    quiet = layer(samples)
    layer.noise = WeightNoise(std, 0, local=True)
    torch.testing.assert_close(layer(samples), quiet + shift)


def test_dropout_acts_on_the_input_of_the_update_only(case):
    base, x = case
    layer = randomized(copy.deepcopy(base), lora_dropout=0.5)
    torch.manual_seed(3)
    dropped = layer(x)
    torch.manual_seed(3)
    kept = nn.functional.dropout(x, 0.5)
    delta = plain(base, layer.delta())
    if delta.bias is not None:
        nn.init.zeros_(delta.bias)
    torch.testing.assert_close(dropped, base(x) + delta(kept), rtol=0, atol=1e-12)
    layer.noise = noise_for(layer)
    torch.manual_seed(3)
    noisy = plain(base, base.weight + layer.noise.sample(base.weight))
    torch.testing.assert_close(layer(x), noisy(x) + delta(kept), rtol=0, atol=1e-12)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_factors_stay_in_full_precision(half):
    layer = adapted_layer(nn.Linear(6, 4).to(half))
    assert layer.lora_A.weight.dtype == layer.lora_B.weight.dtype == torch.float32
    layer = adapted_layer(nn.Linear(6, 4)).to(half)
    assert layer.base_layer.weight.dtype == half
    assert layer.lora_A.weight.dtype == torch.float32
    x = torch.randn(2, 6, dtype=half)
    layer.noise = WeightNoise(torch.full((4,), 0.1), 0)
    output = layer(x)
    assert output.dtype == layer.weight.dtype == half
    output.float().sum().backward()
    assert layer.lora_B.weight.grad.abs().sum() > 0


def test_noise_works_under_autocast():
    layer = randomized(nn.Linear(6, 4))
    layer.noise = WeightNoise(torch.full((4,), 0.1), 0)
    x = torch.randn(3, 6, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = layer(x)
    output.float().square().sum().backward()
    exact = layer(x.detach().clone())
    torch.testing.assert_close(output.float(), exact, rtol=0.05, atol=0.1)
    assert x.grad.dtype == torch.float32


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_a_quantized_weight_is_dequantized():
    base = nn.Linear(6, 4)
    quantized = torch.quantize_per_tensor(base.weight.detach(), 0.01, 0, torch.qint8)
    base.weight = nn.Parameter(quantized, requires_grad=False)
    layer = randomized(base)
    x = torch.randn(3, 6)
    expected = x @ (quantized.dequantize() + layer.delta()).T + base.bias
    torch.testing.assert_close(layer(x), expected)
    layer.noise = WeightNoise(torch.full((4,), 0.1), 0)
    noisy = expected + x @ layer.noise.sample(quantized.dequantize()).T
    torch.testing.assert_close(layer(x), noisy)


def test_scaling_and_rank_follow_the_parameters():
    assert adapted_layer(nn.Linear(20, 20), r=4, lora_alpha=16).scaling == 4
    assert adapted_layer(nn.Linear(20, 20), r=4, lora_alpha=16, use_rslora=True).scaling == 8
    base = nn.Conv2d(4, 8, 3, groups=4, bias=False)
    with pytest.warns(UserWarning, match="r was reduced"):
        layer = adapted_layer(base, r=16, lora_alpha=16)
    assert (layer.r, layer.scaling) == (8, 2)
    bound = 1 / 3  # 1 / sqrt(n) with the fan-in n = 1 * 3 * 3
    assert 0.9 * bound < layer.lora_A.weight.abs().max() <= bound
    assert not layer.lora_B.weight.any()


def test_other_attributes_are_those_of_the_base_layer():
    layer = adapted_layer(nn.Conv2d(4, 6, 3, stride=2))
    assert (layer.in_channels, layer.stride) == (4, (2, 2))
    with pytest.raises(AttributeError, match="nothing"):
        _ = layer.nothing
    assert isinstance(adapted_layer(nn.Linear(3, 2), r=2), LoRALinear)


@pytest.mark.parametrize("kind", LAYERS)
def test_dora_scales_the_filters_of_the_sum(kind):
    build, shape = LAYERS[kind]
    torch.manual_seed(0)
    base = build()
    W = base.weight.detach().clone()
    layer = randomized(base, use_dora=True)
    norms = layer.lora_magnitude_vector.weight
    with torch.no_grad():
        norms.mul_(torch.linspace(0.5, 2, norms.numel()).view_as(norms))
    V = (W + layer.delta()).detach()
    lengths = V.flatten(1).norm(dim=1)
    expected = V * (norms.detach().flatten() / lengths).view(-1, *(1 for _ in V.shape[1:]))
    torch.testing.assert_close(layer.weight, expected)
    x = torch.randn(shape)
    plain = copy.deepcopy(base)
    plain.weight = nn.Parameter(expected)
    torch.testing.assert_close(layer(x), plain(x), rtol=1e-4, atol=1e-5)


def test_dora_needs_to_know_the_forward_pass_for_dropout():
    base, params = LAYERS["own forward pass"][0](), {"use_dora": True, "lora_dropout": 0.5}
    module = nn.Sequential(nn.Conv2d(4, 4, 1), base)
    with pytest.raises(ValueError, match=r"lora_dropout must be 0 .* PaddedConv2d.* got 0\.5"):
        inject_lora(module, target_modules="all", r=2, **params)
    assert lora_layers(module) == {}
    assert all(parameter.requires_grad for parameter in module.parameters())
    grouped = randomized(LAYERS["grouped"][0](), **params)
    x = torch.randn(2, 4, 9, 8)
    assert (grouped.train()(x) - grouped.eval()(x)).abs().max() > 1e-3
    torch.testing.assert_close(grouped(x), grouped(x))
