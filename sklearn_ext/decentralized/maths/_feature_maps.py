r"""Random Fourier features of the Gaussian kernel, one map a node.

A node's map is :math:`z(x) = \sqrt{2/D}\,\cos(\Omega^T x + b) \in R^D`. With frequencies drawn
from :math:`N(0, 2\gamma I)` and phases from :math:`U[0, 2\pi)`, inner products of features
estimate :math:`\exp(-\gamma \lVert x - x' \rVert^2)`. In a map of pairs every frequency occurs
twice, with phases 0 and :math:`-\pi/2`: the pair (cos, sin) can realise any phase.
"""

from typing import NamedTuple

import numpy as np


class FeatureMap(NamedTuple):
    """Frequencies (d, D), phases (D,), and whether they are pairs of cosine and sine."""

    frequencies: np.ndarray
    phases: np.ndarray
    paired: bool = False

    @property
    def n_components(self):
        return len(self.phases)

    def to_message(self):
        """All that a neighbour needs, as one array: pairs need half the frequencies, no phases."""
        if self.paired:
            return self.frequencies[:, : n_pairs(self.n_components)]
        return np.vstack((self.frequencies, self.phases))


def n_pairs(n_components):
    """Frequencies behind so many components; of an odd number, the last one has no sine."""
    return (n_components + 1) // 2


def paired_map(frequencies, n_components):
    """Map of pairs (cos, sin) on frequencies of shape (d, n_pairs)."""
    sines = frequencies[:, : n_components // 2]
    phases = np.repeat((0.0, -np.pi / 2), (frequencies.shape[1], sines.shape[1]))
    return FeatureMap(np.hstack((frequencies, sines)), phases, True)


def map_from_message(message, n_components, paired):
    """Invert :meth:`FeatureMap.to_message`."""
    if paired:
        return paired_map(message, n_components)
    return FeatureMap(message[:-1], message[-1])


def message_shape(n_features, n_components, paired):
    """Shape of :meth:`FeatureMap.to_message`."""
    return (n_features, n_pairs(n_components)) if paired else (n_features + 1, n_components)


def row_chunks(engine, n_rows, n_columns):
    """Slices over rows whose features, `n_columns` wide, are as large as the engine likes."""
    step = max(64, engine.chunk_elements // max(1, n_columns))
    return [slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step)]


def evaluate(engine, X, maps, coefs):
    r"""Values of :math:`f_j(x) = z_j(x)^T \theta_j` for several nodes.

    Parameters
    ----------
    engine : NumbaEngine or TorchEngine
    X : ndarray or CSR matrix of shape (n, d)
    maps : list of J FeatureMap
    coefs : list of J ndarrays of shape (D_j, k)

    Returns
    -------
    ndarray of shape (J, n, k)
    """
    out = np.empty((len(maps), X.shape[0], coefs[0].shape[1]))
    native = [
        (engine.asarray(z.frequencies), engine.asarray(z.phases), engine.asarray(theta))
        for z, theta in zip(maps, coefs, strict=True)
    ]
    for chunk in row_chunks(engine, X.shape[0], max(z.n_components for z in maps)):
        rows = engine.rows(X[chunk])
        for values, (frequencies, phases, theta) in zip(out, native, strict=True):
            Z = engine.features(rows, frequencies, phases)
            values[chunk] = engine.to_numpy(engine.asarray(Z) @ theta)
    return out


def mean_values(engine, X, maps, coefs):
    """Mean over nodes of :func:`evaluate`, (n, k), with memory for one chunk of rows."""
    out = np.empty((X.shape[0], coefs[0].shape[1]))
    for chunk in row_chunks(engine, X.shape[0], sum(z.n_components for z in maps)):
        out[chunk] = evaluate(engine, X[chunk], maps, coefs).mean(axis=0)
    return out
