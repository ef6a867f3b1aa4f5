"""LAB kernels on torch tensors, computed by matrix products that suit a GPU.

The squared distance is expanded into matrix products. For points close to each other, where digits
cancel, the entry is recomputed from the difference itself, so that identical points are at distance
zero exactly and the gradient of the exponential kernel stays finite.
"""

import torch
from numpy.typing import ArrayLike
from scipy.linalg import LinAlgError
from torch import Tensor

from ...neural import TorchArrays

# Entries below this fraction of the subtracted terms have lost too much precision.
_CANCELLATION = {torch.float64: 1e-5, torch.float32: 1e-2}
# Elements of the largest temporary of the laplacian kernel, which has no matrix-product form.
_TILE = 2**24


class LABTorchEngine(TorchArrays):
    """A :class:`LABEngine` on tensors on one device.

    Tensors are float64 on the CPU and float32 elsewhere. The linear system is always solved in
    float64, on the CPU where the device does not support it.
    """

    name = "torch"

    def __init__(
        self, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
    ) -> None:
        self.device = torch.device(device)
        if dtype is None:
            dtype = torch.float64 if self.device.type == "cpu" else torch.float32
        super().__init__(self.device, dtype)
        self.solve_device = torch.device("cpu") if self.device.type == "mps" else self.device

    def in_single_precision(self) -> "LABTorchEngine":
        return self

    def asarray(self, x: ArrayLike) -> Tensor:
        return super().asarray(x).contiguous()

    def repeat_row(self, row: Tensor, n: int) -> Tensor:
        return row.repeat(n, 1)

    def norm(self, x: Tensor) -> float:
        return float(torch.linalg.vector_norm(x))

    def kernel(
        self, kernel: str, points: Tensor, centers: Tensor, theta: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return K = exp(-D), of shape (n_points, n_centers), and D, which its gradient needs."""
        if kernel == "laplacian":
            D = self._weighted_manhattan(points, centers, theta**2)
        else:
            D = self._weighted_sqeuclidean(points, centers, theta**2)
            if kernel == "exponential":
                D = D.sqrt_()
        return torch.exp(-D), D

    def factorize(self, K: Tensor, alpha: float) -> "_LU":
        """Return the LU factors of K + alpha I, in float64."""
        return _LU(K, alpha, self)

    def theta_gradient(
        self,
        kernel: str,
        points: Tensor,
        centers: Tensor,
        theta: Tensor,
        K: Tensor,
        D: Tensor,
        left: Tensor,
        right: Tensor,
    ) -> Tensor:
        """Return the gradient in theta of a loss whose gradient in K is ``left @ right.T``."""
        W = -(left @ right.T) * K
        if kernel == "laplacian":
            return 2.0 * theta * self._weighted_abs_differences(W, points, centers)
        if kernel == "exponential":
            # At distance zero, the kernel is 1 for any bandwidths.
            W = torch.where(D > 0, W / (2.0 * D.clamp_min(torch.finfo(D.dtype).tiny)), 0.0)
        squares = W.T @ points**2 - 2.0 * centers * (W.T @ points)
        squares += centers**2 * W.sum(dim=0)[:, None]
        return 2.0 * theta * squares

    def _weighted_sqeuclidean(self, points: Tensor, centers: Tensor, bandwidths: Tensor) -> Tensor:
        # Only differences matter, and a common shift avoids cancellation in the expansion.
        shift = centers.mean(dim=0)
        points, centers = points - shift, centers - shift
        terms = points**2 @ bandwidths.T + (bandwidths * centers**2).sum(dim=1)
        D = terms - 2.0 * points @ (bandwidths * centers).T
        lost = _CANCELLATION[D.dtype]
        rows, columns = torch.nonzero(lost * terms > D, as_tuple=True)
        step = max(1, _TILE // points.shape[1])
        for first in range(0, len(rows), step):
            t, i = rows[first : first + step], columns[first : first + step]
            D[t, i] = (bandwidths[i] * (points[t] - centers[i]) ** 2).sum(dim=1)
        return D

    def _weighted_manhattan(self, points: Tensor, centers: Tensor, bandwidths: Tensor) -> Tensor:
        return torch.cat(
            [
                (bandwidths * (tile[:, None, :] - centers).abs()).sum(dim=2)
                for tile in points.split(self._tile_rows(centers))
            ]
        )

    def _weighted_abs_differences(self, W: Tensor, points: Tensor, centers: Tensor) -> Tensor:
        out = torch.zeros_like(centers)
        step = self._tile_rows(centers)
        for tile, weights in zip(points.split(step), W.split(step), strict=True):
            out += (weights[:, :, None] * (tile[:, None, :] - centers).abs()).sum(dim=0)
        return out

    @staticmethod
    def _tile_rows(centers: Tensor) -> int:
        return max(1, _TILE // centers.numel())


class _LU:
    def __init__(self, K: Tensor, alpha: float, engine: LABTorchEngine) -> None:
        self._engine = engine
        A = K.to(device=engine.solve_device, dtype=torch.float64, copy=True)
        A.diagonal().add_(alpha)
        self._lu, self._pivots, info = torch.linalg.lu_factor_ex(A)
        if info.item() > 0:
            raise LinAlgError("the kernel matrix of the support points is singular")

    def solve(self, B: Tensor, transposed: bool = False) -> Tensor:
        B = B.to(device=self._engine.solve_device, dtype=torch.float64)
        x = torch.linalg.lu_solve(self._lu, self._pivots, B, adjoint=transposed)
        return x.to(device=self._engine.device, dtype=self._engine.dtype)
