import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, normalize

from sklearn_ext import FeatureCosineDisplay, KNNOODDetector, NetClassifier, OODScoreDisplay
from sklearn_ext.neural import penultimate


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return (X / 16).astype(np.float32), y


@pytest.fixture(scope="module")
def detector(digits):
    X, y = digits
    return KNNOODDetector(NetClassifier(max_epochs=5), random_state=0).fit(X[:900], y[:900])


def test_histograms_of_a_detector_show_its_threshold(digits, detector):
    X, _ = digits
    display = OODScoreDisplay.from_estimator(
        detector,
        X[900:],
        {"inverted": 1 - X[900:], "noise": np.random.RandomState(0).rand(50, 64)},
        bins=10,
    )
    np.testing.assert_array_equal(display.s_id, detector.score_samples(X[900:]))
    assert list(display.s_ood) == ["inverted", "noise"]
    assert display.threshold_line_.get_xdata()[0] == detector.offset_
    assert display.ax_.get_title() == "KNNOODDetector"
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert sorted(labels) == ["ID", "inverted", "noise", "threshold"]
    bars = display.ax_.patches[:10]
    assert sum(bar.get_height() * bar.get_width() for bar in bars) == pytest.approx(1.0)


def test_histograms_of_scores_alone():
    _, ax = plt.subplots()
    display = OODScoreDisplay.from_predictions([1.0, 2.0], [0.0, 0.5], ax=ax)
    assert display.ax_ is ax
    assert display.threshold_line_ is None
    with pytest.raises(ValueError, match="NaN"):
        OODScoreDisplay.from_predictions([np.nan], [1.0])


def test_cosines_are_between_features_and_head_weights(digits, detector):
    X, _ = digits
    display = FeatureCosineDisplay.from_estimator(detector, X[900:], 1 - X[900:], max_samples=30)
    net = detector.classifier_
    weight = normalize(net.module_[-1].weight.detach().numpy())
    expected = normalize(penultimate(net, X[900:]).numpy()) @ weight.T
    np.testing.assert_allclose(display.cosines["ID"], expected, rtol=1e-5, atol=1e-6)
    assert [ax.get_title()[:3] for ax in display.axes_] == ["ID:", "OOD"]
    assert display.axes_[0].images[0].get_array().shape == (30, 10)
    same = FeatureCosineDisplay.from_estimator(net, X[900:], {"a": X[:5], "b": X[5:9]})
    np.testing.assert_array_equal(same.cosines["ID"], display.cosines["ID"])
    assert len(same.axes_) == 3


def test_a_detector_must_be_fitted(digits):
    with pytest.raises(NotFittedError):
        OODScoreDisplay.from_estimator(KNNOODDetector(), digits[0], digits[0])
    with pytest.raises(NotFittedError):
        FeatureCosineDisplay.from_estimator(KNNOODDetector(), digits[0], digits[0])


def test_sparse_and_missing_values_are_refused(digits, detector):
    X, _ = digits
    with pytest.raises(TypeError, match="Sparse data was passed"):
        FeatureCosineDisplay.from_estimator(detector, sparse.csr_array(X[:5]), X[5:9])
    with pytest.raises(ValueError, match="a contains NaN"):
        FeatureCosineDisplay.from_estimator(detector, X[:5], {"a": np.full((2, 64), np.nan)})


def test_a_pipeline_prepares_the_samples(digits, detector):
    X, _ = digits
    pipeline = make_pipeline(FunctionTransformer(lambda X: X / 2), detector)
    display = OODScoreDisplay.from_estimator(pipeline, 2 * X[900:], 2 - 2 * X[900:])
    np.testing.assert_array_equal(display.s_id, detector.score_samples(X[900:]))
    cosines = FeatureCosineDisplay.from_estimator(pipeline, 2 * X[900:], 2 - 2 * X[900:]).cosines
    direct = FeatureCosineDisplay.from_estimator(detector, X[900:], 1 - X[900:]).cosines
    np.testing.assert_array_equal(cosines["OOD"], direct["OOD"])
