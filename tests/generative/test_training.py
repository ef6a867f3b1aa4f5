import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_ext.generative import (
    DDPMConfig,
    MLPDenoiser,
    Noising,
    linear_levels,
    train_denoiser,
)
from sklearn_ext.neural import torch_generator

CONFIG = DDPMConfig(max_iter=12, batch_size=16, learning_rate=1e-2, ema_decay=0.9)
LEVELS = linear_levels(100)
N_CLASSES = 2


@pytest.fixture
def problem():
    torch.manual_seed(0)
    module = MLPDenoiser((3,), N_CLASSES, width=8, n_blocks=1)
    return module, torch.rand(40, 3) * 2 - 1, torch.arange(40) % N_CLASSES


def train(problem, config=CONFIG, *, seed=0, state=None, until=None, watch=None):
    losses = []

    def after_step(training, loss):
        losses.append(loss)
        if watch is not None:
            watch(training)
        return training.step == until

    training = train_denoiser(
        *problem,
        levels=LEVELS,
        n_classes=N_CLASSES,
        config=config,
        generator=torch_generator(seed),
        state=state,
        after_step=after_step,
    )
    return training, losses


def noising(drop_prob):
    return Noising(LEVELS, N_CLASSES, drop_prob, torch_generator(3))


def test_noisy_batches_contain_the_noise_that_was_added(problem):
    module, X, codes = problem
    batch = noising(0.0)(X, codes)
    level = torch.tensor(LEVELS, dtype=torch.float32)[(batch.times * 100).round().long()]
    level = level[:, None]
    torch.testing.assert_close(batch.x, level.sqrt() * X + (1 - level).sqrt() * batch.target)
    assert torch.equal(batch.codes, codes)
    untrained = batch.losses(module)
    torch.testing.assert_close(untrained, batch.target.square().sum(dim=1))


@pytest.mark.parametrize("drop_prob", [0.25, 1.0])
def test_a_fraction_of_the_classes_is_hidden(drop_prob):
    batch = noising(drop_prob)(torch.zeros(20_000, 3), torch.ones(20_000, dtype=torch.int64))
    hidden = batch.codes == N_CLASSES
    assert hidden.float().mean().item() == pytest.approx(drop_prob, abs=0.01)
    assert (batch.codes[~hidden] == 1).all()


def test_a_resumed_training_equals_an_uninterrupted_one(problem):
    _, X, codes = problem
    whole, losses = train(problem)
    half, first_losses = train(problem, until=5)
    resumed, last_losses = train((half.average, X, codes), seed=99, state=half.state())
    assert first_losses + last_losses == losses
    for kept in ("average", "module"):
        expected = getattr(whole, kept).state_dict()
        for name, value in getattr(resumed, kept).state_dict().items():
            assert torch.equal(value, expected[name]), (kept, name)


def test_training_leaves_the_given_module_unchanged(problem):
    before = copy.deepcopy(problem[0].state_dict())
    train(problem)
    for name, value in problem[0].state_dict().items():
        assert torch.equal(value, before[name])


def test_the_average_follows_its_formula(problem):
    weights = []
    training, _ = train(problem, watch=lambda t: weights.append(t.module.inner.weight.clone()))
    expected = problem[0].inner.weight.detach()
    for k, weight in enumerate(weights):
        decay = min(CONFIG.ema_decay, (1 + k) / (10 + k))
        expected = decay * expected + (1 - decay) * weight.detach()
    torch.testing.assert_close(training.average.inner.weight.detach(), expected)


def test_without_averaging_the_model_has_the_last_weights(problem):
    training, _ = train(problem, dataclasses.replace(CONFIG, ema_decay=0.0))
    for average, weight in zip(
        training.average.parameters(), training.module.parameters(), strict=True
    ):
        torch.testing.assert_close(average, weight)


def test_frozen_weights_stay_and_buffers_are_updated(problem):
    module, X, codes = problem

    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = module
            self.inner.inner.requires_grad_(False)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x, t, c):
            self.calls += 1
            return self.inner(x, t, c)

    before = module.inner.weight.clone()
    training, _ = train((Counting(), X, codes))
    assert torch.equal(training.module.inner.inner.weight, before)
    assert training.average.calls == CONFIG.max_iter


def test_a_loss_that_is_not_finite_ends_training(problem):
    module, X, codes = problem
    with pytest.raises(FloatingPointError, match="nan at step 1"):
        train((module, X * np.nan, codes))


def test_mixed_precision_changes_the_forward_pass_alone(problem):
    types = []

    def record(module, args, output):
        if isinstance(module, MLPDenoiser):
            types.append(output.dtype)

    hook = nn.modules.module.register_module_forward_hook(record)
    try:
        _, full = train(problem)
        training, mixed = train(problem, dataclasses.replace(CONFIG, precision="bf16"))
    finally:
        hook.remove()
    assert types == [torch.float32] * 12 + [torch.bfloat16] * 12
    assert training.module.inner.weight.dtype == torch.float32
    assert mixed != full
    np.testing.assert_allclose(mixed, full, rtol=0.05)
