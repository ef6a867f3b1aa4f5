import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from sklearn.impute import SimpleImputer

from sklearn_ext import ImputationDisplay, SupervisedKernelImputer


@pytest.fixture
def frame():
    rng = np.random.RandomState(0)
    X = rng.randn(80, 2) @ rng.randn(2, 5)
    X[rng.rand(80, 5) < 0.1] = np.nan
    return pd.DataFrame(X, columns=list("abcde"))


def test_panels_show_hidden_entries_with_their_posterior(frame):
    imputer = SupervisedKernelImputer(random_state=0)
    display = ImputationDisplay.from_estimator(imputer, frame, random_state=0)
    assert [ax.get_title() for ax in display.axes_] == list("abcde")
    assert sum(map(len, display.true)) == round(0.2 * frame.notna().sum().sum())
    assert np.isfinite(np.concatenate(display.true)).all()
    assert (np.concatenate(display.std) > 0).all()
    assert not hasattr(imputer, "n_iter_")
    for ax, true, imputed in zip(display.axes_, display.true, display.imputed, strict=True):
        points = ax.collections[-1].get_offsets()
        np.testing.assert_allclose(points, np.column_stack((true, imputed)))


def test_an_imputer_without_uncertainty_has_no_bars(frame):
    display = ImputationDisplay.from_estimator(SimpleImputer(), frame.to_numpy(), features=[3, 0])
    assert display.std is None
    assert [ax.get_title() for ax in display.axes_] == ["x3", "x0"]
    assert len(display.axes_[0].collections) == 1


def test_a_given_figure_is_used(frame):
    figure = Figure()
    truth = np.nan_to_num(frame.to_numpy())
    hidden = np.eye(80, 5, dtype=bool)
    display = ImputationDisplay.from_predictions(truth, truth + 1.0, hidden, fig=figure)
    assert display.figure_ is figure
    assert display.true[4] == truth[4, 4]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"std": np.zeros((2, 2))}, "std must have the shape of X_true"),
        ({"feature_names": ["a"]}, "feature_names must have one name per feature, 5, got 1"),
    ],
)
def test_inconsistent_arguments_are_refused(more, message):
    X = np.zeros((4, 5))
    with pytest.raises(ValueError, match=message):
        ImputationDisplay.from_predictions(X, X, X == 0, **more)


def test_categories_have_a_table_of_counts(frame):
    frame["kind"] = np.where(frame["a"] > 0, "up", "down")
    imputer = SupervisedKernelImputer(categorical_features=["kind"], random_state=0)
    display = ImputationDisplay.from_estimator(imputer, frame, random_state=0)
    panel = display.axes_[5]
    assert panel.get_title() == "kind"
    assert [label.get_text() for label in panel.get_xticklabels()] == ["down", "up"]
    (image,) = panel.images
    counts = np.asarray(image.get_array())
    assert counts.sum() == len(display.true[5])
    assert np.trace(counts) == np.sum(display.true[5] == display.imputed[5])
