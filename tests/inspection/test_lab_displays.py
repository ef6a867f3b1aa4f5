import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_ext import (
    LABBandwidthDisplay,
    LABRidgelessRegressor,
    LearnedSoup,
    LossCurveDisplay,
    MUSOUnlearner,
    NetClassifier,
    RandomFeatureRegressor,
)


@pytest.fixture(scope="module")
def model():
    X, y = load_diabetes(return_X_y=True, as_frame=True)
    return LABRidgelessRegressor(n_support=30, max_iter=50, random_state=0).fit(X, y)


def test_features_are_sorted_by_importance(model):
    display = LABBandwidthDisplay.from_estimator(model, max_features=4)
    order = np.argsort(-model.feature_importances_)[:4]
    labels = [label.get_text() for label in display.axes_[1].get_xticklabels()]
    assert labels == list(model.feature_names_in_[order])
    heights = [bar.get_height() for bar in display.axes_[0].patches]
    np.testing.assert_allclose(heights, model.feature_importances_[order])
    assert display.axes_[1].images[0].get_array().shape == (30, 4)


def test_the_heat_map_shows_the_bandwidths(model):
    display = LABBandwidthDisplay.from_estimator(model, max_features=None)
    shown = 10.0 ** np.sort(display.axes_[1].images[0].get_array()[:, 0])
    expected = np.sort(display.sensitivities[:, 0])
    np.testing.assert_allclose(shown, expected, rtol=1e-6, atol=1e-11)


def test_bars_are_the_means_of_the_heat_map_on_one_scale():
    # The second feature is rarely 1, so that it is constant on most support points.
    rng = np.random.default_rng(0)
    X = np.column_stack((rng.normal(size=400), rng.random(400) < 0.02, 1e3 * rng.normal(size=400)))
    model = LABRidgelessRegressor(n_support=20, max_iter=50, alpha=0.01, random_state=0)
    for y in (np.sin(X[:, 0]) + X[:, 1], np.column_stack((X[:, 0], X[:, 2]))):
        display = LABBandwidthDisplay.from_estimator(model.fit(X, y))
        order = np.argsort(-model.feature_importances_)
        power = 1 if model.kernel_ == "laplacian" else 2
        exponents = (model.bandwidths_ * X.std(axis=0) ** power)[:, order]
        ratio = display.sensitivities / exponents
        np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-10)
        weights = np.abs(model.dual_coef_.reshape(20, -1)).sum(axis=1)
        means = np.average(display.sensitivities, axis=0, weights=weights)
        np.testing.assert_allclose(means, display.importances, rtol=1e-10)


def test_a_given_figure_is_used_and_names_are_checked(model):
    figure = plt.figure()
    names = [f"f{k}" for k in range(10)]
    display = LABBandwidthDisplay.from_estimator(model, feature_names=names, fig=figure)
    assert display.figure_ is figure
    with pytest.raises(ValueError, match="feature_names must have one name per feature, 10, got 1"):
        LABBandwidthDisplay.from_estimator(model, feature_names=["f0"])


@pytest.mark.parametrize("display", [LABBandwidthDisplay, LossCurveDisplay])
def test_an_unfitted_estimator_is_refused(display):
    with pytest.raises(NotFittedError):
        display.from_estimator(LABRidgelessRegressor())


@pytest.mark.parametrize("window", [1, 50, 10_000])
def test_the_loss_curve_is_a_moving_average(model, window):
    display = LossCurveDisplay.from_estimator(model, window=window, name="LAB")
    width = min(window, model.n_iter_)
    x, y = display.line_.get_data()
    assert len(y) == model.n_iter_ - width + 1
    assert x[-1] == model.n_iter_
    assert y[-1] == pytest.approx(model.loss_curve_[-width:].mean())
    assert display.ax_.get_yscale() == "log"


@pytest.mark.parametrize(
    ("estimator", "key", "unit"),
    [
        (NetClassifier(max_epochs=4, random_state=0), "train_loss", "epoch"),
        (MUSOUnlearner(NetClassifier(max_epochs=4), random_state=0), None, "epoch"),
        (LearnedSoup(n_ingredients=2, random_state=0), "loss", "iteration"),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "fit") else "",
)
def test_nets_soups_and_unlearners_show_their_records(estimator, key, unit):
    X, y = load_iris(return_X_y=True)
    is_unlearner = isinstance(estimator, MUSOUnlearner)
    estimator.fit(X, y, **({"forget": np.arange(40, 70)} if is_unlearner else {}))
    records = estimator.history if hasattr(estimator, "history") else estimator.history_
    key = key or next(name for name in ("train_loss", "loss") if name in records[0])
    display = LossCurveDisplay.from_estimator(estimator)
    np.testing.assert_allclose(display.losses, [record[key] for record in records])
    assert display.ax_.get_xlabel() == unit


def test_the_last_step_of_a_pipeline_is_shown():
    X, y = load_diabetes(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), LABRidgelessRegressor(max_iter=5, random_state=0))
    with pytest.raises(NotFittedError, match="LABRidgelessRegressor"):
        LossCurveDisplay.from_estimator(pipeline)
    pipeline.fit(X, y)
    display = LABBandwidthDisplay.from_estimator(pipeline)
    assert display.sensitivities.shape == (pipeline[-1].n_support_, 10)
    curve = LossCurveDisplay.from_estimator(pipeline)
    np.testing.assert_array_equal(curve.losses, pipeline[-1].loss_curve_)
    assert curve.name == "LABRidgelessRegressor"


def test_an_estimator_without_losses_is_refused():
    X, y = load_diabetes(return_X_y=True)
    with pytest.raises(ValueError, match="must have recorded the losses of"):
        LossCurveDisplay.from_estimator(RandomFeatureRegressor(50).fit(X, y))
