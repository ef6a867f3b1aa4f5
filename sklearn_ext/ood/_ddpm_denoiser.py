"""A trained diffusion model as the denoiser of a detector."""

import numpy as np
import torch

from ..generative import Diffusion, threads_for

_BLOCK = 1024


class DDPMDenoiser:
    """The network of a fitted :class:`ConditionalDDPM`, on its own schedule and in its own units.

    Parameters
    ----------
    diffusion : Diffusion
    codes : int ndarray of shape (n_classes,) or None
        What the model calls the detector's classes; None for a model without classes.
    """

    def __init__(self, diffusion: Diffusion, codes=None):
        self.diffusion = diffusion
        self.codes = codes

    def _step(self, t):
        n_timesteps = len(self.diffusion.levels)
        return min(round(t * n_timesteps), n_timesteps - 1)

    def signal_level(self, t):
        return float(self.diffusion.levels[self._step(t)])

    @torch.no_grad()
    def predict_noise(self, x_t, t, y=None):
        diffusion = self.diffusion
        if y is not None and self.codes is None:
            raise ValueError(
                "The diffusion model has learned no classes; fit the detector with "
                "conditional=True, or the ConditionalDDPM with y."
            )
        codes = np.full(len(x_t), diffusion.null_code) if y is None else self.codes[y]
        rows = torch.from_numpy(x_t).to(diffusion.device).reshape(-1, *diffusion.row_shape)
        time = self._step(t) / len(diffusion.levels)
        with threads_for(diffusion.row_shape):
            noise = [
                diffusion.module(x, x.new_full((len(x),), time), c)
                for x, c in zip(
                    rows.split(_BLOCK), diffusion.code_tensor(codes).split(_BLOCK), strict=True
                )
            ]
        return torch.cat(noise).cpu().numpy().reshape(x_t.shape)
