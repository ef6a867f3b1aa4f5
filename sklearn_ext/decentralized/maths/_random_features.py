r"""Which random frequencies a node keeps, decided on its own rows.

Of ``oversampling * D`` candidates :math:`\omega_k` the node keeps those that matter for its
targets, with row weights :math:`w_n`:

- ``"energy_pairs"``: the D / 2 (rounded up) largest
  :math:`\lVert \sum_n w_n y_n e^{i\omega_k^T x_n} \rVert`, as pairs of cosine and
  sine. The score does not depend on a phase.
- ``"energy"``, the rule of Yang et al.: the D largest
  :math:`\lVert \sum_n w_n y_n \cos(\omega_k^T x_n + \beta_k) \rVert` with random phases
  :math:`\beta_k`, which are then drawn anew.
- ``"leverage"``: D candidates, drawn in proportion to their ridge leverage
  :math:`[Z^TZ (Z^TZ + \kappa I)^{-1}]_{kk}`, with their phases.
- ``"plain"``: D candidates as they come.

Fitting the phase to the targets, or choosing greedily on the residual, overfits the node's rows
and hurts its neighbours.
"""

import numpy as np

from ._feature_maps import FeatureMap, n_pairs, paired_map, row_chunks

SELECTIONS = ("energy_pairs", "energy", "leverage", "plain")
_BLOCK = 2048  # candidates that are drawn and scored at once


def select_map(kind, engine, X, Y, weights, *, gamma, n_components, oversampling, ridge, rng):
    """Draw candidates and keep the best.

    Parameters
    ----------
    kind : {"energy_pairs", "energy", "leverage", "plain"}
    engine : NumbaEngine or TorchEngine
    X : ndarray or CSR matrix of shape (n, d)
    Y : ndarray of shape (n, k)
        Targets, less the network's mean.
    weights : ndarray of shape (n,)
    gamma : float
        Width of the kernel exp(-gamma ||x - x'||^2).
    n_components : int
        D; of an odd number of pairs, the last one has no sine.
    oversampling : float
        Candidates a component.
    ridge : float
        Ridge of the leverage scores.
    rng : numpy.random.Generator

    Returns
    -------
    FeatureMap
    """
    draw = _Candidates(rng, X.shape[1], np.sqrt(2.0 * gamma))
    n_candidates = max(n_components, round(oversampling * n_components))
    if kind == "plain":
        return FeatureMap(draw.frequencies(n_components), draw.phases(n_components))
    if kind == "leverage":
        return _by_leverage(engine, X, weights, n_components, n_candidates, ridge, draw)
    weighted = Y * weights[:, None]
    if kind == "energy_pairs":
        size = n_pairs(n_components)
        frequencies = _largest(engine, X, weighted, size, n_candidates, draw, phases=False)
        return paired_map(frequencies, n_components)
    frequencies = _largest(engine, X, weighted, n_components, n_candidates, draw, phases=True)
    return FeatureMap(frequencies, draw.phases(n_components))


class _Candidates:
    """Random frequencies and phases from one stream."""

    def __init__(self, rng, n_features, scale):
        self.rng = rng
        self._n_features = n_features
        self._scale = scale

    def frequencies(self, n):
        return np.ascontiguousarray(self.rng.standard_normal((n, self._n_features)).T) * self._scale

    def phases(self, n):
        return self.rng.uniform(0.0, 2.0 * np.pi, n)


def _largest(engine, X, weighted, n_kept, n_candidates, draw, *, phases):
    """Frequencies of the largest scores, from blocks of candidates: memory for one block only."""
    kept, scores = draw.frequencies(0), np.empty(0)
    for start in range(0, n_candidates, _BLOCK):
        size = min(_BLOCK, n_candidates - start)
        frequencies = draw.frequencies(size)
        shifts = draw.phases(size) if phases else None
        new = _scores(engine, X, weighted, frequencies, shifts)
        kept, scores = np.hstack((kept, frequencies)), np.hstack((scores, new))
        best = np.argsort(-scores, kind="stable")[:n_kept]
        kept, scores = kept[:, best], scores[best]
    return kept


def _scores(engine, X, weighted, frequencies, phases):
    size = frequencies.shape[1]
    native = engine.asarray(frequencies)
    shifts = None if phases is None else engine.asarray(phases)
    cosines, sines = engine.zeros(weighted.shape[1], size), engine.zeros(weighted.shape[1], size)
    for chunk in row_chunks(engine, X.shape[0], size):
        rows, targets = engine.rows(X[chunk]), engine.asarray(weighted[chunk])
        cosine_part, sine_part = engine.trigonometric_sums(rows, targets, native, shifts)
        cosines += cosine_part
        sines += sine_part
    squares = engine.to_numpy(cosines) ** 2
    if phases is None:
        squares = squares + engine.to_numpy(sines) ** 2
    return np.sqrt(squares.sum(axis=0))


def _by_leverage(engine, X, weights, n_components, n_candidates, ridge, draw):
    frequencies, phases = draw.frequencies(n_candidates), draw.phases(n_candidates)
    native = engine.asarray(frequencies), engine.asarray(phases)
    gram = engine.zeros(n_candidates, n_candidates)
    for chunk in row_chunks(engine, X.shape[0], n_candidates):
        Z = engine.features(engine.rows(X[chunk]), *native)
        Z = engine.asarray(Z) * engine.asarray(np.sqrt(weights[chunk, None]))
        gram += Z.T @ Z
    identity = engine.asarray(np.eye(n_candidates))
    inverse_diagonal = engine.to_numpy(engine.inverse_diagonal(gram + ridge * identity))
    leverage = np.maximum(1.0 - ridge * inverse_diagonal, np.finfo(float).tiny)
    chosen = draw.rng.choice(n_candidates, n_components, replace=False, p=leverage / leverage.sum())
    return FeatureMap(frequencies[:, chosen], phases[chosen])
