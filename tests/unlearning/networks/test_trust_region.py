"""No unlearner loses much accuracy on the retained samples without a warning."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from sklearn_ext.neural import NetClassifier
from sklearn_ext.unlearning import (
    ForgetRequest,
    GradientAscentUnlearner,
    MSGUnlearner,
    MUSOUnlearner,
    SFRonUnlearner,
    SSDUnlearner,
)
from sklearn_ext.unlearning.networks import NetData, RetainedLimit
from sklearn_ext.unlearning.networks._net_data import retained_targets
from sklearn_ext.unlearning.networks._trust_region import TrustRegion


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:600] / 16, y[:600]


@pytest.fixture(scope="module")
def net(digits):
    return NetClassifier(module__hidden_sizes=(32,), max_epochs=20, random_state=0).fit(*digits)


FORGET = np.arange(0, 600, 10)


def line(limit):
    """A network whose accuracy falls from 1 to 0.5 as its weight passes zero."""
    module = nn.Linear(1, 2, bias=False)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0], [0.0]]))
    X = torch.cat([torch.ones(5, 1), -torch.ones(5, 1)])
    codes = torch.tensor([0] * 5 + [1] * 5)
    data = NetData(module, X, codes, ForgetRequest.from_user([0], 10))
    return module, TrustRegion(data, RetainedLimit(limit), np.random.RandomState(0))


def test_a_change_within_the_limit_is_kept():
    module, region = line(0.05)
    with torch.no_grad():
        module.weight[0] = 0.1
    record = region.check()
    assert record == {"FA": 1.0, "RA": 1.0, "kept": 1.0}
    assert module.weight[0].item() == pytest.approx(0.1)
    assert region.rate == 1.0


def test_a_change_beyond_the_limit_is_shortened():
    module, region = line(0.05)
    with torch.no_grad():
        module.weight[0] = -2.0  # a quarter of the way from 1 is still right
    record = region.check()
    assert record["kept"] == 0.25
    assert record["RA"] == 1.0
    assert module.weight[0].item() == pytest.approx(0.25)
    assert region.rate == 0.5
    region.close()


def test_without_a_limit_nothing_is_taken_back():
    module, region = line(None)
    with torch.no_grad():
        module.weight[0] = -2.0
    assert region.check()["RA"] < 0.5
    assert module.weight[0].item() == -2.0
    region.close()


def test_a_new_start_is_not_taken_back_but_reported():
    module, region = line(0.05)
    with torch.no_grad():
        module.weight[0] = -2.0
    region.start_anew()
    assert region.check()["kept"] == 1.0
    with pytest.warns(UserWarning, match=r"fell from 100.0 to 0.0 %.* retained_tolerance=0.05"):
        region.close()


@pytest.mark.parametrize("rate", [0.3, 3.0])
def test_ascent_cannot_destroy_the_network(net, digits, rate):
    X, y = digits
    kept = np.delete(np.arange(600), FORGET)
    free = GradientAscentUnlearner(
        net, learning_rate=rate, retained_tolerance=None, random_state=0
    ).fit(X, y, forget=FORGET)
    held = GradientAscentUnlearner(net, learning_rate=rate, random_state=0).fit(X, y, forget=FORGET)
    assert free.score(X[kept], y[kept]) < 0.5
    assert held.score(X[kept], y[kept]) >= net.score(X[kept], y[kept]) - 0.07
    assert min(record["kept"] for record in held.history_) < 1


def test_dampening_cannot_destroy_the_network(net, digits):
    X, y = digits
    unlearner = SSDUnlearner(net, selection_weighting=1e-6, dampening_constant=0, random_state=0)
    unlearner.fit(X, y, forget=FORGET)
    assert unlearner.n_dampened_ > 0
    assert unlearner.history_[0]["kept"] < 1
    assert unlearner.score(X, y) > net.score(X, y) - 0.1


def test_a_loss_at_the_end_warns_or_raises(net, digits):
    params = {"init_fraction": 1.0, "max_epochs": 1, "learning_rate": 1e-4, "random_state": 0}
    message = r"The accuracy on 500 retained samples fell from 9\d\.\d to .* retrain"
    with pytest.warns(UserWarning, match=message):
        MSGUnlearner(net, **params).fit(*digits, forget=FORGET)
    with pytest.raises(ValueError, match=message):
        MSGUnlearner(net, on_retained_loss="raise", **params).fit(*digits, forget=FORGET)


def test_each_epoch_records_what_is_watched(net, digits):
    history = MUSOUnlearner(net, random_state=0).fit(*digits, forget=FORGET).history_
    assert all({"FA", "RA", "kept", "loss"} <= record.keys() for record in history)
    X, y = digits
    unlearner = SFRonUnlearner(net, max_iter=40, random_state=0).fit(X, y, forget=FORGET)
    last = unlearner.history_[-1]
    assert last["FA"] == pytest.approx(unlearner.score(X[FORGET], y[FORGET]))


@pytest.mark.parametrize("returns_probabilities", [False, True])
def test_retained_samples_are_never_given_a_forgotten_class(returns_probabilities):
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [200.0, 0.0, 0.0]])
    module = nn.Softmax(dim=1) if returns_probabilities else nn.Identity()
    codes = torch.tensor([0, 1, 2])
    data = NetData(module, logits, codes, ForgetRequest.from_user([0], 3))
    targets = retained_targets(data, "outputs")
    within = torch.tensor([3.0, 1.0]).softmax(dim=0)
    torch.testing.assert_close(targets[1], torch.cat([torch.zeros(1), within]))
    assert targets[2, 0] == 0
    torch.testing.assert_close(targets[2:].sum(dim=1), torch.ones(1))
