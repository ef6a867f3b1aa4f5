"""A denoiser with its schedule and the units in which it sees data."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import nn

from ..utils._typing import Array, FloatArray


@dataclass(frozen=True)
class UnitRange:
    """An affine map that takes a range of values to [-1, 1].

    Attributes
    ----------
    center : float32 ndarray that broadcasts against a sample
        The value that becomes 0.
    half_width : float32 ndarray of the same shape
        Half the width of the range. It is zero where all values are equal: they become 0, and
        `backward` returns them as they were.
    """

    center: FloatArray
    half_width: FloatArray

    @classmethod
    def between(cls, low: Any, high: Any) -> "UnitRange":
        """Return the map that takes `low` to -1 and `high` to 1."""
        low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
        return cls(
            np.asarray((low + high) / 2, dtype=np.float32),
            np.asarray((high - low) / 2, dtype=np.float32),
        )

    def forward(self, X: FloatArray) -> FloatArray:
        """Return samples in units of the range, in the dtype of X."""
        divisor = np.where(self.half_width > 0, self.half_width, np.float32(1))
        return (X - self.center) / divisor

    def backward(self, X: FloatArray) -> FloatArray:
        """Return samples in units of the data."""
        return self.center + self.half_width * X


@dataclass(frozen=True)
class Diffusion:
    """A network that estimates noise, its schedule, and the units in which it sees data.

    Attributes
    ----------
    module : torch.nn.Module
        ``forward(x, t, c)``, in evaluation mode.
    levels : ndarray of shape (T,)
        The signal levels of the schedule.
    unit_range : UnitRange
        From the units of the data to those of the network.
    row_shape : tuple of int
        Shape in which the network sees a sample.
    n_classes : int
        Class codes are 0 to ``n_classes - 1``, and `n_classes` itself means "any class".
    """

    module: nn.Module
    levels: FloatArray
    unit_range: UnitRange
    row_shape: tuple[int, ...]
    n_classes: int

    @property
    def null_code(self) -> int:
        """The class code that means "any class"."""
        return self.n_classes

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return next(self.module.parameters()).device

    def encode(self, X: FloatArray) -> torch.Tensor:
        """Return samples in the units and the shape of the network, on its device."""
        x = np.ascontiguousarray(self.unit_range.forward(X), dtype=np.float32)
        return torch.from_numpy(x).to(self.device).reshape(len(X), *self.row_shape)

    def decode(self, x: torch.Tensor, input_shape: tuple[int, ...]) -> FloatArray:
        """Return samples of the network in the units and the shape of the data."""
        return self.unit_range.backward(x.reshape(len(x), *input_shape).cpu().numpy())

    def code_tensor(self, codes: Array) -> torch.Tensor:
        """Return class codes on the device of the network."""
        return torch.as_tensor(codes, dtype=torch.int64, device=self.device)


def threads_for(row_shape: tuple[int, ...]) -> AbstractContextManager[Any]:
    """Return a context with the number of threads that suits samples of a shape.

    One thread finishes the small matrix products of an MLP sooner than two threads can
    synchronize. For images, torch keeps its number of threads.
    """
    return threadpool_limits(limits=1, user_api="openmp") if len(row_shape) == 1 else nullcontext()
