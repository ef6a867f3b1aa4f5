import math

import pytest
import torch
from torch import nn

from sklearn_ext.unlearning.steps import (
    FineTuneConfig,
    fine_tune,
    make_optimizer,
)


class Constant(nn.Module):
    """One weight, whose gradient is the target."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, dtype=torch.float64))

    def forward(self, X):
        return self.weight * X


def run(config, n_samples=4, **options):
    module = Constant()
    history = fine_tune(
        module,
        n_samples,
        lambda index: (torch.ones(2, dtype=torch.float64), index),
        lambda outputs, _: outputs.sum(),
        config,
        torch.Generator().manual_seed(0),
        **options,
    )
    return module.weight.detach().tolist(), history


@pytest.mark.parametrize("cosine", [True, False])
def test_the_rate_decays_over_all_steps(cosine):
    weight, history = run(FineTuneConfig(0.1, 3, 2, optimizer=torch.optim.SGD, cosine=cosine))
    rates = [(1 + math.cos(math.pi * k / 6)) / 2 if cosine else 1 for k in range(6)]
    assert weight == pytest.approx([1 - 0.1 * sum(rates)] * 2)
    assert [record["n_steps"] for record in history] == [2, 4, 6]
    assert history[0]["loss"] == pytest.approx(2 - 0.1 * rates[0])  # the mean of two steps


def test_masked_weights_resist_momentum_and_decay():
    config = FineTuneConfig(0.1, 3, 2, optimizer="sgd", weight_decay=0.1)
    weight, _ = run(config, mask={"weight": torch.tensor([True, False])})
    assert weight[0] < 1
    assert weight[1] == 1


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_optimizers_get_their_settings_and_trainable_weights(name):
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    module[0].requires_grad_(False)
    (group,) = make_optimizer(module, name, 0.3, 0.2).param_groups
    assert (group["lr"], group["weight_decay"]) == (0.3, 0.2)
    assert group.get("momentum", 0.9) == 0.9
    assert [p.shape for p in group["params"]] == [(1, 3), (1,)]


class StopAfterTwo:
    """A monitor that ends the run after the second epoch."""

    def begin(self, n_steps):
        self.n_steps = n_steps

    def step(self, record):
        return record["epoch"] == 2


def test_a_monitor_can_end_the_run():
    monitor = StopAfterTwo()
    _, history = run(FineTuneConfig(0.1, 5, 2), monitor=monitor)
    assert monitor.n_steps == 5
    assert len(history) == 2


@pytest.mark.parametrize(("n_samples", "n_epochs"), [(100, 5), (20_000, 2), (10**6, 1)])
def test_auto_limits_the_visits_to_samples(n_samples, n_epochs):
    assert FineTuneConfig(0.1).n_epochs(n_samples) == n_epochs
    assert FineTuneConfig(0.1, max_epochs=7).n_epochs(n_samples) == 7
