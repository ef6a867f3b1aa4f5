"""One exchange of noisy sums: fitting nodes with a guarantee of differential privacy."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from ..utils._typing import FloatArray
from ._communication import byte_report, cost_report, passed_on
from ._config import DeKRRConfig, node_generator
from ._node_samples import NodeSamples, sum_over_samples
from ._result import DeKRRResult
from .math._engine import make_engine
from .math._privacy import (
    SENSITIVITY,
    gaussian_noise_scale,
    positive_part,
    release_sums,
    shared_map,
)
from .math._random_features import FeatureMap
from .network._neighbors import Neighbors
from .network._node import agree
from .network._settings import check_settings, describe_settings
from .network._transport import Network, Transport

_N_FOLDS = 5
_WEIGHTS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of the sums of the other nodes
_NOISE_RIDGES = (0.3, 1.0, 3.0)  # in units of the noise's spectral norm
_RIDGES = (1e-6, 1e-5, 1e-4, 1e-3)  # per sample of the node


@dataclass(frozen=True)
class GaussianRelease:
    r"""A single release of every node's sums by the Gaussian mechanism.

    The messages of a node are differentially private: adding or removing one of its samples changes
    the probability of any set of messages by a factor of at most :math:`e^\epsilon`, up to
    :math:`\delta`. The noise follows Balle and Wang's exact calibration [1]_.

    Parameters
    ----------
    epsilon : float
        Privacy loss of one release.
    delta : float, default=1e-5
        Probability with which the loss may be larger; choose a value well below the reciprocal of
        the number of samples of a node.
    target_range : tuple of float, default=(-1.0, 1.0)
        Smallest and largest target, known without looking at the samples. Targets outside this
        range are clipped.
    random_state : int or None, default=None
        Seeds the noise, for tests. **Whoever knows the seed can remove the noise**; None draws from
        the operating system.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    Notes
    -----
    The guarantee is for one fit. With k fits on the same samples, epsilon and delta add up to at
    most k times these values. It covers everything that a node sends, but not the node's own
    function, which also uses its own samples without noise and must stay at the node. The noise is
    drawn in double precision, whose rounding the guarantee ignores.

    References
    ----------
    .. [1] B. Balle, Y.-X. Wang, "Improving the Gaussian Mechanism for Differential Privacy:
       Analytical Calibration and Optimal Denoising", ICML 2018, arXiv:1805.06530.

    Examples
    --------
    >>> from sklearn_ext.decentralized import GaussianRelease
    >>> print(f"{GaussianRelease(epsilon=3.0).noise_scale:.3f}")
    1.967
    """

    epsilon: float
    delta: float = 1e-5
    target_range: tuple[float, float] = (-1.0, 1.0)
    random_state: int | None = None

    def __post_init__(self) -> None:
        low, high = self.target_range
        if not -np.inf < low < high < np.inf:
            raise ValueError(
                "target_range must be two finite numbers in ascending order, got "
                f"{self.target_range!r}."
            )
        gaussian_noise_scale(self.epsilon, self.delta)

    @property
    def noise_scale(self) -> float:
        """Standard deviation of the noise on the released sums."""
        return gaussian_noise_scale(self.epsilon, self.delta, SENSITIVITY)


def solve_dekrr_privately(
    samples: Mapping[int, NodeSamples],
    config: DeKRRConfig,
    release: GaussianRelease,
    *,
    network: Network | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> DeKRRResult:
    r"""Fit nodes that release noisy sums once and exchange nothing else.

    All nodes share one random map. Node j adds the sums of the others, weighted by w, to its own
    exact sums and solves

    .. math::
        \Big(G_j + w \big[\sum_{i \ne j} \tilde G_i\big]_+ + (\kappa + w\rho) I\Big)\theta_j
        = m_j + w \sum_{i \ne j} \tilde m_i .

    By cross-validation on its own samples, the node chooses :math:`w`, the ridge :math:`\kappa` and
    the ridge :math:`\rho`, which counters the noise. The candidates include :math:`w = 0`, ridge
    regression on its own samples.

    Parameters
    ----------
    samples : dict of int to NodeSamples
        Samples of the nodes that this process holds, with one output and no sample weights other
        than the counts of equal samples.
    config : DeKRRConfig
        The graph, `n_components` (one number) and `gamma` (a number); the other parameters have no
        effect.
    release : GaussianRelease
        Privacy parameters, the same at every node.
    network : InProcessNetwork, TorchDistributedNetwork or None, default=None
        Network that carries the sums.
    seed : int, default=0
        Seed of the shared map, the same at every node.
    settings : dict of str to JSON values, default=None
        Settings that the nodes compare before the exchange, in addition to `config` and `release`.

    Returns
    -------
    DeKRRResult

    Raises
    ------
    ValueError
        If `gamma` or `n_components` depends on the samples or on the node, or y has several
        outputs.

    Examples
    --------
    >>> from sklearn.datasets import make_friedman1
    >>> from sklearn_ext.decentralized import (
    ...     DeKRRConfig, GaussianRelease, NodeSamples, make_graph, solve_dekrr_privately
    ... )
    >>> X, y = make_friedman1(4000, random_state=0)
    >>> samples = {k: NodeSamples.from_arrays(X[k::8], y[k::8]) for k in range(8)}
    >>> config = DeKRRConfig(make_graph("ring", 8), n_components=21, gamma=0.2)
    >>> release = GaussianRelease(epsilon=3.0, target_range=(0, 30), random_state=0)
    >>> result = solve_dekrr_privately(samples, config, release)
    >>> result.coefs[0].shape
    (21, 1)
    """
    first = next(iter(samples.values()))
    _check_private(config, first)
    z = shared_map(
        first.X.shape[1],
        int(config.sizes[0]),
        float(config.gamma),
        np.random.default_rng(np.random.SeedSequence(seed)),
    )
    nodes = {j: _PrivateNode(j, part, z, release, seed) for j, part in samples.items()}
    costs = np.zeros((4, config.n_nodes, config.n_nodes), dtype=np.int64)
    failed: set[int] = set()
    bytes_sent = None
    if network is None:
        known = np.stack([nodes[j].released for j in range(config.n_nodes)])
        coefs = {j: node.solve(known) for j, node in nodes.items()}
        costs[0] = passed_on(config) * (known.shape[1] + 1)
    else:
        shared = {
            "seed": seed,
            "epsilon": release.epsilon,
            "delta": release.delta,
            "target_range": list(release.target_range),
        }
        programs = {
            j: partial(_exchange, node, samples[j], config, network, shared | dict(settings or {}))
            for j, node in nodes.items()
        }
        coefs = {}
        for j, outcome in network.run(programs).items():
            if outcome is not None:
                coefs[j], costs[0, j], costs[2, j], lost = outcome
                failed |= set(lost)
        bytes_sent = byte_report(costs[2], costs[3])
    return DeKRRResult(
        maps=[z if j in coefs else None for j in range(config.n_nodes)],
        coefs=[coefs[j].theta[:, None] if j in coefs else None for j in range(config.n_nodes)],
        mean=np.array([np.mean(release.target_range)]),
        gamma=float(config.gamma),
        alpha=config.first_alpha,
        feature_selection="plain",
        consensus_weight=float(np.mean([fit.weight for fit in coefs.values()])),
        n_iter=1,
        converged=True,
        objective_curve=np.array([sum(fit.objective for fit in coefs.values())]),
        disagreement_curve=np.array([np.nan]),
        communication=cost_report(costs[0], costs[1], costs[0]),
        bytes_sent=bytes_sent,
        memories={},
        failed=tuple(sorted(failed)),
    )


def _check_private(config: DeKRRConfig, samples: NodeSamples) -> None:
    if isinstance(config.gamma, str):
        raise ValueError(
            f"gamma must be a number with privacy, got {config.gamma!r}: a rule depends on the "
            "samples of the nodes."
        )
    if len(set(config.sizes.tolist())) > 1 or config.sizes[0] < 3:
        raise ValueError(
            "n_components must be one number of at least 3 with privacy, got "
            f"{config.n_components!r}: all nodes share one map."
        )
    if samples.Y.shape[1] > 1:
        raise ValueError(f"y must have one output with privacy, got {samples.Y.shape[1]}.")


@dataclass(frozen=True, eq=False)
class _PrivateFit:
    """Coefficients of a node, the weight that it chose, and its squared error."""

    theta: FloatArray
    weight: float
    objective: float


class _PrivateNode:
    """The sums of one node, with and without noise."""

    def __init__(
        self, rank: int, samples: NodeSamples, z: FeatureMap, release: GaussianRelease, seed: int
    ):
        low, high = release.target_range
        self._half = (high - low) / 2.0
        targets = (np.clip(samples.Y, low, high) - (low + high) / 2.0) / self._half
        self.rank, self._noise_scale = rank, release.noise_scale
        n_samples, engine = len(targets), make_engine()
        folds = np.empty(n_samples, dtype=int)
        folds[node_generator(seed, rank).permutation(n_samples)] = np.arange(n_samples) % _N_FOLDS
        scaled = NodeSamples(samples.X, targets, samples.weights, samples.index)
        self._folds = [
            sum_over_samples(scaled.take(np.flatnonzero(folds == fold)), z, {}, engine)
            for fold in range(min(_N_FOLDS, n_samples))
        ]
        self._gram = sum(part.gram for part in self._folds)
        self._moment = sum(part.moment[:, 0] for part in self._folds)
        self._weight = sum(part.weight for part in self._folds)
        noise = (
            np.random.default_rng()
            if release.random_state is None
            else node_generator(release.random_state, rank)
        )
        gram, moment = release_sums(self._gram, self._moment, self._noise_scale, noise)
        self.released = np.concatenate((gram[np.triu_indices(len(gram))], moment))

    def solve(self, released: FloatArray) -> _PrivateFit:
        """Combine the sums of this node with the release of the others, (J, n_released)."""
        size = len(self._moment)
        others = np.delete(released, self.rank, axis=0)
        others = others[~np.isnan(others[:, 0])]
        total = others.sum(axis=0)
        upper = np.zeros((size, size))
        upper[np.triu_indices(size)] = total[:-size]
        gram = positive_part(upper + np.triu(upper, 1).T)
        moment = total[-size:]
        # A symmetric matrix of independent normal entries has about this norm.
        spectral = self._noise_scale * (2.0 * size * len(others)) ** 0.5
        candidates = [(0.0, 0.0, ridge) for ridge in _RIDGES]
        if len(others):
            candidates += [
                (weight, factor * spectral, ridge)
                for weight, factor, ridge in product(_WEIGHTS, _NOISE_RIDGES, _RIDGES)
            ]
        errors = [self._held_out_error(gram, moment, *candidate) for candidate in candidates]
        weight, noise_ridge, ridge = candidates[int(np.argmin(errors))]
        theta = self._coefs(
            self._gram, self._moment, gram, moment, weight, noise_ridge, ridge * self._weight
        )
        objective = self._squared_error(theta, self._gram, self._moment)
        objective += sum(part.y_square for part in self._folds)
        return _PrivateFit(theta * self._half, weight, objective * self._half**2)

    def _held_out_error(
        self,
        gram: FloatArray,
        moment: FloatArray,
        weight: float,
        noise_ridge: float,
        ridge: float,
    ) -> float:
        """Return the squared error over all folds, up to a constant."""
        if len(self._folds) == 1:
            return -weight  # a single sample cannot be held out, so the largest weight is chosen
        total = 0.0
        for part in self._folds:
            theta = self._coefs(
                self._gram - part.gram,
                self._moment - part.moment[:, 0],
                gram,
                moment,
                weight,
                noise_ridge,
                ridge * (self._weight - part.weight),
            )
            total += self._squared_error(theta, part.gram, part.moment[:, 0])
        return total

    @staticmethod
    def _coefs(
        own_gram: FloatArray,
        own_moment: FloatArray,
        gram: FloatArray,
        moment: FloatArray,
        weight: float,
        noise_ridge: float,
        ridge: float,
    ) -> FloatArray:
        A = own_gram + weight * gram
        A[np.diag_indices_from(A)] += ridge + weight * noise_ridge
        return np.linalg.solve(A, own_moment + weight * moment)

    @staticmethod
    def _squared_error(theta: FloatArray, gram: FloatArray, moment: FloatArray) -> float:
        return float(theta @ (gram @ theta - 2.0 * moment))


def _exchange(
    node: _PrivateNode,
    samples: NodeSamples,
    config: DeKRRConfig,
    network: Network,
    settings: Mapping[str, Any],
    transport: Transport,
) -> tuple[_PrivateFit, Any, Any, list[int]]:
    """Flood the network with the release of a node, and solve with those of the others."""
    rank = node.rank
    members = config.neighbors(rank)
    with Neighbors(transport, rank, members, config.n_nodes, network.timeout) as neighbors:
        own = describe_settings(config, samples, asynchronous=network.asynchronous, update=False)
        check_settings(neighbors.introduce(own | {"method": "private fit"} | dict(settings)))
        known = agree(neighbors, rank, node.released, config.adjacency)
        failed = neighbors.missing(known)
    return node.solve(known), neighbors.floats_sent, neighbors.bytes_sent, failed
