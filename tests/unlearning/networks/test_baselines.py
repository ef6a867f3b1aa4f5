"""The baselines, each by what defines it."""

import copy

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from sklearn_ext import (
    BadTeacherUnlearner,
    CTUnlearner,
    GradientAscentUnlearner,
    MSGUnlearner,
    NetClassifier,
    SalUnUnlearner,
)
from sklearn_ext.unlearning.networks import distillation, draw_wrong_labels


def make(Unlearner, estimator, **params):
    return Unlearner(estimator, random_state=0, **params)


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:600] / 16, y[:600]


@pytest.fixture(scope="module")
def net(digits):
    return NetClassifier(module__hidden_sizes=(32,), max_epochs=20, random_state=0).fit(*digits)


@pytest.fixture
def forget(digits):
    return digits[1] == 3


def weights(estimator):
    return {name: value.clone() for name, value in estimator.module_.state_dict().items()}


def test_gradient_ascent_climbs_the_loss(net, digits, forget):
    X, y = digits
    unlearner = make(GradientAscentUnlearner, net, learning_rate=1e-3, max_epochs=3).fit(
        X, y, forget=forget
    )
    losses = [record["loss"] for record in unlearner.history_]
    assert losses == sorted(losses, reverse=True)  # of the negative cross-entropy


def test_gradient_ascent_keeps_running_statistics(plain_skorch, digits, forget):
    unlearner = make(GradientAscentUnlearner, plain_skorch, learning_rate=1e-3).fit(
        *digits, forget=forget
    )
    before, after = weights(plain_skorch), weights(unlearner.estimator_)
    for name in ("layers.1.running_mean", "layers.1.running_var"):
        assert torch.equal(before[name], after[name])
    assert not torch.equal(before["layers.0.weight"], after["layers.0.weight"])


def test_salun_keeps_the_other_weights_exactly(net, digits, forget):
    unlearner = make(SalUnUnlearner, net, mask_fraction=0.1, weight_decay=0.1)
    unlearner.fit(*digits, forget=forget)
    before, after = weights(net), weights(unlearner.estimator_)
    changed = sum(int((before[name] != after[name]).sum()) for name in before)
    total = sum(value.numel() for value in before.values())
    assert 0.05 * total < changed <= 0.1 * total + 1


def test_salun_ranks_weights_by_gradients_without_dropout(plain_skorch, digits, forget):
    X, y = (torch.as_tensor(part[forget]) for part in digits)
    module = copy.deepcopy(plain_skorch.module_).eval()
    nn.functional.nll_loss(module(X.float()).log(), y).backward()
    gradients = torch.cat([weight.grad.abs().flatten() for weight in module.parameters()])
    unlearner = make(SalUnUnlearner, plain_skorch, mask_fraction=0.1, batch_size=100)
    unlearner.fit(*digits, forget=forget)
    pairs = zip(unlearner.estimator_.module_.parameters(), module.parameters(), strict=True)
    changed = torch.cat([(after != before).flatten() for after, before in pairs])
    assert changed.double().mean() > 0.09
    assert gradients[changed].min() >= 0.99 * gradients.quantile(0.9)


def test_a_bad_teacher_lowers_confidence_in_the_forget_set(net, digits, forget):
    X, _ = digits
    unlearner = make(BadTeacherUnlearner, net, max_epochs=10).fit(*digits, forget=forget)
    confidence = unlearner.predict_proba(X).max(axis=1)
    assert confidence[forget].mean() < 0.5
    assert confidence[~forget].mean() > 0.8


def test_teachers_and_student_share_a_temperature(net, digits):
    """The original model then has nothing to learn about retained samples."""
    unlearner = make(BadTeacherUnlearner, net, temperature=3.0, learning_rate=1e-12, max_epochs=1)
    unlearner.fit(*digits, forget=[0])
    assert unlearner.history_[0]["loss"] < 0.02  # from the one sample to forget of 600


class Convolutional(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution, self.head = nn.Conv2d(1, 2, 3), nn.Linear(72, 10)

    def forward(self, X):
        return self.head(self.convolution(X[:, None]).relu().flatten(start_dim=1))


@pytest.mark.parametrize("Unlearner", [CTUnlearner, MSGUnlearner])
@pytest.mark.filterwarnings("ignore:The accuracy on .* retained samples fell")
@pytest.mark.filterwarnings("ignore:The network has no trainable convolution")
def test_frozen_convolutions_are_neither_renewed_nor_transposed(Unlearner, digits, forget):
    X, y = digits[0].reshape(-1, 8, 8), digits[1]
    net = NetClassifier(Convolutional, max_epochs=1, random_state=0).fit(X, y)
    net.module_.convolution.requires_grad_(False)
    unlearner = make(Unlearner, net, learning_rate=1e-12, max_epochs=1).fit(X, y, forget=forget)
    before, after = weights(net), weights(unlearner.estimator_)
    assert torch.equal(before["convolution.weight"], after["convolution.weight"])
    renewed = (before["head.weight"] - after["head.weight"]).abs() > 1e-6
    expected = 0.3 if Unlearner is MSGUnlearner else 0.0
    assert renewed.double().mean().item() == pytest.approx(expected, abs=0.01)


def test_msg_needs_a_layer_to_renew(digits, forget):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(10))

        def forward(self, X):
            return self.scale * X[:, :10]

    net = NetClassifier(Scaled, max_epochs=1, random_state=0).fit(*digits)
    with pytest.raises(ValueError, match="must have a trainable convolution or linear layer"):
        make(MSGUnlearner, net).fit(*digits, forget=forget)


def test_wrong_labels_follow_the_retained_classes():
    rng = np.random.RandomState(0)
    retained = np.repeat([0, 1, 2], [100, 300, 600])
    wrong = draw_wrong_labels(np.zeros(3000, dtype=int), retained, rng)
    assert set(wrong) == {1, 2}
    assert (wrong == 2).mean() == pytest.approx(2 / 3, abs=0.03)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_distillation_is_a_divergence_at_a_temperature(temperature):
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
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
