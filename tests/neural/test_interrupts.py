"""Ctrl-C ends in KeyboardInterrupt and leaves nothing fitted, in every net and at any moment."""

import copy
import pickle

import numpy as np
import pytest
import skorch
import torch
from sklearn.datasets import load_iris
from skorch.callbacks import Callback, EarlyStopping
from torch import nn

from sklearn_ext.neural import NetClassifier, NetRegressor, fitted_copy

MOMENTS = (
    "on_train_begin",
    "on_epoch_begin",
    "on_batch_begin",
    "on_grad_computed",
    "on_batch_end",
    "on_epoch_end",
    "on_train_end",
)


class Interrupt(Callback):
    """Press Ctrl-C at the second occurrence of a moment, or at the only one."""

    def __init__(self, moment):
        self.moment = moment
        self.armed_ = True
        self.n_calls_ = 0

    def notify(self, moment):
        self.n_calls_ += moment == self.moment
        is_time = self.n_calls_ == 2 or "train" in self.moment
        if self.armed_ and moment == self.moment and is_time:
            raise KeyboardInterrupt


for name in MOMENTS:
    setattr(Interrupt, name, lambda self, net, _moment=name, **kwargs: self.notify(_moment))


@pytest.fixture
def iris():
    X, y = load_iris(return_X_y=True)
    return X.astype(np.float32), y


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("Net", [NetClassifier, NetRegressor])
def test_an_interrupted_fit_leaves_the_net_as_it_was(Net, moment, iris):
    X, y = iris
    interrupt = Interrupt(moment)
    net = Net(max_epochs=3, callbacks=[interrupt], random_state=0)
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, y)
    assert not net.initialized_
    assert not hasattr(net, "module_")
    interrupt.armed_ = False
    net.fit(X, y)
    before, n_epochs = net.predict(X), len(net.history)
    for method in (net.fit, net.partial_fit):
        interrupt.armed_, interrupt.n_calls_ = True, 0
        with pytest.raises(KeyboardInterrupt):
            method(X, y)
        np.testing.assert_array_equal(net.predict(X), before)
        assert len(net.history) == n_epochs
    assert "is_training_" not in vars(net)


def test_skorch_behavior_is_available_on_request(iris):
    X, y = iris
    callbacks = [Interrupt("on_epoch_end")]
    net = NetClassifier(max_epochs=5, callbacks=callbacks, on_interrupt="keep").fit(X, y)
    assert len(net.history) == 2
    assert net.predict(X).shape == y.shape
    with pytest.raises(ValueError, match="on_interrupt must be one of"):
        NetClassifier(on_interrupt="ignore").fit(X, y)


def test_early_stopping_still_ends_training(iris):
    X, y = iris
    stop = EarlyStopping(monitor="train_loss", patience=2, threshold=10, threshold_mode="abs")
    net = NetClassifier(max_epochs=9, callbacks=[stop], random_state=0).fit(X, y)
    assert len(net.history) == 3


class Logits(nn.Linear):
    def __init__(self):
        super().__init__(4, 3)


@pytest.mark.parametrize("moment", ["on_batch_end", "on_epoch_end"])
def test_a_net_of_skorch_is_interrupted_in_our_estimators(moment, iris):
    X, y = iris
    params = {"criterion": nn.CrossEntropyLoss, "train_split": None, "verbose": 0}
    net = skorch.NeuralNetClassifier(Logits, callbacks=[Interrupt(moment)], **params)
    with pytest.raises(KeyboardInterrupt):
        fitted_copy(net, X, y)
    stop = EarlyStopping(monitor="train_loss", patience=2, threshold=10, threshold_mode="abs")
    net = skorch.NeuralNetClassifier(Logits, callbacks=[stop], **params)
    assert len(fitted_copy(net, X, y).history) == 3


class Copies(Callback):
    def on_epoch_end(self, net, **kwargs):
        self.copies = [copy.deepcopy(net), pickle.loads(pickle.dumps(net))]


def test_a_net_can_be_copied_while_it_trains(iris):
    X, y = iris
    net = NetClassifier(max_epochs=1, callbacks=[("copies", Copies())], random_state=0).fit(X, y)
    for other in dict(net.callbacks_)["copies"].copies:
        np.testing.assert_array_equal(other.predict(X), net.predict(X))


class Exploding(nn.Linear):
    """A layer whose outputs become infinite in the second epoch."""

    def forward(self, X):
        self.n_calls = getattr(self, "n_calls", 0) + self.training
        return super().forward(X) + (torch.inf if self.n_calls > 7 else 0.0)


def test_a_loss_that_is_not_finite_names_epoch_and_rate(iris):
    X, y = iris
    with pytest.raises(ValueError, match=r"training loss is nan in epoch 2 at lr=0\.25"):
        NetClassifier(Exploding(4, 3), lr=0.25, max_epochs=5).fit(X, y)
    with pytest.raises(ValueError, match=r"training loss is inf in epoch 2 at lr=0\.25"):
        NetRegressor(Exploding(4, 1), lr=0.25, max_epochs=5).fit(X, y)
    params = {"criterion": nn.CrossEntropyLoss, "train_split": None, "verbose": 0}
    net = skorch.NeuralNetClassifier(Exploding(4, 3), lr=0.25, batch_size=32, **params)
    with pytest.raises(ValueError, match=r"not finite in epoch 2 at lr=0\.25"):
        fitted_copy(net, X, y)
