"""Linear algebra for exact forgetting: features and symmetric matrices, in float64.

Only the lower triangle of a symmetric matrix is valid, which halves the work of every update.
`RidgeScipyEngine` runs on the CPU; `RidgeTorchEngine`, in a separate module, runs on any torch
device that supports float64.
"""

from typing import Any, Protocol, TypeAlias

import numpy as np
import scipy.sparse as sp
from scipy.linalg import LinAlgError, cho_solve, solve_triangular
from scipy.linalg.blas import dsymm, dsyrk
from scipy.linalg.lapack import dpotrf, dpotri

from ...utils._arrays import NumpyArrays
from ...utils._trigonometry import scaled_pairs
from ...utils._typing import FloatArray, IntArray

EngineArray: TypeAlias = Any  # the array type of the engine: ndarray or torch.Tensor


_LARGE_FEATURE = 1e5


class IllConditionedError(LinAlgError):
    """An update would lose too much precision; a new factorization may not."""


class RidgeEngine(Protocol):
    """Array operations for which NumPy and torch need different code."""

    block_elements: int  # preferred size of temporary arrays

    def asarray(self, x: Any) -> EngineArray:
        """Return x as a float64 array of the engine."""

    def to_numpy(self, x: EngineArray) -> FloatArray:
        """Return x as a NumPy array."""

    def copy(self, x: EngineArray) -> EngineArray:
        """Return a copy of x."""

    def zeros(self, *shape: int) -> EngineArray:
        """Return an array of zeros."""

    def eye(self, n: int) -> EngineArray:
        """Return the identity matrix."""

    def vstack(self, *blocks: EngineArray) -> EngineArray:
        """Stack arrays along the first axis."""

    def fourier_features(
        self, X: Any, frequencies: FloatArray, *, constant: bool = False
    ) -> EngineArray:
        """Return ``[cos(X @ W), sin(X @ W)] / sqrt(D)``, then a constant feature if requested."""

    def cholesky(self, A: EngineArray, *, overwrite: bool = False) -> EngineArray:
        """Factor a symmetric matrix; the methods below take the factor."""

    def solve(self, factor: EngineArray, B: EngineArray) -> EngineArray:
        """Solve the system of the factored matrix."""

    def half_solve(
        self, factor: EngineArray, B: EngineArray, *, transposed: bool = False
    ) -> EngineArray:
        """Solve with the lower factor L, or with its transpose."""

    def inverse(self, factor: EngineArray) -> EngineArray:
        """Invert the factored matrix; may overwrite the factor."""

    def columns(self, A: EngineArray, index: IntArray) -> EngineArray:
        """Return columns of a symmetric matrix, of shape (n, k)."""

    def product(self, A: EngineArray, B: EngineArray) -> EngineArray:
        """Return A @ B for a symmetric matrix A."""

    def select(self, A: EngineArray, index: IntArray) -> EngineArray:
        """Return rows and columns `index`, ascending, of a symmetric matrix."""

    def add_square(
        self, A: EngineArray, V: EngineArray, sign: float, *, overwrite: bool = False
    ) -> EngineArray:
        """Return ``A + sign * V @ V.T`` for a symmetric matrix A, which may be overwritten."""


def with_ones(engine: RidgeEngine, Z: EngineArray) -> EngineArray:
    """Append a column of ones."""
    n, p = Z.shape
    out = engine.zeros(n, p + 1)
    out[:, :p] = Z
    out[:, p] = 1.0
    return out


def bordered(engine: RidgeEngine, A: EngineArray, B: EngineArray, C: EngineArray) -> EngineArray:
    """Return the lower triangle of the symmetric matrix with the blocks A, B below A, and C."""
    n, m = len(A), len(C)
    out = engine.zeros(n + m, n + m)
    out[:n, :n] = A
    out[n:, :n] = B
    out[n:, n:] = C
    return out


class RidgeScipyEngine(NumpyArrays):
    """NumPy arrays, BLAS and LAPACK on the CPU."""

    block_elements = 2**18  # temporary arrays of this size stay in the second-level cache

    def copy(self, x: FloatArray) -> FloatArray:
        return x.copy()

    def eye(self, n: int) -> FloatArray:
        return np.eye(n)

    def fourier_features(
        self, X: FloatArray | sp.sparray, frequencies: FloatArray, *, constant: bool = False
    ) -> FloatArray:
        n_pairs = frequencies.shape[1]
        Z = np.empty((X.shape[0], 2 * n_pairs + constant))
        Z[:, :n_pairs] = X @ frequencies
        if not sp.issparse(X):
            # BLAS rounds a row differently in different blocks, which large angles make visible.
            for i in np.flatnonzero(abs(X).max(axis=1, initial=0.0) > _LARGE_FEATURE):
                Z[i, :n_pairs] = (X[i][:, None] * frequencies).sum(axis=0)
        Z[:, 2 * n_pairs :] = 1.0
        return scaled_pairs(Z, n_pairs, n_pairs**-0.5)

    def cholesky(self, A: FloatArray, *, overwrite: bool = False) -> FloatArray:
        # LAPACK reads the rows of the lower triangle as columns of an upper one, without a copy.
        factor, info = dpotrf(A.T, lower=0, clean=1, overwrite_a=overwrite)
        if info > 0:
            raise IllConditionedError("The matrix is not positive definite.")
        return factor

    def solve(self, factor: FloatArray, B: FloatArray) -> FloatArray:
        return cho_solve((factor, False), B, check_finite=False)

    def half_solve(
        self, factor: FloatArray, B: FloatArray, *, transposed: bool = False
    ) -> FloatArray:
        return solve_triangular(
            factor, B, lower=False, trans=int(not transposed), check_finite=False
        )

    def inverse(self, factor: FloatArray) -> FloatArray:
        inverse, _ = dpotri(factor, lower=0, overwrite_c=1)
        return inverse.T

    def columns(self, A: FloatArray, index: IntArray) -> FloatArray:
        below = np.arange(len(A))[:, None] >= index
        return np.where(below, A[:, index], A[index].T)

    def product(self, A: FloatArray, B: FloatArray) -> FloatArray:
        return dsymm(1.0, A.T, B, lower=0)

    def select(self, A: FloatArray, index: IntArray) -> FloatArray:
        out = np.zeros((len(index), len(index)))
        for i, k in enumerate(index):  # half as much to copy as with A[np.ix_(index, index)]
            out[i, : i + 1] = A[k, index[: i + 1]]
        return out

    def add_square(
        self, A: FloatArray, V: FloatArray, sign: float, *, overwrite: bool = False
    ) -> FloatArray:
        V, transposed = (V, 0) if V.flags.f_contiguous else (V.T, 1)
        return dsyrk(sign, V, trans=transposed, beta=1.0, c=A.T, lower=0, overwrite_c=overwrite).T
