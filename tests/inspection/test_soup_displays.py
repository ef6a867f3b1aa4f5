"""Displays of model soups."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from sklearn_ext import MEHLSoup, SoupCoefficientDisplay, SoupScoreDisplay, UniformSoup


class Fitted(MEHLSoup):
    """A soup of three ingredients and two groups, as if it had been fitted."""

    def __init__(self, n_groups=2):
        super().__init__()
        self.coef_ = np.array([[1.5, -0.5, 0.0], [0.25, 0.75, 0.0]])[:n_groups]
        self.groups_ = {f"layer {g}": [f"w{g}"] for g in range(n_groups)}
        self.ingredient_names_ = ["a", "b", "c"]
        self.ingredient_scores_ = np.array([0.8, 0.9, 0.9])
        self.ingredient_losses_ = np.array([0.1, 0.3, 0.2])
        self.soup_scores_ = {"best_single": 0.9, "uniform": 0.85, "soup": 0.95}


def test_coefficients_are_ordered_by_score():
    display = SoupCoefficientDisplay.from_estimator(Fitted())
    np.testing.assert_array_equal(display.image_.get_array(), Fitted().coef_[:, [2, 1, 0]])
    assert display.image_.get_clim() == (-1.5, 1.5)
    assert [t.get_text() for t in display.ax_.get_xticklabels()] == ["2", "1", "0"]
    assert [t.get_text() for t in display.ax_.get_yticklabels()] == ["layer 0", "layer 1"]


def test_bars_for_one_group_in_the_given_order():
    _, ax = plt.subplots()
    display = SoupCoefficientDisplay.from_estimator(Fitted(1), order="given", ax=ax)
    assert [bar.get_height() for bar in display.bars_] == [1.5, -0.5, 0.0]
    assert display.ax_ is ax
    assert display.image_ is None


def test_scores_of_ingredients_and_soups():
    display = SoupScoreDisplay.from_estimator(Fitted())
    np.testing.assert_array_equal(display.points_.get_offsets()[:, 1], [0.9, 0.9, 0.8])
    heights = {name: line.get_ydata()[0] for name, line in display.lines_.items()}
    assert heights == {"uniform soup": 0.85, "Fitted": 0.95}
    np.testing.assert_array_equal(display.selected, [False, True, True])


@pytest.mark.parametrize("Display", [SoupCoefficientDisplay, SoupScoreDisplay])
def test_an_unfitted_soup_is_refused(Display):
    with pytest.raises(NotFittedError):
        Display.from_estimator(UniformSoup())


def test_an_unknown_order_is_refused():
    with pytest.raises(ValueError, match="order must be 'score' or 'given', got 'loss'"):
        SoupCoefficientDisplay.from_estimator(Fitted(), order="loss")
