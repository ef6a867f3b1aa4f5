"""Metrics of unlearned models against those of the retrained model."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support

from ..metrics import UnlearningReport
from ..metrics._unlearning import RETRAINED
from ..utils._validation import check_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LABELS = {
    "FA": "accuracy, forget set (%)",
    "UA": "errors, forget set (%)",
    "FA_t": "accuracy, similar test samples (%)",
    "RA": "accuracy, retained set (%)",
    "TA": "accuracy, test samples (%)",
    "MIA": "classified as members (%)",
    "MIA_efficacy": "classified as nonmembers (%)",
    "KL_f": "divergence, forget set",
    "KL_r": "divergence, retained set",
    "KL_t": "divergence, test samples",
    "gap": "average gap (points)",
    "AUC": "area of the audit's attack (%)",
    "AUC_low": "area, lower limit (%)",
    "AUC_high": "area, upper limit (%)",
    "TPR": "found by the audit (%)",
    "relearn": "steps to relearn",
}


class UnlearningReportDisplay:
    """Metrics of unlearned models and their distances from the retrained model.

    Each metric has a panel, and each model a dot in it. The retrained model is the vertical line;
    a dot on either side of it is equally bad. Create a display with :meth:`from_report`.

    Parameters
    ----------
    report : UnlearningReport
        The report to plot.
    metrics : sequence of str
        Names of the metrics, one panel each.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure, after plotting.
    axes_ : ndarray of matplotlib Axes
        One per metric.
    lines_ : list of matplotlib Line2D
        The dots of each panel.

    See Also
    --------
    sklearn_ext.unlearning_report : The metrics as a table.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn_ext import UnlearningReportDisplay
    >>> from sklearn_ext.metrics import UnlearningReport
    >>> report = UnlearningReport(
    ...     {"retrained": {"FA": 90.0, "TA": 91.0}, "original": {"FA": 100.0, "TA": 92.0}}
    ... )
    >>> display = UnlearningReportDisplay.from_report(report, metrics=["FA", "TA"])
    >>> len(display.axes_)
    2
    >>> plt.close(display.figure_)
    """

    def __init__(self, *, report: UnlearningReport, metrics: Sequence[str]) -> None:
        self.report = report
        self.metrics = metrics

    @classmethod
    def from_report(
        cls,
        report: UnlearningReport,
        *,
        metrics: Sequence[str] = ("FA", "RA", "TA", "MIA"),
        axes: "Sequence[Axes] | None" = None,
    ) -> Self:
        """Plot a report.

        Parameters
        ----------
        report : UnlearningReport
            The result of :func:`~sklearn_ext.unlearning_report`.
        metrics : sequence of str, default=("FA", "RA", "TA", "MIA")
            Names of the metrics, one panel each.
        axes : sequence of matplotlib Axes, default=None
            Axes to plot on; None makes a new figure.

        Returns
        -------
        UnlearningReportDisplay

        Raises
        ------
        ValueError
            If a metric is not in the report, or `axes` does not have one entry per metric.
        """
        missing = [name for name in metrics if name not in report.names]
        if missing:
            raise ValueError(
                f"metrics must be among those of the report, {report.names}, got {missing[0]!r}."
            )
        return cls(report=report, metrics=tuple(metrics)).plot(axes=axes)

    def plot(self, *, axes: "Sequence[Axes] | None" = None) -> Self:
        """Draw the panels.

        Parameters
        ----------
        axes : sequence of matplotlib Axes, default=None
            Axes to plot on; None makes a new figure.

        Returns
        -------
        UnlearningReportDisplay
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        rows = self.report.scores
        models = [name for name in rows if name != RETRAINED]
        if axes is None:
            n = len(self.metrics)
            size = (1.2 + 2.3 * n, 1.0 + 0.35 * len(models))
            _, axes = plt.subplots(1, n, figsize=size, sharey=True, layout="constrained")
        self.axes_ = check_axes(axes, len(self.metrics), "metric")
        places = np.arange(len(models))[::-1]
        self.lines_ = []
        for ax, name in zip(self.axes_, self.metrics, strict=True):
            values = np.array([rows[model].get(name, np.nan) for model in models])
            if RETRAINED in rows:
                target = rows[RETRAINED].get(name, np.nan)
                ax.axvline(target, color="0.3", linewidth=1.2, zorder=1)
                ax.hlines(places, target, values, color="0.75", linewidth=1.5, zorder=1)
            self.lines_ += ax.plot(values, places, "o", markersize=7, zorder=2)
            ax.set_yticks(places, models)
            ax.set_ylim(-0.6, len(models) - 0.4)
            ax.set_xlabel(_LABELS[name])
            ax.set_title(name)
            ax.margins(x=0.12)
            if not name.startswith(("KL", "relearn")):  # percentages end at 0 and 100
                low, high = ax.get_xlim()
                ax.set_xlim(max(low, -3.0), min(high, 103.0))
            ax.spines[["top", "right"]].set_visible(False)
        self.figure_ = self.axes_[0].figure
        return self
