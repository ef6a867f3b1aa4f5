"""Copies of fitted nets, their labels, outputs and features."""

import numpy as np
import pytest
import skops.io
import skorch
import torch
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.frozen import FrozenEstimator
from sklearn.preprocessing import StandardScaler, scale
from torch import nn

import sklearn_ext
from sklearn_ext.neural import (
    MLP,
    NetClassifier,
    NetRegressor,
    class_codes,
    class_labels,
    fitted_copy,
    is_fitted_net,
    log_probabilities,
    penultimate,
    predict_logits,
)


@pytest.fixture
def iris():
    X, y = load_iris(return_X_y=True)
    return scale(X), np.array(["setosa", "versicolor", "virginica"])[y]


class ProbabilityNet(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3), nn.Softmax(dim=1))


def plain_net(**params):
    return skorch.NeuralNetClassifier(
        ProbabilityNet, verbose=0, train_split=None, max_epochs=2, lr=0.1, **params
    )


def test_fitted_copy_does_not_change_the_estimator(iris):
    X, y = iris
    fitted = NetClassifier(random_state=0, max_epochs=1).fit(X, y)
    for estimator in (fitted, FrozenEstimator(fitted)):
        copied = fitted_copy(estimator, X, y)
        assert is_fitted_net(estimator)
        np.testing.assert_array_equal(copied.predict_proba(X), fitted.predict_proba(X))
        with torch.no_grad():
            copied.module_[1].weight.zero_()
        assert fitted.module_[1].weight.abs().sum() > 0
    unfitted = NetClassifier(max_epochs=1)
    seeds = [fitted_copy(unfitted, X, y, random_state=3).predict_proba(X) for _ in range(2)]
    np.testing.assert_array_equal(*seeds)
    assert not unfitted.initialized_
    assert not is_fitted_net(unfitted)
    assert isinstance(fitted_copy(None, X, y, random_state=0), NetClassifier)


def test_a_plain_skorch_net_is_fitted_with_the_seed(iris):
    X, y = load_iris(return_X_y=True)
    X = scale(X).astype(np.float32)
    before = torch.get_rng_state()
    twice = [fitted_copy(plain_net(), X, y, random_state=0) for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(*(net.predict_proba(X) for net in twice))
    np.testing.assert_array_equal(class_labels(twice[0]), [0, 1, 2])
    with pytest.raises(ValueError, match="takes labels 0, 1"):
        fitted_copy(plain_net(), X, y + 1)


@pytest.mark.parametrize("fitted", [False, True])
def test_a_plain_skorch_net_needs_an_output_per_class(fitted):
    X, y = load_iris(return_X_y=True)
    X = scale(X).astype(np.float32)
    X, y = X[y < 2], y[y < 2]

    def net(**params):
        net = plain_net(**params)
        return net.fit(X, y) if fitted else net

    with pytest.raises(ValueError, match="3 outputs, but 2 classes are known"):
        fitted_copy(net(), X, y)
    copied = fitted_copy(net(classes=[0, 1, 2]), X, y)
    np.testing.assert_array_equal(class_labels(copied), [0, 1, 2])


def test_fitted_copy_rejects_other_estimators(iris):
    with pytest.raises(TypeError, match="estimator must be"):
        fitted_copy(StandardScaler(), *iris)
    with pytest.raises(ValueError, match="not fitted"):
        fitted_copy(FrozenEstimator(NetClassifier()), *iris)


def test_log_probabilities_agree_with_predict_proba(iris):
    X, labels = iris
    X = X.astype(np.float32)
    y = load_iris(return_X_y=True)[1]
    for net in (NetClassifier(max_epochs=1).fit(X, labels), plain_net().fit(X, y)):
        outputs = predict_logits(net.module_, X, batch_size=40)
        np.testing.assert_allclose(
            log_probabilities(net, outputs).exp().numpy(), net.predict_proba(X), atol=1e-6
        )
    with pytest.raises(ValueError, match="got MSELoss"):
        log_probabilities(NetRegressor(max_epochs=1).fit(X, y.astype(float)), torch.zeros(2, 1))


def test_the_head_maps_penultimate_features_to_outputs(iris):
    X, y = iris
    net = NetClassifier(max_epochs=1).fit(X, y)
    X = X.astype(np.float32)
    features = penultimate(net, X, batch_size=32)
    assert features.shape == (150, 128)
    torch.testing.assert_close(net.module_[-1](features), predict_logits(net.module_, X))


def test_class_codes_are_indices_of_labels(iris):
    X, y = iris
    net = NetClassifier(max_epochs=1).fit(X, y)
    np.testing.assert_array_equal(class_labels(net)[class_codes(net, y[::7])], y[::7])
    assert clone(net).get_params()["max_epochs"] == 1


def test_modules_given_as_instances_pass_through_skops():
    X, y = load_iris(return_X_y=True)
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 1.0]))
    net = NetClassifier(MLP(4, 3), criterion=loss, max_epochs=2, random_state=0).fit(X, y)
    stored = skops.io.dumps(net)
    copy = skops.io.loads(stored, trusted=skops.io.get_untrusted_types(data=stored))
    np.testing.assert_array_equal(copy.predict_proba(X), net.predict_proba(X))
    assert torch.equal(copy.criterion.weight, loss.weight)
    assert copy.fit(X, y).score(X, y) == net.fit(X, y).score(X, y)


class Weighted(NetClassifier):
    """A net whose loss has the signature that skorch's documentation shows."""

    def get_loss(self, y_pred, y_true, X, *args, **kwargs):
        return super().get_loss(y_pred, y_true, X, *args, **kwargs) * X.abs().mean()


class Optional(NetClassifier):
    def get_loss(self, y_pred, y_true, X=None, training=False):
        return 2 * super().get_loss(y_pred, y_true)


class OutputsOnly(NetClassifier):
    """A net whose training step calls the loss without the inputs."""

    def train_step_single(self, batch, **fit_params):
        X, y = batch
        loss = self.get_loss(outputs := self.infer(X), y)
        loss.backward()
        return {"loss": loss, "y_pred": outputs}

    def get_loss(self, y_pred, y_true):
        return super().get_loss(y_pred, y_true)


@pytest.mark.parametrize("Net", [Weighted, Optional, OutputsOnly])
@pytest.mark.parametrize("name", ["FineTuneUnlearner", "LearnedSoup", "OrthLossOODDetector"])
def test_a_loss_of_any_signature_is_used_or_refused(name, Net, iris):
    X, y = iris
    net = Net(max_epochs=1, random_state=0).fit(X, y)
    Estimator = getattr(sklearn_ext, name)
    if name == "LearnedSoup":
        estimator = Estimator(Net(max_epochs=1), param_grid={"lr": [0.01, 0.02]}, random_state=0)
    else:
        estimator = Estimator(net, max_epochs=1, random_state=0)
    forget = {"forget": [0, 1]} if name == "FineTuneUnlearner" else {}
    if Net is Weighted and name != "LearnedSoup":
        with pytest.raises(ValueError, match=r"Weighted.get_loss requires X, .* default value"):
            estimator.fit(X, y, **forget)
    else:
        assert estimator.fit(X, y, **forget).predict(X).shape == y.shape
