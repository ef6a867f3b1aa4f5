"""The base class of detectors, tested on one that scores by the distance to the nearest mean."""

import numpy as np
import pytest
from sklearn.base import _fit_context
from sklearn.neighbors import NearestCentroid
from sklearn.utils.estimator_checks import check_estimator

from sklearn_ext.ood._detector import BaseOODDetector, rejection_threshold
from sklearn_ext.utils._atomic import atomic_fit


class CentroidDetector(BaseOODDetector):
    def __init__(
        self,
        *,
        outlier_label=-1,
        id_rejection_rate=0.05,
        validation_fraction=0.2,
        random_state=None,
    ):
        super().__init__(
            outlier_label=outlier_label,
            id_rejection_rate=id_rejection_rate,
            validation_fraction=validation_fraction,
            random_state=random_state,
        )

    def _needs_labels(self):
        return False

    @atomic_fit
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None):
        samples, _ = self._start_fit(X, y)
        self.samples_ = samples
        self.centers_ = samples.X.mean(axis=0, keepdims=True)
        self.classifier_ = None
        if samples.y is not None:
            self.classifier_ = NearestCentroid().fit(samples.X, samples.y)
            self.classes_ = self.classifier_.classes_
            self.centers_ = self.classifier_.centroids_
        return self._set_offset(samples)

    def _score_samples(self, X):
        return -((X[:, None] - self.centers_) ** 2).sum(axis=2).min(axis=1)


@pytest.fixture
def blobs():
    rng = np.random.RandomState(0)
    y = np.arange(600) % 3
    return rng.randn(600, 2) + 8.0 * np.eye(3, 2)[y], y


def test_common_checks_of_scikit_learn_pass():
    check_estimator(CentroidDetector(validation_fraction=0.5))


def test_samples_are_divided_by_their_labels(blobs):
    X, y = blobs
    y = y.astype(str)
    y[::6] = "odd"
    detector = CentroidDetector(outlier_label="odd", random_state=0).fit(X, y)
    samples = detector.samples_
    assert detector.classes_.tolist() == ["0", "1", "2"]
    assert len(samples.X_outliers) == 100
    assert (len(samples.X), len(samples.X_held_out)) == (400, 100)
    np.testing.assert_array_equal(samples.X_outliers, X[::6].astype(np.float32))
    together = np.concatenate([samples.X, samples.X_held_out])
    expected = X[y != "odd"].astype(np.float32)
    np.testing.assert_array_equal(np.sort(together, axis=0), np.sort(expected, axis=0))


def test_number_among_string_labels_marks_outliers(blobs):
    X, y = blobs
    words = np.concatenate([np.array(["one", "two", "three"])[y[:500]], np.full(100, -1)])
    samples = CentroidDetector(random_state=0).fit(X, words).samples_
    np.testing.assert_array_equal(samples.X_outliers, X[500:].astype(np.float32))


def test_threshold_rejects_given_fraction_of_new_samples(blobs):
    X, y = blobs
    rates = []
    for seed in range(20):
        order = np.random.RandomState(seed).permutation(600)
        detector = CentroidDetector(id_rejection_rate=0.2, random_state=seed)
        detector.fit(X[order[:300]], y[order[:300]])
        rates.append(np.mean(detector.predict(X[order[300:]]) == -1))
    assert np.mean(rates) == pytest.approx(0.2, abs=0.04)
    decision = detector.decision_function(X)
    np.testing.assert_array_equal(decision, detector.score_samples(X) - detector.offset_)
    np.testing.assert_array_equal(detector.predict(X), np.where(decision >= 0, 1, -1))
    np.testing.assert_array_equal(detector.fit_predict(X, y), detector.fit(X, y).predict(X))


def test_detector_without_labels_has_no_classes(blobs):
    X, y = blobs
    detector = CentroidDetector().fit(X)
    assert detector.classifier_ is None
    assert not hasattr(detector, "predict_class")
    assert not hasattr(detector, "predict_proba")
    assert detector.score_samples(X).shape == (600,)
    detector.fit(X, y)
    assert hasattr(detector, "predict_class")


@pytest.mark.parametrize(
    ("y", "found"), [([-1] * 6, "got none"), ([-1, 5, 5, 5, 5, 5], "got one class: 5")]
)
def test_fewer_than_two_classes_raise(blobs, y, found):
    with pytest.raises(ValueError, match=f"outlier_label=-1, {found}"):
        CentroidDetector().fit(blobs[0][:6], y)


def test_scores_that_are_not_finite_raise(blobs):
    class Broken(CentroidDetector):
        def _score_samples(self, X):
            return np.full(len(X), np.nan)

    detector = Broken()
    with pytest.raises(ValueError, match="not finite"):
        detector.fit(*blobs)
    assert not hasattr(detector, "centers_")


@pytest.mark.parametrize("value", [0.0, 1.0, "auto"])
@pytest.mark.parametrize("name", ["id_rejection_rate", "validation_fraction"])
def test_fractions_outside_zero_to_one_are_refused(blobs, name, value):
    with pytest.raises(ValueError, match=name):
        CentroidDetector(**{name: value}).fit(*blobs)


def test_p_values_of_new_samples_are_valid(blobs):
    """On average over the held-out samples, a p-value is at most t with probability t."""
    X, y = blobs
    rates, alphas = [], np.array([0.05, 0.1, 0.3])
    for seed in range(200):
        order = np.random.RandomState(seed).permutation(600)
        detector = CentroidDetector(random_state=seed).fit(X[order[:400]], y[order[:400]])
        p = detector.predict_pvalue(X[order[400:]])
        rates.append([np.mean(p <= alpha) for alpha in alphas])
    rates = np.array(rates)
    error = rates.std(axis=0) / np.sqrt(len(rates))
    assert (rates.mean(axis=0) <= alphas + 2 * error).all()
    assert (rates.mean(axis=0) >= alphas - 1 / 81 - 2 * error).all()


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.5, 2 / 81])
def test_predictions_at_a_rate_follow_from_p_values(blobs, alpha):
    X, y = blobs
    detector = CentroidDetector(id_rejection_rate=alpha, random_state=0).fit(X[:400], y[:400])
    assert len(detector.held_out_scores_) == 80
    p = detector.predict_pvalue(X)
    np.testing.assert_array_equal(p * 81, (p * 81).round())
    np.testing.assert_array_equal(detector.predict(X, alpha=alpha), np.where(p > alpha, 1, -1))
    np.testing.assert_array_equal(detector.predict(X), detector.predict(X, alpha=alpha))


@pytest.mark.parametrize("alpha", [0.0, 0.01, 1.0, -1])
def test_rates_that_the_held_out_samples_cannot_support_raise(blobs, alpha):
    X, y = blobs
    detector = CentroidDetector(random_state=0).fit(X[:400], y[:400])
    with pytest.raises(ValueError, match=f"1 / 81 .* 80 held-out samples, got {alpha}"):
        detector.predict(X, alpha=alpha)


def test_new_samples_fall_below_threshold_at_given_rate():
    rng = np.random.RandomState(0)
    below = [rng.rand() < rejection_threshold(rng.rand(39), 0.05) for _ in range(20000)]
    assert np.mean(below) == pytest.approx(0.05, abs=0.005)


def test_threshold_of_few_scores_is_the_smallest_one():
    assert rejection_threshold(np.array([3.0, 1.0, 2.0]), 0.05) == pytest.approx(1.0, rel=2e-6)


@pytest.mark.parametrize("sign", [-1, 1])
def test_rounding_rejects_no_held_out_sample_at_the_threshold(sign):
    scores = sign * np.float64([1.0, 2.0, 3.0])
    threshold = rejection_threshold(scores, 0.05)
    assert (scores.astype(np.float32) * np.float32(1 + 3e-7) >= threshold).all()
    assert (scores.astype(np.float32) * np.float32(1 - 3e-7) >= threshold).all()
    assert rejection_threshold(np.array([-np.inf, 1.0]), 0.05) == -np.inf
