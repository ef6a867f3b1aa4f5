"""Unusual modules in each family of estimators that takes fitted nets."""

import copy

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.frozen import FrozenEstimator
from sklearn.preprocessing import scale
from torch import nn
from torch.nn.utils import parametrize

import sklearn_ext
from sklearn_ext.neural import NetClassifier, seeded

X, Y = load_iris(return_X_y=True)
ORDER = np.random.RandomState(0).permutation(150)[:90]
X, Y = scale(X)[ORDER].astype(np.float32), Y[ORDER]


def body(*middle):
    return nn.Sequential(nn.Linear(4, 16), *middle, nn.ReLU(), nn.Linear(16, 3))


class Complex(nn.Module):
    """A filter of the spectrum, with complex weights, before a linear layer."""

    def __init__(self):
        super().__init__()
        self.filter = nn.Parameter(torch.ones(3, dtype=torch.complex64))
        self.head = nn.Linear(4, 3)

    def forward(self, X):
        return self.head(torch.fft.irfft(torch.fft.rfft(X) * self.filter, n=4))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.head = nn.Linear(4, 3)

    def forward(self, X):
        return self.head(self.second(self.first(X).relu()).relu())


class WithLambda(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(4, 16), nn.Linear(16, 3)
        self.activation = lambda z: z.relu()

    def forward(self, X):
        return self.head(self.activation(self.first(X)))


class Tuple(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = body()

    def forward(self, X):
        outputs = self.body(X)
        return outputs, outputs * 2


class Dict(Tuple):
    def forward(self, X):
        return {"logits": self.body(X)}


def parametrized():
    module = body()
    parametrize.register_parametrization(module[0], "weight", nn.Tanh())
    return module


def hooked():
    module = body()
    module[0].register_forward_hook(lambda layer, args, output: output + 1)
    return module


KINDS = {
    "plain": body,
    "complex": Complex,
    "tied": Tied,
    "parametrized": parametrized,
    "lazy": lambda: nn.Sequential(nn.LazyLinear(16), nn.ReLU(), nn.LazyLinear(3)),
    "batch norm": lambda: body(nn.BatchNorm1d(16)),
    "without statistics": lambda: body(nn.BatchNorm1d(16, track_running_stats=False)),
    "hooks": hooked,
    "lambda": WithLambda,
    "tuple": Tuple,
    "dict": Dict,
    "bfloat16": lambda: body().bfloat16(),
    "float64": lambda: body().double(),
    "compiled": lambda: torch.compile(body(), backend="eager"),
}
ESTIMATORS = ("FineTuneUnlearner", "MSPOODDetector", "UniformSoup")


def fitted_net(kind):
    with seeded(0):
        module = KINDS[kind]()
    return NetClassifier(module, max_epochs=3, random_state=0).fit(X, Y)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_a_net_fits_copies_and_predicts(kind):
    net = fitted_net(kind)
    outputs = net.predict_proba(X)
    assert np.isfinite(outputs).all()
    np.testing.assert_array_equal(copy.deepcopy(net).predict_proba(X), outputs)
    np.testing.assert_array_equal(fitted_net(kind).predict_proba(X), outputs)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_kind_of_module_works(name, kind):
    net = fitted_net(kind)
    before = net.predict_proba(X)
    estimator = getattr(sklearn_ext, name)(FrozenEstimator(net), random_state=0)
    extra = {"forget": np.arange(5)} if name == "FineTuneUnlearner" else {}
    estimator.fit(X, Y, **extra)
    for response in ("predict_proba", "decision_function"):
        if hasattr(estimator, response):
            values = getattr(estimator, response)(X)
            assert np.isfinite(values).all()
            np.testing.assert_array_equal(getattr(copy.deepcopy(estimator), response)(X), values)
    np.testing.assert_array_equal(net.predict_proba(X), before)
