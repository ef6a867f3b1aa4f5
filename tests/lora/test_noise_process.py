"""Noise from step to step, without a net around it."""

import threading

import numpy as np
import pytest
import torch
from sklearn.utils import check_random_state
from torch import nn

from sklearn_ext.lora import inject_lora, lora_layers
from sklearn_ext.lora._noise_process import NoiseProcess, merged_row_std
from sklearn_ext.lora._weight_noise import WeightNoise, scratch_buffer
from tests.lora.layers import randomize_updates, randomized


@pytest.fixture
def module():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    return randomize_updates(inject_lora(module, r=2, target_modules="all", random_state=0))


def process_of(module, **params):
    return NoiseProcess(
        lora_layers(module).values(), **{"sigma": 0.2, "seed": 0, "n_epochs": 2} | params
    )


def test_a_step_leaves_the_global_generators(module):
    process = process_of(module, schedule="constant")
    optimizer = torch.optim.Adam([p for p in module.parameters() if p.requires_grad])
    before = torch.get_rng_state(), check_random_state(None).get_state(legacy=False)["state"]
    process.refresh()
    with process.applied():
        module(torch.ones(4, 6)).square().sum().backward()
    optimizer.step()
    assert torch.equal(torch.get_rng_state(), before[0])
    after = check_random_state(None).get_state(legacy=False)["state"]
    assert after["pos"] == before[1]["pos"]
    np.testing.assert_array_equal(after["key"], before[1]["key"])


def test_the_size_of_the_noise_follows_the_merged_weight(module):
    process = process_of(module, schedule="constant")
    process.refresh()
    first = [noise.std for noise in process._noises[0]]
    for layer, std in zip(process.layers, first, strict=True):
        torch.testing.assert_close(std, merged_row_std(layer, 0.2))
    with torch.no_grad():
        process.layers[0].lora_B.weight *= 3
    process.refresh()
    assert process._noises[0][0].std is first[0]
    process.on_step()
    process.refresh()
    torch.testing.assert_close(process._noises[0][0].std, merged_row_std(process.layers[0], 0.2))
    assert (process._noises[0][0].std - first[0]).abs().max() > 0.01


def test_progress_counts_batches_of_all_epochs(module):
    process = process_of(module, sigma=1.0, schedule="linear")
    strengths = []
    for _ in range(2):
        process.begin_epoch(4)
        for _ in range(4):
            process.refresh()
            strengths.append(process.strength)
            process.end_batch()
            process.on_step()
    assert strengths == [t / 8 for t in range(8)]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_stored_noise_is_that_of_its_seed_in_any_layout(layout):
    layer = randomized(nn.Conv2d(6, 8, 3).to(memory_format=layout))
    process = NoiseProcess(
        [layer], sigma=0.2, schedule="constant", store_noise=True, seed=0, n_epochs=1
    )
    process.refresh()
    W, noise = layer.frozen_weight, process._noises[0][0]
    for _ in range(2):
        assert torch.equal(noise.added_to(W, W.dtype), noise.sample(W) + W)


def test_layers_that_take_no_noise_get_none(module):
    module[0].takes_noise = False
    process = process_of(module, schedule="constant")
    process.refresh()
    process.apply()
    assert module[0].noise is None
    assert module[2].noise is not None
    process.close()
    assert module[2].noise is None


def test_threads_share_a_weight_but_no_buffer():
    layer = randomized(nn.Linear(50, 40))
    W = layer.frozen_weight
    expected = {seed: W + WeightNoise(torch.ones(40), seed).sample(W) for seed in range(4)}
    wrong = []

    def work(seed):
        for _ in range(50):
            noisy = WeightNoise(torch.ones(40), seed).added_to(W, W.dtype)
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


def test_buffers_are_kept_on_the_cpu_only():
    first, second = (scratch_buffer((3,), torch.float32, torch.device("meta")) for _ in range(2))
    assert first is not second
