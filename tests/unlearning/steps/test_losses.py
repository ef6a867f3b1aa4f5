import numpy as np
import pytest
import torch
from torch import nn

from sklearn_ext.unlearning.steps._losses import distillation, row_losses


@pytest.fixture
def logits():
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_rows_have_the_cross_entropy_of_hard_and_of_soft_targets(logits):
    hard = torch.tensor([0, 3, 1, 1, 2, 0])
    soft = torch.rand(6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    soft /= soft.sum(dim=1, keepdim=True)
    for targets in (hard, soft):
        expected = nn.functional.cross_entropy(logits, targets, reduction="none")
        torch.testing.assert_close(row_losses(logits.log_softmax(dim=1), targets), expected)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_distillation_is_the_divergence_at_a_temperature(logits, temperature):
    teacher = logits.flip(0).softmax(dim=1)
    teacher[0] = torch.tensor([1.0, 0.0, 0.0, 0.0])
    student = (logits / temperature).softmax(dim=1)
    terms = [
        q * np.log(q / p)
        for q, p in zip(*(p.ravel().tolist() for p in (teacher, student)), strict=True)
        if q
    ]
    found = distillation(logits.log_softmax(dim=1), teacher, temperature)
    assert float(found) == pytest.approx(sum(terms) / 6)
    assert distillation(logits.log_softmax(dim=1), student, temperature) == pytest.approx(0)
