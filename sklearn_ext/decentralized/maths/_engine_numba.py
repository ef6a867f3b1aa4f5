"""Random features and linear algebra on the CPU: BLAS, LAPACK and vectorised cosines."""

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.linalg.lapack import dpotri

from ...utils._trigonometry import cosines_and_sines, scaled_cosines


class NumbaEngine:
    """Arithmetic of the decentralised estimators on numpy arrays, in float64."""

    name = "numba"
    chunk_elements = 2**19  # of a temporary, so that it stays near the second-level cache

    def asarray(self, x):
        return np.ascontiguousarray(x, dtype=np.float64)

    def to_numpy(self, x):
        return np.asarray(x)

    def zeros(self, *shape):
        return np.zeros(shape)

    def features(self, X, frequencies, phases):
        """Return ``sqrt(2 / D) cos(X @ frequencies + phases)``; X may be a CSR matrix."""
        angles = X @ frequencies
        angles += phases
        return scaled_cosines(angles, np.sqrt(2.0 / angles.shape[1]))

    def trigonometric_sums(self, X, Y, frequencies, phases=None):
        """Return ``Y.T @ cos(angles)`` and ``Y.T @ sin(angles)``, each (n_outputs, D)."""
        angles = X @ frequencies
        if phases is not None:
            angles += phases
        cosines, sines = cosines_and_sines(angles)
        return Y.T @ cosines, Y.T @ sines

    def rows(self, X):
        """Rows of the user's table in the form that :meth:`features` takes."""
        return X.astype(np.float64) if hasattr(X, "tocsr") else self.asarray(X)

    def cholesky(self, A):
        """Factor a symmetric positive definite matrix."""
        try:
            return cho_factor(A, lower=True, check_finite=False)
        except LinAlgError as error:
            raise LinAlgError(f"the system is not positive definite ({error})") from error

    def solve(self, factor, B):
        return cho_solve(factor, B, check_finite=False)

    def inverse_diagonal(self, A):
        """Diagonal of the inverse of a symmetric positive definite matrix."""
        inverse, _ = dpotri(self.cholesky(A)[0], lower=True)
        return np.diagonal(inverse).copy()
