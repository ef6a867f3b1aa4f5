"""The contract of all network unlearners."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import skorch
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.callback import ScoringMonitor
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils._testing import assert_docstring_consistency
from torch import nn
from torch.optim import AdamW

from sklearn_ext import all_estimators
from sklearn_ext.neural import NetClassifier
from sklearn_ext.unlearning import (
    BadTeacherUnlearner,
    FineTuneUnlearner,
    ForgetRequest,
    GradientAscentUnlearner,
    MSGUnlearner,
    MUSOUnlearner,
    NatMUUnlearner,
    RandomLabelUnlearner,
    SFRonUnlearner,
    SSDUnlearner,
)
from sklearn_ext.unlearning.networks import (
    BaselineConfig,
    MUSOConfig,
    NatMUConfig,
    SFRonConfig,
    baseline,
    loss_of,
    muso,
    natmu,
    sfron,
    wrong_labels,
)
from sklearn_ext.unlearning.networks._base import untrained_module
from sklearn_ext.unlearning.steps import FineTuneConfig
from sklearn_ext.utils._random import draw_seed

UNLEARNERS = [cls for name, cls in all_estimators() if name.endswith("Unlearner")]
every_unlearner = pytest.mark.parametrize("Unlearner", UNLEARNERS)
# Weak enough that the networks of this file survive.
GENTLE = {GradientAscentUnlearner: {"learning_rate": 1e-3}}


def make(Unlearner, estimator=None, **params):
    return Unlearner(estimator, random_state=0, **GENTLE.get(Unlearner, {}) | params)


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


def assert_same_weights(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@every_unlearner
def test_the_given_estimator_is_never_changed(Unlearner, net, digits, forget):
    before = weights(net)
    unlearner = make(Unlearner, net).fit(*digits, forget=forget)
    assert_same_weights(before, weights(net))
    assert_same_weights(before, weights(unlearner.original_estimator_))
    changed = weights(unlearner.estimator_)
    assert any(not torch.equal(before[name], changed[name]) for name in before)
    assert isinstance(unlearner.estimator_, skorch.NeuralNetClassifier)
    X, _ = digits
    np.testing.assert_array_equal(unlearner.predict(X), unlearner.estimator_.predict(X))
    np.testing.assert_array_equal(unlearner.predict_proba(X), unlearner.estimator_.predict_proba(X))
    assert unlearner.forget_idx_.tolist() == np.flatnonzero(forget).tolist()


class Indifferent(NetClassifier):
    """A net whose loss is zero everywhere."""

    def get_loss(self, y_pred, y_true, *args, **kwargs):
        return 0 * super().get_loss(y_pred, y_true, *args, **kwargs)


# The first has a loss of its own, and the others change weights without a loss.
INDEPENDENT = (BadTeacherUnlearner, MSGUnlearner, SSDUnlearner)


@pytest.mark.parametrize("Unlearner", [cls for cls in UNLEARNERS if cls not in INDEPENDENT])
@pytest.mark.filterwarnings("ignore:The accuracy on the samples to forget never exceeded")
def test_the_loss_of_the_net_is_kept(Unlearner, digits, forget):
    net = Indifferent(max_epochs=0, random_state=0).fit(*digits)
    unlearner = make(Unlearner, net, optimizer="sgd").fit(*digits, forget=forget)
    assert_same_weights(weights(unlearner.estimator_), weights(net))


@pytest.mark.parametrize(
    "params",
    [
        {"criterion__weight": torch.arange(1.0, 11.0)},
        {"criterion__label_smoothing": 0.3},
        {"criterion__reduction": "sum"},
        {"module": nn.Sequential(nn.Linear(64, 10), nn.Softmax(dim=1)), "criterion": nn.NLLLoss},
    ],
    ids=["class weights", "label smoothing", "sum", "probabilities"],
)
def test_the_criterion_of_the_net_is_kept(params, digits, forget):
    X, y = digits
    net = NetClassifier(max_epochs=3, random_state=0, **params).fit(X, y)
    unlearner = make(FineTuneUnlearner, net, max_epochs=1, batch_size=len(y))
    loss = unlearner.fit(X, y, forget=forget).history_[0]["loss"]
    retained = torch.as_tensor(X[~forget], dtype=torch.float32)
    expected = net.get_loss(net.module_(retained), torch.as_tensor(y[~forget]))
    assert loss == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("criterion", [nn.CrossEntropyLoss, nn.NLLLoss])
def test_the_loss_of_a_net_takes_probabilities(criterion):
    module = nn.Sequential(nn.Linear(5, 4), *([nn.Softmax(1)] if criterion is nn.NLLLoss else []))
    net = skorch.NeuralNetClassifier(
        module, criterion=criterion, criterion__weight=torch.tensor([1.0, 2.0, 3.0, 0.5])
    ).initialize()
    loss, codes = loss_of(net), torch.tensor([0, 3, 1, 1, 2])
    outputs = module(torch.randn(5, 5, generator=torch.Generator().manual_seed(0)))
    hard = loss(outputs, codes, reduction="none")
    soft = loss(outputs, nn.functional.one_hot(codes, 4).float(), reduction="none")
    torch.testing.assert_close(hard, soft, atol=1e-5, rtol=1e-5)
    assert net.criterion_.reduction == "mean"
    torch.testing.assert_close(loss(outputs, codes), net.get_loss(outputs, codes))


class OnlyMean(nn.Module):
    def forward(self, outputs, targets):
        return nn.functional.cross_entropy(outputs, targets)


def test_a_loss_without_terms_of_samples_is_refused(digits):
    net = NetClassifier(criterion=OnlyMean, max_epochs=1, random_state=0).fit(*digits)
    with pytest.raises(ValueError, match="one loss per sample with reduction='none'"):
        make(SFRonUnlearner, net, stop_forget_score=None).fit(*digits, forget=[0, 1])


@every_unlearner
@pytest.mark.filterwarnings("ignore:label_model returned the true label of every sample")
@pytest.mark.filterwarnings("ignore:The accuracy on the samples to forget never exceeded")
def test_one_sample_can_be_forgotten(Unlearner, net, digits):
    assert make(Unlearner, net).fit(*digits, forget=[7]).forget_idx_.tolist() == [7]


@pytest.fixture(scope="module")
def half_frozen(digits):
    """A net whose first layers and their running statistics are frozen after the training."""
    layers = (nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10))
    net = NetClassifier(nn.Sequential(*layers), max_epochs=5, random_state=0).fit(*digits)
    net.module_[:2].requires_grad_(False)
    return net


@every_unlearner
def test_frozen_layers_are_kept(Unlearner, half_frozen, digits, forget):
    params = {} if Unlearner is SSDUnlearner else {"weight_decay": 0.1, "optimizer": "adamw"}
    unlearner = make(Unlearner, half_frozen, **params)
    unlearner.fit(*digits, forget=forget)
    before, after = half_frozen.module_, unlearner.estimator_.module_
    assert_same_weights(before[:2].state_dict(), after[:2].state_dict())
    assert not torch.equal(before[3].weight, after[3].weight)


def test_frozen_nets_are_refused(half_frozen, digits, forget):
    frozen = copy.deepcopy(half_frozen)
    frozen.module_.requires_grad_(False)
    with pytest.raises(ValueError, match="all its weights are frozen"):
        make(FineTuneUnlearner, frozen).fit(*digits, forget=forget)
    with pytest.raises(ValueError, match="reinit_head=True gives the head new weights"):
        make(NatMUUnlearner, frozen, reinit_head=True).fit(*digits, forget=forget)


@every_unlearner
def test_the_retained_samples_are_not_forgotten(Unlearner, net, digits, forget):
    X, y = digits
    unlearner = make(Unlearner, net).fit(X, y, forget=forget)
    assert unlearner.score(X[~forget], y[~forget]) > 0.9
    before = net.predict_proba(X[forget])[:, 3].mean()
    assert unlearner.predict_proba(X[forget])[:, 3].mean() < before


@every_unlearner
def test_a_seed_makes_fits_repeatable(Unlearner, net, digits, forget):
    torch_state = torch.get_rng_state()
    mask = make(Unlearner, net).fit(*digits, forget=forget)
    frozen = make(Unlearner, FrozenEstimator(net))
    index = clone(frozen).fit(*digits, forget=np.flatnonzero(forget).tolist())
    assert_same_weights(weights(mask.estimator_), weights(index.estimator_))
    assert torch.equal(torch_state, torch.get_rng_state())
    other = make(Unlearner, net).set_params(random_state=1).fit(*digits, forget=forget)
    assert any(
        not torch.equal(a, b)
        for a, b in zip(
            weights(other.estimator_).values(), weights(mask.estimator_).values(), strict=True
        )
    )


@every_unlearner
def test_without_a_request_the_original_is_returned(Unlearner, net, digits):
    unlearner = make(Unlearner, net).fit(*digits)
    assert_same_weights(weights(net), weights(unlearner.estimator_))
    assert len(unlearner.forget_idx_) == 0
    assert unlearner.history_ == []


@every_unlearner
def test_it_can_be_pickled(Unlearner, net, digits, forget):
    unlearner = make(Unlearner, net).fit(*digits, forget=forget)
    restored = pickle.loads(pickle.dumps(unlearner))
    X, _ = digits
    np.testing.assert_array_equal(restored.predict_proba(X), unlearner.predict_proba(X))


@every_unlearner
def test_plain_skorch_nets_are_accepted(Unlearner, plain_skorch, digits, forget):
    X, y = digits
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = (make(Unlearner, plain_skorch).fit(X, y, forget=forget) for _ in range(2))
    assert_same_weights(weights(first.estimator_), weights(second.estimator_))
    assert torch.equal(states[0], torch.get_rng_state())
    np.testing.assert_array_equal(states[1], np.random.get_state()[1])  # noqa: NPY002
    assert first.classes_.tolist() == list(range(10))
    assert first.score(X[~forget], y[~forget]) > 0.8


@every_unlearner
def test_an_unfitted_estimator_is_fitted_first(Unlearner, digits, forget):
    X, y = digits
    names = np.array([f"digit {k}" for k in range(10)])[y]
    unfitted = NetClassifier(module__hidden_sizes=(16,), max_epochs=10)
    unlearner = make(Unlearner, unfitted).fit(X, names, forget=forget)
    assert not unfitted.initialized_
    assert unlearner.original_estimator_.score(X, names) > 0.8
    assert unlearner.classes_.tolist() == sorted(set(names))
    assert set(unlearner.predict(X)) <= set(names)


@every_unlearner
@pytest.mark.parametrize("shape", [(28, 28), (3, 32, 32)])
def test_images_are_accepted(Unlearner, shape):
    rng = np.random.RandomState(0)
    y = np.repeat(np.arange(4), 16)
    X = rng.rand(64, *shape)
    for c in range(4):
        X[y == c, ..., 7 * c : 7 * (c + 1)] += 1.0
    estimator = NetClassifier(module__widths=(4, 8), max_epochs=4, batch_size=21)
    unlearner = make(Unlearner, estimator, batch_size=21).fit(X, y, forget=y == 1)
    assert unlearner.predict_proba(X).shape == (64, 4)
    with pytest.raises(ValueError, match="must have shape"):
        unlearner.predict(X[..., :-1])


@every_unlearner
def test_the_request_passes_through_a_pipeline(Unlearner):
    X, y = load_breast_cancer(return_X_y=True)
    X, y = X[:200], np.array(["malignant", "benign"])[y[:200]]
    mask = np.arange(200) % 10 == 0
    pipeline = Pipeline(
        [("scale", StandardScaler()), ("unlearner", make(Unlearner, NetClassifier(max_epochs=3)))]
    )
    pipeline.fit(X, y, unlearner__forget=mask)
    assert pipeline[-1].forget_idx_.tolist() == list(range(0, 200, 10))
    assert pipeline.score(X, y) > 0.8


def mixed_table():
    rng = np.random.RandomState(0)
    n = 240
    frame = pd.DataFrame(
        {
            "age": rng.randint(18, 80, n),
            "hours": rng.randint(10, 60, n),
            "work": rng.choice(["private", "state", "self"], n),
        }
    )
    rich = frame["age"] / 40 + frame["hours"] / 30 + (frame["work"] == "self") > 3
    return frame, np.where(rich, ">50K", "<=50K")


@pytest.mark.filterwarnings("ignore:label_model returned the true label of every sample")
@pytest.mark.filterwarnings("ignore:The accuracy on the samples to forget never exceeded")
@every_unlearner
def test_mixed_columns_and_cross_validation_with_a_mask(Unlearner):
    frame, y = mixed_table()
    mask = np.arange(len(y)) % 8 == 0
    columns = make_column_transformer(
        (StandardScaler(), ["age", "hours"]), (OneHotEncoder(), ["work"])
    )
    with config_context(enable_metadata_routing=True):
        unlearner = make(Unlearner, NetClassifier(max_epochs=3)).set_fit_request(forget=True)
        pipeline = Pipeline([("columns", columns), ("unlearner", unlearner)])
        result = cross_validate(
            pipeline, frame, y, params={"forget": mask}, cv=3, return_estimator=True,
            return_indices=True, error_score="raise")  # fmt: skip
    for fitted, train in zip(result["estimator"], result["indices"]["train"], strict=True):
        assert fitted[-1].forget_idx_.tolist() == np.flatnonzero(mask[train]).tolist()


def test_indices_cannot_be_cross_validated(digits, net):
    with config_context(enable_metadata_routing=True):
        unlearner = FineTuneUnlearner(FrozenEstimator(net)).set_fit_request(forget=True)
        with pytest.raises(ValueError, match="In cross-validation, pass a boolean mask"):
            cross_validate(
                unlearner, *digits, params={"forget": [5, 590]}, cv=3, error_score="raise"
            )


def test_a_grid_is_searched_over_a_frozen_net(digits, net, forget):
    with config_context(enable_metadata_routing=True):
        unlearner = MUSOUnlearner(FrozenEstimator(net), random_state=0)
        unlearner.set_fit_request(forget=True)
        search = GridSearchCV(unlearner, {"learning_rate": [1e-4, 1e-3]}, cv=2)
        search.fit(*digits, forget=forget)
    assert search.best_params_["learning_rate"] in (1e-4, 1e-3)
    assert_same_weights(weights(search.best_estimator_.original_estimator_), weights(net))


@pytest.mark.parametrize(
    ("request_", "error", "message"),
    [
        ([], ValueError, "selects no sample"),
        (np.zeros(600, dtype=bool), ValueError, "selects no sample"),
        (np.ones(600, dtype=bool), ValueError, "selects all"),
        (
            np.ones(599, dtype=bool),
            ValueError,
            "one entry for each of the 600 samples if it is a mask, got 599",
        ),
        ([3, 600], ValueError, "must be between 0 and 599, got 600"),
        ([-1], ValueError, "got -1"),
        ([5, 7, 5], ValueError, "the index 5 more than once. If it is meant as a mask, pass"),
        ([[1, 2]], ValueError, r"one dimension, got shape \(1, 2\)"),
        (
            [0.5, 1.0],
            TypeError,
            "must be a boolean mask or integer indices, got an array of dtype float64",
        ),
        (["a"], TypeError, "must be a boolean mask or integer indices"),
    ],
)
def test_invalid_requests_are_refused(digits, net, request_, error, message):
    unlearner = FineTuneUnlearner(net)
    with pytest.raises(error, match=message):
        unlearner.fit(*digits, forget=request_)
    with pytest.raises(NotFittedError):
        unlearner.predict(digits[0])


class Untrainable(NetClassifier):
    def fit(self, X, y, **fit_params):
        raise AssertionError("The net was trained for an invalid request.")


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (
            lambda y: y == 3,
            "forget must leave .* two classes, but all retained samples have the label False",
        ),
        (lambda y: y > 9, "selects no sample"),
    ],
)
def test_invalid_requests_train_nothing(digits, request_, message):
    X, y = digits
    with pytest.raises(ValueError, match=message):
        FineTuneUnlearner(Untrainable()).fit(X, y == 3, forget=request_(y))
    with pytest.raises(AssertionError, match="was trained"):
        FineTuneUnlearner(Untrainable()).fit(X, y == 3, forget=[0])


@pytest.mark.parametrize(
    ("estimator", "error", "message"),
    [
        (StandardScaler(), TypeError, "estimator must be None, a skorch.NeuralNetClassifier"),
        (FrozenEstimator(NetClassifier()), ValueError, "not fitted"),
    ],
)
def test_unsuitable_estimators_are_refused(digits, estimator, error, message):
    with pytest.raises(error, match=message):
        FineTuneUnlearner(estimator).fit(*digits, forget=[0])


def test_a_net_fitted_to_other_features_is_refused(digits, net):
    X, y = digits
    with pytest.raises(
        ValueError, match=r"samples of shape \(64,\), but the samples in X have shape \(63,\)"
    ):
        FineTuneUnlearner(net).fit(X[:, 1:], y, forget=[0])


def test_unknown_labels_are_refused(digits, net):
    X, y = digits
    with pytest.raises(ValueError, match="not among the classes"):
        FineTuneUnlearner(net).fit(X, y + 1, forget=[0])


@every_unlearner
def test_progress_is_printed_on_request(Unlearner, net, digits, forget, capsys):
    make(Unlearner, net, verbose=1).fit(*digits, forget=forget)
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert all(line.startswith(f"[{Unlearner.__name__}] ") and "loss" in line for line in lines)


@pytest.mark.parametrize(
    ("Unlearner", "steps"),
    [(RandomLabelUnlearner, {"max_epochs": 3}), (SFRonUnlearner, {"max_iter": 3})],
)
def test_callbacks_follow_the_steps(Unlearner, steps, net, digits, forget):
    monitor = ScoringMonitor(scoring={"accuracy": lambda est, X, y: est.score(X, y)})
    unlearner = make(Unlearner, net, **steps).set_callbacks(monitor).fit(*digits, forget=forget)
    rows = [row for row in monitor.get_logs().data if row["task_name"] == "step"]
    assert len(rows) == len(unlearner.history_) == 3
    assert rows[-1]["accuracy"] == pytest.approx(unlearner.score(*digits))


class StopAfterTwo:
    """A callback that stops the fit after two steps."""

    def __init__(self):
        self.n_steps = 0

    def setup(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        self.n_steps += context.task_name == "step"
        return self.n_steps >= 2

    def teardown(self, estimator, context):
        pass


@pytest.mark.parametrize("Unlearner", [RandomLabelUnlearner, SFRonUnlearner])
def test_callbacks_can_stop_the_training(Unlearner, net, digits, forget):
    unlearner = make(Unlearner, net).set_callbacks(StopAfterTwo()).fit(*digits, forget=forget)
    assert len(unlearner.history_) == 2


def test_a_batch_size_of_minus_one_means_all_samples(net, digits, forget):
    whole = copy.deepcopy(net).set_params(batch_size=-1)
    unlearner = make(FineTuneUnlearner, whole, max_epochs=3).fit(*digits, forget=forget)
    assert unlearner.history_[-1]["n_steps"] == 3


def test_large_data_take_fewer_epochs(net, digits, forget, monkeypatch):
    monkeypatch.setattr("sklearn_ext.unlearning.steps._fine_tuning._AUTO_SAMPLE_VISITS", 1300)
    unlearner = make(RandomLabelUnlearner, net).fit(*digits, forget=forget)
    assert len(unlearner.history_) == 2


@every_unlearner
def test_weights_that_are_not_finite_are_refused(Unlearner, net, digits, forget):
    if Unlearner is SSDUnlearner:
        pytest.skip("It makes no steps, and shrinks weights only.")
    unlearner = make(Unlearner, FrozenEstimator(net), learning_rate=1e30, optimizer=torch.optim.SGD)
    with pytest.raises(ValueError, match="weights that are not finite"):
        unlearner.fit(*digits, forget=forget)
    with pytest.raises(NotFittedError):
        unlearner.predict(digits[0])


@pytest.mark.parametrize(
    ("Unlearner", "algorithm", "config"),
    [
        (MUSOUnlearner, muso, MUSOConfig(FineTuneConfig(3e-3))),
        (NatMUUnlearner, natmu, NatMUConfig(FineTuneConfig(5e-3))),
        (SFRonUnlearner, sfron, SFRonConfig(2e-3, 32, optimizer=AdamW, weight_decay=0.01)),
        (RandomLabelUnlearner, baseline, BaselineConfig(FineTuneConfig(1e-3), wrong_labels)),
    ],
)
def test_an_algorithm_does_the_same_alone(Unlearner, algorithm, config, net, digits, forget):
    X, y = digits
    alone, request = copy.deepcopy(net.module_), ForgetRequest.from_user(forget, len(y))
    rng, options = np.random.RandomState(0), {}
    if algorithm in (muso, sfron):
        options["initial"] = untrained_module(net, draw_seed(rng))
    algorithm(alone, X.astype(np.float32), y, request, config, rng, **options)
    fitted = make(Unlearner, net).fit(X, y, forget=forget)
    assert_same_weights(alone.state_dict(), fitted.estimator_.module_.state_dict())
    assert not alone.training


@pytest.mark.parametrize(
    ("algorithm", "config"),
    [
        (muso, MUSOConfig(FineTuneConfig(2e-3), soft_targets=False, retained_targets="labels")),
        (natmu, NatMUConfig(FineTuneConfig(5e-3), retained_targets="labels")),
        (sfron, SFRonConfig(2e-3, 32, retained_targets="labels")),
        (baseline, BaselineConfig(FineTuneConfig(1e-3), wrong_labels)),
    ],
)
def test_an_algorithm_takes_the_loss_of_its_network(algorithm, config, net, digits, forget):
    X, y = digits
    request = ForgetRequest.from_user(forget, len(y))
    logits = copy.deepcopy(net.module_)
    probabilities = nn.Sequential(copy.deepcopy(net.module_), nn.LogSoftmax(dim=1))

    def run(module, **options):
        rng = np.random.RandomState(0)
        algorithm(module, X.astype(np.float32), y, request, config, rng, **options)

    run(logits)
    run(probabilities, loss=nn.functional.nll_loss)
    for name, weight in logits.state_dict().items():
        torch.testing.assert_close(probabilities.state_dict()[f"0.{name}"], weight)


@pytest.mark.parametrize("algorithm", [muso, natmu, sfron, baseline])
def test_an_algorithm_without_a_request_does_nothing(algorithm, net, digits):
    X, y = digits
    alone, request = copy.deepcopy(net.module_), ForgetRequest.from_user(None, len(y))
    result = algorithm(alone, X, y, request, None, np.random.RandomState(0))
    assert getattr(result, "history", result) == []
    assert_same_weights(alone.state_dict(), net.module_.state_dict())


@pytest.mark.parametrize("Unlearner", [MUSOUnlearner, NatMUUnlearner, SFRonUnlearner])
def test_from_paper_accepts_an_estimator_and_parameters(Unlearner, net):
    unlearner = Unlearner.from_paper(net, batch_size=7, random_state=0)
    assert unlearner.estimator is net
    assert unlearner.batch_size == 7
    changed = Unlearner(net, batch_size=7, random_state=0).get_params(deep=False)
    assert unlearner.get_params(deep=False) != changed


def test_shared_parameters_are_documented_alike():
    shared = ["estimator", "batch_size", "random_state"]
    attributes = ["estimator_", "original_estimator_", "classes_", "forget_idx_", "input_shape_"]
    assert_docstring_consistency(
        UNLEARNERS, include_params=shared, include_attrs=attributes, include_returns=False
    )
    fine_tuners = [each for each in UNLEARNERS if each not in (SFRonUnlearner, SSDUnlearner)]
    assert_docstring_consistency(
        fine_tuners, include_params=["weight_decay", "max_epochs", "verbose"]
    )


@every_unlearner
def test_repr_is_one_line_whatever_the_network(Unlearner, net):
    name = Unlearner.__name__
    assert repr(Unlearner()) == f"{name}()"
    assert repr(Unlearner(net)) == f"{name}(estimator=NetClassifier)"
    frozen = Unlearner(FrozenEstimator(net), batch_size=7)
    assert repr(frozen) == f"{name}(estimator=FrozenEstimator(NetClassifier), batch_size=7)"
