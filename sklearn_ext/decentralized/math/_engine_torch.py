"""Random features and linear algebra on torch tensors, on any device."""

from typing import Any

import torch
from scipy.linalg import LinAlgError

from ...neural import TorchArrays


class DeKRRTorchEngine(TorchArrays):
    """Arithmetic of the decentralized estimators on the tensors of one device.

    Features and Gram blocks of a chunk of samples are computed in `dtype`. Sums over chunks and
    linear systems are always float64, on the CPU if the device has no float64.
    """

    def __init__(self, device: str | torch.device = "cpu", dtype: torch.dtype | None = None):
        self.device = torch.device(device)
        # A GPU needs large temporaries; on a CPU, they should fit into the cache.
        self.chunk_elements = 2**19 if self.device.type == "cpu" else 2**25
        has_float64 = self.device.type != "mps"
        super().__init__(self.device if has_float64 else "cpu", torch.float64)
        if dtype is None:
            dtype = torch.float64 if has_float64 else torch.float32
        self.feature_dtype = dtype

    def samples(self, X: Any) -> torch.Tensor:
        """Copy samples to the device; a CSR matrix becomes dense."""
        dense = X.toarray() if hasattr(X, "tocsr") else X
        return torch.as_tensor(dense).to(device=self.device, dtype=self.feature_dtype)

    def features(
        self, X: torch.Tensor, frequencies: torch.Tensor, phases: torch.Tensor
    ) -> torch.Tensor:
        """Return ``sqrt(2 / D) * cos(X @ frequencies + phases)``."""
        return self._angles(X, frequencies, phases).cos_().mul_((2.0 / len(phases)) ** 0.5)

    def trigonometric_sums(
        self,
        X: torch.Tensor,
        Y: torch.Tensor,
        frequencies: torch.Tensor,
        phases: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ``Y.T @ cos(angles)`` and ``Y.T @ sin(angles)``, each (n_outputs, D)."""
        angles = self._angles(X, frequencies, phases)
        targets = Y.to(device=self.device, dtype=self.feature_dtype).T
        return self.asarray(targets @ angles.cos()), self.asarray(targets @ angles.sin())

    def _angles(
        self, X: torch.Tensor, frequencies: torch.Tensor, phases: torch.Tensor | None
    ) -> torch.Tensor:
        angles = X @ self.samples(frequencies)
        return angles if phases is None else angles.add_(self.samples(phases))

    def cholesky(self, A: torch.Tensor) -> torch.Tensor:
        """Factorize a symmetric positive definite matrix."""
        factor, info = torch.linalg.cholesky_ex(A)
        if int(info) > 0:
            raise LinAlgError("The linear system is not positive definite.")
        return factor

    def solve(self, factor: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
        """Solve a linear system whose matrix :meth:`cholesky` has factorized."""
        return torch.cholesky_solve(B, factor)

    def inverse_diagonal(self, A: torch.Tensor) -> torch.Tensor:
        """Return the diagonal of the inverse of a symmetric positive definite matrix."""
        return torch.cholesky_inverse(self.cholesky(A)).diagonal()
