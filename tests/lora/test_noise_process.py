"""The noise of successive steps, without an estimator."""

import numpy as np
import pytest
import torch
from sklearn.utils import check_random_state
from torch import nn

from sklearn_ext.lora import NoiseConfig, NoiseProcess, inject_lora, lora_layers
from sklearn_ext.lora._noise_process import TrainingProgress
from tests.lora.layers import randomize_updates, randomized, scale_of


@pytest.fixture
def module():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    return randomize_updates(inject_lora(module, r=2, target_modules="all", random_state=0))


def process_of(module, **params):
    config = NoiseConfig(**{"sigma": 0.2, "sigma_schedule": "constant"} | params)
    return NoiseProcess(lora_layers(module).values(), config, seed=0)


def update(process, progress=0.0):
    """Draw the noise of a step, and make an update that the process observes."""
    optimizer = torch.optim.SGD([torch.ones(1, requires_grad=True)])
    process.watch([optimizer])
    process.refresh(progress)
    optimizer.step()
    process.close()


def test_a_step_does_not_change_the_global_generators(module):
    process = process_of(module)
    optimizer = torch.optim.Adam([p for p in module.parameters() if p.requires_grad])
    before = torch.get_rng_state(), check_random_state(None).get_state(legacy=False)["state"]
    process.refresh(0.0)
    with process.applied():
        module(torch.ones(4, 6)).square().sum().backward()
    optimizer.step()
    assert torch.equal(torch.get_rng_state(), before[0])
    after = check_random_state(None).get_state(legacy=False)["state"]
    assert after["pos"] == before[1]["pos"]
    np.testing.assert_array_equal(after["key"], before[1]["key"])


def test_the_scale_follows_the_merged_weight(module):
    process = process_of(module)
    process.refresh(0.0)
    first = [noise.scale for noise in process._draws[0]]
    for layer, scale in zip(process.layers, first, strict=True):
        torch.testing.assert_close(scale, scale_of(layer, 0.2))
    with torch.no_grad():
        process.layers[0].lora_B.weight *= 3
    process.refresh(0.0)
    assert process._draws[0][0].scale is first[0]
    update(process)
    process.refresh(0.0)
    torch.testing.assert_close(process._draws[0][0].scale, scale_of(process.layers[0], 0.2))
    assert (process._draws[0][0].scale - first[0]).abs().max() > 0.01


def test_the_strength_follows_the_batches_of_all_epochs(module):
    process = process_of(module, sigma=1.0, sigma_schedule="linear")
    progress = TrainingProgress(n_epochs=2)
    strengths = []
    for _ in range(2):
        progress.begin_epoch(4)
        for _ in range(4):
            update(process, progress.fraction)
            strengths.append(process.strength)
            progress.end_batch()
    assert strengths == [t / 8 for t in range(8)]


def test_progress_counts_epochs_if_their_length_is_unknown():
    progress = TrainingProgress(n_epochs=4)
    fractions = []
    for _ in range(4):
        progress.begin_epoch(None)
        progress.end_batch()
        fractions.append(progress.fraction)
    assert fractions == [0, 0.25, 0.5, 0.75]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_stored_noise_matches_its_seed_in_any_layout(layout):
    layer = randomized(nn.Conv2d(6, 8, 3).to(memory_format=layout))
    config = NoiseConfig(sigma=0.2, sigma_schedule="constant", store_noise=True)
    process = NoiseProcess([layer], config, seed=0)
    process.refresh(0.0)
    W, noise = layer.frozen_weight, process._draws[0][0]
    for _ in range(2):
        assert torch.equal(noise.noisy_weight(W, W.dtype), noise.sample(W) + W)


def test_layers_that_cannot_take_noise_get_none():
    module = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3), nn.Linear(6, 6))
    module[3].weight = module[0].weight  # a tied weight takes no noise
    with pytest.warns(UserWarning, match="'0' is tied"):
        inject_lora(module, r=2, target_modules=["0", "2"], random_state=0)
    process = process_of(module)
    process.refresh(0.0)
    process.apply()
    assert module[0].noise is None
    assert module[2].noise is not None
    process.close()
    assert module[2].noise is None
