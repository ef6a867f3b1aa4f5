r"""What nodes agree on before they solve anything: the network's row count, mean and width.

Every node announces the sum of its weights, its weighted sums of the targets and of their
squares, and a width :math:`\sigma_j` taken from its own inputs. Sums and means over the network
then give the ridge a node, :math:`\kappa = \lambda N / J`, the offset of the targets and the common
width :math:`\gamma = 1 / (2 \bar\sigma^2)`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import sparse
from sklearn.metrics import euclidean_distances
from sklearn.utils.sparsefuncs import mean_variance_axis

_MAX_WIDTH_ROWS = 500


@dataclass(frozen=True)
class Settings:
    """What all nodes know from the start: parameters of the fit, and the graph."""

    adjacency: np.ndarray
    n_components: np.ndarray
    gamma: float | str
    alpha: float
    consensus_weight: float
    feature_selection: str
    oversampling: float
    anchors: np.ndarray | None
    fit_intercept: bool
    solver: str
    damping: float
    max_iter: int
    tol: float
    on_failure: str
    entropy: int

    @property
    def n_nodes(self):
        return len(self.adjacency)

    @property
    def paired(self):
        return self.feature_selection == "energy_pairs"

    def neighbours(self, j):
        return [int(i) for i in np.flatnonzero(self.adjacency[j])]

    def stream(self, j):
        """Random generator of node j, the same wherever the node runs."""
        return np.random.default_rng(np.random.SeedSequence(self.entropy, spawn_key=(j,)))


class Summary(NamedTuple):
    """What the announcements of all nodes add up to."""

    total_weight: float
    mean: np.ndarray
    energy: float
    gamma: float
    ridge: float
    weights: np.ndarray


def local_width(kind, X, rng):
    r"""Width :math:`\sigma_j` of a node's inputs; NaN where they do not vary.

    Parameters
    ----------
    kind : {"median", "scale"}
        "median" is the median distance between (at most 500) rows, "scale" is
        :math:`\sqrt{d\,\mathrm{Var}(X_j) / 2}`, so that gamma is 1 / (d Var(X)).
    X : ndarray or CSR matrix of shape (n, d)
        Distinct rows.
    rng : numpy.random.Generator
    """
    if kind == "median":
        n = X.shape[0]
        rows = rng.permutation(n)[:_MAX_WIDTH_ROWS] if n > _MAX_WIDTH_ROWS else np.arange(n)
        distances = euclidean_distances(X[rows])[np.triu_indices(len(rows), 1)]
        width = np.median(distances) if len(distances) else 0.0
    elif sparse.issparse(X):
        mean, variance = mean_variance_axis(X, axis=0)
        width = np.sqrt(X.shape[1] * (variance.mean() + mean.var()) / 2.0)
    else:
        width = np.sqrt(X.shape[1] * X.var(dtype=np.float64) / 2.0)
    return float(width) if width > 0 else np.nan


def announcement(settings, rows, rng):
    """Return what a node tells the network: weight, sums of targets and squares, width."""
    weighted = rows.Y * rows.weights[:, None]
    named = isinstance(settings.gamma, str)
    width = local_width(settings.gamma, rows.X, rng) if named else np.nan
    square = float((weighted * rows.Y).sum())
    return np.array([rows.weights.sum(), *weighted.sum(axis=0), square, width])


def summarize(settings, announcements):
    """Add up the announcements of all nodes.

    Parameters
    ----------
    settings : Settings
    announcements : ndarray of shape (J, k + 3)
        Rows of NaN where nothing is known of a node.

    Returns
    -------
    Summary
    """
    known = announcements[~np.isnan(announcements[:, 0])]
    total = known[:, 0].sum()
    mean = known[:, 1:-2].sum(axis=0) / total
    energy = known[:, -2].sum()
    if settings.fit_intercept:
        energy = max(energy - total * float(mean @ mean), 0.0)
    else:
        mean = np.zeros_like(mean)
    gamma = settings.gamma
    if isinstance(gamma, str):
        widths = known[:, -1][~np.isnan(known[:, -1])]
        gamma = 0.5 / widths.mean() ** 2 if len(widths) else 1.0
    ridge = settings.alpha * total / len(known)
    return Summary(total, mean, energy, gamma, ridge, announcements[:, 0])
