"""Features and symmetric matrices on torch tensors, in float64, on any device that has it.

Of a symmetric matrix only the lower triangle counts, as in the engine for the CPU.
"""

import numpy as np
import torch

from ._ridge import IllConditionedError


class TorchEngine:
    """Arithmetic on tensors of one device."""

    def __init__(self, device):
        if device.type == "mps":
            raise ValueError(
                "device='mps' has no float64, which exact forgetting needs; use None or 'cuda'."
            )
        self.device = device
        # A GPU wants large temporaries, a CPU such that stay near its cache.
        self.block_elements = 2**18 if device.type == "cpu" else 2**26

    def asarray(self, x):
        if isinstance(x, np.ndarray) and not x.flags.writeable:
            x = x.copy()  # torch warns of memory that it may not write to
        return torch.as_tensor(x).to(device=self.device, dtype=torch.float64)

    def to_numpy(self, x):
        return x.cpu().numpy()

    def copy(self, x):
        return x.clone()

    def zeros(self, *shape):
        return torch.zeros(shape, device=self.device, dtype=torch.float64)

    def eye(self, n):
        return torch.eye(n, device=self.device, dtype=torch.float64)

    def vstack(self, *blocks):
        return torch.vstack(blocks)

    def fourier_features(self, X, frequencies, *, constant=False):
        """Return ``[cos(X @ W), sin(X @ W)] / sqrt(D)``, then a one; X may be a CSR matrix."""
        n_pairs = frequencies.shape[1]
        angles = self.asarray(X.toarray() if hasattr(X, "tocsr") else X)
        angles = angles @ self.asarray(frequencies)
        Z = torch.cat((angles.cos(), angles.sin()), dim=1).mul_(n_pairs**-0.5)
        return self.with_ones(Z) if constant else Z

    def with_ones(self, Z):
        return torch.cat((Z, Z.new_ones(len(Z), 1)), dim=1)

    def cholesky(self, A, *, overwrite=False):
        """Factor of a symmetric matrix, for the methods below."""
        factor, info = torch.linalg.cholesky_ex(A)
        if int(info) > 0:
            raise IllConditionedError("the matrix is not positive definite")
        return factor

    def solve(self, factor, B):
        return torch.cholesky_solve(B, factor)

    def half_solve(self, factor, B, *, transposed=False):
        """Solve with the lower factor L, or with its transpose."""
        if transposed:
            return torch.linalg.solve_triangular(factor.T, B, upper=True)
        return torch.linalg.solve_triangular(factor, B, upper=False)

    def inverse(self, factor):
        """Inverse of the matrix."""
        return torch.cholesky_inverse(factor)

    def columns(self, A, index):
        """Columns of a symmetric matrix, (n, k)."""
        index = torch.as_tensor(index, device=self.device)
        below = torch.arange(len(A), device=self.device)[:, None] >= index
        return torch.where(below, A[:, index], A[index].T)

    def product(self, A, B):
        """Return A @ B for a symmetric matrix A."""
        return A.tril() @ B + A.tril(-1).T @ B

    def select(self, A, index):
        """Rows and columns `index`, ascending, of a symmetric matrix."""
        index = torch.as_tensor(index, device=self.device)
        return A[index][:, index]

    def add_square(self, A, V, sign):
        """Return ``A + sign * V @ V.T`` of a symmetric matrix A, in its memory."""
        return A.addmm_(V, V.T, alpha=sign)

    def bordered(self, A, B, C):
        """Return the symmetric matrix with the blocks A, B below A, and C."""
        n, m = len(A), len(C)
        out = A.new_zeros(n + m, n + m)
        out[:n, :n] = A
        out[n:, :n] = B
        out[n:, n:] = C
        return out
