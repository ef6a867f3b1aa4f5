"""The audit of unlearning: closed forms of its formulas, and models of known memory."""

import joblib
import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import make_blobs
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from torch.utils.data import TensorDataset

from sklearn_ext import FineTuneUnlearner, NetClassifier, unlearning_report
from sklearn_ext.metrics import (
    auc_interval,
    likelihood_ratio,
    logit_confidence,
    membership_audit,
)


class Memorizer(ClassifierMixin, BaseEstimator):
    """Confident about its training samples, in proportion to `memory`, and noisy about all."""

    def __init__(self, memory=3.0, random_state=None):
        self.memory = memory
        self.random_state = random_state

    def fit(self, X, y):
        self.classes_, self.seen_ = np.unique(y), {tuple(x) for x in np.asarray(X).tolist()}
        self.labels_ = {tuple(x): label for x, label in zip(np.asarray(X).tolist(), y, strict=True)}
        return self

    def predict_proba(self, X):
        X = np.asarray(X)
        seed = 0 if self.random_state is None else self.random_state
        difficulty = 3 * X[:, 0]  # the same in every model
        noise = np.random.RandomState(seed).normal(size=len(X))
        known = np.array([tuple(x) in self.seen_ for x in X.tolist()])
        p = 1 / (1 + np.exp(-(difficulty + noise + self.memory * known)))
        codes = (X[:, 1] > 0).astype(int)
        proba = np.empty((len(X), 2))
        proba[np.arange(len(X)), codes], proba[np.arange(len(X)), 1 - codes] = p, 1 - p
        return proba


@pytest.fixture(scope="module")
def samples():
    rng = np.random.RandomState(0)
    X = rng.normal(size=(900, 2))
    return X[:600], (X[:600, 1] > 0).astype(int), X[600:], (X[600:, 1] > 0).astype(int)


@pytest.fixture(scope="module")
def models(samples):
    X, y = samples[:2]
    forget = np.arange(len(y)) < 150
    original = Memorizer(random_state=7).fit(X, y)
    return forget, {
        "original": original,
        "retrained": Memorizer(random_state=8).fit(X[~forget], y[~forget]),
    }


def audited(samples, models, **params):
    X, y, X_test, y_test = samples
    forget, named = models
    params = {"random_state": 0, "n_shadows": 8} | params
    return membership_audit(named, X, y, forget, X_test=X_test, y_test=y_test, **params).scores


def test_the_confidence_is_the_logit_of_the_label():
    z = np.random.RandomState(0).normal(size=(20, 2))
    proba = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    codes = np.arange(20) % 2
    expected = np.where(codes == 0, z[:, 0] - z[:, 1], z[:, 1] - z[:, 0])
    np.testing.assert_allclose(logit_confidence(proba, codes), expected)
    certain = logit_confidence(np.array([[1.0, 1e-9], [0.5, 0.5]]), np.array([0, -1]))
    np.testing.assert_allclose(certain, [np.log(1e9), np.log(1e-12)])


def test_the_likelihood_ratio_is_that_of_two_normals():
    rng = np.random.RandomState(0)
    inside = np.zeros((400, 3), dtype=bool)
    inside[:200] = True
    shadows = rng.normal(np.where(inside, 2.0, -1.0), np.where(inside, 0.5, 1.5))
    scores = np.array([-2.0, 0.0, 2.0])
    expected = norm.logpdf(scores, 2.0, 0.5) - norm.logpdf(scores, -1.0, 1.5)
    np.testing.assert_allclose(likelihood_ratio(scores, shadows, inside), expected, rtol=0.15)
    one_each = likelihood_ratio(
        np.array([1.0]), np.array([[3.0], [0.0]]), np.array([[True], [False]])
    )
    np.testing.assert_allclose(one_each, [(1 - 4) / 2])  # distances 2 and 1


def test_the_interval_covers_the_area_as_often_as_stated():
    rng = np.random.RandomState(0)
    truth, covered = norm.cdf(1 / np.sqrt(2)), []
    for _ in range(400):
        positive, negative = rng.normal(1, size=60), rng.normal(0, size=80)
        auc, low, high = auc_interval(positive, negative)
        covered.append(low <= truth <= high)
    is_positive = np.repeat([1, 0], [60, 80])
    assert auc == pytest.approx(roc_auc_score(is_positive, np.append(positive, negative)))
    assert np.mean(covered) == pytest.approx(0.95, abs=0.03)
    assert auc_interval(np.ones(5), np.ones(5)) == (0.5, 0.5, 0.5)


def test_the_attack_on_single_samples_finds_what_is_remembered(samples, models):
    """With known difficulties, the area is that of N(3, 2): the noise is 1 and the memory is 3."""
    scores = audited(samples, models)
    best = norm.cdf(3 / np.sqrt(2))
    assert scores["original"]["auc"] == pytest.approx(best, abs=0.03)
    assert scores["original"]["auc_low"] < scores["original"]["auc"]
    assert scores["retrained"]["auc_low"] < 0.5 < scores["retrained"]["auc_high"]
    assert scores["original"]["tpr"] > 0.3
    assert scores["retrained"]["tpr"] < 0.1
    # A threshold for all samples suffers from their difficulties.
    X, y, X_test, y_test = samples
    forget, named = models
    proba = named["original"].predict_proba(np.vstack([X[forget], X_test]))
    plain = logit_confidence(proba, np.append(y[forget], y_test))
    is_member = np.repeat([1, 0], [forget.sum(), len(X_test)])
    assert roc_auc_score(is_member, plain) < scores["original"]["auc"] - 0.1
    cheap = audited(samples, models, n_shadows=1)
    assert roc_auc_score(is_member, plain) + 0.05 < cheap["original"]["auc"]
    assert cheap["retrained"]["auc_low"] < 0.5 < cheap["retrained"]["auc_high"]


def test_shadow_models_are_trained_in_parallel_and_cached(samples, models, tmp_path, monkeypatch):
    params = {"n_shadows": 2, "memory": str(tmp_path)}
    with joblib.parallel_config(backend="threading"):
        first = audited(samples, models, **params, n_jobs=2)
    assert audited(samples, models, n_shadows=2) == first
    monkeypatch.setattr(Memorizer, "fit", None)
    assert audited(samples, models, **params) == first


@pytest.fixture(scope="module")
def nets():
    X, y = make_blobs(400, centers=4, cluster_std=4.0, random_state=0)
    X = X.astype(np.float32)
    X, X_test, y, y_test = X[:240], X[240:], y[:240], y[240:]
    forget = np.arange(240) < 40
    net = NetClassifier(module__hidden_sizes=(64,), max_epochs=60, lr=0.05, random_state=0)
    named = {
        "original": clone(net).fit(X, y),
        "retrained": clone(net).fit(X[~forget], y[~forget]),
    }
    return X, y, X_test, y_test, forget, named


def test_unlearners_are_audited_with_unlearned_shadows(nets):
    X, y, X_test, y_test, forget, named = nets
    unlearner = FineTuneUnlearner(named["original"], max_epochs=2, random_state=0)
    unlearner.fit(X, y, forget=forget)
    fits = []

    class Recorded(FineTuneUnlearner):
        def fit(self, X, y, *, forget=None):
            fits.append((len(X), int(np.asarray(forget).sum()), self.estimator))
            return super().fit(X, y, forget=forget)

    unlearner.__class__ = Recorded
    audit = membership_audit(
        {"tuned": unlearner}, X, y, forget, X_test=X_test, y_test=y_test, n_shadows=2,
        max_samples=30, relearn_steps=0, random_state=0,
    )  # fmt: skip
    assert [(n, k) for n, k, _ in fits] == [(230, 30), (230, 30)]
    assert all(shadow is not named["original"] for *_, shadow in fits)
    assert unlearner.estimator is named["original"]
    assert set(audit.scores["tuned"]) == {"auc", "auc_low", "auc_high", "tpr"}


def test_a_model_that_has_not_forgotten_relearns_at_once(nets):
    X, y, X_test, y_test, forget, named = nets
    y = np.where(forget, (y + 1) % 4, y)  # wrong labels, which a model can only memorize
    net = NetClassifier(module__hidden_sizes=(256,), max_epochs=300, lr=0.1, random_state=0)
    memory = clone(net).fit(X[forget], y[forget])
    weights = [p.detach().clone() for p in memory.module_.parameters()]
    named = {"memory": memory, "retrained": named["retrained"]}
    audit = membership_audit(
        named, X, y, forget, X_test=X_test, y_test=y_test, estimator=KNeighborsClassifier(),
        n_shadows=1, relearn_steps=30, random_state=0,
    )  # fmt: skip
    assert audit.scores["memory"]["relearn"] == 0
    assert audit.scores["retrained"]["relearn"] > 5
    for before, after in zip(weights, memory.module_.parameters(), strict=True):
        assert torch.equal(before, after)


def test_the_report_contains_the_audit_on_request(samples, models):
    X, y, X_test, y_test = samples
    forget, named = models
    given = {"X_test": X_test, "y_test": y_test, "retrained": named["retrained"]}
    model = {"original": named["original"]}
    report = unlearning_report(model, X, y, forget, **given, audit=True, random_state=0)
    for name in ("AUC", "AUC_low", "AUC_high", "TPR"):
        assert 0 <= report.scores["retrained"][name] <= 100
    assert "relearn" not in report.names  # the models have no partial_fit
    assert report.scores["original"]["AUC"] > 80
    thorough = unlearning_report(
        model, X, y, forget, **given, audit={"n_shadows": 4}, random_state=0
    )
    assert thorough.scores["original"]["AUC"] > report.scores["original"]["AUC"]
    assert "AUC" not in unlearning_report(model, X, y, forget, **given).names


def test_datasets_and_frames_give_the_same_audit(nets):
    X, y, X_test, y_test, forget, named = nets
    params = {"n_shadows": 2, "relearn_steps": 3, "random_state": 0}
    expected = membership_audit(named, X, y, forget, X_test=X_test, y_test=y_test, **params)
    data, test = (
        TensorDataset(torch.from_numpy(a), torch.from_numpy(b))
        for a, b in ((X, y), (X_test, y_test))
    )
    actual = membership_audit(named, data, None, forget, X_test=test, y_test=None, **params)
    assert actual.scores == expected.scores


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_shadows": 3}, "n_shadows must be 1 or an even number, got 3"),
        ({"n_shadows": 0}, "'n_shadows' parameter"),
        ({"models": {}}, "models must contain at least one classifier"),
        ({"forget": np.arange(1)}, "forget must contain at least two samples of classes .*, got 1"),
        ({"y": None}, "y may be None only if"),
    ],
)
def test_invalid_arguments_are_refused(samples, models, change, message):
    X, y, X_test, y_test = samples
    forget, named = models
    given = {"models": named, "X": X, "y": y, "forget": forget, "X_test": X_test, "y_test": y_test}
    with pytest.raises(ValueError, match=message):
        membership_audit(**given | change)


def test_relearning_takes_any_partial_fit(samples):
    X, y, X_test, y_test = samples
    forget = np.arange(len(y)) < 150
    model = SGDClassifier(loss="log_loss", random_state=0).fit(X, y)
    wrong = clone(model).fit(X, 1 - y)
    audit = membership_audit(
        {"right": model, "wrong": wrong}, X, y, forget, X_test=X_test, y_test=y_test, n_shadows=1,
        relearn_steps=20, random_state=0,
    )  # fmt: skip
    assert audit.scores["right"]["relearn"] < audit.scores["wrong"]["relearn"]
