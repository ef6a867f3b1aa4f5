"""The units in which noise is added, in which ordinary samples fill the interval from -1 to 1."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from ...neural import (
    AnySamples,
    n_samples_of,
    sample_and_target,
    sample_shape,
    select_samples,
    stacked,
)
from ...utils._typing import FloatArray

# Values are clipped here, far beyond any noise, so that their squares and their products with
# stored samples stay within single precision.
_LARGEST = 1e12
_BLOCK = 1024  # samples of a dataset that are in memory together


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


class PathSamples(Dataset):
    """A dataset whose samples are in units of the denoiser.

    Parameters
    ----------
    dataset : torch.utils.data.Dataset
    scale : PathScale
    """

    def __init__(self, dataset: Dataset, scale: PathScale) -> None:
        self.dataset = dataset
        self.scale = scale

    def __len__(self) -> int:
        return n_samples_of(self.dataset)

    def __getitem__(self, index: int) -> tuple[FloatArray, Any]:
        sample, target = sample_and_target(self.dataset[index])
        return self.scale.to_path(stacked(sample)), target


def fit_path_scale(X: AnySamples, scale: str | tuple[float, float]) -> PathScale:
    """Compute the units in which noise is added.

    Parameters
    ----------
    X : float32 ndarray of shape (n, d) or of images, (n, ...), or Dataset of such samples
        A dataset is read once.
    scale : {"minmax", "standard"} or (float, float)
        The range of the samples, or their mean and standard deviation; or a fixed range for all
        entries. Each feature has its own unit; the pixels of images share one.

    Returns
    -------
    PathScale
    """
    axes = 0 if len(sample_shape(X) or ()) == 1 else None
    low, high, mean, deviation = _statistics(X, axes)
    if scale == "standard":
        center, width = mean, deviation
    else:
        if not isinstance(scale, str):
            low, high = (np.float64(bound) for bound in scale)
        center, width = (low + high) / 2, (high - low) / 2
    # A constant feature keeps its unit, so a new sample differs from it by the plain difference.
    width = np.where(low < high, width, 1.0)
    bounds = (low - center) / width, (high - center) / width
    return PathScale(*(np.asarray(v, dtype=np.float32) for v in (center, width, *bounds)))


def _statistics(X: AnySamples, axes: int | None) -> tuple[Any, Any, Any, Any]:
    """Return the smallest and largest values, the mean and the standard deviation."""
    if not isinstance(X, Dataset):
        mean, deviation = X.mean(axis=axes, dtype=np.float64), X.std(axis=axes, dtype=np.float64)
        low, high = X.min(axis=axes).astype(np.float64), X.max(axis=axes).astype(np.float64)
        return low, high, mean, deviation
    n, moments = n_samples_of(X), []
    for start in range(0, n, _BLOCK):
        block = stacked(select_samples(X, np.arange(start, min(start + _BLOCK, n))))
        found = _statistics(block, axes)
        moments.append((len(block), *found[:3], found[2] ** 2 + found[3] ** 2))
    weight, lows, highs, means, squares = (np.array(each) for each in zip(*moments, strict=True))
    mean = np.average(means, axis=0, weights=weight)
    square = np.average(squares, axis=0, weights=weight)
    return lows.min(axis=0), highs.max(axis=0), mean, np.sqrt(np.maximum(square - mean**2, 0.0))
