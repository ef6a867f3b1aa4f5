"""Detectors on a trained net: the score of each is compared with its formula."""

import numpy as np
import pytest
import skorch
import torch
from scipy.spatial.distance import cdist
from scipy.special import logsumexp, softmax
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score
from sklearn.utils._testing import assert_docstring_consistency
from torch import nn

from sklearn_ext import (
    ASHOODDetector,
    EnergyOODDetector,
    FDBDOODDetector,
    GENOODDetector,
    KNNOODDetector,
    MahalanobisOODDetector,
    MaxLogitOODDetector,
    MSPOODDetector,
    NetClassifier,
    NNGuideOODDetector,
    OrthLossOODDetector,
    ReActOODDetector,
    SCALEOODDetector,
    ViMOODDetector,
)

WITHOUT_STATISTICS = [
    MSPOODDetector,
    MaxLogitOODDetector,
    EnergyOODDetector,
    GENOODDetector,
    ASHOODDetector,
    SCALEOODDetector,
]
WITH_STATISTICS = [
    KNNOODDetector,
    MahalanobisOODDetector,
    ReActOODDetector,
    ViMOODDetector,
    NNGuideOODDetector,
    FDBDOODDetector,
]
ALL = WITHOUT_STATISTICS + WITH_STATISTICS


@pytest.fixture(scope="module")
def digits():
    """Samples for the net, samples for the detectors, unseen samples, and samples of no class."""
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    order = np.random.RandomState(0).permutation(np.flatnonzero(y < 8))
    train, fit, unseen = np.split(order, [600, 1000])
    return (X[train], y[train]), (X[fit], y[fit]), (X[unseen], y[unseen]), X[y >= 8]


@pytest.fixture(scope="module")
def net(digits):
    return NetClassifier(random_state=0).fit(*digits[0])


@pytest.fixture(scope="module")
def outputs_of(net):
    """A function that returns the features and the logits of samples."""
    layers = list(net.module_)
    weight, bias = (p.detach().numpy().astype(float) for p in layers[-1].parameters())

    def outputs(X):
        with torch.no_grad():
            features = nn.Sequential(*layers[:-1])(torch.from_numpy(X)).numpy().astype(float)
        return features, features @ weight.T + bias

    return outputs


def of_unseen(detector, digits):
    return detector.score_samples(digits[2][0])


@pytest.mark.parametrize("Detector", ALL)
def test_detector_separates_unknown_from_known_samples(digits, net, Detector):
    _, (X, y), (X_unseen, y_unseen), X_unknown = digits
    detector = Detector(FrozenEstimator(net), validation_fraction=0.3, random_state=0).fit(X, y)
    both = np.concatenate([X_unseen, X_unknown])
    known = np.repeat([1, 0], [len(X_unseen), len(X_unknown)])
    assert roc_auc_score(known, detector.score_samples(both)) > 0.7
    rejected = np.mean(detector.predict(X_unseen) == -1)
    assert rejected == pytest.approx(0.05, abs=0.04)
    np.testing.assert_array_equal(detector.classes_, np.arange(8))
    assert np.mean(detector.predict_class(X_unseen) == y_unseen) > 0.9
    decision = detector.decision_function(both)
    np.testing.assert_array_equal(decision, detector.score_samples(both) - detector.offset_)
    np.testing.assert_array_equal(detector.predict(both), np.where(decision >= 0, 1, -1))


@pytest.mark.parametrize(
    ("detector", "formula"),
    [
        (MSPOODDetector(), lambda L: softmax(L, axis=1).max(axis=1)),
        (MaxLogitOODDetector(), lambda L: L.max(axis=1)),
        (EnergyOODDetector(temperature=2.0), lambda L: 2.0 * logsumexp(L / 2.0, axis=1)),
    ],
)
def test_scores_of_logits_match_their_formulas(digits, net, outputs_of, detector, formula):
    detector = clone(detector).set_params(estimator=net).fit(*digits[1])
    _, logits = outputs_of(digits[2][0])
    np.testing.assert_allclose(of_unseen(detector, digits), formula(logits), rtol=1e-5)


def test_fitted_net_leaves_all_samples_for_the_threshold(digits, net):
    X, y = digits[1]
    detector = EnergyOODDetector(net, id_rejection_rate=0.25).fit(X, y)
    expected = np.sort(detector.score_samples(X))[(len(X) + 1) // 4 - 1]
    assert detector.offset_ == pytest.approx(expected, rel=2e-6)
    assert detector.offset_ < expected
    again = EnergyOODDetector(net, id_rejection_rate=0.25).fit(X)
    assert again.offset_ == detector.offset_
    with pytest.raises(ValueError, match="requires y to be passed"):
        MahalanobisOODDetector(net).fit(X)
    with pytest.raises(ValueError, match="requires y to be passed"):
        EnergyOODDetector().fit(X)


def test_nearest_neighbors(digits, net, outputs_of):
    X, y = digits[1]
    detector = KNNOODDetector(net, n_neighbors=3, random_state=0).fit(X, y)
    assert len(detector.unit_features_) == round(0.9 * len(X))
    Z, _ = outputs_of(digits[2][0])
    U = Z / np.linalg.norm(Z, axis=1, keepdims=True)
    expected = -np.sort(cdist(U, detector.unit_features_), axis=1)[:, 2]
    np.testing.assert_allclose(of_unseen(detector, digits), expected, atol=1e-5)


def test_mahalanobis(digits, net, outputs_of):
    X, y = digits[1]
    detector = MahalanobisOODDetector(net, shrinkage=0.5, random_state=0).fit(X, y)
    Z, _ = outputs_of(digits[2][0])
    precision = detector.precision_root_ @ detector.precision_root_.T
    expected = -(cdist(Z, detector.means_, "mahalanobis", VI=precision).min(axis=1) ** 2)
    np.testing.assert_allclose(of_unseen(detector, digits), expected, rtol=1e-4)


def test_class_without_samples_raises(digits, net):
    X, y = digits[1]
    with pytest.raises(ValueError, match=r"got none of the classes \[3, 7\]"):
        MahalanobisOODDetector(net).fit(X[(y != 3) & (y != 7)], y[(y != 3) & (y != 7)])


def test_clipped_features(digits, net, outputs_of):
    X, y = digits[1]
    head = net.module_[-1]
    weight, bias = head.weight.detach().numpy(), head.bias.detach().numpy()
    detector = ReActOODDetector(net, clip_quantile=0.8, random_state=0).fit(X, y)
    Z, _ = outputs_of(digits[2][0])
    logits = np.minimum(Z, detector.clip_value_) @ weight.T + bias
    np.testing.assert_allclose(of_unseen(detector, digits), logsumexp(logits, axis=1), rtol=1e-5)
    fraction = np.mean(outputs_of(X)[0] <= detector.clip_value_)
    assert fraction == pytest.approx(0.8, abs=0.01)


def test_guides_and_mean_come_from_the_training_samples(digits, net, outputs_of):
    X, y = digits[1]
    guided = NNGuideOODDetector(net, validation_fraction=1e-6, random_state=0).fit(X, y)
    Z, logits = outputs_of(X)
    lengths = np.sort(np.linalg.norm(guided.guides_, axis=1))
    energies = np.sort(logsumexp(logits, axis=1))
    assert len(lengths) == len(X) - 1
    # One sample is held out, and the lengths are the energies of all others.
    held_out = np.argmax(np.append(np.abs(lengths - energies[:-1]) > 1e-4, True))
    np.testing.assert_allclose(lengths, np.delete(energies, held_out), rtol=1e-5)
    distances = FDBDOODDetector(net, validation_fraction=1e-6, random_state=0).fit(X, y)
    np.testing.assert_allclose(distances.mean_, Z.mean(axis=0), atol=0.05)


def test_virtual_logit(digits, net, outputs_of):
    X, y = digits[1]
    detector = ViMOODDetector(net, n_components=40, random_state=0).fit(X, y)
    assert detector.residual_basis_.shape == (128, 88)
    Z, logits = outputs_of(digits[2][0])
    residual = np.linalg.norm((Z - detector.origin_) @ detector.residual_basis_, axis=1)
    expected = logsumexp(logits, axis=1) - detector.scale_ * residual
    np.testing.assert_allclose(of_unseen(detector, digits), expected, rtol=1e-4, atol=1e-5)
    nearly_all = clone(detector).set_params(estimator=net, validation_fraction=1e-6).fit(X, y)
    Z, logits = outputs_of(X)
    residual = np.linalg.norm((Z - nearly_all.origin_) @ nearly_all.residual_basis_, axis=1)
    scale = logits.max(axis=1).mean() / residual.mean()
    assert nearly_all.scale_ == pytest.approx(scale, rel=0.01)
    with pytest.raises(ValueError, match="below the number of features of the head, 128"):
        ViMOODDetector(net, n_components=128).fit(X, y)


def test_features_without_residual_do_not_amplify_rounding(digits):
    """Constant features leave residuals of rounding size, which must not decide the score."""
    X, y = digits[0]
    torch.manual_seed(0)
    net = NetClassifier(nn.Sequential(nn.Linear(64, 8), nn.Linear(8, 32), nn.Linear(32, 8)))
    net.set_params(max_epochs=3, random_state=0).fit(X, y)
    detector = ViMOODDetector(net, n_components=16, random_state=0).fit(X, y)
    again = ViMOODDetector(net, n_components=16, random_state=0).fit(X * (1 + 1e-6), y)
    assert detector.scale_ < 1e4
    assert again.offset_ == pytest.approx(detector.offset_, rel=1e-3)


@pytest.mark.parametrize("Detector", [EnergyOODDetector, KNNOODDetector])
def test_samples_labeled_as_outliers_are_left_out(digits, net, Detector):
    X, y = digits[1]
    more = np.concatenate([X, digits[3][:50]])
    marked = np.concatenate([y, np.full(50, -1)])
    without = Detector(net, random_state=0).fit(X, y)
    detector = Detector(net, random_state=0).fit(more, marked)
    assert detector.offset_ == without.offset_
    np.testing.assert_array_equal(of_unseen(detector, digits), of_unseen(without, digits))


def test_skorch_net_that_returns_probabilities(digits):
    X, y = digits[0]
    torch.manual_seed(0)
    net = skorch.NeuralNetClassifier(
        nn.Sequential(nn.Linear(64, 30), nn.ReLU(), nn.Linear(30, 8), nn.Softmax(dim=1)),
        optimizer=torch.optim.Adam,
        lr=0.01,
        train_split=None,
        verbose=0,
    )
    net.fit(X, y.astype(np.int64))
    detector = MSPOODDetector(net).fit(*digits[1])
    X_unseen = digits[2][0]
    proba = net.predict_proba(X_unseen)
    np.testing.assert_allclose(detector.score_samples(X_unseen), proba.max(axis=1), rtol=1e-5)
    np.testing.assert_allclose(detector.predict_proba(X_unseen), proba, rtol=1e-5)
    assert detector.classifier_ is not net


def test_images_pass_through_a_convolutional_net(digits):
    X, y = digits[0]
    images = X.reshape(-1, 1, 8, 8)
    net = NetClassifier(max_epochs=2, random_state=0).fit(images, y)
    for Detector in ALL:
        detector = Detector(net, random_state=0).fit(images, y)
        assert np.isfinite(detector.score_samples(images[:3])).all()
        with pytest.raises(ValueError, match=r"must have shape \(1, 8, 8\)"):
            detector.predict(images[:, :, :4])


def test_shared_parameters_and_attributes_are_described_alike():
    shared = ["estimator", "head", "outlier_label", "id_rejection_rate", "random_state"]
    attributes = ["classifier_", "classes_", "offset_", "input_shape_", "n_features_in_"]
    assert_docstring_consistency(ALL, include_params=shared, include_attrs=attributes)
    for group in (WITHOUT_STATISTICS, WITH_STATISTICS):
        assert_docstring_consistency(group, include_params=["validation_fraction"])
    assert_docstring_consistency(
        [MSPOODDetector, OrthLossOODDetector],
        include_params=["id_rejection_rate"],
        include_attrs=["offset_", "input_shape_", "n_features_in_", "feature_names_in_"],
    )


@pytest.mark.parametrize("Detector", [KNNOODDetector, NNGuideOODDetector])
def test_too_many_neighbors_are_reported(Detector):
    X, y = load_iris(return_X_y=True)
    with pytest.warns(UserWarning, match="n_neighbors=500 is greater than .* 135;") as record:
        many = Detector(n_neighbors=500, random_state=0).fit(X, y)
    assert record[0].filename == __file__
    all_of_them = Detector(n_neighbors=135, random_state=0).fit(X, y)
    np.testing.assert_array_equal(many.score_samples(X), all_of_them.score_samples(X))
