"""Fused scores: p-values with tails, their combinations, and the detector."""

import numpy as np
import pytest
from scipy.stats import hmean
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from sklearn_ext import (
    EnergyOODDetector,
    FusedOODDetector,
    KNNOODDetector,
    LABRidgelessRegressor,
    MahalanobisOODDetector,
    NetClassifier,
)
from sklearn_ext.ood import ScoreFusion, log_p_values


@pytest.fixture
def rng():
    return np.random.RandomState(0)


def test_p_values_are_empirical_above_the_tail(rng):
    reference = np.sort(rng.normal(size=99))
    log_p = log_p_values(reference[20:], reference)
    np.testing.assert_allclose(np.exp(log_p), np.arange(21, 100) / 100)


def test_the_tail_of_exponential_scores_is_exact(rng):
    reference = np.sort(-rng.exponential(size=200_000))
    scores = np.array([-3.0, -6.0, -20.0])
    np.testing.assert_allclose(log_p_values(scores, reference), scores, rtol=0.02)


@pytest.mark.parametrize("n", [1, 2, 5, 50])
def test_p_values_increase_and_ignore_the_unit(rng, n):
    reference = np.sort(rng.normal(size=n))
    scores = np.linspace(-50, 50, 1001)
    log_p = log_p_values(scores, reference)
    assert np.isfinite(log_p).all()
    assert (np.diff(log_p) >= 0).all()
    assert (log_p < 0).all()
    if n > 1:
        moved = log_p_values(1e3 * scores - 7, 1e3 * reference - 7)
        np.testing.assert_allclose(moved, log_p, rtol=1e-9)


def test_tied_reference_scores_keep_the_order_below(rng):
    log_p = log_p_values(np.array([-2.0, -1.0, 0.0, 1.0]), np.zeros(20))
    assert log_p[0] < log_p[1] < log_p[2] <= log_p[3]


def test_methods_combine_p_values_by_their_formulas(rng):
    known, scores = rng.normal(size=(300, 3)), 3 * rng.normal(size=(40, 3))
    reference = np.sort(known, axis=0)
    p = np.exp([log_p_values(s, r) for s, r in zip(scores.T, reference.T, strict=True)])
    expected = {
        "harmonic": np.log(hmean(p)),
        "fisher": np.log(p).sum(axis=0),
        "min": np.log(p.min(axis=0)),
    }
    for method, values in expected.items():
        fused = ScoreFusion.from_scores(known, method)(scores)
        np.testing.assert_allclose(fused, values, rtol=1e-10)


def test_a_far_score_does_not_overflow(rng):
    fusion = ScoreFusion.from_scores(rng.normal(size=(300, 2)))
    far, farther = fusion(np.array([[-1e6, 0.0], [-1e7, 0.0]]))
    assert -np.inf < farther < far


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    known = np.random.RandomState(0).permutation(np.flatnonzero(y < 8))
    train, fit, unseen = np.split(known, [500, 1000])
    net = NetClassifier(random_state=0).fit(X[train], y[train])
    outliers = {"digits 8, 9": X[y >= 8], "inverted": 1 - X[unseen]}
    return net, (X[fit], y[fit]), X[unseen], outliers


def test_fusion_is_near_the_best_score_on_each_kind(digits):
    net, data, X_unseen, outliers = digits
    detectors = [EnergyOODDetector(net), MahalanobisOODDetector(net, random_state=0)]
    single = [detector.fit(*data) for detector in detectors]
    fused = FusedOODDetector(net, random_state=0).fit(*data)

    def auroc(detector, X_out):
        scores = detector.score_samples(np.concatenate([X_unseen, X_out]))
        return roc_auc_score(np.arange(len(scores)) < len(X_unseen), scores)

    for X_out in outliers.values():
        best = max(auroc(detector, X_out) for detector in single)
        assert auroc(fused, X_out) > best - 0.02
    # Neither score alone is near the best on both kinds.
    gaps = np.array([[auroc(d, X_out) for X_out in outliers.values()] for d in single])
    assert (gaps.max(axis=0) - gaps).max(axis=1).min() > 0.02


def test_fusion_of_one_detector_keeps_its_ranking(digits):
    net, data, X_unseen, _ = digits
    fused = FusedOODDetector(net, detectors=[KNNOODDetector(n_neighbors=3)], random_state=0)
    fused.fit(*data)
    (single,) = fused.fused_score_.detectors
    knn = KNNOODDetector(net, n_neighbors=3).fit(*data)
    knn.unit_features_ = single.unit_features_
    expected, scores = knn.score_samples(X_unseen), fused.score_samples(X_unseen)
    order = np.argsort(expected)
    assert (np.diff(scores[order]) >= 0).all()


def test_detectors_are_checked_and_not_changed(digits):
    net, data, _, _ = digits
    knn = KNNOODDetector()
    FusedOODDetector(net, detectors=[knn], random_state=0).fit(*data)
    assert not hasattr(knn, "unit_features_")
    with pytest.raises(ValueError, match="at least one"):
        FusedOODDetector(net, detectors=[]).fit(*data)
    with pytest.raises(TypeError, match="post-hoc detectors such as"):
        FusedOODDetector(net, detectors=[LABRidgelessRegressor()]).fit(*data)
    with pytest.raises(ValueError, match="n_neighbors"):
        FusedOODDetector(net, detectors=[KNNOODDetector(n_neighbors=0)]).fit(*data)


def test_threshold_and_fusion_use_different_samples(digits):
    net, (X, y), _, _ = digits
    detector = FusedOODDetector(net, validation_fraction=0.4, random_state=0).fit(X, y)
    assert len(detector.held_out_scores_) == 100
    assert detector.fused_score_.fusion.reference.shape == (100, 4)
