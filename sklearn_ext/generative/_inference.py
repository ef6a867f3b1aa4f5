"""What a trained diffusion model computes: new samples, reconstructions and denoising losses."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..utils._typing import FloatArray
from ._denoising_math import add_noise, ddim_step, denoising_losses, guided, step_variance
from ._diffusion import Diffusion, threads_for
from ._schedules import sampling_steps, time_of

_BLOCK = 1024  # samples that pass through the network together
_BOUNDS = (-1.0, 1.0)

# From noisy samples and their time in [0, 1) to an estimate of their noise.
PredictNoise = Callable[[torch.Tensor, float], torch.Tensor]


@dataclass(frozen=True)
class Sampler:
    """How to go from noise to clean samples.

    Attributes
    ----------
    n_steps : int
        Number of steps.
    guidance : float
        Weight w of :func:`guided`.
    eta : float
        Amount of fresh noise in each :func:`ddim_step`.
    """

    n_steps: int
    guidance: float
    eta: float


def draw_samples(
    diffusion: Diffusion, codes: torch.Tensor, sampler: Sampler, generator: torch.Generator
) -> torch.Tensor:
    """Draw one sample per class code from pure noise.

    Parameters
    ----------
    diffusion : Diffusion
    codes : int64 tensor of shape (n,)
    sampler : Sampler
    generator : torch.Generator

    Returns
    -------
    tensor of shape (n, *row_shape)
        Values in [-1, 1].
    """
    blocks = []
    for block in codes.split(_BLOCK):
        shape = (len(block), *diffusion.row_shape)
        noise = torch.randn(shape, generator=generator, device=diffusion.device)
        blocks.append(
            _denoise(diffusion, noise, len(diffusion.levels) - 1, block, sampler, generator)
        )
    return torch.cat(blocks)


def reconstruct_samples(
    diffusion: Diffusion,
    x: torch.Tensor,
    codes: torch.Tensor,
    start: int,
    sampler: Sampler,
    generator: torch.Generator,
) -> torch.Tensor:
    """Add noise to samples up to step `start` and remove it again.

    Parameters
    ----------
    diffusion : Diffusion
    x : tensor of shape (n, *row_shape)
    codes : int64 tensor of shape (n,)
    start : int
    sampler : Sampler
    generator : torch.Generator

    Returns
    -------
    tensor of the shape of x
    """
    blocks = []
    for block, block_codes in zip(x.split(_BLOCK), codes.split(_BLOCK), strict=True):
        noise = torch.randn(block.shape, generator=generator, device=diffusion.device)
        x_t = add_noise(block, noise, float(diffusion.levels[start]))
        blocks.append(_denoise(diffusion, x_t, start, block_codes, sampler, generator))
    return torch.cat(blocks)


@torch.no_grad()
def _denoise(
    diffusion: Diffusion,
    x_t: torch.Tensor,
    start: int,
    codes: torch.Tensor,
    sampler: Sampler,
    generator: torch.Generator,
) -> torch.Tensor:
    """Take samples from step `start` down to clean samples in [-1, 1]."""
    with threads_for(diffusion.row_shape):
        return follow_path(
            conditioned(diffusion.module, codes, diffusion.null_code, sampler.guidance),
            x_t,
            sampling_steps(len(diffusion.levels), sampler.n_steps, start),
            diffusion.levels,
            eta=sampler.eta,
            generator=generator,
            bounds=_BOUNDS,
        )


def follow_path(
    predict_noise: PredictNoise,
    x: torch.Tensor,
    steps: Sequence[int],
    levels: FloatArray,
    *,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
    bounds: tuple[float, float] | None = None,
) -> torch.Tensor:
    """Take samples from the first of some steps down to clean samples.

    Parameters
    ----------
    predict_noise : callable
    x : tensor of shape (n, ...)
        Samples at the first step.
    steps : sequence of int
        In falling order, as :func:`sampling_steps` returns them.
    levels : ndarray of shape (T,)
        The schedule.
    eta, bounds
        As in :func:`ddim_step`.
    generator : torch.Generator or None
        Source of fresh noise. It is needed if `eta` is positive.

    Returns
    -------
    tensor of the shape of x
    """
    path = [float(levels[step]) for step in steps]
    for step, level, next_level in zip(steps, path, [*path[1:], 1.0], strict=True):
        fresh_noise = None
        if step_variance(level, next_level, eta) > 0:
            fresh_noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        x = ddim_step(
            x,
            predict_noise(x, time_of(step, len(levels))),
            level,
            next_level,
            eta=eta,
            fresh_noise=fresh_noise,
            bounds=bounds,
        )
    return x


def conditioned(
    module: torch.nn.Module, codes: torch.Tensor, null_code: int, guidance: float
) -> PredictNoise:
    """Return the guided estimate of a network for samples of given classes.

    A step costs one pass of n samples without guidance, and one pass of 2 n samples with it.

    Parameters
    ----------
    module : torch.nn.Module
        ``forward(x, t, c)``.
    codes : int64 tensor of shape (n,)
        Classes; `null_code` means "any class".
    null_code : int
    guidance : float

    Returns
    -------
    callable
    """
    if guidance == 0 or bool((codes == null_code).all()):

        def predict_noise(x: torch.Tensor, time: float) -> torch.Tensor:
            return module(x, x.new_full((len(x),), time), codes)

    else:
        both = torch.cat([codes, torch.full_like(codes, null_code)])

        def predict_noise(x: torch.Tensor, time: float) -> torch.Tensor:
            estimates = module(torch.cat([x, x]), x.new_full((2 * len(x),), time), both)
            conditional, unconditional = estimates.chunk(2)
            return guided(conditional, unconditional, guidance)

    return predict_noise


@torch.no_grad()
def mean_denoising_losses(
    diffusion: Diffusion,
    X: torch.Tensor,
    codes: torch.Tensor,
    n_draws: int,
    generator: torch.Generator,
) -> torch.Tensor:
    r"""Return :math:`\frac1K \sum_k \lVert e_k - \hat e(x_{t_k}, t_k, c) \rVert^2` per sample.

    The steps are :math:`t_k = \lfloor (k + \tfrac12)\, T / K \rfloor`, k = 0, ..., K - 1. All
    samples share the pairs :math:`(t_k, e_k)`, so that a sample's loss does not depend on the
    others.

    Parameters
    ----------
    diffusion : Diffusion
    X : tensor of shape (n, *row_shape)
    codes : int64 tensor of shape (n,)
    n_draws : int
        Number K of pairs.
    generator : torch.Generator

    Returns
    -------
    tensor of shape (n,)
    """
    n_timesteps, ones = len(diffusion.levels), [1] * (X.ndim - 1)
    steps = ((torch.arange(n_draws) + 0.5) * n_timesteps / n_draws).long().to(X.device)
    noise = torch.randn((n_draws, *X.shape[1:]), generator=generator, device=X.device)
    every_level = torch.as_tensor(diffusion.levels, dtype=X.dtype, device=X.device)
    level = every_level[steps].view(-1, *ones)
    times = time_of(steps, n_timesteps).to(X.dtype)
    n_samples = max(_BLOCK // n_draws, 1)
    means = []
    with threads_for(diffusion.row_shape):
        for x, c in zip(X.split(n_samples), codes.split(n_samples), strict=True):
            every_noise = noise.repeat(len(x), *ones)
            x_t = add_noise(
                x.repeat_interleave(n_draws, dim=0), every_noise, level.repeat(len(x), *ones)
            )
            estimate = diffusion.module(x_t, times.repeat(len(x)), c.repeat_interleave(n_draws))
            losses = denoising_losses(every_noise.double(), estimate.double())
            means.append(losses.view(-1, n_draws).mean(dim=1))
    return torch.cat(means)
