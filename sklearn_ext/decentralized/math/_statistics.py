r"""Sums over the samples of a node, from which the network's problem is assembled.

Let :math:`Z_i = Z_i(X_j)` be the features of node i's map at the samples of node j, and :math:`W`
the sample weights. The sums of node j are

.. math::
    G_{jj} = Z_j^TWZ_j, \quad C_{ji} = Z_j^TWZ_i, \quad G_{ij} = Z_i^TWZ_i, \quad
    m_j = Z_j^TWY_j, \quad s_j = Z_j^TW1

for its neighbors i. All of them are additive: samples that arrive later are added, and the samples
of a cross-validation fold are subtracted.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from ...utils._typing import FloatArray
from ._engine import DeKRREngine, EngineArray, Samples
from ._random_features import FeatureMap, chunks, load_map, local_width


@dataclass(frozen=True, eq=False)
class NodeStatistics:
    """Sums over the samples of one node j.

    Attributes
    ----------
    weight : float
        Sum of the sample weights.
    y_sum : array of shape (k,)
        Weighted sum of the targets.
    y_square : float
        Weighted sum of squares of all targets.
    feature_sum : array of shape (D_j,)
        :math:`s_j`.
    moment : array of shape (D_j, k)
        :math:`m_j`.
    gram : array of shape (D_j, D_j)
        :math:`G_{jj}`.
    cross : dict of int to array of shape (D_j, D_i)
        :math:`C_{ji}` for every neighbor i.
    neighbor_gram : dict of int to array of shape (D_i, D_i)
        :math:`G_{ij}` for every neighbor i.
    """

    weight: float
    y_sum: EngineArray
    y_square: float
    feature_sum: EngineArray
    moment: EngineArray
    gram: EngineArray
    cross: dict[int, EngineArray]
    neighbor_gram: dict[int, EngineArray]

    def _map(self, function: Callable[..., Any], *others: "NodeStatistics") -> "NodeStatistics":
        """Apply a function to every field, and to every neighbor's array."""
        combined: list[Any] = []
        for f in fields(self):
            values = [getattr(statistics, f.name) for statistics in (self, *others)]
            if isinstance(values[0], dict):
                combined.append({i: function(*(value[i] for value in values)) for i in values[0]})
            else:
                combined.append(function(*values))
        return NodeStatistics(*combined)

    def __add__(self, other: "NodeStatistics") -> "NodeStatistics":
        return self._map(lambda a, b: a + b, other)

    def __sub__(self, other: "NodeStatistics") -> "NodeStatistics":
        return self._map(lambda a, b: a - b, other)

    def convert(self, function: Callable[[EngineArray], EngineArray]) -> "NodeStatistics":
        """Apply a function, such as ``engine.to_numpy``, to every array."""
        return self._map(lambda value: value if isinstance(value, float) else function(value))

    def target(self, mean: EngineArray) -> EngineArray:
        r"""Return the moment of the targets minus `mean`: :math:`m_j - s_j \bar y^T`."""
        return self.moment - self.feature_sum[:, None] * mean

    def energy(self, mean: EngineArray) -> float:
        """Return the weighted sum of squares of the targets minus `mean`."""
        shift = float((mean * (2.0 * self.y_sum - self.weight * mean)).sum())
        return max(self.y_square - shift, 0.0)


def node_statistics(
    X: Samples,
    Y: FloatArray,
    weights: FloatArray,
    own: FeatureMap,
    neighbors: Mapping[int, FeatureMap],
    engine: DeKRREngine,
) -> NodeStatistics:
    """Compute the sums over the samples of one node, in chunks.

    Parameters
    ----------
    X : ndarray or CSR matrix of shape (n, d)
    Y : ndarray of shape (n, k)
    weights : ndarray of shape (n,)
    own : FeatureMap
        Map of the node.
    neighbors : dict of int to FeatureMap
        Maps of the neighbors.
    engine : DeKRREngine

    Returns
    -------
    NodeStatistics
    """
    frequencies, phases = load_map(own, engine)
    loaded = {i: load_map(z, engine) for i, z in neighbors.items()}
    size, n_outputs = own.n_components, Y.shape[1]
    moment, feature_sum = engine.zeros(size, n_outputs), engine.zeros(size)
    gram = engine.zeros(size, size)
    neighbor_gram = {i: engine.zeros(z.n_components, z.n_components) for i, z in neighbors.items()}
    cross = {i: engine.zeros(size, z.n_components) for i, z in neighbors.items()}
    unweighted = bool((weights == 1.0).all())
    for chunk in chunks(X.shape[0], size, engine):
        samples, targets = engine.samples(X[chunk]), engine.asarray(Y[chunk])
        root = None if unweighted else engine.asarray(weights[chunk, None] ** 0.5)
        Z = engine.features(samples, frequencies, phases)
        if root is None:
            feature_sum += Z.sum(0)
        else:
            Z *= root
            targets = targets * root
            feature_sum += (Z * root).sum(0)
        moment += engine.asarray(Z.T) @ targets
        gram += Z.T @ Z
        for i, (their_frequencies, their_phases) in loaded.items():
            Z_i = engine.features(samples, their_frequencies, their_phases)
            if root is not None:
                Z_i *= root
            cross[i] += Z.T @ Z_i
            neighbor_gram[i] += Z_i.T @ Z_i
    weighted = Y * weights[:, None]
    return NodeStatistics(
        weight=float(weights.sum()),
        y_sum=engine.asarray(weighted.sum(axis=0)),
        y_square=float((weighted * Y).sum()),
        feature_sum=feature_sum,
        moment=moment,
        gram=gram,
        cross=cross,
        neighbor_gram=neighbor_gram,
    )


def network_mean(statistics: Sequence[NodeStatistics], fit_intercept: bool = True) -> EngineArray:
    """Return the weighted mean of the targets over all nodes; zero without an intercept."""
    if not fit_intercept:
        return 0.0 * statistics[0].y_sum
    total = sum(part.weight for part in statistics)
    return sum(part.y_sum for part in statistics) / total


class NetworkSummary(NamedTuple):
    r"""Values that the nodes agree on before the first round.

    Attributes
    ----------
    total_weight : float
        Sum of the sample weights of all nodes.
    mean : ndarray of shape (k,)
        Mean of the targets over the network; zero without an intercept.
    energy : float
        Weighted sum of squares of the targets minus the mean.
    gamma : float
        Coefficient of the kernel, :math:`\gamma = 1 / (2 \bar\sigma^2)`.
    errors : ndarray of shape (n_candidates,)
        Squared errors on held-out samples; empty if no selections are compared.
    samples_per_node : float
        Mean over the nodes of the sum of the sample weights, :math:`N / J`.
    ridge : float
        Ridge of every node, :math:`\kappa = \lambda N / J`.
    weights : ndarray of shape (J,)
        Sum of the sample weights of every node.
    """

    total_weight: float
    mean: FloatArray
    energy: float
    gamma: float
    errors: FloatArray
    samples_per_node: float
    ridge: float
    weights: FloatArray


def announcement(
    X: Samples,
    Y: FloatArray,
    weights: FloatArray,
    *,
    gamma: float | str,
    rng: np.random.Generator,
    errors: Sequence[float] = (),
) -> FloatArray:
    """Compute the values that a node announces to the whole network.

    Parameters
    ----------
    X : ndarray or CSR matrix of shape (n, d)
    Y : ndarray of shape (n, k)
    weights : ndarray of shape (n,)
    gamma : {"median", "scale"} or float
        A string requests the width of the node's inputs.
    rng : numpy.random.Generator
    errors : sequence of float, default=()
        Squared errors on held-out samples.

    Returns
    -------
    ndarray of shape (k + 3 + n_candidates,)
        See :func:`pack_announcement`; the width is NaN if `gamma` is a number.
    """
    weighted = Y * weights[:, None]
    width = local_width(gamma, X, rng) if isinstance(gamma, str) else np.nan
    square = float((weighted * Y).sum())
    return pack_announcement(float(weights.sum()), weighted.sum(axis=0), square, width, errors)


def pack_announcement(
    weight: float,
    y_sum: FloatArray,
    y_square: float,
    width: float = np.nan,
    errors: Sequence[float] = (),
) -> FloatArray:
    """Return the weight, the sum of squared targets, the width, the errors and `y_sum`."""
    return np.array([weight, y_square, width, *errors, *y_sum])


def summarize(
    announcements: FloatArray,
    *,
    n_outputs: int,
    gamma: float | str,
    alpha: float,
    fit_intercept: bool,
) -> NetworkSummary:
    """Combine the announcements of all nodes.

    Parameters
    ----------
    announcements : ndarray of shape (J, k + 3 + n_candidates)
        A row is NaN if nothing has arrived from its node.
    n_outputs : int
        k.
    gamma : {"median", "scale"} or float
        A string requests the mean width of the nodes' inputs.
    alpha : float
    fit_intercept : bool

    Returns
    -------
    NetworkSummary
    """
    known = announcements[~np.isnan(announcements[:, 0])]
    total = known[:, 0].sum()
    mean = known[:, -n_outputs:].sum(axis=0) / total
    energy = known[:, 1].sum()
    if fit_intercept:
        energy = max(energy - total * float(mean @ mean), 0.0)
    else:
        mean = np.zeros_like(mean)
    if isinstance(gamma, str):
        widths = known[:, 2][~np.isnan(known[:, 2])]
        gamma = 0.5 / widths.mean() ** 2 if len(widths) else 1.0
    errors = np.nansum(known[:, 3:-n_outputs], axis=0)
    per_node = total / len(known)
    weights = announcements[:, 0]
    return NetworkSummary(total, mean, energy, gamma, errors, per_node, alpha * per_node, weights)
