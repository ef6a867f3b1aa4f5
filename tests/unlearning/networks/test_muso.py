import copy

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import Perceptron
from sklearn.neighbors import KNeighborsClassifier

from sklearn_ext import MUSOUnlearner
from sklearn_ext.neural import NetClassifier, head_of
from sklearn_ext.unlearning import ForgetRequest
from sklearn_ext.unlearning.networks import MUSOConfig, muso, projected_scores
from sklearn_ext.unlearning.networks.labels import _label_model, _muso_labels
from sklearn_ext.unlearning.steps import FineTuneConfig


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return (X[:600] / 16).astype(np.float32), np.array([f"digit {k}" for k in range(10)])[y[:600]]


@pytest.fixture(scope="module")
def net(digits):
    return NetClassifier(module__hidden_sizes=(32,), max_epochs=20, random_state=0).fit(*digits)


@pytest.fixture
def forget(digits):
    return digits[1] == "digit 3"


def test_labels_come_from_random_features_of_retained_samples(net, digits, forget):
    X, y = digits
    unlearner = MUSOUnlearner(net, random_state=0).fit(X, y, forget=forget)
    assert unlearner.label_model_.kind == "random_features"
    assert unlearner.label_model_.accuracy > 0.95
    assert "digit 3" not in unlearner.forget_labels_
    assert unlearner.changed_fraction_.tolist() == [1.0] * 5
    assert (unlearner.predict(X[forget]) == unlearner.forget_labels_).mean() > 0.6


def test_the_label_model_uses_a_limited_number_of_samples(net, digits, forget, monkeypatch):
    monkeypatch.setattr(_label_model, "_MAX_SAMPLES", 17)
    unlearner = MUSOUnlearner(net, random_state=0).fit(*digits, forget=forget)
    hits = 17 * unlearner.label_model_.accuracy
    assert hits == pytest.approx(round(hits))


@pytest.mark.parametrize("choice", ["outputs", "labels"])
def test_retained_samples_keep_their_outputs(net, digits, choice):
    X, y = digits
    params = {"max_epochs": 15, "learning_rate": 1e-2, "retained_targets": choice}
    unlearner = MUSOUnlearner(net, random_state=0, **params).fit(X, y, forget=[0, 1])
    trained = [
        np.log(model.predict_proba(X)[np.arange(600), np.searchsorted(net.classes_, y)]).mean()
        for model in (net, unlearner)
    ]
    # Labels train the network further, and its own outputs do not.
    assert (trained[1] > 0.5 * trained[0]) == (choice == "labels")


@pytest.mark.parametrize("rule", ["head", "projection"])
def test_labels_can_come_from_the_net(net, digits, forget, rule):
    X, y = digits
    unlearner = MUSOUnlearner(net, label_model=rule, learning_rate=5e-3, random_state=0)
    unlearner.fit(X, y, forget=forget)
    assert unlearner.label_model_ is None
    assert "digit 3" not in unlearner.forget_labels_  # no retained sample has this label
    assert len(unlearner.changed_fraction_) == 5
    assert unlearner.score(X[~forget], y[~forget]) > 0.95


def test_the_head_rule_gives_the_labels_of_its_ridge(net, digits, forget):
    X, y = digits
    unlearner = MUSOUnlearner(
        net, label_model="head", subset_ratio=1.0, learning_rate=1e-12, max_epochs=1
    )
    labels = unlearner.fit(X, y, forget=forget).forget_labels_
    layer = head_of(net.module_)
    with torch.no_grad():
        features = torch.nn.Sequential(*list(net.module_)[:-1])(torch.as_tensor(X)).double()
    Z = torch.cat([features, torch.ones(len(X), 1, dtype=torch.float64)], dim=1)
    assert Z.shape[1] == layer.in_features + 1
    T = torch.as_tensor(y[~forget][:, None] == net.classes_).double()
    S = Z[~forget].T @ Z[~forget]
    ridge = 1e-3 * S.trace() / len(S) * torch.eye(len(S), dtype=S.dtype)
    A = torch.linalg.solve(S + ridge, Z[~forget].T @ T)
    scores = Z[forget] @ A
    scores[:, 3] = -torch.inf
    assert labels.tolist() == net.classes_[scores.argmax(dim=1)].tolist()


def test_the_published_rule_starts_with_the_true_labels(net, digits):
    """This holds with more retained samples than features, so it is not the default."""
    X, y = digits
    unlearner = MUSOUnlearner(
        net, label_model="projection", eps=0.0, learning_rate=1e-12, max_epochs=1
    )
    rows = np.flatnonzero(net.predict(X) == y)[:20]
    with pytest.warns(UserWarning, match="nothing was forgotten") as record:
        unlearner.fit(X, y, forget=rows)
    assert record[0].filename == __file__
    assert unlearner.forget_labels_.tolist() == y[rows].tolist()


def test_the_published_rule_uses_a_rising_ridge_and_drift(net, digits, forget, monkeypatch):
    X, y = digits
    ridges, drifts = [], []
    projected_head = _muso_labels.projected_head

    def head(Z, W_0, W_p, eps):
        ridges.append(eps)
        return projected_head(Z, W_0, W_p, eps)

    def scores(Z_u, Z_u_original, R, W_p):
        drifts.append((Z_u - Z_u_original).abs().max().item())
        return projected_scores(Z_u, Z_u_original, R, W_p)

    monkeypatch.setattr(_muso_labels, "projected_head", head)
    monkeypatch.setattr(_muso_labels, "projected_scores", scores)
    unlearner = MUSOUnlearner(net, label_model="projection", max_epochs=3, random_state=0)
    unlearner.fit(X, y, forget=forget)
    assert ridges == pytest.approx([1e-6, (1e-6 + 1e-2) / 2, 1e-2])
    assert drifts[0] < 1e-5 < 1e-3 < drifts[-1]


def test_given_labels_are_in_the_order_of_the_request(net, digits):
    X, y = digits
    rows = [9, 4, 200]
    labels = np.array(["digit 1", "digit 2", "digit 7"])
    unlearner = MUSOUnlearner(net, label_model=labels, learning_rate=1e-2, random_state=0)
    unlearner.fit(X, y, forget=rows)
    assert unlearner.forget_idx_.tolist() == rows
    assert unlearner.forget_labels_.tolist() == labels.tolist()
    codes = np.searchsorted(net.classes_, labels)
    before, after = (model.predict_proba(X[rows])[range(3), codes] for model in (net, unlearner))
    assert (after > before).all()


@pytest.mark.parametrize("classes", [None, list("abcdefghij"), list("jihgfedcba")])
def test_the_function_takes_labels_or_class_indices(net, digits, classes):
    X, codes = digits[0], np.searchsorted(net.classes_, digits[1])
    seen = []

    def label_model(X_retained, y_retained, X_forget):
        seen.extend(y_retained)
        return [2, 7] if classes is None else [classes[2], classes[7]]

    result = muso(
        copy.deepcopy(net.module_), X, codes, ForgetRequest.from_user([9, 4], len(X)),
        MUSOConfig(FineTuneConfig(1e-3), label_model=label_model),
        np.random.RandomState(0), classes=classes)  # fmt: skip
    assert result.forget_codes.tolist() == [2, 7]
    assert set(seen) == set(range(10) if classes is None else classes)


def test_the_label_is_the_largest_of_the_given_scores(net, digits):
    X, y = digits
    scores = np.eye(10)[[1, 2, 7]] - 5
    unlearner = MUSOUnlearner(net, label_model=scores).fit(X, y, forget=[9, 4, 200])
    assert unlearner.forget_labels_.tolist() == ["digit 1", "digit 2", "digit 7"]


def test_soft_targets_need_a_label_model_with_probabilities(net, digits, forget):
    unlearner = MUSOUnlearner(net, label_model=Perceptron(), soft_targets=True)
    with pytest.raises(TypeError, match=r"needs a label_model with predict_proba, got Perceptron"):
        unlearner.fit(*digits, forget=forget)


def test_a_callable_gets_samples_and_labels(net, digits, forget):
    X, y = digits

    def nearest(X_retained, y_retained, X_forget):
        assert X_retained.shape == ((~forget).sum(), 64)
        return KNeighborsClassifier(1).fit(X_retained, y_retained).predict(X_forget)

    called = MUSOUnlearner(net, label_model=nearest, random_state=0).fit(X, y, forget=forget)
    fitted = MUSOUnlearner(net, label_model=KNeighborsClassifier(1), random_state=0)
    fitted.fit(X, y, forget=forget)
    assert called.forget_labels_.tolist() == fitted.forget_labels_.tolist()
    assert isinstance(fitted.label_model_, KNeighborsClassifier)
    assert called.label_model_ is None


@pytest.mark.parametrize(
    "rule", ["random_features", "head", "projection", KNeighborsClassifier(5)], ids=str
)
def test_soft_targets_are_learned(net, digits, forget, rule):
    X, y = digits
    unlearner = MUSOUnlearner(net, label_model=rule, soft_targets=True, random_state=0)
    unlearner.fit(X, y, forget=forget)
    assert unlearner.predict_proba(X[forget])[:, 3].mean() < 0.1
    assert unlearner.score(X[~forget], y[~forget]) > 0.9


def test_given_soft_targets_are_learned(net, digits, forget):
    X, y = digits
    flat = np.full((forget.sum(), 10), 1 / 9)
    flat[:, 3] = 0
    unlearner = MUSOUnlearner(net, label_model=flat, soft_targets=True, random_state=0)
    unlearner.fit(X, y, forget=forget)
    assert unlearner.predict_proba(X[forget]).max(axis=1).mean() < 0.5
    with pytest.raises(
        ValueError, match=r"must give probabilities.* got values from 0 to 0\.222 with sums"
    ):
        unlearner.set_params(label_model=2 * flat).fit(X, y, forget=forget)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            ["digit 1"],
            r"one label for each of the 2 samples to forget, or scores of shape \(2, 10\)",
        ),
        (
            ["digit 1", "letter a"],
            r"label_model contains labels .* not among the classes .*: \['letter a'\]",
        ),
    ],
)
def test_unsuitable_labels_are_refused(net, digits, labels, message):
    with pytest.raises(ValueError, match=message):
        MUSOUnlearner(net, label_model=labels).fit(*digits, forget=[0, 1])


def test_an_initial_head_must_fit_the_layer(net, digits):
    unlearner = MUSOUnlearner(net, label_model="head", initial_head=np.zeros((32, 10)))
    with pytest.raises(ValueError, match=r"initial_head must have shape \(33, 10\)"):
        unlearner.fit(*digits, forget=[0, 1])
    forget = digits[1] == "digit 3"
    unlearner.set_params(initial_head=np.zeros((33, 10)), head="3").fit(*digits, forget=forget)
    with pytest.raises(ValueError, match="head='nowhere' is not a"):
        unlearner.set_params(head="nowhere").fit(*digits, forget=[0, 1])


def test_samples_that_are_held_out_change_the_targets(net, digits):
    X, y = load_digits(return_X_y=True)
    X, y = (X / 16).astype(np.float32), digits[1][0][:-1] + y.astype(str).astype(object)
    rows = np.arange(600) % 10 == 0
    plain = MUSOUnlearner(net, random_state=0).fit(X[:600], y[:600], forget=rows)
    held_out = {"X_val": X[600:900], "y_val": y[600:900]}
    informed = MUSOUnlearner(net, random_state=0).fit(X[:600], y[:600], forget=rows, **held_out)
    assert informed.score(X[900:], y[900:]) > net.score(X[900:], y[900:]) - 0.03
    confidence = [
        model.predict_proba(X[:600][rows]).max(axis=1).mean() for model in (plain, informed)
    ]
    new = net.predict_proba(X[600:]).max(axis=1).mean()
    assert abs(confidence[1] - new) < abs(confidence[0] - new)
    with pytest.raises(
        ValueError, match="X_val and y_val must be given together, but y_val is None"
    ):
        MUSOUnlearner(net).fit(X[:600], y[:600], forget=rows, X_val=X[600:900])
