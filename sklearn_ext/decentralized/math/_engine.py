"""The interface of the engines of the decentralized estimators, and their selection."""

from typing import Any, Protocol, TypeAlias

from numpy.typing import ArrayLike

from ...utils._typing import FloatArray
from ...utils._validation import computes_with_numba

EngineArray: TypeAlias = Any  # a NumPy array or a tensor, depending on the engine
Factor: TypeAlias = Any  # whatever `cholesky` returns
Samples: TypeAlias = Any  # an ndarray or a CSR matrix of shape (n_samples, n_features)


class DeKRREngine(Protocol):
    """Random features and linear algebra on one kind of array.

    Features of a chunk of samples may be computed in a lower precision; sums over chunks and
    linear systems are float64.
    """

    chunk_elements: int

    def asarray(self, x: ArrayLike) -> EngineArray:
        """Convert numbers of the linear system to float64."""

    def to_numpy(self, x: EngineArray) -> FloatArray:
        """Convert an array of the engine to a NumPy array of float64."""

    def zeros(self, *shape: int) -> EngineArray:
        """Return float64 zeros."""

    def samples(self, X: Samples) -> EngineArray:
        """Convert a chunk of samples to the form that :meth:`features` takes."""

    def features(
        self, X: EngineArray, frequencies: EngineArray, phases: EngineArray
    ) -> EngineArray:
        """Return ``sqrt(2 / D) * cos(X @ frequencies + phases)``."""

    def trigonometric_sums(
        self,
        X: EngineArray,
        Y: EngineArray,
        frequencies: EngineArray,
        phases: EngineArray | None = None,
    ) -> tuple[EngineArray, EngineArray]:
        """Return ``Y.T @ cos(angles)`` and ``Y.T @ sin(angles)``, each (n_outputs, D)."""

    def cholesky(self, A: EngineArray) -> Factor:
        """Factorize a symmetric positive definite matrix."""

    def solve(self, factor: Factor, B: EngineArray) -> EngineArray:
        """Solve a linear system whose matrix :meth:`cholesky` has factorized."""

    def inverse_diagonal(self, A: EngineArray) -> EngineArray:
        """Return the diagonal of the inverse of a symmetric positive definite matrix."""


def make_engine(engine: str = "auto", device: Any = None) -> DeKRREngine:
    """Return the engine for the parameters `engine` and `device` of an estimator.

    Only the module of that engine is imported.
    """
    if computes_with_numba(engine, device):
        from ._engine_numba import DeKRRNumbaEngine

        return DeKRRNumbaEngine()

    from ...neural import resolve_device
    from ._engine_torch import DeKRRTorchEngine

    return DeKRRTorchEngine(resolve_device(device))
