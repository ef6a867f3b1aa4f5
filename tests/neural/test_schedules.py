"""Cosine decay as a function and as a callback."""

import math

import numpy as np
import pytest
from sklearn.datasets import load_iris
from skorch.callbacks import Callback

from sklearn_ext.neural import CosineDecay, NetClassifier, cosine_decay


class Recorder(Callback):
    def initialize(self):
        self.rates_ = []

    def on_batch_end(self, net, **kwargs):
        self.rates_.append(net.optimizer_.param_groups[0]["lr"])


def test_the_callback_follows_the_cosine_in_every_fit():
    X, y = load_iris(return_X_y=True)
    net = NetClassifier(
        max_epochs=3,
        batch_size=50,
        lr=0.01,
        callbacks=[("decay", CosineDecay(floor=0.001)), ("rates", Recorder)],
        random_state=0,
    )
    net.fit(X, y)
    expected = [0.001 + 0.009 * (1 + math.cos(math.pi * t / 9)) / 2 for t in range(9)]
    rates = dict(net.callbacks_)["rates"].rates_
    np.testing.assert_allclose(rates, expected)
    net.partial_fit(X, y)
    assert rates[9] == pytest.approx(0.01)
    np.testing.assert_allclose(rates, expected * 2)
    net.set_params(lr=0.02).partial_fit(X, y)
    assert rates[18] == pytest.approx(0.02)


def test_cosine_decay_rises_and_then_falls_to_its_floor():
    factors = [cosine_decay(t, 10, warmup=4, floor=0.1) for t in range(11)]
    np.testing.assert_allclose(factors[:4], [0.25, 0.5, 0.75, 1])
    assert factors[4] == 1
    np.testing.assert_allclose(factors[7], 0.1 + 0.9 * (1 + math.cos(math.pi / 2)) / 2)
    np.testing.assert_allclose(factors[10], 0.1)
