"""The samples of the nodes, and the computations of a node on its own samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse
from sklearn.utils.validation import column_or_1d

from ..utils._rows import merge_duplicate_rows
from ..utils._typing import Array, FloatArray, IntArray
from ..utils._validation import check_all_labeled
from ._config import DeKRRConfig
from .math._cross_validation import squared_error
from .math._engine import DeKRREngine
from .math._random_features import FeatureMap, local_width, select_map
from .math._statistics import (
    NetworkSummary,
    NodeStatistics,
    announcement,
    node_statistics,
    summarize,
)

# Selections that "auto" compares, and factors of the kernel's coefficient.
SELECTION_CANDIDATES = (
    ("energy_pairs", 1.0),
    *(("plain", 4.0**-power) for power in range(1, 5)),
)
CLEARLY_BETTER = 0.55
_MOST_COMPARED = 2000  # samples of a node
_COMPARED_RIDGES = (1e-6, 1e-5, 1e-4, 1e-3)  # per sample


@dataclass(frozen=True, eq=False)
class NodeSamples:
    """Distinct samples of one node.

    Identical samples are merged, and their weights are added. The order of the samples depends only
    on their content. Random draws from the samples therefore depend neither on the order of the
    table nor on whether a sample occurs twice or has the weight 2.

    Parameters
    ----------
    X : ndarray or CSR matrix of shape (n, d)
        Inputs.
    Y : ndarray of shape (n, k)
        Targets.
    weights : ndarray of shape (n,)
        Positive sample weights.
    index : ndarray of int of shape (n,)
        Positions of the samples in the table of all nodes.

    Examples
    --------
    >>> from sklearn_ext.decentralized import NodeSamples
    >>> samples = NodeSamples.from_arrays([[1.0], [2.0], [1.0]], [5.0, 6.0, 5.0])
    >>> samples.X.ravel(), samples.weights
    (array([1., 2.]), array([2., 1.]))
    """

    X: Any
    Y: FloatArray
    weights: FloatArray
    index: IntArray

    @classmethod
    def from_arrays(
        cls, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> "NodeSamples":
        """Create the samples of a node from a table.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n_samples, n_features)
            Inputs.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Samples of weight zero are left out.

        Returns
        -------
        NodeSamples
        """
        X = X if sparse.issparse(X) else np.asarray(X)
        Y = np.asarray(y, dtype=np.float64)
        Y = Y[:, None] if Y.ndim == 1 else Y
        weights = np.ones(len(Y)) if sample_weight is None else np.asarray(sample_weight, float)
        index, merged = distinct_samples(X, Y, weights)
        return cls(X[index], Y[index], merged, index)

    def take(self, selected: IntArray) -> "NodeSamples":
        """Return some of the samples.

        Parameters
        ----------
        selected : ndarray of int
            Positions among the samples of this node.

        Returns
        -------
        NodeSamples
        """
        return NodeSamples(
            self.X[selected], self.Y[selected], self.weights[selected], self.index[selected]
        )

    def minus(self, offset: FloatArray) -> "NodeSamples":
        """Subtract an offset from the targets.

        Parameters
        ----------
        offset : ndarray of shape (k,)

        Returns
        -------
        NodeSamples
        """
        return replace(self, Y=self.Y - offset)


def distinct_samples(X: Any, Y: FloatArray, weights: FloatArray) -> tuple[IntArray, FloatArray]:
    """Merge identical samples of a table and leave out samples of weight zero.

    Returns
    -------
    index : ndarray of int of shape (n_distinct,)
    weights : ndarray of shape (n_distinct,)
    """
    if not weights.any():
        return np.empty(0, dtype=np.intp), np.empty(0)
    return merge_duplicate_rows(X, Y, weights)


def check_labels(node: ArrayLike, n_samples: int) -> Array:
    """Check that every sample has a node label, and that all labels have one type."""
    labels = column_or_1d(node)
    if len(labels) != n_samples:
        raise ValueError(
            f"node must have one label per sample, got {len(labels)} labels for {n_samples} "
            "samples."
        )
    check_all_labeled(labels, name="node")
    try:
        np.sort(labels)
    except TypeError as error:
        kinds = sorted({type(label).__name__ for label in labels})
        raise ValueError(
            f"node must have labels of one type, which can be sorted, got {' and '.join(kinds)}."
        ) from error
    return labels


def encode_nodes(node: Any, n_samples: int, nodes: Array) -> IntArray:
    """Convert one label, or one label per sample, to positions in the sorted labels `nodes`.

    Raises
    ------
    ValueError
        If a label is unknown, or the number of labels is neither one nor the number of samples.
    """
    if np.ndim(node) == 0:
        node = np.full(n_samples, node)
    labels = check_labels(node, n_samples)
    unknown = np.setdiff1d(labels, nodes)
    if len(unknown):
        raise ValueError(
            f"node must be one of the fitted nodes {nodes.tolist()}, got {unknown.tolist()[0]!r}."
        )
    return np.searchsorted(nodes, labels)


def group_by_node(
    X: Any,
    Y: FloatArray,
    weights: FloatArray,
    codes: IntArray,
    labels: Sequence[Any],
    *,
    keep_empty: bool = False,
) -> list[NodeSamples]:
    """Assign every sample to the node given by its code.

    Parameters
    ----------
    X : ndarray or CSR matrix of shape (n, d)
    Y : ndarray of shape (n, k)
    weights : ndarray of shape (n,)
    codes : ndarray of shape (n,)
        Positions of the nodes in `labels`.
    labels : list of J labels
    keep_empty : bool, default=False
        Whether to allow nodes without samples.

    Returns
    -------
    list of J NodeSamples

    Raises
    ------
    ValueError
        If a node has no sample of positive weight and `keep_empty` is False.
    """
    nodes = []
    for j, label in enumerate(labels):
        members = np.flatnonzero(codes == j)
        own = NodeSamples.from_arrays(X[members], Y[members], weights[members])
        if not len(own.index) and not keep_empty:
            raise ValueError(
                f"Every node must have a sample of positive weight, but node {label!r} has none."
            )
        nodes.append(replace(own, index=members[own.index]))
    return nodes


def deal_samples(
    X: Any,
    Y: FloatArray,
    weights: FloatArray,
    n_nodes: int,
    rng: np.random.RandomState,
    *,
    keep_empty: bool = False,
) -> list[NodeSamples]:
    """Assign distinct samples to nodes at random, as evenly as possible.

    Returns
    -------
    list of NodeSamples
        One entry per node. With fewer distinct samples than nodes, each sample gets its own node,
        unless `keep_empty` is True.
    """
    index, merged = distinct_samples(X, Y, weights)
    if not keep_empty:
        n_nodes = min(n_nodes, len(index))
    pieces = np.array_split(rng.permutation(len(index)), n_nodes)
    return [
        NodeSamples(X[index[piece]], Y[index[piece]], merged[piece], index[piece])
        for piece in map(np.sort, pieces)
    ]


def announce(
    samples: NodeSamples, config: DeKRRConfig, j: int, rng: np.random.Generator, engine: DeKRREngine
) -> FloatArray:
    """Compute the values that node j announces to the network."""
    errors: list[float] = []
    if config.compares_selections:
        errors = held_out_errors(samples, config, j, rng, engine)
    return announcement(
        samples.X, samples.Y, samples.weights, gamma=config.width_rule, rng=rng, errors=errors
    )


def summarize_network(
    announced: FloatArray, config: DeKRRConfig, n_outputs: int
) -> tuple[NetworkSummary, DeKRRConfig]:
    """Combine the announcements of all nodes, and settle how they select their features.

    Unselected features of a wider kernel replace the default only if they are clearly better
    without any exchange. The comparison favors smooth functions, because every node is alone and
    lacks the samples that it held out.
    """
    summary = summarize(
        announced,
        n_outputs=n_outputs,
        gamma=config.width_rule,
        alpha=config.first_alpha,
        fit_intercept=config.fit_intercept,
    )
    if config.feature_selection != "auto" or config.gamma == "cv":
        return summary, config
    selection = "energy_pairs"
    if len(summary.errors):
        best = int(np.argmin(summary.errors))
        if summary.errors[best] < CLEARLY_BETTER * summary.errors[0]:
            selection = "plain"
            summary = summary._replace(gamma=summary.gamma * SELECTION_CANDIDATES[best][1])
    return summary, replace(config, feature_selection=selection)


def held_out_errors(
    samples: NodeSamples, config: DeKRRConfig, j: int, rng: np.random.Generator, engine: DeKRREngine
) -> list[float]:
    """Return the squared error of every selection candidate on a third of the samples of node j.

    Every candidate has its best ridge, so that only the features differ. The errors are NaN
    if the node has too few samples, or if its samples do not vary.
    """
    chosen = rng.permutation(len(samples.index))[:_MOST_COMPARED]
    n_held_out = len(chosen) // 3
    width = local_width(str(config.gamma), samples.X, rng)
    if not n_held_out or np.isnan(width):
        return [np.nan] * len(SELECTION_CANDIDATES)
    test, train = samples.take(chosen[:n_held_out]), samples.take(chosen[n_held_out:])
    mean = np.average(train.Y, axis=0, weights=train.weights)
    test, train = test.minus(mean), train.minus(mean)
    errors = []
    for selection, factor in SELECTION_CANDIDATES:
        own = select_node_map(
            train,
            replace(config, feature_selection=selection),
            j,
            0.5 / width**2 * factor,
            rng,
            engine,
        )
        known, unknown = (sum_over_samples(part, own, {}, engine) for part in (train, test))
        zero, identity = engine.asarray(0.0 * mean), engine.asarray(np.eye(own.n_components))
        fits = [
            engine.solve(engine.cholesky(known.gram + ridge * identity), known.moment)
            for ridge in np.array(_COMPARED_RIDGES) * train.weights.sum()
        ]
        errors.append(min(squared_error(unknown, theta, zero) for theta in fits))
    return errors


def select_node_map(
    samples: NodeSamples,
    config: DeKRRConfig,
    j: int,
    gamma: float,
    rng: np.random.Generator,
    engine: DeKRREngine,
) -> FeatureMap:
    """Select the features of node j on its samples, whose targets must be centered."""
    return select_map(
        samples.X,
        samples.Y,
        samples.weights,
        kind=config.feature_selection,
        gamma=gamma,
        n_components=int(config.sizes[j]),
        oversampling=config.oversampling,
        ridge=config.first_alpha * samples.weights.sum(),
        rng=rng,
        engine=engine,
    )


def sum_over_samples(
    samples: NodeSamples,
    own: FeatureMap,
    neighbor_maps: Mapping[int, FeatureMap],
    engine: DeKRREngine,
) -> NodeStatistics:
    """Compute the sums over the samples of a node."""
    return node_statistics(samples.X, samples.Y, samples.weights, own, neighbor_maps, engine)
