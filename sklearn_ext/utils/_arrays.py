"""NumPy array operations shared by the engines of several methods."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._typing import FloatArray


class NumpyArrays:
    """Contiguous NumPy arrays of float64; `TorchArrays` in ``neural`` is its counterpart."""

    def asarray(self, x: ArrayLike) -> FloatArray:
        """Return the values as a contiguous array."""
        return np.ascontiguousarray(x, dtype=np.float64)

    def to_numpy(self, x: FloatArray) -> FloatArray:
        """Return the array itself."""
        return x

    def zeros(self, *shape: int) -> FloatArray:
        """Return an array of zeros."""
        return np.zeros(shape)

    def vstack(self, *blocks: FloatArray) -> Any:
        """Return the rows of all blocks in one array."""
        return np.concatenate(blocks)
