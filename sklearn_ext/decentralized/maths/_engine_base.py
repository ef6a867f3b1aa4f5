"""The shared base of the engines, and the types of their arguments."""

from typing import Any, TypeAlias

EngineArray: TypeAlias = Any  # a numpy array or a tensor, as the engine computes with it
Factor: TypeAlias = Any  # whatever `cholesky` returns
Samples: TypeAlias = Any  # an ndarray or a CSR matrix of shape (n_samples, n_features)


class ArrayEngine:
    """The part of an engine that does not depend on the kind of array."""

    chunk_elements: int

    def chunks(self, n_samples: int, n_columns: int) -> list[slice]:
        """Return slices of samples whose features, `n_columns` wide, fit in one temporary."""
        step = max(64, self.chunk_elements // max(1, n_columns))
        return [slice(start, min(start + step, n_samples)) for start in range(0, n_samples, step)]
