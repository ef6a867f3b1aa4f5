"""From the units of the data to [-1, 1] and back."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class UnitRange:
    """An affine map that takes a range of values to [-1, 1].

    Attributes
    ----------
    center : float32 ndarray that broadcasts against a row
    half_width : float32 ndarray of the same shape
        Zero where there is one value only: it becomes 0, and comes back as it was.
    """

    center: np.ndarray
    half_width: np.ndarray

    @classmethod
    def between(cls, low, high):
        """Return the map that takes `low` to -1 and `high` to 1."""
        low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
        return cls(
            np.asarray((low + high) / 2, dtype=np.float32),
            np.asarray((high - low) / 2, dtype=np.float32),
        )

    def forward(self, X):
        """Return rows in units of the range, in the dtype of X."""
        divisor = np.where(self.half_width > 0, self.half_width, np.float32(1))
        return (X - self.center) / divisor

    def backward(self, X):
        """Return rows in units of the data."""
        return self.center + self.half_width * X
