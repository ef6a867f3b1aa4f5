"""Heat map of learned bandwidths."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_is_fitted

from ..utils._typing import FloatArray
from ..utils._validation import split_pipeline

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DECADES = 4  # range of the colors: smaller bandwidths have no visible effect


class LABBandwidthDisplay:
    """Bandwidths of a LAB model by support point and feature, and feature importances.

    Create a display with :meth:`from_estimator`.

    Parameters
    ----------
    sensitivities : ndarray of shape (n_support, n_features)
        Change of the kernel's exponent for one standard deviation of the feature in the training
        data, scaled so that the importances are averages of the sensitivities, weighted by the
        absolute coefficients of the support points.
    importances : ndarray of shape (n_features,)
        The estimator's ``feature_importances_``.
    feature_names : list of str
        Labels of the columns.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure, after plotting.
    axes_ : ndarray of matplotlib Axes
        The axes of the bars and the axes of the heat map.

    See Also
    --------
    LossCurveDisplay : The training loss.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn_ext import LABBandwidthDisplay, LABRidgelessRegressor
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> model = LABRidgelessRegressor(max_iter=100, random_state=0).fit(X, y)
    >>> display = LABBandwidthDisplay.from_estimator(model, max_features=5)
    >>> plt.close(display.figure_)
    """

    def __init__(
        self, *, sensitivities: FloatArray, importances: FloatArray, feature_names: list[str]
    ) -> None:
        self.sensitivities = sensitivities
        self.importances = importances
        self.feature_names = feature_names

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        feature_names: Sequence[str] | None = None,
        max_features: int | None = 20,
        fig: "Figure | None" = None,
    ) -> Self:
        """Plot the bandwidths of a fitted estimator.

        Parameters
        ----------
        estimator : LABRidgelessRegressor or LABRidgelessClassifier
            A fitted estimator, or a pipeline that ends in one.
        feature_names : list of str, default=None
            Names of all features; None uses ``feature_names_in_``, or "x0", "x1", ...
        max_features : int or None, default=20
            Number of features to show, the most important first; None shows all.
        fig : matplotlib Figure, default=None
            Figure to plot on; None makes a new figure.

        Returns
        -------
        LABBandwidthDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If `feature_names` does not have one name per feature.
        """
        _, estimator = split_pipeline(estimator)
        check_is_fitted(estimator, "bandwidths_")
        n_features = estimator.n_features_in_
        names = feature_names
        if names is None:
            names = getattr(estimator, "feature_names_in_", [f"x{k}" for k in range(n_features)])
        if len(names) != n_features:
            raise ValueError(
                f"feature_names must have one name per feature, {n_features}, got {len(names)}."
            )
        shown = np.argsort(-estimator.feature_importances_, kind="stable")[:max_features]
        bandwidths = estimator.bandwidths_[:, shown]
        importances = estimator.feature_importances_[shown]
        # The importances contain the spread of the training data, which bandwidths lack.
        weights = np.abs(estimator.dual_coef_).reshape(len(bandwidths), -1).sum(axis=1)
        means = weights @ bandwidths / max(weights.sum(), np.finfo(float).tiny)
        spread = np.divide(importances, means, out=np.zeros_like(means), where=means > 0)
        display = cls(
            sensitivities=bandwidths * spread,
            importances=importances,
            feature_names=[str(names[k]) for k in shown],
        )
        return display.plot(fig=fig)

    def plot(self, *, fig: "Figure | None" = None) -> Self:
        """Draw the bars and the heat map.

        Parameters
        ----------
        fig : matplotlib Figure, default=None
            Figure to plot on; None makes a new figure.

        Returns
        -------
        LABBandwidthDisplay
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        n_support, n_features = self.sensitivities.shape
        if fig is None:
            fig = plt.figure(figsize=(max(4.5, 1.8 + 0.45 * n_features), 6), layout="constrained")
        grid = fig.add_gridspec(2, 2, height_ratios=(1, 3), width_ratios=(30, 1))
        bars = fig.add_subplot(grid[0, 0])
        heat = fig.add_subplot(grid[1, 0], sharex=bars)
        positions = np.arange(n_features)

        bars.bar(positions, self.importances, color="0.35")
        bars.set_ylabel("importance")
        bars.tick_params(labelbottom=False)
        bars.spines[["top", "right"]].set_visible(False)

        # Sorting by the feature that varies most puts similar support points next to each other.
        log_sensitivities = np.log10(np.maximum(self.sensitivities, 1e-12))
        order = np.argsort(log_sensitivities[:, log_sensitivities.std(axis=0).argmax()])
        top = log_sensitivities.max()
        image = heat.imshow(
            log_sensitivities[order],
            aspect="auto",
            cmap="viridis",
            vmin=top - _DECADES,
            vmax=top,
            interpolation="nearest",
        )
        heat.set_xticks(positions, self.feature_names, rotation=45, ha="right")
        heat.set_ylabel(f"support points ({n_support})")
        heat.set_yticks([])
        fig.colorbar(image, cax=fig.add_subplot(grid[1, 1]), label="log$_{10}$ sensitivity")
        self.figure_ = fig
        self.axes_ = np.array([bars, heat])
        return self
