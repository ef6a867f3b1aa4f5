import math

import numpy as np
import pytest
from sklearn.datasets import load_iris
from skorch.callbacks import Callback

from sklearn_ext.neural import CosineDecay, NetClassifier


class Recorder(Callback):
    def initialize(self):
        self.rates_ = []

    def on_batch_end(self, net, **kwargs):
        self.rates_.append(net.optimizer_.param_groups[0]["lr"])


def test_the_rate_follows_the_cosine_and_begins_anew():
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
