"""A denoiser with all that it takes to use it on data."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ._denoising_math import add_noise
from ._sampling import conditioned, follow_path
from ._scaling import UnitRange
from ._schedules import sampling_steps
from ._scoring import mean_losses
from ._threads import threads_for

_BLOCK = 1024


@dataclass(frozen=True)
class Sampler:
    """How to go from noise to rows.

    Attributes
    ----------
    n_steps : int
    guidance : float
        See :func:`guided`.
    eta : float
        See :func:`step_down`.
    """

    n_steps: int
    guidance: float
    eta: float


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
        Shape in which the network sees a row.
    n_classes : int
        Codes run from 0; this one means "any class".
    """

    module: nn.Module
    levels: np.ndarray
    unit_range: UnitRange
    row_shape: tuple[int, ...]
    n_classes: int

    @property
    def null_code(self) -> int:
        """Code of "any class"."""
        return self.n_classes

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.module.parameters()).device

    def encode(self, X: np.ndarray) -> torch.Tensor:
        """Return rows of data in the units, the shape and the place of the network."""
        rows = np.ascontiguousarray(self.unit_range.forward(X), dtype=np.float32)
        return torch.from_numpy(rows).to(self.device).reshape(len(X), *self.row_shape)

    def decode(self, x: torch.Tensor, input_shape) -> np.ndarray:
        """Return rows of the network in the units and the shape of the data."""
        return self.unit_range.backward(x.reshape(len(x), *input_shape).cpu().numpy())

    def code_tensor(self, codes: np.ndarray) -> torch.Tensor:
        """Return class codes where the network is."""
        return torch.as_tensor(codes, dtype=torch.int64, device=self.device)

    def sample(
        self, codes: torch.Tensor, sampler: Sampler, generator: torch.Generator
    ) -> torch.Tensor:
        """Draw a row for every code, from pure noise: tensor of shape (n, *row_shape)."""
        rows = []
        for block in codes.split(_BLOCK):
            shape = (len(block), *self.row_shape)
            noise = torch.randn(shape, generator=generator, device=self.device)
            rows.append(self.denoise(noise, len(self.levels) - 1, block, sampler, generator))
        return torch.cat(rows)

    def reconstruct(
        self,
        x: torch.Tensor,
        codes: torch.Tensor,
        start: int,
        sampler: Sampler,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """Noise rows up to a step and take them down again."""
        rows = []
        for block, block_codes in zip(x.split(_BLOCK), codes.split(_BLOCK), strict=True):
            noise = torch.randn(block.shape, generator=generator, device=self.device)
            x_t = add_noise(block, noise, float(self.levels[start]))
            rows.append(self.denoise(x_t, start, block_codes, sampler, generator))
        return torch.cat(rows)

    @torch.no_grad()
    def denoise(
        self,
        x_t: torch.Tensor,
        start: int,
        codes: torch.Tensor,
        sampler: Sampler,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """Take rows from step `start` down to clean rows in [-1, 1]."""
        with threads_for(self.row_shape):
            return follow_path(
                conditioned(self.module, codes, self.null_code, sampler.guidance),
                x_t,
                sampling_steps(len(self.levels), sampler.n_steps, start),
                self.levels,
                eta=sampler.eta,
                generator=generator,
            )

    def losses(
        self, x: torch.Tensor, codes: torch.Tensor, n_draws: int, generator: torch.Generator
    ) -> torch.Tensor:
        """Return the denoising loss of every row, on times and noise that all rows share."""
        with threads_for(self.row_shape):
            return mean_losses(self.module, x, codes, self.levels, n_draws, generator)
