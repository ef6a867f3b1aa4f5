"""Errors of the nodes of a network, drawn on its graph."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import is_classifier
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_is_fitted

from ..utils._typing import Array, FloatArray
from ..utils._validation import check_axes, split_pipeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class NetworkDisplay:
    """Graph of a network whose nodes are colored by the error on their own samples.

    Create a display with :meth:`from_estimator`.

    Parameters
    ----------
    adjacency : ndarray of shape (n_nodes, n_nodes)
        Weights of the edges.
    nodes : ndarray of shape (n_nodes,)
        Labels.
    errors : dict of str to ndarray of shape (n_nodes,)
        Error of every node, by the title of the panel; NaN for a node without samples.
    measure : str
        Name of the error.
    positions : ndarray of shape (n_nodes, 2)
        Coordinates of the nodes in the plot.

    Attributes
    ----------
    points_ : list of matplotlib PathCollection
        The nodes of each panel, after plotting.
    axes_ : ndarray of matplotlib Axes
        The panels.
    figure_ : matplotlib Figure
        Figure that contains the axes.

    See Also
    --------
    ConsensusDisplay : Rounds of a fit.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from sklearn.datasets import make_friedman1
    >>> from sklearn_ext import DecentralizedRFKRR, NetworkDisplay
    >>> X, y = make_friedman1(600, random_state=0)
    >>> node = np.arange(600) % 6
    >>> alone = DecentralizedRFKRR(graph="ring", consensus_weight=0, random_state=0)
    >>> krr = DecentralizedRFKRR(graph="ring", random_state=0).fit(X, y, node=node)
    >>> display = NetworkDisplay.from_estimator(
    ...     krr, X, y, node=node, baseline=alone.fit(X, y, node=node)
    ... )
    >>> list(display.errors)
    ['before', 'after']
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        *,
        adjacency: FloatArray,
        nodes: Array,
        errors: dict[str, FloatArray],
        measure: str,
        positions: FloatArray,
    ) -> None:
        self.adjacency = adjacency
        self.nodes = nodes
        self.errors = errors
        self.measure = measure
        self.positions = positions

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        y: ArrayLike,
        *,
        node: ArrayLike,
        baseline: Any = None,
        positions: ArrayLike | None = None,
        axes: "Sequence[Axes] | None" = None,
    ) -> Self:
        """Compute the error of every node on its own samples and draw the graph.

        Parameters
        ----------
        estimator : DecentralizedRFKRR or DecentralizedRFClassifier
            A fitted estimator, or a pipeline that ends in one.
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples, preferably held out from training.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets or labels.
        node : array-like of shape (n_samples,)
            Node of each sample.
        baseline : estimator, default=None
            A fitted estimator for the panel "before", such as one with ``consensus_weight=0``;
            None draws only one panel.
        positions : array-like of shape (n_nodes, 2), default=None
            Coordinates of the nodes in the plot; None puts them on a circle.
        axes : sequence of matplotlib Axes, default=None
            Axes to plot on, one per panel; None makes a new figure.

        Returns
        -------
        NetworkDisplay

        Raises
        ------
        NotFittedError
            If an estimator is not fitted.
        ValueError
            If `axes` does not have one entry per panel.
        """
        panels = {} if baseline is None else {"before": baseline}
        panels["after"] = estimator
        _, estimator = split_pipeline(estimator)
        check_is_fitted(estimator, "adjacency_")
        n_nodes = len(estimator.nodes_)
        if positions is None:
            angles = 2.0 * np.pi * np.arange(n_nodes) / n_nodes
            positions = np.column_stack((np.sin(angles), np.cos(angles)))
        return cls(
            adjacency=estimator.adjacency_,
            nodes=estimator.nodes_,
            errors={
                title: _own_errors(model, X, y, np.asarray(node), estimator.nodes_)
                for title, model in panels.items()
            },
            measure="error rate" if is_classifier(estimator) else "root mean squared error",
            positions=np.asarray(positions, dtype=float),
        ).plot(axes=axes)

    def plot(self, *, axes: "Sequence[Axes] | None" = None) -> Self:
        """Draw one panel for each set of errors, with one color scale.

        Parameters
        ----------
        axes : sequence of matplotlib Axes, default=None
            Axes to plot on, one per panel; None makes a new figure.

        Returns
        -------
        NetworkDisplay

        Raises
        ------
        ValueError
            If `axes` does not have one entry per panel.
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        n_panels = len(self.errors)
        if axes is None:
            _, axes = plt.subplots(
                1, n_panels, figsize=(4 * n_panels + 0.8, 4), layout="constrained"
            )
        self.axes_ = check_axes(axes, n_panels, "panel")
        values = np.concatenate(list(self.errors.values()))
        limits = {"vmin": np.nanmin(values), "vmax": np.nanmax(values)}
        edges = np.argwhere(np.triu(self.adjacency) > 0)
        self.points_ = []
        for ax, (title, errors) in zip(self.axes_, self.errors.items(), strict=True):
            for pair in edges:
                ax.plot(*self.positions[pair].T, color="0.8", linewidth=1, zorder=1)
            points = ax.scatter(*self.positions.T, c=errors, s=420, zorder=2, **limits)
            for label, (x, y) in zip(self.nodes, self.positions, strict=True):
                ax.annotate(str(label), (x, y), color="white", ha="center", va="center", fontsize=8)
            ax.set(title=title, aspect="equal")
            ax.margins(0.15)
            ax.axis("off")
            self.points_.append(points)
        self.figure_ = self.axes_[0].figure
        self.figure_.colorbar(self.points_[-1], ax=list(self.axes_), label=self.measure)
        return self


def _own_errors(
    estimator: Any, X: ArrayLike, y: ArrayLike, node: Array, nodes: Array
) -> FloatArray:
    before, estimator = split_pipeline(estimator)
    predicted = np.asarray(estimator.predict(before(X), node=node))
    if is_classifier(estimator):
        losses = (predicted != np.asarray(y)).astype(float)
    else:
        squares = (predicted - np.asarray(y)) ** 2
        losses = squares.reshape(len(squares), -1).mean(axis=1)
    errors = np.array(
        [losses[node == label].mean() if (node == label).any() else np.nan for label in nodes]
    )
    return errors if is_classifier(estimator) else np.sqrt(errors)
