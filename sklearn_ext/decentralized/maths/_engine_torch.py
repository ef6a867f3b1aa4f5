"""Random features and linear algebra on torch tensors, on any device."""

import torch
from scipy.linalg import LinAlgError


class TorchEngine:
    """Arithmetic of the decentralised estimators on tensors of one device.

    Features and Gram blocks of a chunk of rows are formed in `dtype`; sums over chunks and linear
    systems are always float64 (on the CPU where the device has no float64).
    """

    name = "torch"

    def __init__(self, device="cpu", dtype=None):
        self.device = torch.device(device)
        # A GPU wants large temporaries, a CPU such that stay near its cache.
        self.chunk_elements = 2**19 if self.device.type == "cpu" else 2**25
        has_float64 = self.device.type != "mps"
        if dtype is None:
            dtype = torch.float64 if has_float64 else torch.float32
        self.dtype = dtype
        self._solve_device = self.device if has_float64 else torch.device("cpu")

    def asarray(self, x):
        """Numbers of the linear system: float64."""
        return torch.as_tensor(x).to(device=self._solve_device, dtype=torch.float64)

    def to_numpy(self, x):
        return x.detach().to(device="cpu", dtype=torch.float64).numpy()

    def zeros(self, *shape):
        return torch.zeros(shape, device=self._solve_device, dtype=torch.float64)

    def rows(self, X):
        """Rows of the user's table in the form that :meth:`features` takes."""
        dense = X.toarray() if hasattr(X, "tocsr") else X
        return torch.as_tensor(dense).to(device=self.device, dtype=self.dtype)

    def features(self, X, frequencies, phases):
        """Return ``sqrt(2 / D) cos(X @ frequencies + phases)``."""
        return self._angles(X, frequencies, phases).cos_().mul_((2.0 / len(phases)) ** 0.5)

    def trigonometric_sums(self, X, Y, frequencies, phases=None):
        """Return ``Y.T @ cos(angles)`` and ``Y.T @ sin(angles)``, each (n_outputs, D)."""
        angles = self._angles(X, frequencies, phases)
        targets = Y.to(device=self.device, dtype=self.dtype).T
        return self.asarray(targets @ angles.cos()), self.asarray(targets @ angles.sin())

    def _angles(self, X, frequencies, phases):
        angles = X @ self.rows(frequencies)
        return angles if phases is None else angles.add_(self.rows(phases))

    def cholesky(self, A):
        """Factor a symmetric positive definite matrix."""
        factor, info = torch.linalg.cholesky_ex(A)
        if int(info) > 0:
            raise LinAlgError("the system is not positive definite")
        return factor

    def solve(self, factor, B):
        return torch.cholesky_solve(B, factor)

    def inverse_diagonal(self, A):
        """Diagonal of the inverse of a symmetric positive definite matrix."""
        return torch.cholesky_inverse(self.cholesky(A)).diagonal()
