"""Objective and consensus of a decentralized fit against the communication cost."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_is_fitted

from ..utils._typing import FloatArray
from ..utils._validation import check_axes, split_pipeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class ConsensusDisplay:
    """Objective and disagreement of neighbors against the number of floats sent.

    Create a display with :meth:`from_estimator`, and plot others on ``display.axes_`` to compare
    solvers.

    Parameters
    ----------
    floats : ndarray of shape (n_rounds + 1,)
        Floats sent before each round, and in total.
    excess : ndarray of shape (n_rounds + 1,)
        Relative difference of the objective from `reference`.
    gap : ndarray of shape (n_rounds + 1,)
        Root mean square disagreement of neighbors.
    name : str
        Label of the curves.

    Attributes
    ----------
    lines_ : list of matplotlib Line2D
        Objective and disagreement, after plotting.
    axes_ : ndarray of matplotlib Axes
        Panels of the two curves.
    figure_ : matplotlib Figure
        Figure that contains the axes.

    See Also
    --------
    NetworkDisplay : Errors of the nodes on the graph.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn_ext import ConsensusDisplay, DecentralizedRFKRR
    >>> X, y = load_diabetes(return_X_y=True)
    >>> krr = DecentralizedRFKRR(n_nodes=5, alpha=1e-3, solver="jacobi", random_state=0)
    >>> display = ConsensusDisplay.from_estimator(krr.fit(X, y))
    >>> plt.close(display.figure_)
    """

    def __init__(
        self, *, floats: FloatArray, excess: FloatArray, gap: FloatArray, name: str
    ) -> None:
        self.floats = floats
        self.excess = excess
        self.gap = gap
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        reference: float | None = None,
        name: str | None = None,
        axes: "Sequence[Axes] | None" = None,
    ) -> Self:
        """Plot the rounds of a fitted estimator.

        Parameters
        ----------
        estimator : DecentralizedRFKRR or DecentralizedRFClassifier
            A fitted estimator, or a pipeline that ends in one. A solver that computes the joint
            solution at once has two points instead of curves: before and after.
        reference : float, default=None
            Objective of the joint solution; None uses the last value of the curve, which is then
            left out of the plot.
        name : str, default=None
            Label of the curves; None uses the name of the solver.
        axes : sequence of two matplotlib Axes, default=None
            Axes to plot on; None makes a new figure.

        Returns
        -------
        ConsensusDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If `axes` does not have two entries.
        """
        _, estimator = split_pipeline(estimator)
        check_is_fitted(estimator, "objective_curve_")
        objective, sent = estimator.objective_curve_, estimator.n_floats_sent_
        best = objective[-1] if reference is None else reference
        return cls(
            floats=sent["setup"] + sent["round"] * np.arange(len(objective)),
            excess=(objective - best) / abs(best),
            gap=estimator.consensus_curve_,
            name=estimator.solver if name is None else name,
        ).plot(axes=axes)

    def plot(self, *, axes: "Sequence[Axes] | None" = None) -> Self:
        """Draw both curves.

        Parameters
        ----------
        axes : sequence of two matplotlib Axes, default=None
            Axes to plot on; None makes a new figure.

        Returns
        -------
        ConsensusDisplay

        Raises
        ------
        ValueError
            If `axes` does not have two entries.
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        if axes is None:
            _, axes = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
        self.axes_ = check_axes(axes, 2, "curve")
        shown = self.excess > 0  # a logarithmic axis cannot show the best value itself
        style = "o--" if len(self.floats) == 2 else "-"  # no rounds in between
        (objective,) = self.axes_[0].plot(
            self.floats[shown], self.excess[shown], style, label=self.name
        )
        (gap,) = self.axes_[1].plot(self.floats, self.gap, style, label=self.name)
        self.lines_ = [objective, gap]
        self.axes_[0].set(yscale="log", xlabel="floats sent", ylabel="objective above the best")
        self.axes_[1].set(xlabel="floats sent", ylabel="disagreement of neighbors")
        self.axes_[0].legend()
        self.figure_ = self.axes_[0].figure
        return self
