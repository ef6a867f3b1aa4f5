"""Unusual modules in each family of estimators: fitted, copied, stored, or refused by name."""

import copy
import inspect
import pickle

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.frozen import FrozenEstimator
from sklearn.preprocessing import scale
from torch import nn
from torch.nn.utils import parametrizations, parametrize, weight_norm

from sklearn_ext.neural import NetClassifier, seeded
from sklearn_ext.ood._detector import BaseOODDetector
from sklearn_ext.soup._base import BaseSoup
from sklearn_ext.unlearning.networks._base import BaseUnlearner
from sklearn_ext.utils import all_estimators

X, Y = load_iris(return_X_y=True)
ORDER = np.random.RandomState(0).permutation(150)[:90]
X, Y = scale(X)[ORDER].astype(np.float32), Y[ORDER]


def body(*middle, first=None):
    first = nn.Linear(4, 16) if first is None else first
    return nn.Sequential(first, *middle, nn.ReLU(), nn.Linear(16, 3))


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


def partly_frozen():
    module = body()
    module[0].requires_grad_(False)
    return module


KINDS = {
    "plain": body,
    "complex": Complex,
    "tied": Tied,
    "parametrized": parametrized,
    "weight norm": lambda: body(first=parametrizations.weight_norm(nn.Linear(4, 16))),
    "spectral norm": lambda: body(first=parametrizations.spectral_norm(nn.Linear(4, 16))),
    "lazy": lambda: nn.Sequential(nn.LazyLinear(16), nn.ReLU(), nn.LazyLinear(3)),
    "batch norm": lambda: body(nn.BatchNorm1d(16)),
    "without statistics": lambda: body(nn.BatchNorm1d(16, track_running_stats=False)),
    "frozen": partly_frozen,
    "hooks": hooked,
    "lambda": WithLambda,
    "tuple": Tuple,
    "dict": Dict,
    "bfloat16": lambda: body().bfloat16(),
    "float16": lambda: body().half(),
    "float64": lambda: body().double(),
    "compiled": lambda: torch.compile(body(), backend="eager"),
    "scripted": lambda: torch.jit.script(body()),
}
# pickle stores neither functions without a name, nor what torch itself refuses to store.
NOT_PICKLED = {
    "parametrized": "parametrized modules",
    "weight norm": "parametrized modules",
    "spectral norm": "parametrized modules",
    "hooks": r"local object 'hooked.*lambda",
    "lambda": r"local object 'WithLambda.*lambda",
    "scripted": "serialize object __torch__",
}
ESTIMATORS = dict(all_estimators())
SOUPS = [name for name, Soup in ESTIMATORS.items() if issubclass(Soup, BaseSoup)]
UNLEARNERS = [name for name, Model in ESTIMATORS.items() if issubclass(Model, BaseUnlearner)]
DETECTORS = [
    name
    for name, Detector in ESTIMATORS.items()
    if issubclass(Detector, BaseOODDetector) and name != "DiffusionOODDetector"
]
QUICK = ("NetClassifier", "FineTuneUnlearner", "MSPOODDetector", "UniformSoup")
SLOW = sorted({*SOUPS, *UNLEARNERS, *DETECTORS, "FlatLoRAClassifier"}.difference(QUICK))
NEEDS_LAYERS = (*DETECTORS, "MSGUnlearner", "MUSOUnlearner", "SFRonUnlearner", "FlatLoRAClassifier")
NO_LAYERS = r"no torch.nn.Linear layer|no layer that can be adapted|it has none"
PARAMETRIZED = "computed by a parametrization and is not a parameter"
# Combinations that are refused, with the message of the error.
REFUSED = {
    **{("scripted", name): NO_LAYERS for name in NEEDS_LAYERS},
    **{
        (kind, "FlatLoRAClassifier"): PARAMETRIZED
        for kind in ("parametrized", "weight norm", "spectral norm")
    },
    ("lazy", "FlatLoRAClassifier"): "must not have lazy layers without sizes",
    ("complex", "FlatLoRAClassifier"): r"matches no layer that can be adapted.*\['head'\]",
}
SHORT = {"max_epochs": 2, "pretrain_epochs": 1, "max_iter": 5, "random_state": 0}


def net_with(kind, **params):
    with seeded(0):
        module = KINDS[kind]()
    if kind == "float16":  # the squares in Adam underflow
        params |= {"optimizer": torch.optim.SGD, "lr": 0.05}
    return NetClassifier(module, **{"max_epochs": 3, "random_state": 0} | params)


def fitted(name, net, kind):
    Estimator = ESTIMATORS[name]
    if name == "NetClassifier":
        return net
    if name == "FlatLoRAClassifier":
        params = {key: net.get_params()[key] for key in ("optimizer", "lr")}
        return Estimator(KINDS[kind](), max_epochs=2, random_state=0, **params).fit(X, Y)
    accepted = inspect.signature(Estimator).parameters
    if name in SOUPS:
        base = {"base": net_with(kind).fit(X, Y)} if "base" in accepted else {}
        return unfitted_soup(name, kind).set_params(**base).fit(X, Y)
    forget = {"forget": np.arange(5)} if name in UNLEARNERS else {}
    params = {key: value for key, value in SHORT.items() if key in accepted}
    return Estimator(FrozenEstimator(net), **params).fit(X, Y, **forget)


def unfitted_soup(name, kind):
    return ESTIMATORS[name](net_with(kind), param_grid={"max_epochs": [2, 3]}, random_state=0)


def responses(estimator):
    names = ("predict_proba", "decision_function", "predict")
    return {name: getattr(estimator, name)(X) for name in names if hasattr(estimator, name)}


def assert_same(estimator, expected):
    for name, values in responses(estimator).items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)


def stored_and_loaded(name, estimator, kind, folder):
    """Yield the estimator that is loaded from the files of another one, if it has files."""
    if name in SOUPS:
        estimator.save(folder / "soup.safetensors")
        yield unfitted_soup(name, kind).load(folder / "soup.safetensors")
    elif name == "NetClassifier":
        estimator.save_params(f_params=folder / "net.pt")
        net = net_with(kind, max_epochs=0).fit(X, Y)
        net.load_params(f_params=folder / "net.pt")
        yield net


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name",
    [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)],
)
def test_a_kind_of_module_works_or_is_refused_by_name(name, kind, tmp_path):
    net = net_with(kind).fit(X, Y)
    before = net.predict_proba(X)
    if (kind, name) in REFUSED:
        with pytest.raises((ValueError, TypeError), match=REFUSED[kind, name]):
            fitted(name, net, kind)
        return
    estimator = fitted(name, net, kind)
    expected = responses(estimator)
    assert all(np.isfinite(values).all() for values in expected.values())
    if name == "NetClassifier":
        assert_same(net_with(kind).fit(X, Y), expected)
    assert_same(copy.deepcopy(estimator), expected)
    for loaded in stored_and_loaded(name, estimator, kind, tmp_path):
        assert_same(loaded, expected)
    if kind in NOT_PICKLED:
        with pytest.raises((RuntimeError, AttributeError), match=NOT_PICKLED[kind]):
            pickle.dumps(estimator)
    else:
        assert_same(pickle.loads(pickle.dumps(estimator)), expected)
    np.testing.assert_array_equal(net.predict_proba(X), before)


def test_old_weight_norm_is_refused_with_the_way_out():
    with pytest.warns(FutureWarning, match="parametrizations.weight_norm"):
        module = body(first=weight_norm(nn.Linear(4, 16)))
    with pytest.raises(TypeError, match=r"Sequential cannot be copied: .*weight_norm.*parametrize"):
        NetClassifier(module).fit(X, Y)
