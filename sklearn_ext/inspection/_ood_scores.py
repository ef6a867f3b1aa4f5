"""Scores of in-distribution and out-of-distribution rows."""

import numpy as np
from sklearn.utils import check_array
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_is_fitted


class OODScoreDisplay:
    """Histograms of the scores of in-distribution (ID) and out-of-distribution (OOD) rows.

    Higher scores are more in-distribution. Make one with :meth:`from_estimator` or
    :meth:`from_predictions`.

    Parameters
    ----------
    s_id : ndarray of shape (n_id,)
        Scores of ID rows.
    s_ood : dict of str to ndarray
        Scores of OOD rows, by the name of the set.
    threshold : float or None
        Rows below it are taken for outliers.
    name : str
        Title.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it is plotted, once it is.
    figure_ : matplotlib Figure
    threshold_line_ : matplotlib Line2D or None

    See Also
    --------
    sklearn_ext.metrics.ood_report : The same as numbers.
    FeatureCosineDisplay : Where the features point.

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

    def __init__(self, *, s_id, s_ood, threshold, name):
        self.s_id = s_id
        self.s_ood = s_ood
        self.threshold = threshold
        self.name = name

    @classmethod
    def from_estimator(cls, detector, X_id, X_ood, *, bins=40, name=None, ax=None):
        """Score rows and plot the scores with the threshold of the detector.

        Parameters
        ----------
        detector : estimator
            A fitted outlier detector with ``score_samples`` and ``offset_``.
        X_id : array-like
            ID rows that the detector was not fitted on.
        X_ood : array-like or dict of str to array-like
            OOD rows, or several sets of them by name.
        bins : int, default=40
            Number of bins over all scores.
        name : str, default=None
            Title; None is the name of the class.
        ax : matplotlib Axes, default=None
            Where to plot; None makes a new figure.

        Returns
        -------
        OODScoreDisplay

        Raises
        ------
        NotFittedError
            If the detector is not fitted.
        """
        check_is_fitted(detector, "offset_")
        sets = X_ood if isinstance(X_ood, dict) else {"OOD": X_ood}
        return cls.from_predictions(
            detector.score_samples(X_id),
            {key: detector.score_samples(X) for key, X in sets.items()},
            threshold=detector.offset_,
            bins=bins,
            name=type(detector).__name__ if name is None else name,
            ax=ax,
        )

    @classmethod
    def from_predictions(cls, s_id, s_ood, *, threshold=None, bins=40, name="", ax=None):
        """Plot given scores.

        Parameters
        ----------
        s_id : array-like of shape (n_id,)
            Scores of ID rows.
        s_ood : array-like of shape (n_ood,) or dict of str to array-like
            Scores of OOD rows, or of several sets of them by name.
        threshold : float, default=None
            Rows below it are taken for outliers.
        bins : int, default=40
            Number of bins over all scores.
        name : str, default=""
            Title.
        ax : matplotlib Axes, default=None
            Where to plot; None makes a new figure.

        Returns
        -------
        OODScoreDisplay

        Raises
        ------
        ValueError
            If scores are not finite.
        """
        sets = s_ood if isinstance(s_ood, dict) else {"OOD": s_ood}
        s_ood = {str(key): check_array(s, ensure_2d=False) for key, s in sets.items()}
        display = cls(
            s_id=check_array(s_id, ensure_2d=False), s_ood=s_ood, threshold=threshold, name=name
        )
        return display.plot(bins=bins, ax=ax)

    def plot(self, *, bins=40, ax=None):
        """Draw the histograms, each of area one.

        Parameters
        ----------
        bins : int, default=40
            Number of bins over all scores.
        ax : matplotlib Axes, default=None
            Where to plot; None makes a new figure.

        Returns
        -------
        OODScoreDisplay
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots(layout="constrained")
        edges = np.histogram_bin_edges(np.concatenate([self.s_id, *self.s_ood.values()]), bins)
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
