"""The engine of exact forgetting on torch tensors, in float64."""

from typing import Any

import torch
from torch import Tensor

from ...neural import TorchArrays
from ...utils._typing import FloatArray, IntArray
from ._engine import IllConditionedError, with_ones


class RidgeTorchEngine(TorchArrays):
    """Tensors on one device.

    Parameters
    ----------
    device : torch.device
        Holds the tensors.

    Raises
    ------
    ValueError
        If the device does not support float64.
    """

    def __init__(self, device: torch.device) -> None:
        if device.type == "mps":
            raise ValueError(
                "device='mps' does not support float64, which exact forgetting needs; use None or "
                "'cuda'."
            )
        super().__init__(device)
        # A GPU is fastest with large temporary arrays, a CPU with arrays that fit its cache.
        self.block_elements = 2**18 if device.type == "cpu" else 2**26

    def copy(self, x: Tensor) -> Tensor:
        return x.clone()

    def eye(self, n: int) -> Tensor:
        return torch.eye(n, device=self.array_device, dtype=torch.float64)

    def fourier_features(
        self, X: Any, frequencies: FloatArray, *, constant: bool = False
    ) -> Tensor:
        n_pairs = frequencies.shape[1]
        angles = self.asarray(X.toarray() if hasattr(X, "tocsr") else X)
        angles = angles @ self.asarray(frequencies)
        Z = torch.cat((angles.cos(), angles.sin()), dim=1).mul_(n_pairs**-0.5)
        return with_ones(self, Z) if constant else Z

    def cholesky(self, A: Tensor, *, overwrite: bool = False) -> Tensor:
        factor, info = torch.linalg.cholesky_ex(A)
        if int(info) > 0:
            raise IllConditionedError("The matrix is not positive definite.")
        return factor

    def solve(self, factor: Tensor, B: Tensor) -> Tensor:
        return torch.cholesky_solve(B, factor)

    def half_solve(self, factor: Tensor, B: Tensor, *, transposed: bool = False) -> Tensor:
        if transposed:
            return torch.linalg.solve_triangular(factor.T, B, upper=True)
        return torch.linalg.solve_triangular(factor, B, upper=False)

    def inverse(self, factor: Tensor) -> Tensor:
        return torch.cholesky_inverse(factor)

    def columns(self, A: Tensor, index: IntArray) -> Tensor:
        at = torch.as_tensor(index, device=self.array_device)
        below = torch.arange(len(A), device=self.array_device)[:, None] >= at
        return torch.where(below, A[:, at], A[at].T)

    def product(self, A: Tensor, B: Tensor) -> Tensor:
        return A.tril() @ B + A.tril(-1).T @ B

    def select(self, A: Tensor, index: IntArray) -> Tensor:
        at = torch.as_tensor(index, device=self.array_device)
        return A[at][:, at]

    def add_square(self, A: Tensor, V: Tensor, sign: float, *, overwrite: bool = False) -> Tensor:
        return torch.addmm(A, V, V.T, alpha=sign, out=A if overwrite else None)
