r"""Random Fourier features in pairs, which do not depend on any row.

With W of shape (d, D) and entries drawn from :math:`N(0, 2\gamma)`, the features

.. math::
    z(x) = D^{-1/2}\,[\cos(W^T x),\ \sin(W^T x)] \in R^{2D}

have norm one, and their inner products estimate the Gaussian kernel
:math:`\exp(-\gamma\lVert x - x'\rVert^2)`. Neither W nor :math:`\gamma` may be taken from the data:
a map that has seen a row remembers it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


def draw_frequencies(rng, n_features, n_components, gamma):
    """Return W of shape (n_features, n_components).

    Parameters
    ----------
    rng : RandomState
    n_features, n_components : int
    gamma : float
    """
    return rng.normal(scale=np.sqrt(2.0 * gamma), size=(n_features, n_components))


@dataclass(frozen=True)
class RowFeatures:
    """A feature map on an engine.

    Attributes
    ----------
    engine : ScipyEngine or TorchEngine
    transform : callable
        Takes rows (m, d) and returns features of the engine, (m, n_columns).
    n_columns : int
        Number of features, with the constant one.
    """

    engine: object
    transform: Callable
    n_columns: int

    def __call__(self, X):
        """Features of the rows of X."""
        return self.transform(X)

    def blocks(self, n_rows, smallest=16):
        """Slices over rows whose features are as large as the engine likes its temporaries."""
        step = max(smallest, self.engine.block_elements // self.n_columns)
        return [slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step)]

    def values(self, X, coef):
        """Inner products of the features of rows with coefficients, (n, k), as numpy array."""
        engine = self.engine
        native, out = engine.asarray(coef), np.empty((X.shape[0], coef.shape[1]))
        for block in self.blocks(len(out)):
            out[block] = engine.to_numpy(self(X[block]) @ native)
        return out

    def expansion(self, X, alpha):
        """Sum over rows of their features times coefficients (n, k): (n_columns, k), native."""
        total = self.engine.zeros(alpha.shape[1], self.n_columns)
        for block in self.blocks(len(alpha)):
            total += alpha[block].T @ self(X[block])
        return total.T

    def matrix(self, X):
        """All features at once, (n, n_columns), native; not to be changed."""
        Z = self.engine.zeros(X.shape[0], self.n_columns)
        for block in self.blocks(len(Z)):
            Z[block] = self(X[block])
        return Z


@dataclass(frozen=True)
class KeptFeatures(RowFeatures):
    """A map for features that were computed before and stand in the place of rows."""

    def matrix(self, X):
        """All features at once, without a copy."""
        return self(X)
