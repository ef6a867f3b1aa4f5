"""True against imputed values."""

from inspect import signature

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_array
from sklearn.utils._optional_dependencies import check_matplotlib_support

from ..utils._held_out import hide_entries
from ..utils._random import local_random_state

_COLUMNS = 4
_QUANTILE = 1.96


class ImputationDisplay:
    """True against imputed values of hidden entries, one panel a feature.

    Where the imputer knows its uncertainty, bars span 95 % of the posterior. Make one with
    :meth:`from_estimator` or :meth:`from_predictions`.

    Parameters
    ----------
    true : list of ndarray
        True values of each feature's hidden entries.
    imputed : list of ndarray
        Imputed values.
    std : list of ndarray or None
        Posterior standard deviations.
    feature_names : list of str
        Titles of the panels.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure, once plotted.
    axes_ : ndarray of matplotlib Axes
        One a feature.

    See Also
    --------
    sklearn_ext.metrics.imputation_score : The errors as numbers.

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

    def __init__(self, *, true, imputed, std, feature_names):
        self.true = true
        self.imputed = imputed
        self.std = std
        self.feature_names = feature_names

    @classmethod
    def from_estimator(
        cls,
        imputer,
        X,
        y=None,
        *,
        missing_fraction=0.2,
        features=None,
        random_state=None,
        fig=None,
    ):
        """Hide entries, fit a clone of the imputer to the rest, and plot what it fills in.

        Entries are filled by ``transform``, which sees no labels.

        Parameters
        ----------
        imputer : estimator
            An imputer that takes NaN for holes and keeps all features.
        X : array-like or DataFrame of shape (n_samples, n_features)
            Rows, complete or with holes (NaN).
        y : array-like of shape (n_samples,), default=None
            Labels, handed to ``fit``.
        missing_fraction : float, default=0.2
            Share of the observed entries to hide.
        features : array-like of int, default=None
            Indices of the features to plot; None plots all.
        random_state : int, RandomState instance or None, default=None
            Seed of the hidden entries.
        fig : matplotlib Figure, default=None
            Where to plot; None makes a new figure.

        Returns
        -------
        ImputationDisplay
        """
        names = [str(name) for name in getattr(X, "columns", [])] or None
        X = check_array(X, dtype=np.float64, ensure_all_finite="allow-nan")
        hidden = hide_entries(X, missing_fraction, local_random_state(random_state))
        with_holes = np.where(hidden, np.nan, X)
        fitted = clone(imputer).fit(with_holes, y)
        std = None
        if "return_std" in signature(fitted.transform).parameters:
            filled, std = fitted.transform(with_holes, return_std=True)
        else:
            filled = fitted.transform(with_holes)
        return cls.from_predictions(
            X, np.asarray(filled), hidden, std=std, features=features, feature_names=names, fig=fig
        )

    @classmethod
    def from_predictions(
        cls, X_true, X_imputed, hidden, *, std=None, features=None, feature_names=None, fig=None
    ):
        """Plot imputed entries whose true values are known.

        Parameters
        ----------
        X_true, X_imputed : array-like of shape (n_samples, n_features)
            True and filled rows.
        hidden : array-like of bool, shape (n_samples, n_features)
            The entries to plot.
        std : array-like of shape (n_samples, n_features), default=None
            Standard deviations of the imputed values.
        features : array-like of int, default=None
            Indices of the features to plot; None plots all.
        feature_names : list of str, default=None
            Names of all features; None is "x0", "x1", ...
        fig : matplotlib Figure, default=None
            Where to plot; None makes a new figure.

        Returns
        -------
        ImputationDisplay

        Raises
        ------
        ValueError
            If the arrays differ in shape, or `feature_names` does not name every feature.
        """
        X_true, X_imputed, hidden = map(np.asarray, (X_true, X_imputed, hidden))
        given = {"X_imputed": X_imputed, "hidden": hidden}
        if std is not None:
            given["std"] = std = np.asarray(std)
        for name, array in given.items():
            if array.shape != X_true.shape:
                raise ValueError(
                    f"{name} must have the shape of X_true, {X_true.shape}, got {array.shape}."
                )
        n_features = X_true.shape[1]
        if feature_names is None:
            feature_names = [f"x{k}" for k in range(n_features)]
        if len(feature_names) != n_features:
            raise ValueError(
                f"feature_names must name all {n_features} features, got {len(feature_names)}."
            )
        shown = range(n_features) if features is None else features

        def entries(array):
            return [array[hidden[:, p], p] for p in shown]

        display = cls(
            true=entries(X_true),
            imputed=entries(X_imputed),
            std=None if std is None else entries(std),
            feature_names=[feature_names[p] for p in shown],
        )
        return display.plot(fig=fig)

    def plot(self, *, fig=None):
        """Draw the panels.

        Parameters
        ----------
        fig : matplotlib Figure, default=None
            Where to plot; None makes a new figure.

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
            if self.std is not None:
                ax.errorbar(
                    true,
                    imputed,
                    yerr=_QUANTILE * self.std[k],
                    fmt="none",
                    ecolor="C0",
                    elinewidth=0.8,
                    alpha=0.3,
                )
            ax.scatter(true, imputed, s=8, color="C0")
            if len(true):
                ends = [min(true.min(), imputed.min()), max(true.max(), imputed.max())]
                ax.plot(ends, ends, color="0.4", linewidth=0.8, linestyle="--")
            ax.set_title(self.feature_names[k], fontsize="small")
        for ax in axes[n_panels:]:
            ax.remove()
        fig.supxlabel("true value")
        fig.supylabel("imputed value")
        self.figure_ = fig
        self.axes_ = axes[:n_panels]
        return self
