r"""Random Fourier features in pairs, which do not depend on the data.

With W of shape (d, D) and entries drawn from :math:`N(0, 2\gamma)`, the features

.. math::
    z(x) = D^{-1/2}\,[\cos(W^T x),\ \sin(W^T x)] \in R^{2D}

have norm one, and their inner products estimate the Gaussian kernel
:math:`\exp(-\gamma\lVert x - x'\rVert^2)`. Neither W nor :math:`\gamma` may be estimated from the
data: a feature map that was fitted to a sample retains information about it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...utils._typing import FloatArray
from ._engine import EngineArray, RidgeEngine


def draw_frequencies(
    rng: np.random.RandomState, n_features: int, n_components: int, gamma: float
) -> FloatArray:
    """Draw the frequencies W.

    Parameters
    ----------
    rng : RandomState
        Draws the frequencies.
    n_features : int
        Number of features d of a sample.
    n_components : int
        Number of frequencies D.
    gamma : float
        Coefficient of the kernel.

    Returns
    -------
    ndarray of shape (n_features, n_components)
    """
    return rng.normal(scale=np.sqrt(2.0 * gamma), size=(n_features, n_components))


@dataclass(frozen=True)
class FeatureMap:
    """A feature map on an engine.

    Attributes
    ----------
    engine : RidgeEngine
        Does the arithmetic.
    transform : callable
        Takes samples of shape (m, d) and returns features of shape (m, n_columns) as an array of
        the engine.
    n_columns : int
        Number of features, including the constant one.
    is_identity : bool, default=False
        Whether `transform` returns the samples themselves, because they are features already.
    """

    engine: RidgeEngine
    transform: Callable[[Any], EngineArray]
    n_columns: int
    is_identity: bool = False

    def __call__(self, X: Any) -> EngineArray:
        """Compute the features of samples."""
        return self.transform(X)

    def blocks(self, n_samples: int, smallest: int = 16) -> list[slice]:
        """Split samples into slices whose features have the size that the engine prefers."""
        step = max(smallest, self.engine.block_elements // self.n_columns)
        return [slice(start, min(start + step, n_samples)) for start in range(0, n_samples, step)]

    def values(self, X: Any, coef: FloatArray) -> FloatArray:
        """Multiply the features of samples by coefficients (n_columns, k): a NumPy array (n, k)."""
        engine = self.engine
        native, out = engine.asarray(coef), np.empty((X.shape[0], coef.shape[1]))
        for block in self.blocks(len(out)):
            out[block] = engine.to_numpy(self(X[block]) @ native)
        return out

    def expansion(self, X: Any, alpha: EngineArray) -> EngineArray:
        """Sum the features of samples times dual coefficients (n, k): shape (n_columns, k)."""
        total = self.engine.zeros(alpha.shape[1], self.n_columns)
        for block in self.blocks(len(alpha)):
            total += alpha[block].T @ self(X[block])
        return total.T

    def matrix(self, X: Any) -> EngineArray:
        """Compute all features at once, of shape (n, n_columns); do not change the result."""
        if self.is_identity:
            return self(X)  # without a copy
        Z = self.engine.zeros(X.shape[0], self.n_columns)
        for block in self.blocks(len(Z)):
            Z[block] = self(X[block])
        return Z
