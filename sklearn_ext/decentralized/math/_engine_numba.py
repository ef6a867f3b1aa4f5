"""Random features and linear algebra on the CPU, with BLAS, LAPACK and vectorized cosines."""

from typing import Any

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.linalg.lapack import dpotri

from ...utils._arrays import NumpyArrays
from ...utils._trigonometry import cosines_and_sines, scaled_cosines
from ...utils._typing import FloatArray


class DeKRRNumbaEngine(NumpyArrays):
    """Arithmetic of the decentralized estimators on NumPy arrays, in float64."""

    chunk_elements = 2**19  # a temporary of this size stays near the second-level cache

    def samples(self, X: Any) -> Any:
        """Convert samples to float64; a CSR matrix stays sparse."""
        return X.astype(np.float64) if hasattr(X, "tocsr") else self.asarray(X)

    def features(self, X: Any, frequencies: FloatArray, phases: FloatArray) -> FloatArray:
        """Return ``sqrt(2 / D) * cos(X @ frequencies + phases)``."""
        angles = X @ frequencies
        angles += phases
        return scaled_cosines(angles, np.sqrt(2.0 / angles.shape[1]))

    def trigonometric_sums(
        self,
        X: Any,
        Y: FloatArray,
        frequencies: FloatArray,
        phases: FloatArray | None = None,
    ) -> tuple[FloatArray, FloatArray]:
        """Return ``Y.T @ cos(angles)`` and ``Y.T @ sin(angles)``, each (n_outputs, D)."""
        angles = X @ frequencies
        if phases is not None:
            angles += phases
        cosines, sines = cosines_and_sines(angles)
        return Y.T @ cosines, Y.T @ sines

    def cholesky(self, A: FloatArray) -> Any:
        """Factorize a symmetric positive definite matrix."""
        try:
            return cho_factor(A, lower=True, check_finite=False)
        except LinAlgError as error:
            raise LinAlgError(f"The linear system is not positive definite: {error}.") from error

    def solve(self, factor: Any, B: FloatArray) -> FloatArray:
        """Solve a linear system whose matrix :meth:`cholesky` has factorized."""
        return cho_solve(factor, B, check_finite=False)

    def inverse_diagonal(self, A: FloatArray) -> FloatArray:
        """Return the diagonal of the inverse of a symmetric positive definite matrix."""
        inverse, _ = dpotri(self.cholesky(A)[0], lower=True)
        return np.diagonal(inverse).copy()
