"""Imputed values plotted against true values."""

from collections.abc import Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.utils._optional_dependencies import check_matplotlib_support

from ..metrics._tables import hide, read_table
from ..utils._random import hide_entries, local_random_state
from ..utils._typing import Array, BoolArray, FloatArray, RandomState

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 4
_NORMAL_QUANTILE = 1.96
_MOST_COUNTS = 8  # categories whose counts are written into the panel


class ImputationDisplay:
    """True against imputed values of hidden entries, with one panel per feature.

    If the imputer returns standard deviations, bars span 95% of the posterior. A feature of
    categories has a table of counts instead of points. Create a display with
    :meth:`from_estimator` or :meth:`from_predictions`.

    Parameters
    ----------
    true : list of ndarray
        True values of the hidden entries of each feature.
    imputed : list of ndarray
        Imputed values.
    std : list of ndarray or None
        Posterior standard deviations.
    feature_names : list of str
        Titles of the panels.
    categories : list of list of str, default=None
        Categories of each feature, of which its values are indices; an empty list for a numeric
        feature. None means that all features are numeric.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure, after plotting.
    axes_ : ndarray of matplotlib Axes
        One per feature.

    See Also
    --------
    sklearn_ext.metrics.imputation_score : The errors as numbers.
    sklearn_ext.metrics.imputation_report : Several imputers in one table.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext import ImputationDisplay, SupervisedKernelImputer
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> imputer = SupervisedKernelImputer(random_state=0)
    >>> display = ImputationDisplay.from_estimator(imputer, X, y, random_state=0)
    >>> len(display.axes_)
    4
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        *,
        true: list[FloatArray],
        imputed: list[FloatArray],
        std: list[FloatArray] | None,
        feature_names: list[str],
        categories: list[list[str]] | None = None,
    ) -> None:
        self.true = true
        self.imputed = imputed
        self.std = std
        self.feature_names = feature_names
        self.categories = categories

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        missing_fraction: float = 0.2,
        features: Sequence[int] | None = None,
        random_state: RandomState = None,
        fig: "Figure | None" = None,
    ) -> Self:
        """Hide entries, fit a clone of the imputer to the rest, and plot the imputed values.

        The entries are imputed by ``transform``, which does not use labels.

        Parameters
        ----------
        estimator : estimator
            An imputer that fills NaN and keeps all features.
        X : array-like or DataFrame of shape (n_samples, n_features)
            Samples, complete or with missing values (NaN).
        y : array-like of shape (n_samples,), default=None
            Labels that are passed to ``fit``.
        missing_fraction : float, default=0.2
            Fraction of the observed entries to hide.
        features : array-like of int, default=None
            Indices of the features to plot; None plots all.
        random_state : int, RandomState instance or None, default=None
            Seed for the hidden entries.
        fig : matplotlib Figure, default=None
            Figure to plot on; None makes a new figure.

        Returns
        -------
        ImputationDisplay
        """
        table, _ = read_table(X)
        hidden = hide_entries(table, missing_fraction, local_random_state(random_state))
        incomplete = hide(X, hidden)
        fitted = clone(estimator).fit(incomplete, y)
        std = None
        if "return_std" in signature(fitted.transform).parameters:
            filled, std = fitted.transform(incomplete, return_std=True)
        else:
            filled = fitted.transform(incomplete)
        return cls.from_predictions(X, filled, hidden, std=std, features=features, fig=fig)

    @classmethod
    def from_predictions(
        cls,
        X_true: ArrayLike,
        X_imputed: ArrayLike,
        hidden: ArrayLike,
        *,
        std: ArrayLike | None = None,
        features: Sequence[int] | None = None,
        feature_names: Sequence[str] | None = None,
        fig: "Figure | None" = None,
    ) -> Self:
        """Plot imputed entries whose true values are known.

        Parameters
        ----------
        X_true, X_imputed : array-like or data frame of shape (n_samples, n_features)
            Samples with true and with imputed values.
        hidden : array-like of bool, shape (n_samples, n_features)
            The entries to plot.
        std : array-like of shape (n_samples, n_features), default=None
            Standard deviations of the imputed values.
        features : array-like of int, default=None
            Indices of the features to plot; None plots all.
        feature_names : list of str, default=None
            Names of all features; None means those of a data frame, or else "x0", "x1", ...
        fig : matplotlib Figure, default=None
            Figure to plot on; None makes a new figure.

        Returns
        -------
        ImputationDisplay

        Raises
        ------
        ValueError
            If the arrays differ in shape, or `feature_names` does not have one name per feature.
        """
        true, types = read_table(X_true)
        given: dict[str, Array] = {"hidden": np.asarray(hidden)}
        if std is not None:
            given["std"] = np.asarray(std)
        if np.shape(X_imputed) == true.shape:
            given["X_imputed"] = read_table(X_imputed, types)[0]
        else:
            given["X_imputed"] = np.asarray(X_imputed)
        for name, array in given.items():
            if array.shape != true.shape:
                raise ValueError(
                    f"{name} must have the shape of X_true, {true.shape}, got {array.shape}."
                )
        n_features = true.shape[1]
        names = [kind.name for kind in types] if feature_names is None else feature_names
        if len(names) != n_features:
            raise ValueError(
                f"feature_names must have one name per feature, {n_features}, got {len(names)}."
            )
        shown = list(range(n_features) if features is None else features)
        mask: BoolArray = given["hidden"].astype(bool)

        def entries(array: Array) -> list[FloatArray]:
            return [array[mask[:, p], p] for p in shown]

        display = cls(
            true=entries(true),
            imputed=entries(given["X_imputed"]),
            std=None if std is None else entries(given["std"]),
            feature_names=[names[p] for p in shown],
            categories=[list(map(str, types[p].categories)) for p in shown],
        )
        return display.plot(fig=fig)

    def plot(self, *, fig: "Figure | None" = None) -> Self:
        """Draw the panels.

        Parameters
        ----------
        fig : matplotlib Figure, default=None
            Figure to plot on; None makes a new figure.

        Returns
        -------
        ImputationDisplay
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        n_panels = len(self.feature_names)
        n_columns = min(_COLUMNS, n_panels)
        n_rows = -(-n_panels // n_columns)
        if fig is None:
            fig = plt.figure(figsize=(2.6 * n_columns, 2.6 * n_rows), layout="constrained")
        axes = fig.subplots(n_rows, n_columns, squeeze=False).ravel()
        for k, ax in enumerate(axes[:n_panels]):
            true, imputed = self.true[k], self.imputed[k]
            ax.set_title(self.feature_names[k], fontsize="small")
            if self.categories is not None and self.categories[k]:
                _plot_counts(ax, true, imputed, self.categories[k])
                continue
            if self.std is not None:
                ax.errorbar(
                    true,
                    imputed,
                    yerr=_NORMAL_QUANTILE * self.std[k],
                    fmt="none",
                    ecolor="C0",
                    elinewidth=0.8,
                    alpha=0.3,
                )
            ax.scatter(true, imputed, s=8, color="C0")
            if len(true):
                ends = [min(true.min(), imputed.min()), max(true.max(), imputed.max())]
                ax.plot(ends, ends, color="0.4", linewidth=0.8, linestyle="--")
        for ax in axes[n_panels:]:
            ax.remove()
        fig.supxlabel("true value")
        fig.supylabel("imputed value")
        self.figure_ = fig
        self.axes_ = axes[:n_panels]
        return self


def _plot_counts(ax: "Axes", true: FloatArray, imputed: FloatArray, categories: list[str]) -> None:
    """Show how often each true category was imputed as each category."""
    k = len(categories)
    known = (true >= 0) & (imputed >= 0)
    counts = np.zeros((k, k), dtype=int)
    np.add.at(counts, (imputed[known].astype(int), true[known].astype(int)), 1)
    ax.imshow(counts, cmap="Blues", aspect="auto", origin="lower")
    for (row, column), count in np.ndenumerate(counts):
        if k <= _MOST_COUNTS:
            color = "white" if count > counts.max() / 2 else "black"
            ax.text(column, row, str(count), ha="center", va="center", color=color, fontsize=7)
    ax.set_xticks(range(k), categories, fontsize=7, rotation=90)
    ax.set_yticks(range(k), categories, fontsize=7)
