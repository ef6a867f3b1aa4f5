"""The units in which noise is added: ordinary rows fill the interval from -1 to 1."""

from dataclasses import dataclass

import numpy as np

# Rows farther out than any noise reaches are as far as rows can be; their squares, and products
# with what is stored, stay within single precision.
_FARTHEST = 1e12


@dataclass(frozen=True)
class PathScale:
    """An affine map of rows to the units of the path, and the range of the data in these units.

    Attributes
    ----------
    center, width : float32 scalar or array of the shape of one row
        What zero and one on the path are: ``center`` and ``center + width``.
    lower, upper : float32 scalar or array of the shape of one row
        Range of the data in units of the path.
    """

    center: np.ndarray
    width: np.ndarray
    lower: np.ndarray
    upper: np.ndarray

    def to_path(self, X):
        with np.errstate(over="ignore"):
            x = (X - self.center) / self.width
        return np.clip(x, -_FARTHEST, _FARTHEST, out=x)

    def from_path(self, x):
        return x * self.width + self.center


def fit_path_scale(X, scale):
    """Find the units of the path.

    Parameters
    ----------
    X : float32 ndarray of shape (n, d) or of images, (n, ...)
    scale : {"minmax", "standard"} or (float, float)
        The range of the rows, or their mean and standard deviation; or a fixed range for all
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
        if scale != "minmax":
            low, high = (np.float64(bound) for bound in scale)
        center, width = (low + high) / 2, (high - low) / 2
    # What never varies stays where it is; a new row that differs is off by its plain distance.
    width = np.where(low < high, width, 1.0)
    bounds = (low - center) / width, (high - center) / width
    return PathScale(*(np.asarray(v, dtype=np.float32) for v in (center, width, *bounds)))
