"""Features and symmetric matrices on the CPU: BLAS and LAPACK, in float64.

Of a symmetric matrix only the lower triangle counts, which halves the work of every update.
"""

import numpy as np
from scipy.linalg import cho_solve, solve_triangular
from scipy.linalg.blas import dsymm, dsyrk
from scipy.linalg.lapack import dpotrf, dpotri

from ...utils._trigonometry import scaled_pairs
from ._ridge import IllConditionedError


class ScipyEngine:
    """Arithmetic on numpy arrays."""

    block_elements = 2**18  # of a temporary, so that it stays in the second-level cache

    def asarray(self, x):
        return np.ascontiguousarray(x, dtype=np.float64)

    def to_numpy(self, x):
        return x

    def copy(self, x):
        return x.copy()

    def zeros(self, *shape):
        return np.zeros(shape)

    def eye(self, n):
        return np.eye(n)

    def vstack(self, *blocks):
        return np.vstack(blocks)

    def fourier_features(self, X, frequencies, *, constant=False):
        """Return ``[cos(X @ W), sin(X @ W)] / sqrt(D)``, then a one; X may be a CSR matrix."""
        n_pairs = frequencies.shape[1]
        Z = np.empty((X.shape[0], 2 * n_pairs + constant))
        Z[:, :n_pairs] = X @ frequencies
        Z[:, 2 * n_pairs :] = 1.0
        return scaled_pairs(Z, n_pairs, n_pairs**-0.5)

    def with_ones(self, Z):
        return np.hstack((Z, np.ones((len(Z), 1))))

    def cholesky(self, A, *, overwrite=False):
        """Factor of a symmetric matrix, for the methods below."""
        # Rows of A's lower triangle are columns of the upper one that LAPACK sees: no copy.
        factor, info = dpotrf(A.T, lower=0, clean=1, overwrite_a=overwrite)
        if info > 0:
            raise IllConditionedError("the matrix is not positive definite")
        return factor

    def solve(self, factor, B):
        return cho_solve((factor, False), B, check_finite=False)

    def half_solve(self, factor, B, *, transposed=False):
        """Solve with the lower factor L, or with its transpose."""
        return solve_triangular(
            factor, B, lower=False, trans=int(not transposed), check_finite=False
        )

    def inverse(self, factor):
        """Inverse of the matrix; the factor is overwritten."""
        inverse, _ = dpotri(factor, lower=0, overwrite_c=1)
        return inverse.T

    def columns(self, A, index):
        """Columns of a symmetric matrix, (n, k)."""
        below = np.arange(len(A))[:, None] >= index
        return np.where(below, A[:, index], A[index].T)

    def product(self, A, B):
        """Return A @ B for a symmetric matrix A."""
        return dsymm(1.0, A.T, B, lower=0)

    def select(self, A, index):
        """Rows and columns `index`, ascending, of a symmetric matrix, in the memory of A.

        Fresh memory would cost several times as much as the arithmetic of forgetting a few rows.
        """
        A = np.require(A, requirements="CW")  # a copy, if the memory may not be written
        memory, size = A.reshape(-1), len(index)
        out = memory[: size * size].reshape(size, size)
        for i, k in enumerate(index):
            out[i, : i + 1] = A[k, index[: i + 1]]  # a row moves up, over rows that have moved
            out[i, i + 1 :] = 0.0
        memory[size * size :] = 0.0
        return out

    def add_square(self, A, V, sign):
        """Return ``A + sign * V @ V.T`` of a symmetric matrix A, in its memory."""
        A = np.require(A, requirements="CW")  # a copy, if the memory may not be written
        V, transposed = (V, 0) if V.flags.f_contiguous else (V.T, 1)
        dsyrk(sign, V, trans=transposed, beta=1.0, c=A.T, lower=0, overwrite_c=1)
        return A

    def bordered(self, A, B, C):
        """Return the symmetric matrix with the blocks A, B below A, and C."""
        n, m = len(A), len(C)
        out = np.zeros((n + m, n + m))
        out[:n, :n] = A
        out[n:, :n] = B
        out[n:, n:] = C
        return out
