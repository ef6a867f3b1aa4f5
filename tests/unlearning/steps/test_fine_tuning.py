import math

import pytest
import torch
from torch import nn

from sklearn_ext.unlearning.steps._fine_tuning import Recipe, finetune, make_optimizer


class Constant(nn.Module):
    """One weight, whose gradient is the target."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, dtype=torch.float64))

    def forward(self, X):
        return self.weight * X


def run(recipe, n_rows=4, **options):
    module = Constant()
    history = finetune(
        module,
        n_rows,
        lambda index: (torch.ones(2, dtype=torch.float64), None),
        lambda outputs, _: outputs.sum(),
        recipe,
        torch.Generator().manual_seed(0),
        **options,
    )
    return module.weight.detach().tolist(), history


@pytest.mark.parametrize("cosine", [True, False])
def test_the_rate_decays_over_all_steps(cosine):
    weight, history = run(Recipe(0.1, 3, 2, optimizer=torch.optim.SGD, cosine=cosine))
    rates = [(1 + math.cos(math.pi * k / 6)) / 2 if cosine else 1 for k in range(6)]
    assert weight == pytest.approx([1 - 0.1 * sum(rates)] * 2)
    assert [record["n_steps"] for record in history] == [2, 4, 6]
    assert history[0]["loss"] == pytest.approx(2 - 0.1 * rates[0])  # of two steps


def test_weights_outside_of_a_mask_stay_despite_momentum_and_decay():
    recipe = Recipe(0.1, 3, 2, optimizer="sgd", weight_decay=0.1)
    weight, _ = run(recipe, mask={"weight": torch.tensor([True, False])})
    assert weight[0] < 1
    assert weight[1] == 1


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_optimizers_get_rate_and_decay_and_weights_that_can_change(name):
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    module[0].requires_grad_(False)
    (group,) = make_optimizer(module, name, 0.3, 0.2).param_groups
    assert (group["lr"], group["weight_decay"]) == (0.3, 0.2)
    assert group.get("momentum", 0.9) == 0.9
    assert [p.shape for p in group["params"]] == [(1, 3), (1,)]


def test_an_epoch_can_be_the_last():
    _, history = run(Recipe(0.1, 5, 2), after_epoch=lambda record: record["epoch"] == 2)
    assert len(history) == 2
