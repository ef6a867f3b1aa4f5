"""The units in which noise is added: ordinary samples fill the interval from -1 to 1."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...utils._typing import FloatArray

# Values are clipped here, far beyond any noise, so that their squares and their products with
# stored samples stay within single precision.
_LARGEST = 1e12


@dataclass(frozen=True)
class PathScale:
    """An affine map to the units of the denoiser, and the range of the data in these units.

    Attributes
    ----------
    center, width : float32 scalar or array of the shape of one sample
        The values ``center`` and ``center + width`` become 0 and 1.
    lower, upper : float32 scalar or array of the shape of one sample
        Range of the data in units of the denoiser.
    """

    center: Any
    width: Any
    lower: Any
    upper: Any

    @property
    def bounds(self) -> tuple[Any, Any]:
        """The range of the data, ``(lower, upper)``."""
        return self.lower, self.upper

    def to_path(self, X: FloatArray) -> FloatArray:
        """Return samples in units of the denoiser."""
        with np.errstate(over="ignore"):
            x = (X - self.center) / self.width
        return np.clip(x, -_LARGEST, _LARGEST, out=x)

    def from_path(self, x: FloatArray) -> FloatArray:
        """Return samples in units of the data."""
        return x * self.width + self.center


def fit_path_scale(X: FloatArray, scale: str | tuple[float, float]) -> PathScale:
    """Compute the units in which noise is added.

    Parameters
    ----------
    X : float32 ndarray of shape (n, d) or of images, (n, ...)
    scale : {"minmax", "standard"} or (float, float)
        The range of the samples, or their mean and standard deviation; or a fixed range for all
        entries. Features have units of their own, the pixels of an image share one.

    Returns
    -------
    PathScale
    """
    axes = 0 if X.ndim == 2 else None
    low, high = X.min(axis=axes).astype(np.float64), X.max(axis=axes).astype(np.float64)
    if scale == "standard":
        center, width = X.mean(axis=axes, dtype=np.float64), X.std(axis=axes, dtype=np.float64)
    else:
        if not isinstance(scale, str):
            low, high = (np.float64(bound) for bound in scale)
        center, width = (low + high) / 2, (high - low) / 2
    # A constant feature keeps its unit: a new sample that differs is off by the plain difference.
    width = np.where(low < high, width, 1.0)
    bounds = (low - center) / width, (high - center) / width
    return PathScale(*(np.asarray(v, dtype=np.float32) for v in (center, width, *bounds)))
