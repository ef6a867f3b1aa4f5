"""A denoiser with its schedule and the units in which it sees data."""

import itertools
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from numbers import Integral
from typing import Any, cast

import numpy as np
import skorch
import torch
from threadpoolctl import threadpool_limits
from torch import nn
from torch.utils.data import Dataset

from ..neural import NetSamples
from ..utils._typing import Array, FloatArray
from ._denoising_math import Prediction, noise_from_prediction
from ._schedules import time_of

_UNIT: tuple[float, float] = (-1.0, 1.0)
_BLOCK = 1024  # samples of a dataset that are in memory together


@dataclass(frozen=True)
class UnitRange:
    """An affine map that takes a range of values to [-1, 1].

    Parameters
    ----------
    center : float32 ndarray that broadcasts against a sample
        The value that becomes 0.
    half_width : float32 ndarray of the same shape
        Half the width of the range. It is zero where all values are equal: these values become 0,
        and `backward` restores them.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext.generative import UnitRange
    >>> pixels = UnitRange.between(0, 255)
    >>> pixels.forward(np.array([0.0, 255.0]))
    array([-1.,  1.])
    """

    center: FloatArray
    half_width: FloatArray

    @classmethod
    def between(cls, low: Any, high: Any) -> "UnitRange":
        """Return the map that takes `low` to -1 and `high` to 1.

        Parameters
        ----------
        low, high : float or array-like that broadcasts against a sample
            Ends of the range.

        Returns
        -------
        UnitRange
        """
        low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
        return cls(
            np.asarray((low + high) / 2, dtype=np.float32),
            np.asarray((high - low) / 2, dtype=np.float32),
        )

    def forward(self, X: FloatArray) -> FloatArray:
        """Return samples in units of the range.

        Parameters
        ----------
        X : ndarray of shape (n_samples, ...)
            Samples in units of the data.

        Returns
        -------
        ndarray of the shape and dtype of X
        """
        divisor = np.where(self.half_width > 0, self.half_width, np.float32(1))
        return (X - self.center) / divisor

    def backward(self, X: FloatArray) -> FloatArray:
        """Return samples in units of the data.

        Parameters
        ----------
        X : ndarray of shape (n_samples, ...)
            Samples in units of the range.

        Returns
        -------
        ndarray of the shape of X
        """
        return self.center + self.half_width * X


class _BatchSettings:
    """The part of a net that the reader of samples needs: a device, and no settings of loaders."""

    module_ = None

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def get_dataset(self, X: Dataset) -> Dataset:
        return X

    def get_params_for(self, prefix: str) -> dict[str, Any]:
        return {}


class EncodedSamples:
    """The samples of a dataset in units of a network, read when they are indexed.

    Algorithms that choose samples by their index take it in place of a tensor of shape (n, ...).

    Parameters
    ----------
    dataset : torch.utils.data.Dataset
        Its items are pairs of a sample and its label.
    unit_range : UnitRange
        The map from the units of the data to those of the network.
    sample_shape : tuple of int
        Shape in which the network sees a sample.
    device : torch.device
        Where the samples go.
    """

    def __init__(
        self,
        dataset: Dataset,
        unit_range: UnitRange,
        sample_shape: tuple[int, ...],
        device: torch.device,
    ) -> None:
        self.samples = NetSamples(cast(skorch.NeuralNet, _BatchSettings(device)), dataset)
        divisor = np.where(unit_range.half_width > 0, unit_range.half_width, np.float32(1))
        self.center, self.divisor = (
            torch.as_tensor(part, dtype=torch.float32, device=device)
            for part in (unit_range.center, divisor)
        )
        self.shape = (len(self.samples), *sample_shape)
        self.ndim = len(self.shape)
        self.device = device
        self.dtype = torch.float32

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: torch.Tensor) -> torch.Tensor:
        values = self.samples.take(index)[0].float()
        if not bool(torch.isfinite(values).all()):
            raise ValueError("Input X contains NaN or infinity.")
        return ((values - self.center) / self.divisor).reshape(len(index), *self.shape[1:])

    def split(self, size: int) -> Iterator[torch.Tensor]:
        """Yield blocks of samples, as the method of a tensor does."""
        for index in torch.arange(len(self)).split(size):
            yield self[index]


@dataclass(frozen=True)
class Diffusion:
    """A network that estimates noise, its schedule, and the units in which it sees data.

    It is the attribute ``diffusion_`` of a fitted :class:`~sklearn_ext.ConditionalDDPM`. You can
    also build it from a network of your own.

    Parameters
    ----------
    module : torch.nn.Module
        The network, ``forward(x, t, c)`` for times t in [0, 1), in evaluation mode.
    levels : ndarray of shape (n_timesteps,)
        The signal levels of the schedule.
    unit_range : UnitRange
        The map from the units of the data to those of the network.
    sample_shape : tuple of int
        Shape in which the network sees a sample.
    n_classes : int
        Class codes are 0 to ``n_classes - 1``, and `n_classes` itself means "any class".
    prediction : {"epsilon", "v", "sample"}, default="epsilon"
        What the network estimates: the noise, the clean sample, or the difference v of the two.
    bounds : tuple of (float, float) or None, default=(-1.0, 1.0)
        Range of clean samples in units of the network. None means that they are unlimited.
    knows_any_class : bool, default=True
        Whether the network takes the code that means "any class".

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext.generative import Diffusion, MLPDenoiser, UnitRange, linear_levels
    >>> network = MLPDenoiser((3,), n_classes=2).eval()
    >>> diffusion = Diffusion(network, linear_levels(100), UnitRange.between(0, 10), (3,), 2)
    >>> diffusion.encode(np.array([[0.0, 5.0, 10.0]]))
    tensor([[-1.,  0.,  1.]])
    """

    module: nn.Module
    levels: FloatArray
    unit_range: UnitRange
    sample_shape: tuple[int, ...]
    n_classes: int
    prediction: Prediction = "epsilon"
    bounds: tuple[float, float] | None = _UNIT
    knows_any_class: bool = True

    @property
    def null_code(self) -> int:
        """The class code that means "any class"."""
        return self.n_classes

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        tensors = itertools.chain(self.module.parameters(), self.module.buffers())
        return next((tensor.device for tensor in tensors), torch.device("cpu"))

    def predict_noise(self, x: torch.Tensor, step: int, codes: torch.Tensor) -> torch.Tensor:
        """Estimate the noise in samples at a step of the schedule.

        Parameters
        ----------
        x : tensor of shape (n_samples, ...)
            Noisy samples in units of the network.
        step : int
            The step, from 0 to ``len(levels) - 1``.
        codes : int64 tensor of shape (n_samples,)
            Class codes.

        Returns
        -------
        tensor of the shape of x
        """
        times = x.new_full((len(x),), time_of(step, len(self.levels)))
        estimate = self.module(x, times, codes)
        return noise_from_prediction(x, estimate, float(self.levels[step]), self.prediction)

    def encode(self, X: Any) -> Any:
        """Return samples as the network takes them.

        Parameters
        ----------
        X : ndarray of shape (n_samples, ...) or torch.utils.data.Dataset
            Samples in the units of the data.

        Returns
        -------
        float32 tensor of shape (n_samples, ...), or EncodedSamples
            Samples in units of the range, on the device of the network. Those of a dataset are
            read when they are needed.
        """
        if isinstance(X, Dataset):
            return EncodedSamples(X, self.unit_range, self.sample_shape, self.device)
        x = np.ascontiguousarray(self.unit_range.forward(X), dtype=np.float32)
        return torch.from_numpy(x).to(self.device).reshape(len(X), *self.sample_shape)

    def decode(self, x: torch.Tensor, input_shape: tuple[int, ...]) -> FloatArray:
        """Return samples of the network in the units of the data.

        Parameters
        ----------
        x : tensor of shape (n_samples, ...)
            Samples in units of the range.
        input_shape : tuple of int
            Shape of one sample in the data.

        Returns
        -------
        float32 ndarray of shape (n_samples, ...)
        """
        return self.unit_range.backward(x.reshape(len(x), *input_shape).cpu().numpy())

    def code_tensor(self, codes: Array) -> torch.Tensor:
        """Return class codes on the device of the network.

        Parameters
        ----------
        codes : int ndarray of shape (n_samples,)
            Class codes.

        Returns
        -------
        int64 tensor of shape (n_samples,)
        """
        return torch.as_tensor(codes, dtype=torch.int64, device=self.device)


def resolve_sample_shape(image_shape: Any, input_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape in which the denoiser sees a sample.

    Parameters
    ----------
    image_shape : sequence of int or None
        None means the shape of the data.
    input_shape : tuple of int
        Shape of one sample in the data.

    Returns
    -------
    tuple of int

    Raises
    ------
    ValueError
        If `image_shape` is not the shape of an image, or has another number of entries.
    """
    if image_shape is None:
        return tuple(input_shape)
    shape = tuple(image_shape)
    if len(shape) not in (2, 3) or not all(isinstance(k, Integral) and int(k) > 0 for k in shape):
        raise ValueError(
            "image_shape must be None, (height, width) or (channels, height, width), "
            f"got {image_shape!r}."
        )
    if math.prod(shape) != math.prod(input_shape):
        raise ValueError(
            f"image_shape={image_shape!r} has {math.prod(shape)} entries, but the samples of X "
            f"have {math.prod(input_shape)}."
        )
    return tuple(map(int, shape))


def resolve_unit_range(
    feature_range: Any,
    X: Any,
    sample_shape: tuple[int, ...],
    name: str = "feature_range",
) -> UnitRange:
    """Return the map to [-1, 1], for each feature of a table or for all pixels of images.

    Parameters
    ----------
    feature_range : pair of float or "auto"
        "auto" is the range of X.
    X : ndarray of shape (n_samples, ...) or torch.utils.data.Dataset
        The training samples. The range of a dataset takes one pass over it.
    sample_shape : tuple of int
        Shape in which the network sees a sample. A table has one axis.
    name : str, default="feature_range"
        Name of the parameter in messages.

    Returns
    -------
    UnitRange

    Raises
    ------
    ValueError
        If `feature_range` is not a pair of increasing numbers.
    """
    if isinstance(feature_range, str):
        axis = 0 if len(sample_shape) == 1 else None
        if isinstance(X, Dataset):
            plain = UnitRange(np.zeros((), np.float32), np.ones((), np.float32))
            blocks = EncodedSamples(X, plain, sample_shape, torch.device("cpu")).split(_BLOCK)
            ends = [(x.min(axis=axis), x.max(axis=axis)) for x in (b.numpy() for b in blocks)]
            lows, highs = zip(*ends, strict=True)
            return UnitRange.between(np.min(lows, axis=0), np.max(highs, axis=0))
        return UnitRange.between(X.min(axis=axis), X.max(axis=axis))
    if len(feature_range) != 2 or not feature_range[0] < feature_range[1]:
        other = "'auto'" if name == "feature_range" else "None"
        raise ValueError(
            f"{name} must be {other} or a pair (low, high) with low < high, got {feature_range!r}."
        )
    return UnitRange.between(*feature_range)


def threads_for(sample_shape: tuple[int, ...]) -> AbstractContextManager[Any]:
    """Return a context with the number of threads that suits samples of a shape.

    One thread finishes the small matrix products of an MLP sooner than two threads can
    synchronize. For images, torch keeps its number of threads.

    Parameters
    ----------
    sample_shape : tuple of int
        Shape in which the network sees a sample.

    Returns
    -------
    context manager
    """
    is_table = len(sample_shape) == 1
    return threadpool_limits(limits=1, user_api="openmp") if is_table else nullcontext()
