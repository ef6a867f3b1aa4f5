"""The way down from noise, with any denoiser."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from ._denoising_math import guided, step_down, step_variance
from ._schedules import time_of

# From noisy rows and their time in [0, 1) to an estimate of the noise.
PredictNoise = Callable[[torch.Tensor, float], torch.Tensor]


def follow_path(
    predict_noise: PredictNoise,
    x: torch.Tensor,
    steps: Sequence[int],
    levels: np.ndarray,
    *,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
    bound: float | None = 1.0,
) -> torch.Tensor:
    """Take rows from the first of some steps down to clean rows.

    Parameters
    ----------
    predict_noise : callable
    x : tensor of shape (n, ...)
        Rows at the first step.
    steps : sequence of int
        Falling, as :func:`sampling_steps` returns them.
    levels : ndarray of shape (T,)
        The schedule.
    eta, bound
        As for :func:`step_down`.
    generator : torch.Generator or None
        Source of fresh noise, needed if `eta` is positive.

    Returns
    -------
    tensor of the shape of x
    """
    path = [float(levels[step]) for step in steps]
    for step, level, next_level in zip(steps, path, [*path[1:], 1.0], strict=True):
        fresh_noise = None
        if step_variance(level, next_level, eta) > 0:
            fresh_noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        x = step_down(
            x,
            predict_noise(x, time_of(step, len(levels))),
            level,
            next_level,
            eta=eta,
            fresh_noise=fresh_noise,
            bound=bound,
        )
    return x


def conditioned(
    module: torch.nn.Module, codes: torch.Tensor, null_code: int, guidance: float
) -> PredictNoise:
    """Return the guided estimate of a network for rows of given classes.

    Without guidance a step costs one pass of n rows, with it one pass of 2 n.

    Parameters
    ----------
    module : torch.nn.Module
        ``forward(x, t, c)``.
    codes : int64 tensor of shape (n,)
        Classes; `null_code` is none of them.
    null_code : int
    guidance : float

    Returns
    -------
    callable
    """
    if guidance == 0 or bool((codes == null_code).all()):

        def predict_noise(x, time):
            return module(x, x.new_full((len(x),), time), codes)

    else:
        both = torch.cat([codes, torch.full_like(codes, null_code)])

        def predict_noise(x, time):
            estimates = module(torch.cat([x, x]), x.new_full((2 * len(x),), time), both)
            return guided(*estimates.chunk(2), guidance)

    return predict_noise
