"""Training loss against iterations."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.exceptions import NotFittedError
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_is_fitted

from ..utils._typing import FloatArray
from ..utils._validation import split_pipeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Names of a training loss in a record of `history_`, by preference.
_LOSSES = ("train_loss", "loss", "remain_loss")


class LossCurveDisplay:
    """Training loss of a fitted estimator.

    Create a display with :meth:`from_estimator`, which finds the losses of estimators with an
    attribute ``loss_curve_``, of nets, and of the soups, unlearners and detectors that record their
    training in ``history_``.

    Parameters
    ----------
    losses : ndarray of shape (n_iter,)
        Loss of each iteration, or of each epoch.
    window : int
        Number of iterations in the moving average.
    name : str
        Label of the curve.
    unit : str, default="iteration"
        Label of the horizontal axis.

    Attributes
    ----------
    line_ : matplotlib Line2D
        The moving average, after plotting.
    ax_ : matplotlib Axes
        Axes of the plot.
    figure_ : matplotlib Figure
        Figure that contains the axes.

    See Also
    --------
    LABBandwidthDisplay : The bandwidths of a LAB model.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn_ext import LABRidgelessRegressor, LossCurveDisplay
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = LABRidgelessRegressor(max_iter=100, random_state=0).fit(X, y)
    >>> display = LossCurveDisplay.from_estimator(model)
    >>> plt.close(display.figure_)
    """

    def __init__(
        self, *, losses: FloatArray, window: int, name: str, unit: str = "iteration"
    ) -> None:
        self.losses = losses
        self.window = window
        self.name = name
        self.unit = unit

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        window: int = 50,
        name: str | None = None,
        ax: "Axes | None" = None,
    ) -> Self:
        """Plot the loss curve of a fitted estimator.

        Parameters
        ----------
        estimator : estimator instance
            A fitted estimator, or a pipeline that ends in one.
        window : int, default=50
            Number of iterations in the moving average. Losses of epochs are means already, and are
            not averaged.
        name : str, default=None
            Label of the curve; None uses the class name.
        ax : matplotlib Axes, default=None
            Axes to plot on; None makes a new figure.

        Returns
        -------
        LossCurveDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If the estimator recorded no losses.
        """
        _, estimator = split_pipeline(estimator)
        losses, unit = _recorded_losses(estimator)
        if unit == "epoch":
            window = 1
        name = type(estimator).__name__ if name is None else name
        return cls(losses=losses, window=window, name=name, unit=unit).plot(ax=ax)

    def plot(self, *, ax: "Axes | None" = None) -> Self:
        """Draw the losses and their moving average, on a logarithmic scale if all are positive.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to plot on; None makes a new figure.

        Returns
        -------
        LossCurveDisplay
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots(layout="constrained")
        width = max(1, min(self.window, len(self.losses)))
        smooth = np.convolve(self.losses, np.full(width, 1 / width), mode="valid")
        iterations = np.arange(1, len(self.losses) + 1)
        if width > 1:
            ax.plot(iterations, self.losses, color="0.8", linewidth=0.8)
        (self.line_,) = ax.plot(iterations[width - 1 :], smooth, label=self.name)
        if (self.losses > 0).all():
            ax.set_yscale("log")
        ax.set_xlabel(self.unit)
        ax.set_ylabel("training loss")
        ax.legend()
        self.ax_ = ax
        self.figure_ = ax.figure
        return self


def _recorded_losses(estimator: Any) -> tuple[FloatArray, str]:
    """Return the losses of a fitted estimator, and their unit: "iteration" or "epoch"."""
    if hasattr(estimator, "loss_curve_"):
        return np.asarray(estimator.loss_curve_, dtype=float), "iteration"
    is_net = hasattr(estimator, "history") and hasattr(estimator, "initialized_")
    if is_net:
        check_is_fitted(estimator)
    history: Sequence[Any] = estimator.history if is_net else _history(estimator)
    for key in _LOSSES:
        losses = [record[key] for record in history if key in record]
        if losses:
            per_epoch = is_net or ("iteration" not in history[0] and "step" not in history[0])
            return np.asarray(losses, dtype=float), "epoch" if per_epoch else "iteration"
    raise ValueError(
        "estimator must have recorded the losses of its training, got "
        f"{type(estimator).__name__} without losses."
    )


def _history(estimator: Any) -> Sequence[Any]:
    try:
        check_is_fitted(estimator, ["loss_curve_", "history_"], all_or_any=any)
    except NotFittedError:
        check_is_fitted(estimator)  # raises unless the estimator is fitted in another way
        return ()
    return estimator.history_
