"""scikit-learn's callbacks follow every long fit, may end it, and change nothing otherwise."""

import inspect
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris

from sklearn_ext import (
    DecentralizedRFKRR,
    InProcessNetwork,
    NetClassifier,
    RandomFeatureRegressor,
    SupervisedKernelImputer,
)
from sklearn_ext.utils import all_estimators
from tests.instances import fitted, instance, responses, sample

ScoringMonitor = pytest.importorskip("sklearn.callback").ScoringMonitor

ESTIMATORS = dict(all_estimators())
# Fits that only compute sums of columns.
WITHOUT = {"ForgettingImputer", "ForgettingOneHotEncoder", "ForgettingScaler"}
QUICK = {
    *("DecentralizedRFKRR", "FlatLoRAClassifier", "FDBDOODDetector"),
    *("NetClassifier", "RandomFeatureClassifier", "SupervisedKernelImputer"),
}
NAMES = [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
    for name in sorted(set(ESTIMATORS) - WITHOUT)
]


@pytest.fixture(scope="module")
def iris():
    return load_iris(return_X_y=True)


@pytest.fixture(scope="module")
def diabetes():
    return load_diabetes(return_X_y=True)


class Recorder:
    """A callback that records the ends of tasks, and asks to stop after those of some names."""

    def __init__(self, *last):
        self.last, self.seen, self.n_open = last, [], 0

    def setup(self, estimator, context):
        self.n_open += 1

    def teardown(self, estimator, context):
        self.n_open -= 1

    def on_fit_task_begin(self, estimator, context): ...

    def on_fit_task_end(self, estimator, context):
        self.seen.append(context.task_name)
        return context.task_name in self.last


def followed(estimator, X, y, *last):
    """Return a copy that is fitted with a recorder, and the recorder."""
    recorder = Recorder(*last)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return clone(estimator).set_callbacks(recorder).fit(X, y), recorder


def takes_requests(estimator):
    return {"forget", "forget_class"} & inspect.signature(estimator.fit).parameters.keys()


@pytest.mark.parametrize("name", NAMES)
def test_a_long_fit_reports_its_tasks(name):
    estimator, expected = fitted(ESTIMATORS[name])
    X, y = sample(estimator)
    again, recorder = followed(estimator, X, y)
    assert recorder.n_open == 0
    assert recorder.seen[-1] == "fit"
    if not takes_requests(estimator):  # without a request, nothing is trained
        assert len(recorder.seen) > 1
    found = responses(again, X)
    assert found.keys() == expected.keys()
    for method, values in expected.items():
        np.testing.assert_array_equal(found[method], values, err_msg=method)


def test_a_callback_ends_the_epochs_of_a_net(iris):
    net, recorder = followed(NetClassifier(max_epochs=5, random_state=0), *iris, "epoch")
    assert recorder.seen == ["epoch", "fit"]
    assert len(net.history) == 1
    assert np.isfinite(net.predict_proba(iris[0])).all()


@pytest.mark.parametrize("name", ["NetClassifier", "FlatLoRAClassifier"])
def test_epochs_are_scored_by_a_copy_of_the_net(iris, name):
    monitor = ScoringMonitor(scoring="accuracy")
    net = instance(ESTIMATORS[name]).set_params(max_epochs=3).set_callbacks(monitor).fit(*iris)
    scores = [row["accuracy"] for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert len(scores) == 3
    assert scores[-1] == net.score(*iris)


@pytest.mark.parametrize("network", [None, InProcessNetwork()])
def test_a_callback_ends_the_rounds_of_the_nodes(diabetes, network):
    krr = DecentralizedRFKRR(n_components=20, n_nodes=4, graph="ring", alpha=1e-3, random_state=0)
    krr.set_params(solver="jacobi", network=network)
    whole, recorder = followed(krr, *diabetes)
    # With a network, these are the rounds of one node.
    assert whole.n_iter_ - 2 <= recorder.seen.count("round") <= whole.n_iter_
    first, recorder = followed(krr, *diabetes, "round")
    assert recorder.seen == ["round", "fit"]
    assert first.n_iter_ <= 1 + 2 * (network is not None)  # neighbors may be in their next rounds
    assert first.n_iter_ < whole.n_iter_
    assert np.isfinite(first.predict(diabetes[0])).all()


def test_a_callback_ends_trials_of_cross_validation(diabetes):
    krr = DecentralizedRFKRR(n_components=20, n_nodes=3, graph="ring", random_state=0)
    krr.set_params(gamma="cv", alpha="cv")
    krr, recorder = followed(krr, *diabetes, "trial")
    assert recorder.seen == ["trial", "round", "fit"]
    assert len(set(krr.cv_results_["gamma"])) == 1


def test_a_callback_ends_the_iterations_of_the_imputer(iris):
    X, y = iris
    X = np.where(np.random.RandomState(0).rand(*X.shape) < 0.2, np.nan, X)
    imputer, recorder = followed(SupervisedKernelImputer(random_state=0), X, y)
    assert recorder.seen.count("iteration") == imputer.n_iter_ > 1
    first, recorder = followed(imputer, X, y, "iteration", "candidate")
    assert recorder.seen == ["candidate", "iteration", "smoothing", "fit"]
    assert first.n_iter_ == 1
    assert np.isfinite(first.transform(X)).all()
    paper = SupervisedKernelImputer.from_paper(max_iter=20)
    first, recorder = followed(paper, X[y < 2], y[y < 2], "iteration")
    assert recorder.seen == ["iteration", "fit"]
    assert first.n_iter_ == 1


def test_every_block_of_samples_counts(diabetes):
    model = RandomFeatureRegressor(50, random_state=0)
    whole, recorder = followed(model, *diabetes)
    assert recorder.seen == ["block", "fit"]
    stopped, _ = followed(model, *diabetes, "block")
    np.testing.assert_array_equal(stopped.feature_coef_, whole.feature_coef_)
