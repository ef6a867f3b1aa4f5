"""Scores of in-distribution and out-of-distribution samples."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_array
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_is_fitted

from ..utils._typing import FloatArray
from ..utils._validation import split_pipeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class OODScoreDisplay:
    """Histograms of the scores of in-distribution (ID) and out-of-distribution (OOD) samples.

    Higher scores are more in-distribution. Create a display with :meth:`from_estimator` or
    :meth:`from_predictions`.

    Parameters
    ----------
    s_id : ndarray of shape (n_id,)
        Scores of ID samples.
    s_ood : dict of str to ndarray
        Scores of OOD samples, by the name of the set.
    threshold : float or None
        Samples with lower scores are predicted to be outliers.
    name : str
        Title.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the plot.
    figure_ : matplotlib Figure
        Figure that contains the axes.
    threshold_line_ : matplotlib Line2D or None
        The threshold, if there is one.

    See Also
    --------
    sklearn_ext.metrics.ood_report : The comparison in numbers.
    FeatureCosineDisplay : Directions of the features.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ext import KNNOODDetector, OODScoreDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> detector = KNNOODDetector(random_state=0).fit(X[:1000] / 16, y[:1000])
    >>> display = OODScoreDisplay.from_estimator(detector, X[1000:] / 16, 1 - X[1000:] / 16)
    >>> display.ax_.get_xlabel()
    'score'
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        *,
        s_id: FloatArray,
        s_ood: dict[str, FloatArray],
        threshold: float | None,
        name: str,
    ) -> None:
        self.s_id = s_id
        self.s_ood = s_ood
        self.threshold = threshold
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X_id: ArrayLike,
        X_ood: ArrayLike | Mapping[str, ArrayLike],
        *,
        bins: int = 40,
        name: str | None = None,
        ax: "Axes | None" = None,
    ) -> Self:
        """Score samples and plot the scores with the threshold of the detector.

        Parameters
        ----------
        estimator : estimator
            A fitted outlier detector with ``score_samples`` and ``offset_``, or a pipeline that
            ends in one.
        X_id : array-like
            ID samples that the detector was not fitted on.
        X_ood : array-like or dict of str to array-like
            OOD samples, or several sets of them by name.
        bins : int, default=40
            Number of bins.
        name : str, default=None
            Title; None uses the class name.
        ax : matplotlib Axes, default=None
            Axes to plot on; None makes a new figure.

        Returns
        -------
        OODScoreDisplay

        Raises
        ------
        NotFittedError
            If the detector is not fitted.
        """
        before, estimator = split_pipeline(estimator)
        check_is_fitted(estimator, "offset_")
        sets = X_ood if isinstance(X_ood, Mapping) else {"OOD": X_ood}
        return cls.from_predictions(
            estimator.score_samples(before(X_id)),
            {key: estimator.score_samples(before(X)) for key, X in sets.items()},
            threshold=estimator.offset_,
            bins=bins,
            name=type(estimator).__name__ if name is None else name,
            ax=ax,
        )

    @classmethod
    def from_predictions(
        cls,
        s_id: ArrayLike,
        s_ood: ArrayLike | Mapping[str, ArrayLike],
        *,
        threshold: float | None = None,
        bins: int = 40,
        name: str = "",
        ax: "Axes | None" = None,
    ) -> Self:
        """Plot given scores.

        Parameters
        ----------
        s_id : array-like of shape (n_id,)
            Scores of ID samples.
        s_ood : array-like of shape (n_ood,) or dict of str to array-like
            Scores of OOD samples, or of several sets of them by name.
        threshold : float, default=None
            Samples with lower scores are predicted to be outliers.
        bins : int, default=40
            Number of bins.
        name : str, default=""
            Title.
        ax : matplotlib Axes, default=None
            Axes to plot on; None makes a new figure.

        Returns
        -------
        OODScoreDisplay

        Raises
        ------
        ValueError
            If a score is not finite.
        """
        sets = s_ood if isinstance(s_ood, Mapping) else {"OOD": s_ood}
        display = cls(
            s_id=check_array(s_id, ensure_2d=False),
            s_ood={str(key): check_array(s, ensure_2d=False) for key, s in sets.items()},
            threshold=threshold,
            name=name,
        )
        return display.plot(bins=bins, ax=ax)

    def plot(self, *, bins: int = 40, ax: "Axes | None" = None) -> Self:
        """Draw the histograms, each with unit area.

        Parameters
        ----------
        bins : int, default=40
            Number of bins.
        ax : matplotlib Axes, default=None
            Axes to plot on; None makes a new figure.

        Returns
        -------
        OODScoreDisplay
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots(layout="constrained")
        every = np.concatenate([self.s_id, *self.s_ood.values()])
        edges = np.histogram_bin_edges(every, bins).tolist()
        ax.hist(self.s_id, edges, density=True, color="0.75", label="ID")
        for key, scores in self.s_ood.items():
            ax.hist(scores, edges, density=True, histtype="step", linewidth=1.5, label=key)
        self.threshold_line_ = None
        if self.threshold is not None:
            self.threshold_line_ = ax.axvline(
                self.threshold, color="black", linestyle="--", label="threshold"
            )
        ax.set_xlabel("score")
        ax.set_ylabel("density")
        ax.set_title(self.name)
        ax.legend()
        self.ax_ = ax
        self.figure_ = ax.figure
        return self
