r"""Random Fourier features of the Gaussian kernel: maps, their selection, and the kernel's width.

The map of a node is :math:`z(x) = \sqrt{2/D}\,\cos(\Omega^T x + b) \in R^D`. With frequencies drawn
from :math:`N(0, 2\gamma I)` and phases from :math:`U[0, 2\pi)`, inner products of features
estimate :math:`\exp(-\gamma \lVert x - x' \rVert^2)`. In a map of pairs, every frequency occurs
twice, with phases 0 and :math:`-\pi/2`: the pair (cos, sin) can represent any phase.

A node draws ``oversampling * D`` candidates :math:`\omega_k` and keeps those that matter for its
targets, where :math:`w_n` are the sample weights:

- ``"energy_pairs"`` keeps the D / 2 (rounded up) largest
  :math:`\lVert \sum_n w_n y_n e^{i\omega_k^T x_n} \rVert`, as pairs of cosine and sine. The score
  does not depend on a phase.
- ``"energy"``, the rule of Yang et al., keeps the D largest
  :math:`\lVert \sum_n w_n y_n \cos(\omega_k^T x_n + \beta_k) \rVert` with random phases
  :math:`\beta_k`, and then draws new phases.
- ``"leverage"`` draws D candidates in proportion to their ridge leverage
  :math:`[Z^TZ (Z^TZ + \kappa I)^{-1}]_{kk}` and keeps their phases.
- ``"plain"`` takes the first D candidates.

Fitting the phase to the targets, or selecting greedily on the residual, overfits the samples of the
node and makes the predictions of its neighbors worse.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse
from sklearn.metrics import euclidean_distances
from sklearn.utils.sparsefuncs import mean_variance_axis

from ...utils._typing import FloatArray
from ._engine import DeKRREngine, EngineArray, Samples

SELECTIONS = ("energy_pairs", "energy", "leverage", "plain")
_BLOCK = 2048  # candidates that are drawn and scored at once
_MAX_WIDTH_SAMPLES = 500


class FeatureMap(NamedTuple):
    """Random features of one node.

    Attributes
    ----------
    frequencies : ndarray of shape (d, D)
    phases : ndarray of shape (D,)
    paired : bool
        Whether the features are pairs of a cosine and a sine.
    """

    frequencies: FloatArray
    phases: FloatArray
    paired: bool = False

    @property
    def n_components(self) -> int:
        """Number of features, D."""
        return len(self.phases)

    def to_message(self) -> FloatArray:
        """Pack the map for a neighbor; pairs need half of the frequencies and no phases."""
        if self.paired:
            return self.frequencies[:, : n_pairs(self.n_components)]
        return np.vstack((self.frequencies, self.phases))


def n_pairs(n_components: int) -> int:
    """Count the frequencies of a map of pairs; with an odd size, the last one has no sine."""
    return (n_components + 1) // 2


def paired_map(frequencies: FloatArray, n_components: int) -> FeatureMap:
    """Make the map of pairs (cos, sin) on frequencies of shape (d, n_pairs)."""
    sines = frequencies[:, : n_components // 2]
    phases = np.repeat((0.0, -np.pi / 2), (frequencies.shape[1], sines.shape[1]))
    return FeatureMap(np.hstack((frequencies, sines)), phases, True)


def rounded_map(z: FeatureMap) -> FeatureMap:
    """Round the numbers that a map sends to single precision."""
    message = z.to_message().astype(np.float32).astype(np.float64)
    return map_from_message(message, z.n_components, z.paired)


def map_from_message(message: FloatArray, n_components: int, paired: bool) -> FeatureMap:
    """Invert :meth:`FeatureMap.to_message`."""
    if paired:
        return paired_map(message, n_components)
    return FeatureMap(message[:-1], message[-1])


def message_shape(n_features: int, n_components: int, paired: bool) -> tuple[int, int]:
    """Return the shape of :meth:`FeatureMap.to_message`."""
    return (n_features, n_pairs(n_components)) if paired else (n_features + 1, n_components)


def chunks(n_samples: int, n_columns: int, engine: DeKRREngine) -> list[slice]:
    """Return slices of samples whose features, in `n_columns` columns, fit in one temporary."""
    step = max(64, engine.chunk_elements // max(1, n_columns))
    return [slice(start, min(start + step, n_samples)) for start in range(0, n_samples, step)]


def load_map(z: FeatureMap, engine: DeKRREngine) -> tuple[EngineArray, EngineArray]:
    """Convert the frequencies and the phases of a map to arrays of an engine."""
    return engine.asarray(z.frequencies), engine.asarray(z.phases)


def map_features(X: Samples, z: FeatureMap, engine: DeKRREngine) -> EngineArray:
    """Compute the features (n, D) of a few samples, such as the public anchors, in float64."""
    return engine.asarray(engine.features(engine.samples(X), *load_map(z, engine)))


def evaluate(
    X: Samples, maps: Sequence[FeatureMap], coefs: Sequence[FloatArray], engine: DeKRREngine
) -> FloatArray:
    r"""Evaluate :math:`f_j(x) = z_j(x)^T \theta_j` for several nodes.

    Parameters
    ----------
    X : ndarray or CSR matrix of shape (n, d)
    maps : list of J FeatureMap
    coefs : list of J ndarray of shape (D_j, k)
    engine : DeKRREngine

    Returns
    -------
    ndarray of shape (J, n, k)
    """
    out = np.empty((len(maps), X.shape[0], coefs[0].shape[1]))
    loaded = [(*load_map(z, engine), engine.asarray(c)) for z, c in zip(maps, coefs, strict=True)]
    for chunk in chunks(X.shape[0], max(z.n_components for z in maps), engine):
        samples = engine.samples(X[chunk])
        for values, (frequencies, phases, theta) in zip(out, loaded, strict=True):
            Z = engine.features(samples, frequencies, phases)
            values[chunk] = engine.to_numpy(engine.asarray(Z) @ theta)
    return out


def mean_values(
    X: Samples, maps: Sequence[FeatureMap], coefs: Sequence[FloatArray], engine: DeKRREngine
) -> FloatArray:
    """Average :func:`evaluate` over nodes to (n, k), in the memory of one chunk of samples."""
    out = np.empty((X.shape[0], coefs[0].shape[1]))
    for chunk in chunks(X.shape[0], sum(z.n_components for z in maps), engine):
        out[chunk] = evaluate(X[chunk], maps, coefs, engine).mean(axis=0)
    return out


def local_width(kind: str, X: Samples, rng: np.random.Generator) -> float:
    r"""Compute the width :math:`\sigma_j` of a node's inputs; NaN if they do not vary.

    Parameters
    ----------
    kind : {"median", "scale"}
        "median" is the median distance between (at most 500) samples. "scale" is
        :math:`\sqrt{d\,\mathrm{Var}(X_j) / 2}`, so that gamma is 1 / (d Var(X)).
    X : ndarray or CSR matrix of shape (n, d)
        Distinct samples.
    rng : numpy.random.Generator

    Returns
    -------
    float
    """
    if kind == "median":
        n = X.shape[0]
        chosen = np.arange(n)
        if n > _MAX_WIDTH_SAMPLES:
            chosen = rng.permutation(n)[:_MAX_WIDTH_SAMPLES]
        distances = euclidean_distances(X[chosen])[np.triu_indices(len(chosen), 1)]
        width = np.median(distances) if len(distances) else 0.0
    elif sparse.issparse(X):
        mean, variance = mean_variance_axis(X, axis=0)
        width = np.sqrt(X.shape[1] * (variance.mean() + mean.var()) / 2.0)
    else:
        width = np.sqrt(X.shape[1] * X.var(dtype=np.float64) / 2.0)
    return float(width) if width > 0 else np.nan


def select_map(
    X: Samples,
    Y: FloatArray,
    weights: FloatArray,
    *,
    kind: str,
    gamma: float,
    n_components: int,
    oversampling: float,
    ridge: float,
    rng: np.random.Generator,
    engine: DeKRREngine,
) -> FeatureMap:
    """Draw candidates and keep the best.

    Parameters
    ----------
    X : ndarray or CSR matrix of shape (n, d)
    Y : ndarray of shape (n, k)
        Targets, from which the mean over the network has been subtracted.
    weights : ndarray of shape (n,)
    kind : {"energy_pairs", "energy", "leverage", "plain"}
    gamma : float
        Coefficient of the kernel exp(-gamma ||x - x'||^2).
    n_components : int
        D. In a map of pairs with odd D, the last frequency has no sine.
    oversampling : float
        Number of candidates per feature.
    ridge : float
        Ridge of the leverage scores.
    rng : numpy.random.Generator
    engine : DeKRREngine

    Returns
    -------
    FeatureMap
    """
    candidates = _Candidates(rng, X.shape[1], np.sqrt(2.0 * gamma))
    n_candidates = max(n_components, round(oversampling * n_components))
    if kind == "plain":
        return FeatureMap(candidates.frequencies(n_components), candidates.phases(n_components))
    if kind == "leverage":
        return _by_leverage(X, weights, n_components, n_candidates, ridge, candidates, engine)
    weighted = Y * weights[:, None]
    if kind == "energy_pairs":
        n_kept = n_pairs(n_components)
        frequencies = _largest(X, weighted, n_kept, n_candidates, candidates, engine, phases=False)
        return paired_map(frequencies, n_components)
    frequencies = _largest(X, weighted, n_components, n_candidates, candidates, engine, phases=True)
    return FeatureMap(frequencies, candidates.phases(n_components))


class _Candidates:
    """Random frequencies and phases from one generator."""

    def __init__(self, rng: np.random.Generator, n_features: int, scale: float):
        self.rng = rng
        self._n_features = n_features
        self._scale = scale

    def frequencies(self, n: int) -> FloatArray:
        return np.ascontiguousarray(self.rng.standard_normal((n, self._n_features)).T) * self._scale

    def phases(self, n: int) -> FloatArray:
        return self.rng.uniform(0.0, 2.0 * np.pi, n)


def _largest(
    X: Samples,
    weighted: FloatArray,
    n_kept: int,
    n_candidates: int,
    candidates: _Candidates,
    engine: DeKRREngine,
    *,
    phases: bool,
) -> FloatArray:
    """Return the frequencies with the largest scores, with memory for one block of candidates."""
    kept, scores = candidates.frequencies(0), np.empty(0)
    for start in range(0, n_candidates, _BLOCK):
        size = min(_BLOCK, n_candidates - start)
        frequencies = candidates.frequencies(size)
        shifts = candidates.phases(size) if phases else None
        new = _energies(X, weighted, frequencies, shifts, engine)
        kept, scores = np.hstack((kept, frequencies)), np.hstack((scores, new))
        best = np.argsort(-scores, kind="stable")[:n_kept]
        kept, scores = kept[:, best], scores[best]
    return kept


def _energies(
    X: Samples,
    weighted: FloatArray,
    frequencies: FloatArray,
    phases: FloatArray | None,
    engine: DeKRREngine,
) -> FloatArray:
    size = frequencies.shape[1]
    loaded = engine.asarray(frequencies)
    shifts = None if phases is None else engine.asarray(phases)
    cosines, sines = engine.zeros(weighted.shape[1], size), engine.zeros(weighted.shape[1], size)
    for chunk in chunks(X.shape[0], size, engine):
        samples, targets = engine.samples(X[chunk]), engine.asarray(weighted[chunk])
        cosine_part, sine_part = engine.trigonometric_sums(samples, targets, loaded, shifts)
        cosines += cosine_part
        sines += sine_part
    squares = engine.to_numpy(cosines) ** 2
    if phases is None:
        squares = squares + engine.to_numpy(sines) ** 2
    return np.sqrt(squares.sum(axis=0))


def _by_leverage(
    X: Samples,
    weights: FloatArray,
    n_components: int,
    n_candidates: int,
    ridge: float,
    candidates: _Candidates,
    engine: DeKRREngine,
) -> FeatureMap:
    drawn = FeatureMap(candidates.frequencies(n_candidates), candidates.phases(n_candidates))
    frequencies, phases = load_map(drawn, engine)
    gram = engine.zeros(n_candidates, n_candidates)
    for chunk in chunks(X.shape[0], n_candidates, engine):
        Z = engine.features(engine.samples(X[chunk]), frequencies, phases)
        Z = engine.asarray(Z) * engine.asarray(np.sqrt(weights[chunk, None]))
        gram += Z.T @ Z
    identity = engine.asarray(np.eye(n_candidates))
    inverse_diagonal = engine.to_numpy(engine.inverse_diagonal(gram + ridge * identity))
    leverage = np.maximum(1.0 - ridge * inverse_diagonal, np.finfo(float).tiny)
    probabilities = leverage / leverage.sum()
    chosen = candidates.rng.choice(n_candidates, n_components, replace=False, p=probabilities)
    return FeatureMap(drawn.frequencies[:, chosen], drawn.phases[chosen])
