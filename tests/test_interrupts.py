"""Ctrl-C at any moment of a fit, in every estimator, and in worker processes.

A fit that is interrupted raises KeyboardInterrupt, leaves the estimator as it was before, caches
nothing half-trained, and leaves the global generators alone.
"""

import copy
import inspect
import sys
from multiprocessing import parent_process
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted
from skorch.callbacks import Callback

import sklearn_ext
from sklearn_ext.neural import NetClassifier
from sklearn_ext.utils import all_estimators
from sklearn_ext.utils._atomic import atomic_fit
from tests.instances import instance, responses, sample

PACKAGE = str(Path(sklearn_ext.__file__).parent)
ESTIMATORS = dict(all_estimators())
QUICK = ("NetClassifier", "KNNOODDetector", "RandomFeatureClassifier")
REQUESTS = {"forget": np.arange(5), "forget_class": 0}


class CtrlC:
    """Presses Ctrl-C at a call of a function of the package, given its number."""

    def __init__(self):
        self.n_calls = 0
        self.moment = None

    def __call__(self, frame, event, argument):
        # Python ignores exceptions while it closes a generator.
        code = frame.f_code
        is_moment = event == "call" and not code.co_flags & inspect.CO_GENERATOR
        if is_moment and code.co_filename.startswith(PACKAGE):
            self.n_calls += 1
            if self.n_calls == self.moment:
                sys.setprofile(None)
                raise KeyboardInterrupt

    def during(self, moment, function):
        self.n_calls, self.moment = 0, moment
        sys.setprofile(self)
        try:
            return function()
        finally:
            sys.setprofile(None)


def fit(estimator, X, y):
    names = inspect.signature(estimator.fit).parameters
    return estimator.fit(X, y, **{name: v for name, v in REQUESTS.items() if name in names})


def numpy_state():
    return np.random.get_state()[1]  # noqa: NPY002 the global state is what is tested


def assert_equal(answer, expected):
    assert answer.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(answer[name], expected[name], err_msg=name)


def interrupt_often(estimator, X, y, fractions, cache_folders):
    """Interrupt fits of an unfitted and of a fitted estimator at fractions of their calls."""
    caches = "cache_dir" in estimator.get_params(deep=False)
    unfitted, fitted = clone(estimator), estimator
    ctrl_c = CtrlC()
    fit(fitted, X, y)  # imports and compiles what later fits find
    ctrl_c.during(None, lambda: fit(fitted, X, y))
    expected, total = responses(fitted, X), ctrl_c.n_calls
    assert total > 0
    states = torch.get_rng_state(), numpy_state().copy()
    for fraction in fractions:
        moment = 1 + int(fraction * (total - 1))
        for each in (unfitted, fitted):
            if caches:
                each.set_params(cache_dir=next(cache_folders))
            with pytest.raises(KeyboardInterrupt):
                ctrl_c.during(moment, lambda each=each: fit(each, X, y))
        with pytest.raises(NotFittedError):
            check_is_fitted(unfitted)
        assert_equal(responses(fitted, X), expected)
        assert torch.is_grad_enabled()
        assert torch.equal(torch.get_rng_state(), states[0])
        np.testing.assert_array_equal(numpy_state(), states[1])
        if caches:  # what was kept before the interrupt is whole
            assert_equal(responses(fit(unfitted, X, y), X), expected)
            unfitted = clone(unfitted)
    assert_equal(responses(fit(unfitted, X, y), X), expected)


@pytest.fixture
def cache_folders(tmp_path):
    return (tmp_path / str(k) for k in range(100))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name in sorted(ESTIMATORS)
    ],
)
def test_an_interrupted_fit_changes_nothing(name, cache_folders):
    estimator = instance(ESTIMATORS[name])
    interrupt_often(estimator, *sample(estimator, 60), (0.02, 0.4, 0.95), cache_folders)


def partial_fit(estimator, X, y, path):
    names = inspect.signature(estimator.partial_fit).parameters
    node = {"node": np.arange(len(X)) % 10} if "node" in names else {}
    estimator.partial_fit(X, y, **node)


def fit_again(estimator, X, y, path):
    estimator.set_params(warm_start=True)
    if hasattr(estimator, "training_state_"):
        estimator.set_params(max_iter=estimator.n_iter_ + 20)
    fit(estimator, X, y)


def load(what):
    def call(estimator, X, y, path):
        getattr(estimator, f"load{what}")(path)

    return call


# How a fitted estimator changes otherwise; tests/unlearning/test_interrupted_requests.py has more.
CHANGES = {
    "partial_fit": partial_fit,
    "warm_start": fit_again,
    **{f"load{what}": load(what) for what in ("", "_adapter", "_checkpoint")},
}
CHANGED = [
    (name, change)
    for name, Estimator in sorted(ESTIMATORS.items())
    for change in CHANGES
    if inspect.isfunction(getattr(Estimator, change, None))  # not a class method
    or change in instance(Estimator).get_params(deep=False)
]
QUICK_CHANGES = ("UniformSoup", "load"), ("DecentralizedRFKRR", "partial_fit")


def fitted(name, X, y, seed):
    estimator = instance(ESTIMATORS[name]).set_params(random_state=seed)
    if name == "ConditionalDDPM":
        estimator.set_params(max_iter=30)
    names = inspect.signature(estimator.fit).parameters
    return estimator.fit(X, y, **({"node": np.arange(len(X)) % 10} if "node" in names else {}))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "change"),
    [
        pytest.param(*each, marks=() if each in QUICK_CHANGES else pytest.mark.slow)
        for each in CHANGED
    ],
)
def test_an_interrupted_change_leaves_the_fitted_state(name, change, tmp_path):
    X, y = sample(instance(ESTIMATORS[name]), 60)
    estimator, path = fitted(name, X, y, 0), tmp_path / "other.safetensors"
    if change.startswith("load"):
        getattr(fitted(name, X, y, 1), change.replace("load", "save"))(path)
    expected, ctrl_c = responses(estimator, X), CtrlC()

    def call(each):
        CHANGES[change](each, X[:50], None if y is None else y[:50], path)

    complete = copy.deepcopy(estimator)
    ctrl_c.during(None, lambda: call(complete))
    total = ctrl_c.n_calls
    with pytest.raises(AssertionError):
        assert_equal(responses(complete, X), expected)
    for fraction in (0.02, 0.3, 0.6, 0.95):
        interrupted = copy.deepcopy(estimator)
        with pytest.raises(KeyboardInterrupt):
            ctrl_c.during(1 + int(fraction * (total - 1)), lambda each=interrupted: call(each))
        assert_equal(responses(interrupted, X), expected)


class NoGradients(BaseEstimator):
    """Is interrupted while it enters `torch.no_grad`, whose exit is then never called."""

    @atomic_fit
    def fit(self, X, y=None):
        torch.no_grad().__enter__()
        raise KeyboardInterrupt


def test_an_interrupt_leaves_gradients_on():
    with pytest.raises(KeyboardInterrupt):
        NoGradients().fit(None)
    assert torch.is_grad_enabled()
    with torch.no_grad():
        with pytest.raises(KeyboardInterrupt):
            NoGradients().fit(None)
        assert not torch.is_grad_enabled()


class InterruptedWorker(Callback):
    """Presses Ctrl-C in the worker process that trains the second of two nets."""

    def on_epoch_begin(self, net, **kwargs):
        if parent_process() is not None and net.lr == 0.01 and len(net.history) == 2:
            raise KeyboardInterrupt


WITH_WORKERS = [
    name for name, Estimator in ESTIMATORS.items() if "soup" in Estimator.__module__.split(".")
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", WITH_WORKERS)
def test_an_interrupted_worker_keeps_nothing_half_trained(name, tmp_path):
    X, y = sample(NetClassifier(), 60)
    net = NetClassifier(max_epochs=4, callbacks=[("stop", InterruptedWorker())], random_state=0)
    params = {"param_grid": {"lr": [0.002, 0.01]}, "random_state": 0}
    expected = responses(ESTIMATORS[name](net, **params).fit(X, y), X)
    soup = ESTIMATORS[name](net, n_jobs=2, cache_dir=tmp_path, **params)
    with pytest.raises(KeyboardInterrupt):
        soup.fit(X, y)
    with pytest.raises(NotFittedError):
        check_is_fitted(soup)
    # In this process, nothing is interrupted.
    assert_equal(responses(soup.set_params(n_jobs=1).fit(X, y), X), expected)
