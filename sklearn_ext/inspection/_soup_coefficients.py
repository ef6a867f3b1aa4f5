"""Coefficients of a model soup."""

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_is_fitted


class SoupCoefficientDisplay:
    """Coefficients of the ingredients of a soup, by group of parameters.

    One row a group and one column an ingredient, red for positive and blue for negative
    coefficients; bars if there is one group only. Coefficients are no importances: where
    ingredients are nearly parallel, many coefficients give the same weights.

    Make one with :meth:`from_estimator`.

    Parameters
    ----------
    coef : ndarray of shape (n_groups, n_ingredients)
        Coefficients.
    groups : list of str
        Names of the groups.
    ingredients : list of str
        Names of the ingredients; :meth:`from_estimator` takes their numbers.

    Attributes
    ----------
    image_ : matplotlib AxesImage or None
        The coefficients of several groups, once plotted.
    bars_ : matplotlib BarContainer or None
        Those of a single group.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

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

    def __init__(self, *, coef, groups, ingredients):
        self.coef = coef
        self.groups = groups
        self.ingredients = ingredients

    @classmethod
    def from_estimator(cls, estimator, *, order="score", ax=None, cmap="RdBu_r"):
        """Plot the coefficients of a fitted soup.

        Parameters
        ----------
        estimator : UniformSoup, GreedySoup, LearnedSoup or MEHLSoup
            A fitted soup.
        order : {"score", "given"}, default="score"
            Ingredients by falling score, or as they were given.
        ax : matplotlib Axes, default=None
            Where to plot; None makes a new figure.
        cmap : str or matplotlib Colormap, default="RdBu_r"
            Colours; the middle one is a coefficient of 0.

        Returns
        -------
        SoupCoefficientDisplay

        Raises
        ------
        NotFittedError
            If the soup is not fitted.
        ValueError
            If `order` is none of the allowed values.
        """
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

    def plot(self, *, ax=None, cmap="RdBu_r"):
        """Draw the coefficients.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to plot; None makes a new figure.
        cmap : str or matplotlib Colormap, default="RdBu_r"
            Colours; the middle one is a coefficient of 0.

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
