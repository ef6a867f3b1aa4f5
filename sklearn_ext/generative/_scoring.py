"""Denoising losses of rows, on times and noise that all rows share."""

import numpy as np
import torch
from torch import nn

from ._denoising_math import add_noise, denoising_losses
from ._schedules import time_of

_BLOCK_PASSES = 1024


def spread_steps(n_draws: int, n_timesteps: int) -> torch.Tensor:
    r"""Return the steps :math:`\lfloor (k + \tfrac12)\, T / K \rfloor`, k = 0, ..., K - 1."""
    return ((torch.arange(n_draws) + 0.5) * n_timesteps / n_draws).long()


@torch.no_grad()
def mean_losses(
    module: nn.Module,
    X: torch.Tensor,
    codes: torch.Tensor,
    levels: np.ndarray,
    n_draws: int,
    generator: torch.Generator,
) -> torch.Tensor:
    r"""Return :math:`\frac1K \sum_k \lVert e_k - \hat e(x_{t_k}, t_k, c) \rVert^2` for each row.

    The pairs :math:`(t_k, e_k)` are the same for all rows, so that a row's loss does not depend
    on the others.

    Parameters
    ----------
    module : torch.nn.Module
    X : tensor of shape (n, ...)
    codes : int64 tensor of shape (n,)
    levels : ndarray of shape (T,)
    n_draws : int
        K.
    generator : torch.Generator

    Returns
    -------
    tensor of shape (n,)
    """
    steps = spread_steps(n_draws, len(levels)).to(X.device)
    noise = torch.randn((n_draws, *X.shape[1:]), generator=generator, device=X.device)
    every_level = torch.as_tensor(levels, dtype=X.dtype, device=X.device)
    level = every_level[steps].view(-1, *[1] * (X.ndim - 1))
    times = time_of(steps, len(levels)).to(X.dtype)
    n_rows = max(_BLOCK_PASSES // n_draws, 1)
    means = []
    for x, c in zip(X.split(n_rows), codes.split(n_rows), strict=True):
        every = noise.repeat(len(x), *[1] * (X.ndim - 1))
        x_t = add_noise(
            x.repeat_interleave(n_draws, dim=0), every, level.repeat(len(x), *[1] * (X.ndim - 1))
        )
        estimate = module(x_t, times.repeat(len(x)), c.repeat_interleave(n_draws))
        losses = denoising_losses(every.double(), estimate.double())
        means.append(losses.view(-1, n_draws).mean(dim=1))
    return torch.cat(means)
