import matplotlib.pyplot as plt
import numpy as np
import pytest

from sklearn_ext import ConditionalDDPM, GeneratedSamplesDisplay, SFRonClassForgetter


@pytest.fixture(scope="module")
def models():
    rng = np.random.default_rng(0)
    X, y = rng.uniform(size=(30, 6)), np.repeat(["a", "b", "c"], 10)
    model = ConditionalDDPM(width=8, max_iter=2, random_state=0).fit(X, y)
    forgetter = SFRonClassForgetter(model, max_iter=1, mask_batches=1, random_state=0)
    return {"before": model, "after": forgetter.fit(X, y, forget_class="b")}


def test_panels_are_models_and_rows_are_classes(models):
    display = GeneratedSamplesDisplay.from_estimator(
        models, n_samples=4, image_shape=(2, 3), n_steps=2, random_state=0
    )
    assert [ax.get_title() for ax in display.axes_] == ["before", "after"]
    for name, ax in zip(models, display.axes_, strict=True):
        assert display.images[name].shape == (3, 4, 2, 3)
        assert [tick.get_text() for tick in ax.get_yticklabels()] == ["a", "b", "c"]
        colors = [tick.get_color() for tick in ax.get_yticklabels()]
        assert [color == "C3" for color in colors] == [False, name == "after", False]


def test_every_image_is_in_its_place_in_the_grid():
    X = np.arange(24, dtype=float).reshape(4, 2, 3)
    display = GeneratedSamplesDisplay.from_predictions(X, ["x", "y", "x", "y"])
    shown = display.axes_[0].images[0].get_array()
    assert shown.shape == (6, 8)
    for row, column, k in [(0, 0, 0), (0, 1, 2), (1, 0, 1), (1, 1, 3)]:
        picture = shown[3 * row : 3 * row + 2, 4 * column : 4 * column + 3]
        np.testing.assert_allclose(picture, X[k] / 23)


def test_classes_appear_in_the_requested_order(models):
    display = GeneratedSamplesDisplay.from_estimator(
        models["before"], classes=["c", "a"], n_samples=2, image_shape=(2, 3), random_state=0
    )
    assert [tick.get_text() for tick in display.axes_[0].get_yticklabels()] == ["c", "a"]
    X = np.arange(24, dtype=float).reshape(4, 2, 3)
    display = GeneratedSamplesDisplay.from_predictions(X, ["c", "a", "c", "a"], classes=["c", "a"])
    np.testing.assert_array_equal(display.images["samples"].reshape(4, 2, 3), X[[0, 2, 1, 3]])


def test_color_images_and_given_axes_are_used():
    _, ax = plt.subplots()
    X = np.random.default_rng(0).uniform(size=(2, 3, 4, 5))
    display = GeneratedSamplesDisplay.from_predictions(X, [0, 1], axes=[ax])
    assert display.images["samples"].shape == (2, 1, 4, 5, 3)
    assert ax.images[0].get_array().shape[-1] == 3
    assert display.figure_ is ax.figure


@pytest.mark.parametrize(
    ("shape", "labels", "options", "message"),
    [
        ((2, 31), [0, 1], {}, "image_shape must give .* got None for samples with 31"),
        ((2, 6), [0, 1], {"image_shape": (2, 2)}, r"with 6 features, got \(2, 2\)"),
        ((3, 2, 2), [0, 0, 1], {}, "equally often"),
        ((2, 2, 2), [0, 1], {"axes": [None, None]}, "axes must have one entry per model, 1, got 2"),
    ],
)
def test_errors_name_what_cannot_be_shown(shape, labels, options, message):
    with pytest.raises(ValueError, match=message):
        GeneratedSamplesDisplay.from_predictions(np.ones(shape), labels, **options)


def test_rows_of_a_table_are_lines_with_a_color_per_class():
    rows = np.arange(24.0).reshape(6, 4)
    display = GeneratedSamplesDisplay.from_predictions(
        rows, list("abcabc"), forgotten={"samples": ["b"]}
    )
    (ax,) = display.axes_
    drawn = np.array([line.get_ydata() for line in ax.lines])
    np.testing.assert_array_equal(drawn, rows[[0, 3, 1, 4, 2, 5]])
    assert [line.get_color() for line in ax.lines] == ["C0", "C0", "C1", "C1", "C2", "C2"]
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["a", "b (forgotten)", "c"]
