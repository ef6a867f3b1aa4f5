"""Training loss against iterations."""

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_is_fitted

from ..utils._typing import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class LossCurveDisplay:
    """Training loss of an estimator with a ``loss_curve_`` attribute.

    Create a display with :meth:`from_estimator`.

    Parameters
    ----------
    losses : ndarray of shape (n_iter,)
        Loss of each iteration.
    window : int
        Number of iterations in the moving average.
    name : str
        Label of the curve.

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

    def __init__(self, *, losses: FloatArray, window: int, name: str) -> None:
        self.losses = losses
        self.window = window
        self.name = name

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
            A fitted estimator with an attribute ``loss_curve_``.
        window : int, default=50
            Number of iterations in the moving average.
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
        """
        check_is_fitted(estimator, "loss_curve_")
        name = type(estimator).__name__ if name is None else name
        return cls(losses=np.asarray(estimator.loss_curve_), window=window, name=name).plot(ax=ax)

    def plot(self, *, ax: "Axes | None" = None) -> Self:
        """Draw the losses and their moving average on a logarithmic scale.

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
        ax.plot(iterations, self.losses, color="0.8", linewidth=0.8)
        (self.line_,) = ax.plot(iterations[width - 1 :], smooth, label=self.name)
        ax.set_yscale("log")
        ax.set_xlabel("iteration")
        ax.set_ylabel("training loss")
        ax.legend()
        self.ax_ = ax
        self.figure_ = ax.figure
        return self
