"""Scores of the ingredients of a model soup, and of what was made of them."""

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_is_fitted

_STYLES = ("--", "-", ":", "-.")


class SoupScoreDisplay:
    """Score of every ingredient beside those of the uniform soup and of the soup.

    Make one with :meth:`from_estimator`, for the mixing rows or for others.

    Parameters
    ----------
    ingredient_scores : ndarray of shape (n_ingredients,)
        Scores of the ingredients, in falling order.
    ingredients : list of str
        Their names; :meth:`from_estimator` takes their numbers.
    soup_scores : dict of str to float
        Scores of soups, by what the legend calls them.
    selected : ndarray of bool of shape (n_ingredients,)
        Ingredients that are emphasised: those with a coefficient other than 0.

    Attributes
    ----------
    points_ : matplotlib PathCollection
        The ingredients, once plotted.
    lines_ : dict of str to matplotlib Line2D
        The soups.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    SoupCoefficientDisplay : Coefficients of the ingredients.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext import GreedySoup, SoupScoreDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> soup = GreedySoup(n_ingredients=3, random_state=0).fit(X, y)
    >>> display = SoupScoreDisplay.from_estimator(soup)
    >>> plt.close(display.figure_)
    """

    def __init__(self, *, ingredient_scores, ingredients, soup_scores, selected):
        self.ingredient_scores = ingredient_scores
        self.ingredients = ingredients
        self.soup_scores = soup_scores
        self.selected = selected

    @classmethod
    def from_estimator(cls, estimator, *, ax=None):
        """Plot the scores that a fitted soup saw on its mixing rows.

        Parameters
        ----------
        estimator : UniformSoup, GreedySoup, LearnedSoup or MEHLSoup
            A fitted soup.
        ax : matplotlib Axes, default=None
            Where to plot; None makes a new figure.

        Returns
        -------
        SoupScoreDisplay

        Raises
        ------
        NotFittedError
            If the soup is not fitted.
        """
        check_is_fitted(estimator, "ingredient_scores_")
        order = np.lexsort((estimator.ingredient_losses_, -estimator.ingredient_scores_))
        names = {"uniform": "uniform soup", "soup": type(estimator).__name__}
        display = cls(
            ingredient_scores=estimator.ingredient_scores_[order],
            ingredients=[str(k) for k in order],
            soup_scores={name: estimator.soup_scores_[key] for key, name in names.items()},
            selected=(estimator.coef_ != 0.0).any(axis=0)[order],
        )
        return display.plot(ax=ax)

    def plot(self, *, ax=None):
        """Draw a point for every ingredient and a line for every soup.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to plot; None makes a new figure.

        Returns
        -------
        SoupScoreDisplay
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots(layout="constrained")
        columns = np.arange(len(self.ingredients))
        colors = ["C0" if member else "0.75" for member in self.selected]
        self.points_ = ax.scatter(columns, self.ingredient_scores, color=colors, zorder=3)
        self.lines_ = {
            name: ax.axhline(
                score, color=f"C{k + 1}", linestyle=_STYLES[k % len(_STYLES)], label=name
            )
            for k, (name, score) in enumerate(self.soup_scores.items())
        }
        ax.set_xticks(columns, self.ingredients)
        ax.set_xlabel("ingredient")
        ax.set_ylabel("score")
        ax.legend()
        self.ax_ = ax
        self.figure_ = ax.figure
        return self
