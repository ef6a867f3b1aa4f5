"""A diffusion model with what it takes to regenerate rows, in the units of the user."""

from dataclasses import dataclass

import numpy as np

from ._diffusion_path import Denoiser, denoise, regenerate
from ._path_scale import PathScale


@dataclass(frozen=True)
class Regenerator:
    """Regenerates rows from a fixed amount of fixed noise.

    Attributes
    ----------
    denoiser : Denoiser
    scale : PathScale
    noise : float32 ndarray of shape (n_repeats, ...)
        Of the shape of one row each.
    start : float
        Time from which rows are regenerated.
    n_steps : int
    guidance : float
    """

    denoiser: Denoiser
    scale: PathScale
    noise: np.ndarray
    start: float
    n_steps: int
    guidance: float

    def regenerate(self, X, codes=None, n_repeats=None):
        """Return regenerations of rows, of shape (n_repeats, n, ...), perhaps as classes."""
        x_hat = regenerate(
            self.denoiser,
            self.scale.to_path(X),
            self.noise[:n_repeats],
            self.start,
            self.n_steps,
            self.scale.lower,
            self.scale.upper,
            codes,
            self.guidance,
        )
        return self.scale.from_path(x_hat)

    def sample(self, noise, n_steps, codes=None):
        """Turn noise of shape (n, ...) into rows."""
        bounds = self.scale.lower, self.scale.upper
        x = denoise(self.denoiser, noise, 1.0, n_steps, *bounds, codes, self.guidance)
        return self.scale.from_path(x)
