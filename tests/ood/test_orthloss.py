"""The OrthLoss detector: roles of samples, given nets, scores and the threshold."""

import pickle
import warnings

import numpy as np
import pytest
import skorch
import torch
from sklearn.base import clone
from sklearn.callback import ScoringMonitor
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from sklearn_ext import NetClassifier, OrthLossOODDetector
from sklearn_ext.neural import draw_seed
from sklearn_ext.ood import OrthLossConfig, fine_tune_with_outliers, make_synthetic_outliers
from sklearn_ext.ood._classifier_outputs import features_of
from sklearn_ext.ood.orthloss._feature_geometry import SCORE_NAMES
from sklearn_ext.utils._random import held_out_mask


def permuted(X, rng):
    return make_synthetic_outliers(X, np.zeros(len(X)), "permute", rng)


SHORT = {"pretrain_epochs": 8, "max_epochs": 4, "random_state": 0}


@pytest.fixture(scope="module")
def digits():
    """Training samples with outliers, then unseen samples of known and of unknown classes."""
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    rng = np.random.RandomState(0)
    order = rng.permutation(np.flatnonzero(y < 8))  # the file is sorted by writer
    known, labels, unknown = X[order], y[order], X[y >= 8]
    outliers = permuted(known[:700], rng)
    X_train = np.concatenate([known[:700], outliers])
    y_train = np.concatenate([labels[:700], np.full(700, -1)])
    return X_train, y_train, known[700:], labels[700:], unknown


@pytest.fixture(scope="module")
def fitted(digits):
    return OrthLossOODDetector(**SHORT).fit(digits[0], digits[1])


def auroc(detector, X_id, X_ood):
    y = np.repeat([1, 0], [len(X_id), len(X_ood)])
    return roc_auc_score(y, detector.score_samples(np.concatenate([X_id, X_ood])))


def test_the_fusion_includes_the_score_that_training_makes(fitted):
    reference = fitted.fused_score_.fusion.reference
    assert reference.shape[1] == 5
    in_row_space = reference[:, -1]  # lengths of projections of unit features
    assert 0.5 < np.median(in_row_space) < in_row_space.max() <= 1 + 1e-12


def test_detector_predicts_classes_and_detects_unknown_ones(digits, fitted):
    _, _, X_known, y_known, X_unknown = digits
    assert fitted.classes_.tolist() == list(range(8))
    assert np.mean(fitted.predict_class(X_known) == y_known) > 0.95
    assert fitted.predict_proba(X_known).shape == (len(X_known), 8)
    assert auroc(fitted, X_known, X_unknown) > 0.8
    assert auroc(fitted, X_known, permuted(X_known, np.random.RandomState(1))) > 0.97
    assert not fitted.is_synthetic_
    assert fitted.n_outliers_ == 700


def test_rejected_fraction_of_new_samples_is_near_nominal(digits):
    X, y, X_known, _, _ = digits
    detector = OrthLossOODDetector(**SHORT, validation_fraction=0.3, id_rejection_rate=0.1)
    rejected = np.mean(detector.fit(X, y).predict(X_known) == -1)
    assert rejected == pytest.approx(0.1, abs=0.06)
    decision = detector.decision_function(X_known)
    np.testing.assert_array_equal(decision, detector.score_samples(X_known) - detector.offset_)


def test_training_turns_outliers_away(fitted):
    before, after = fitted.separation_["before"], fitted.separation_["after"]
    assert after["outlier_cosine"] < 0.6 * before["outlier_cosine"]
    assert after["outlier_residual"] > before["outlier_residual"]
    assert after["outliers_like_id"] <= before["outliers_like_id"] < 0.5
    V, Q = fitted.weight_rows_, fitted.row_basis_
    np.testing.assert_allclose(np.linalg.norm(V, axis=1), 1.0)
    np.testing.assert_allclose(V @ Q @ Q.T, V, atol=1e-9)


def test_feature_terms_separate_more_than_outlier_exposure(digits, fitted):
    X, y = digits[:2]
    exposed = OrthLossOODDetector(**SHORT, sep_weight=0.0, clu_weight=0.0).fit(X, y)
    separated = OrthLossOODDetector(**SHORT, sep_reduction="sum", clu_weight=0.0).fit(X, y)
    cosine = {d: d.separation_["after"]["outlier_cosine"] for d in (exposed, separated)}
    assert cosine[separated] < 0.6 * cosine[exposed]


def test_fusion_needs_a_fit_of_its_own(digits):
    X, y = digits[:2]
    detector = OrthLossOODDetector(**SHORT, ood_score="msp").fit(X, y)
    with pytest.raises(ValueError, match=r"ood_score='fused' .* Fit it again"):
        detector.set_params(ood_score="fused").score_samples(X)


@pytest.mark.parametrize("name", SCORE_NAMES)
def test_every_score_separates_noise_from_digits(digits, fitted, name):
    X_known = digits[2]
    detector = clone(fitted).set_params(ood_score=name)
    vars(detector).update({k: v for k, v in vars(fitted).items() if k.endswith("_")})
    noise = np.random.RandomState(0).uniform(size=X_known.shape)
    assert auroc(detector, X_known, noise) > 0.9
    scores = detector.score_samples(X_known[:40])
    features = features_of(fitted.classifier_, X_known[:40])
    weight, bias = fitted.head_.tensors()
    U = nn.functional.normalize(features)
    cosines = U @ nn.functional.normalize(weight).T
    logits = features @ weight.T + bias
    parts = {
        "rowspace": (U @ torch.from_numpy(fitted.row_basis_)).norm(dim=1),
        "msp": logits.softmax(1).amax(1),
        "energy": logits.logsumexp(1),
        "maxlogit": logits.amax(1),
        "maxcos": cosines.amax(1),
        "cos": cosines.abs().sum(1),
        "meancos": cosines.abs().mean(1),
    }
    np.testing.assert_allclose(scores, sum(parts[p] for p in name.split("+")), rtol=1e-6)


def test_missing_outliers_are_made_with_a_warning(digits):
    X, y = digits[0][:700], digits[1][:700]
    detector = OrthLossOODDetector(**SHORT, synthetic_outliers="permute")
    with pytest.warns(UserWarning, match="outlier_label=-1: training on 168") as record:
        detector.fit(X[:210], y[:210])
    assert len(record) == 1
    assert record[0].filename == __file__
    assert detector.is_synthetic_
    assert detector.n_outliers_ == 168
    with pytest.warns(UserWarning, match="outlier_label=-1") as record:
        make_pipeline(StandardScaler(), clone(detector)).fit_predict(X[:210], y[:210])
    assert record[0].filename == __file__
    with pytest.raises(ValueError, match="synthetic_outliers=None"):
        detector.set_params(synthetic_outliers=None).fit(X, y)


def test_string_labels_give_the_same_scores(digits):
    X, y = digits[0], digits[1]
    words = np.array(["odd" if label < 0 else f"digit {label}" for label in y])
    worded = OrthLossOODDetector(**SHORT, outlier_label="odd").fit(X, words)
    numbered = OrthLossOODDetector(**SHORT).fit(X, y)
    np.testing.assert_array_equal(worded.score_samples(X), numbered.score_samples(X))
    assert worded.predict_class(X[:1])[0].startswith("digit ")
    assert "odd" not in worded.classes_


@pytest.mark.filterwarnings("ignore:No sample is labeled")
@pytest.mark.parametrize(
    ("labels_of", "outlier_label"),
    [
        (lambda y: y.astype(str), -1),
        (lambda y: np.array([f"digit {label}" for label in y], dtype=object), -1),
        (lambda y: y.astype(np.uint8), -1),
        (lambda y: y > 3, -1),
        (lambda y: y, "odd"),
    ],
    ids=["strings", "objects", "unsigned", "booleans", "string among numbers"],
)
def test_made_outliers_work_with_labels_of_any_type(digits, labels_of, outlier_label):
    X, y = digits[0][:210], labels_of(digits[1][:210])
    detector = OrthLossOODDetector(**SHORT, outlier_label=outlier_label).fit(X, y)
    np.testing.assert_array_equal(detector.classes_, np.unique(y))
    assert np.mean(detector.predict_class(X) == y) > 0.8
    assert detector.separation_["after"]["outlier_cosine"] < 0.15


def test_optimizer_parameters_reach_both_trainings(digits):
    X, y = digits[0][::7], digits[1][::7]
    detector = OrthLossOODDetector(
        momentum=0.5,
        weight_decay=0.01,
        learning_rate=0.02,
        pretrain_epochs=1,
        max_epochs=0,
        random_state=0,
    ).fit(X, y)
    net = detector.classifier_
    (group,) = net.optimizer_.param_groups
    assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.5, True, 0.01)
    assert (net.lr, net.batch_size, net.max_epochs) == (0.02, 64, 0)
    decayed, free = (
        clone(detector).set_params(weight_decay=decay, pretrain_epochs=8).fit(X, y).classifier_
        for decay in (0.1, 0.0)
    )
    norms = [sum(float(p.detach().norm()) for p in n.module_.parameters()) for n in (decayed, free)]
    assert norms[0] < 0.9 * norms[1]


class TwoHeads(nn.Module):
    """A network that returns probabilities and whose last linear layer is not the head."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 40), nn.ReLU())
        self.head = nn.Linear(40, 8)
        self.other = nn.Linear(40, 3)

    def forward(self, X):
        Z = self.body(X)
        return torch.softmax(self.head(Z) + 0.0 * self.other(Z).sum(), dim=1)


def test_given_fitted_net_is_fine_tuned_in_a_copy(digits):
    X, y, X_known, y_known, _ = digits
    torch.manual_seed(0)
    net = skorch.NeuralNetClassifier(
        TwoHeads, optimizer=torch.optim.Adam, lr=0.01, max_epochs=10, verbose=0, train_split=None
    )
    net.fit(X[:700], y[:700].astype(np.int64))
    before = net.predict_proba(X_known)
    detector = OrthLossOODDetector(FrozenEstimator(net), head="head", **SHORT)
    detector = clone(detector).fit(X, y)
    np.testing.assert_array_equal(net.predict_proba(X_known), before)
    assert np.mean(detector.predict_class(X_known) == y_known) > 0.9
    np.testing.assert_allclose(detector.predict_proba(X_known).sum(axis=1), 1.0, rtol=1e-5)
    assert auroc(detector, X_known, permuted(X_known, np.random.RandomState(1))) > 0.9
    found = OrthLossOODDetector(FrozenEstimator(net), **SHORT).fit(X, y)
    assert found.head_.name == "head"
    np.testing.assert_array_equal(found.score_samples(X_known), detector.score_samples(X_known))
    with pytest.raises(ValueError, match=r"'other' maps features .* to 3 values"):
        OrthLossOODDetector(net, head="other", **SHORT).fit(X, y)


def test_unfitted_net_is_trained_with_its_own_settings(digits):
    X, y = digits[:2]
    net = NetClassifier(module__hidden_sizes=(50,), max_epochs=3)
    detector = OrthLossOODDetector(net, **SHORT).fit(X, y)
    assert detector.weight_rows_.shape == (8, 50)
    assert not net.initialized_


def test_callbacks_follow_the_epochs_of_both_trainings(digits):
    X, y, X_known, _, X_unknown = digits

    def score(detector, X, y):
        return auroc(detector, X_known, X_unknown)

    monitor = ScoringMonitor(scoring={"auroc": score})
    detector = OrthLossOODDetector(pretrain_epochs=3, max_epochs=2, random_state=0)
    followed = clone(detector).set_callbacks(monitor).fit(X, y)
    rows = [row for row in monitor.get_logs().data if row["task_name"] != "fit"]
    found = [row["auroc"] for row in rows]
    assert [row["task_name"] for row in rows] == 3 * ["pretraining"] + 2 * ["fine-tuning"]
    plain = detector.fit(X, y)
    np.testing.assert_array_equal(plain.score_samples(X), followed.score_samples(X))
    assert found[-1] == auroc(plain, X_known, X_unknown)
    assert found[0] != found[-1]
    restored = pickle.loads(pickle.dumps(followed.classifier_))
    np.testing.assert_array_equal(restored.predict_proba(X), plain.classifier_.predict_proba(X))


class Stop:
    """A callback that asks to stop at the second epoch of each training."""

    def setup(self, estimator, context):
        self.names = []

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        self.names.append(context.task_name)
        return self.names.count(context.task_name) == 2


def test_a_callback_may_end_the_trainings(digits, capsys):
    stop = Stop()
    detector = OrthLossOODDetector(pretrain_epochs=5, max_epochs=4, random_state=0, verbose=1)
    stopped = detector.set_callbacks(stop).fit(digits[0], digits[1])
    assert len(stopped.history_) == 2
    assert stop.names[:4] == ["pretraining", "pretraining", "fine-tuning", "fine-tuning"]
    assert np.isfinite(stopped.score_samples(digits[2])).all()
    lines = capsys.readouterr().out.splitlines()
    assert [line.rsplit(" ", 1)[0] for line in lines] == [
        f"[OrthLossOODDetector] {name}, loss"
        for name in (
            "pretraining epoch 1/5",
            "pretraining epoch 2/5",
            "fine-tuning epoch 1/4",
            "fine-tuning epoch 2/4",
        )
    ]


def test_few_features_raise_a_warning(digits):
    X, y = digits[:2]
    narrow = NetClassifier(module__hidden_sizes=(10,), max_epochs=1)
    with pytest.warns(UserWarning, match="10 features for 8 classes"):
        OrthLossOODDetector(narrow, **SHORT).fit(X, y)


def test_images_get_a_convolutional_network(digits):
    X, y = digits[0].reshape(-1, 8, 8), digits[1]
    short = {"pretrain_epochs": 1, "max_epochs": 1, "random_state": 0}
    detector = OrthLossOODDetector(**short).fit(X[::5], y[::5])
    assert any(isinstance(m, nn.Conv2d) for m in detector.classifier_.module_.modules())
    assert detector.weight_rows_.shape == (8, 128)
    assert detector.predict(X[:3]).shape == (3,)


def test_score_does_not_depend_on_other_samples(digits, fitted):
    X = digits[2][:50]
    alone = np.concatenate([fitted.score_samples(sample[None]) for sample in X])
    np.testing.assert_allclose(alone, fitted.score_samples(X), rtol=1e-12)


def test_pipeline_runs_in_cross_validation(digits):
    X, y = digits[0][350:1050], digits[1][350:1050]

    def outlier_auroc(model, X, y):
        return roc_auc_score(y != -1, model.decision_function(X))

    model = make_pipeline(StandardScaler(), OrthLossOODDetector(**SHORT))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = cross_val_score(model, X, y, cv=StratifiedKFold(3), scoring=outlier_auroc)
    assert scores.min() > 0.95


@pytest.mark.parametrize("margins", [(1.0, -1.0), (1.0,), ("a", "b")])
def test_energy_margins_must_be_two_ordered_numbers(digits, margins):
    with pytest.raises(ValueError, match="energy_margins must be"):
        OrthLossOODDetector(**SHORT, energy_margins=margins).fit(*digits[:2])


def test_energy_margins_separate_the_energies(digits):
    X, y, X_known, _, _ = digits
    detector = OrthLossOODDetector(
        **SHORT, energy_margins=(-9.0, -3.0), oe_weight=0.1, ood_score="energy"
    )
    detector.fit(X, y)
    outliers = permuted(X_known, np.random.RandomState(1))
    assert np.median(detector.score_samples(X_known)) > 8.0
    assert np.median(detector.score_samples(outliers)) < 4.0


@pytest.mark.parametrize(
    ("n_samples", "n_epochs"), [(40, (40, 20)), (64 * 20, (28, 20)), (64 * 400, (5, 5))]
)
def test_automatic_epochs_follow_the_number_of_steps(n_samples, n_epochs):
    config = OrthLossOODDetector()._config(n_samples)
    assert (config.pretrain_epochs, config.max_epochs) == n_epochs
    assert OrthLossOODDetector(max_epochs=3)._config(n_samples).max_epochs == 3


def test_from_paper_sets_published_settings_and_overrides():
    detector = OrthLossOODDetector.from_paper(outlier_ratio=1.0, random_state=0)
    assert detector.ood_score == "msp+cos"
    assert detector.sep_reduction == "sum"
    assert detector.stage2_start == 0.5
    assert detector.outlier_ratio == 1.0
    assert detector.random_state == 0


def test_fine_tuning_function_equals_the_detector(digits):
    X, y = digits[:2]
    known = y >= 0
    net = NetClassifier(max_epochs=3, random_state=0).fit(X[known], y[known])
    detector = OrthLossOODDetector(net, max_epochs=2, validation_fraction=1e-6, random_state=0)
    detector.fit(X, y)
    rng = np.random.RandomState(0)
    held_out = held_out_mask(y[known], 1e-6, rng)
    draw_seed(rng)  # the seed of the net, which is fitted here
    X_in, y_in = X[known][~held_out], y[known][~held_out]
    config = OrthLossConfig(max_epochs=2)
    result = fine_tune_with_outliers(net, X_in, y_in, X[~known], config, rng)
    assert result.separation == detector.separation_
    np.testing.assert_array_equal(result.weight_rows, detector.weight_rows_)
    np.testing.assert_array_equal(result.row_basis, detector.row_basis_)
