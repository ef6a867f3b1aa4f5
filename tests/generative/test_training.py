import copy

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_ext.generative import MLPDenoiser
from sklearn_ext.generative._diffusion import Diffusion
from sklearn_ext.generative._scaling import UnitRange
from sklearn_ext.generative._schedules import linear_levels
from sklearn_ext.generative._training import Noising, Recipe, Trainer
from sklearn_ext.neural import torch_generator

RECIPE = Recipe(
    n_steps=12, batch_size=16, lr=1e-2, cond_drop_prob=0.1, ema_decay=0.9, clip_norm=1.0
)


@pytest.fixture
def problem():
    torch.manual_seed(0)
    module = MLPDenoiser((3,), 2, width=8, n_blocks=1)
    diffusion = Diffusion(module, linear_levels(100), UnitRange.between(-1, 1), (3,), 2)
    return diffusion, torch.rand(40, 3) * 2 - 1, torch.arange(40) % 2


def train(problem, recipe=RECIPE, trainer=None, until=None):
    diffusion, X, codes = problem
    trainer = trainer or Trainer(copy.deepcopy(diffusion.module), torch_generator(0))
    losses = []

    def after_step(step, loss):
        losses.append(loss)
        return step == until

    trainer.run(diffusion, X, codes, recipe, after_step)
    return trainer, losses


def test_noisy_batches_carry_the_noise_that_was_added(problem):
    diffusion, X, codes = problem
    batch = Noising(diffusion, 0.0, torch_generator(3))(X, codes)
    level = torch.tensor(diffusion.levels, dtype=torch.float32)[(batch.times * 100).round().long()]
    level = level[:, None]
    torch.testing.assert_close(batch.x, level.sqrt() * X + (1 - level).sqrt() * batch.noise)
    assert torch.equal(batch.codes, codes)
    untrained = batch.losses(diffusion.module)
    torch.testing.assert_close(untrained, batch.noise.square().sum(dim=1))


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_a_share_of_the_classes_is_hidden(problem, share):
    diffusion, _, _ = problem
    batch = Noising(diffusion, share, torch_generator(3))(
        torch.zeros(20_000, 3), torch.ones(20_000, dtype=torch.int64)
    )
    hidden = batch.codes == diffusion.null_code
    assert hidden.float().mean().item() == pytest.approx(share, abs=0.01)
    assert (batch.codes[~hidden] == 1).all()


def test_training_resumed_from_its_state_ends_as_without_the_break(problem):
    whole, losses = train(problem)
    half, first_losses = train(problem, until=5)
    resumed = Trainer(copy.deepcopy(half.average), torch_generator(99))
    resumed.restore(half.state())
    _, last_losses = train(problem, trainer=resumed)
    assert first_losses + last_losses == losses
    for kept in ("average", "module"):
        expected = getattr(whole, kept).state_dict()
        for name, value in getattr(resumed, kept).state_dict().items():
            assert torch.equal(value, expected[name]), (kept, name)


def test_the_average_follows_its_formula(problem):
    diffusion, _, _ = problem
    trainer = Trainer(copy.deepcopy(diffusion.module), torch_generator(0))
    expected = trainer.module.inner.weight.detach().clone()
    for k in range(RECIPE.n_steps):
        train(problem, trainer=trainer, until=k + 1)
        decay = min(RECIPE.ema_decay, (1 + k) / (10 + k))
        expected = decay * expected + (1 - decay) * trainer.module.inner.weight.detach()
    torch.testing.assert_close(trainer.average.inner.weight.detach(), expected)


def test_without_averaging_the_model_has_the_last_weights(problem):
    trainer, _ = train(problem, Recipe(**{**vars(RECIPE), "ema_decay": 0.0}))
    for average, weight in zip(
        trainer.average.parameters(), trainer.module.parameters(), strict=True
    ):
        torch.testing.assert_close(average, weight)


def test_frozen_weights_stay_and_buffers_follow(problem):
    diffusion, X, codes = problem

    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = diffusion.module
            self.inner.inner.requires_grad_(False)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x, t, c):
            self.calls += 1
            return self.inner(x, t, c)

    before = diffusion.module.inner.weight.clone()
    trainer, _ = train((Diffusion(Counting(), *list(vars(diffusion).values())[1:]), X, codes))
    assert torch.equal(trainer.module.inner.inner.weight, before)
    assert trainer.average.calls == RECIPE.n_steps


def test_a_loss_that_is_not_finite_ends_training(problem):
    diffusion, X, codes = problem
    with pytest.raises(FloatingPointError, match="nan at step 1"):
        train((diffusion, X * np.nan, codes))
