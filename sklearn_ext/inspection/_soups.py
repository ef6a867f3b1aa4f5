"""Scores and coefficients of the ingredients of a model soup."""

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_is_fitted

from ..utils._typing import BoolArray, FloatArray
from ..utils._validation import split_pipeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

_LINE_STYLES = ("--", "-", ":", "-.")


class SoupCoefficientDisplay:
    """Coefficients of the ingredients of a soup, by group of parameters.

    The heat map has one row per group and one column per ingredient, with red for positive and
    blue for negative coefficients; a single group is drawn as bars. Coefficients are not
    importances: where ingredients are nearly parallel, many coefficients give the same weights.

    Create a display with :meth:`from_estimator`.

    Parameters
    ----------
    coef : ndarray of shape (n_groups, n_ingredients)
        Coefficients.
    groups : list of str
        Names of the groups.
    ingredients : list of str
        Names of the ingredients; :meth:`from_estimator` uses their indices.

    Attributes
    ----------
    image_ : matplotlib AxesImage or None
        The coefficients of several groups, after plotting.
    bars_ : matplotlib BarContainer or None
        The coefficients of a single group.
    ax_ : matplotlib Axes
        Axes of the plot.
    figure_ : matplotlib Figure
        Figure that contains the axes.

    See Also
    --------
    SoupScoreDisplay : Scores of the ingredients and of the soup.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext import MEHLSoup, SoupCoefficientDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> soup = MEHLSoup(n_ingredients=3, random_state=0).fit(X, y)
    >>> display = SoupCoefficientDisplay.from_estimator(soup)
    >>> plt.close(display.figure_)
    """

    def __init__(self, *, coef: FloatArray, groups: list[str], ingredients: list[str]) -> None:
        self.coef = coef
        self.groups = groups
        self.ingredients = ingredients

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        order: str = "score",
        ax: "Axes | None" = None,
        cmap: "str | Colormap" = "RdBu_r",
    ) -> Self:
        """Plot the coefficients of a fitted soup.

        Parameters
        ----------
        estimator : UniformSoup, GreedySoup, LearnedSoup or MEHLSoup
            A fitted soup, or a pipeline that ends in one.
        order : {"score", "given"}, default="score"
            Order of the ingredients: by descending score, or as given.
        ax : matplotlib Axes, default=None
            Axes to plot on; None makes a new figure.
        cmap : str or matplotlib Colormap, default="RdBu_r"
            Colors; the middle of the map stands for a coefficient of 0.

        Returns
        -------
        SoupCoefficientDisplay

        Raises
        ------
        NotFittedError
            If the soup is not fitted.
        ValueError
            If `order` is not one of the allowed values.
        """
        _, estimator = split_pipeline(estimator)
        check_is_fitted(estimator, "coef_")
        if order not in ("score", "given"):
            raise ValueError(f"order must be 'score' or 'given', got {order!r}.")
        n = estimator.coef_.shape[1]
        columns = np.arange(n)
        if order == "score":
            columns = np.lexsort((estimator.ingredient_losses_, -estimator.ingredient_scores_))
        display = cls(
            coef=estimator.coef_[:, columns],
            groups=list(estimator.groups_),
            ingredients=[str(k) for k in columns],
        )
        return display.plot(ax=ax, cmap=cmap)

    def plot(self, *, ax: "Axes | None" = None, cmap: "str | Colormap" = "RdBu_r") -> Self:
        """Draw the coefficients.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to plot on; None makes a new figure.
        cmap : str or matplotlib Colormap, default="RdBu_r"
            Colors; the middle of the map stands for a coefficient of 0.

        Returns
        -------
        SoupCoefficientDisplay
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots(layout="constrained")
        self.image_ = self.bars_ = None
        columns = range(len(self.ingredients))
        if len(self.groups) == 1:
            self.bars_ = ax.bar(columns, self.coef[0])
            ax.axhline(0.0, color="0.3", linewidth=0.8)
            ax.set_ylabel("coefficient")
        else:
            limit = np.abs(self.coef).max()
            self.image_ = ax.imshow(self.coef, cmap=cmap, vmin=-limit, vmax=limit, aspect="auto")
            ax.figure.colorbar(self.image_, ax=ax, label="coefficient")
            ax.set_yticks(range(len(self.groups)), self.groups)
        ax.set_xticks(columns, self.ingredients)
        ax.set_xlabel("ingredient")
        self.ax_ = ax
        self.figure_ = ax.figure
        return self


class SoupScoreDisplay:
    """Score of every ingredient beside those of the uniform soup and of the fitted soup.

    Create a display with :meth:`from_estimator`, which plots the scores on the mixing samples.

    Parameters
    ----------
    ingredient_scores : ndarray of shape (n_ingredients,)
        Scores of the ingredients in descending order.
    ingredients : list of str
        Names of the ingredients; :meth:`from_estimator` uses their indices.
    soup_scores : dict of str to float
        Scores of the soups by their names in the legend.
    selected : ndarray of bool of shape (n_ingredients,)
        Ingredients with a nonzero coefficient, which are emphasized.

    Attributes
    ----------
    points_ : matplotlib PathCollection
        The ingredients, after plotting.
    lines_ : dict of str to matplotlib Line2D
        The soups.
    ax_ : matplotlib Axes
        Axes of the plot.
    figure_ : matplotlib Figure
        Figure that contains the axes.

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

    def __init__(
        self,
        *,
        ingredient_scores: FloatArray,
        ingredients: list[str],
        soup_scores: dict[str, float],
        selected: BoolArray,
    ) -> None:
        self.ingredient_scores = ingredient_scores
        self.ingredients = ingredients
        self.soup_scores = soup_scores
        self.selected = selected

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: "Axes | None" = None) -> Self:
        """Plot the scores of a fitted soup on its mixing samples.

        Parameters
        ----------
        estimator : UniformSoup, GreedySoup, LearnedSoup or MEHLSoup
            A fitted soup, or a pipeline that ends in one.
        ax : matplotlib Axes, default=None
            Axes to plot on; None makes a new figure.

        Returns
        -------
        SoupScoreDisplay

        Raises
        ------
        NotFittedError
            If the soup is not fitted.
        """
        _, estimator = split_pipeline(estimator)
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

    def plot(self, *, ax: "Axes | None" = None) -> Self:
        """Draw a point for every ingredient and a line for every soup.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to plot on; None makes a new figure.

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
                score, color=f"C{k + 1}", linestyle=_LINE_STYLES[k % len(_LINE_STYLES)], label=name
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
