"""Inference of a trained diffusion model: samples, reconstructions and denoising losses."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..utils._typing import FloatArray
from ._denoising_math import (
    add_noise,
    ddim_step,
    denoising_losses,
    guided,
    prediction_target,
    step_variance,
)
from ._diffusion import Diffusion, threads_for
from ._schedules import sampling_steps, time_of

_BLOCK = 1024  # samples that pass through the network together

# Maps noisy samples and a step of the schedule to an estimate of the noise.
PredictNoise = Callable[[torch.Tensor, int], torch.Tensor]


@dataclass(frozen=True)
class Sampler:
    """Settings of the path from noise to samples in :func:`~sklearn_ext.generative.draw_samples`.

    Parameters
    ----------
    n_steps : int, default=50
        Number of steps.
    guidance : float, default=0.0
        Weight w of classifier-free guidance. 0 draws samples of a class as they are.
    eta : float in [0, 1], default=0.0
        Amount of fresh noise in each step: 0 is DDIM, 1 is the ancestral sampling of DDPM.

    Examples
    --------
    >>> from sklearn_ext.generative import Sampler
    >>> Sampler(n_steps=20)
    Sampler(n_steps=20, guidance=0.0, eta=0.0)
    """

    n_steps: int = 50
    guidance: float = 0.0
    eta: float = 0.0


def draw_samples(
    diffusion: Diffusion, codes: torch.Tensor, sampler: Sampler, generator: torch.Generator
) -> torch.Tensor:
    r"""Draw one sample per class code, starting from pure noise.

    Each step is a :func:`~sklearn_ext.generative.ddim_step` [1]_ along the guided estimate
    :math:`(1 + w)\, \hat e(x_t, t, c) - w\, \hat e(x_t, t)` of the noise [2]_. The steps are evenly
    spaced in the schedule.

    Parameters
    ----------
    diffusion : Diffusion
        The model, for instance ``diffusion_`` of a fitted ConditionalDDPM.
    codes : int64 tensor of shape (n,)
        Class code of each sample; ``diffusion.null_code`` means "any class".
    sampler : Sampler
        How to go from noise to samples.
    generator : torch.Generator
        Source of all draws, on the device of the model.

    Returns
    -------
    tensor of shape (n, ...)
        The samples, within ``diffusion.bounds``. ``diffusion.decode`` returns them in the units of
        the data.

    References
    ----------
    .. [1] J. Song, C. Meng, S. Ermon, "Denoising Diffusion Implicit Models", ICLR 2021.
    .. [2] J. Ho, T. Salimans, "Classifier-Free Diffusion Guidance", arXiv:2207.12598, 2022.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext import ConditionalDDPM
    >>> from sklearn_ext.generative import Sampler, draw_samples
    >>> X, y = load_iris(return_X_y=True)
    >>> diffusion = ConditionalDDPM(max_iter=50, random_state=0).fit(X, y).diffusion_
    >>> codes = torch.tensor([0, 1, 2])
    >>> x = draw_samples(diffusion, codes, Sampler(n_steps=5), torch.Generator().manual_seed(0))
    >>> diffusion.decode(x, (4,)).shape
    (3, 4)
    """
    blocks = []
    for block in codes.split(_BLOCK):
        shape = (len(block), *diffusion.sample_shape)
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
    """Add noise to samples up to a step of the schedule, and remove it again.

    The noise is removed as in :func:`~sklearn_ext.generative.draw_samples`.

    Parameters
    ----------
    diffusion : Diffusion
        The model, for instance ``diffusion_`` of a fitted ConditionalDDPM.
    x : tensor of shape (n, ...)
        Samples with values in [-1, 1], as ``diffusion.encode`` returns them.
    codes : int64 tensor of shape (n,)
        Class code of each sample; ``diffusion.null_code`` means "any class".
    start : int
        Step up to which noise is added, from 0 to ``len(diffusion.levels) - 1``.
    sampler : Sampler
        How to go back to clean samples.
    generator : torch.Generator
        Source of all draws, on the device of the model.

    Returns
    -------
    tensor of the shape of x
        The reconstructions, within ``diffusion.bounds``.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext import ConditionalDDPM
    >>> from sklearn_ext.generative import Sampler, reconstruct_samples
    >>> X, _ = load_iris(return_X_y=True)
    >>> diffusion = ConditionalDDPM(max_iter=50, random_state=0).fit(X).diffusion_
    >>> x, codes = diffusion.encode(X), diffusion.code_tensor(np.zeros(len(X)))
    >>> generator = torch.Generator().manual_seed(0)
    >>> restored = reconstruct_samples(diffusion, x, codes, 0, Sampler(), generator)
    >>> bool((restored - x).abs().max() < 0.1)  # step 0 adds almost no noise
    True
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
    """Denoise samples from step `start` down to clean samples."""
    with threads_for(diffusion.sample_shape):
        return follow_path(
            conditioned(diffusion, codes, sampler.guidance),
            x_t,
            sampling_steps(len(diffusion.levels), sampler.n_steps, start),
            diffusion.levels,
            eta=sampler.eta,
            generator=generator,
            bounds=diffusion.bounds,
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
    """Denoise samples along the given steps, down to clean samples.

    Parameters
    ----------
    predict_noise : callable
        Maps noisy samples and a step to an estimate of the noise.
    x : tensor of shape (n, ...)
        Samples at the first step.
    steps : sequence of int
        Steps in falling order, as :func:`sampling_steps` returns them.
    levels : ndarray of shape (T,)
        The schedule.
    eta, bounds
        As in :func:`ddim_step`.
    generator : torch.Generator or None
        Source of fresh noise, which is needed if `eta` is positive.

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
            predict_noise(x, step),
            level,
            next_level,
            eta=eta,
            fresh_noise=fresh_noise,
            bounds=bounds,
        )
    return x


def conditioned(diffusion: Diffusion, codes: torch.Tensor, guidance: float) -> PredictNoise:
    """Return the guided estimate of a model for samples of given classes.

    A step costs one pass of n samples without guidance, and one pass of 2 n samples with it.

    Parameters
    ----------
    diffusion : Diffusion
        The model.
    codes : int64 tensor of shape (n,)
        Class code of each sample; ``diffusion.null_code`` means "any class".
    guidance : float
        The weight w of :func:`guided`.

    Returns
    -------
    callable
        Maps noisy samples and a step of the schedule to the guided estimate of the noise.
    """
    if guidance == 0 or bool((codes == diffusion.null_code).all()):

        def predict_noise(x: torch.Tensor, step: int) -> torch.Tensor:
            return diffusion.predict_noise(x, step, codes)

    else:
        both = torch.cat([codes, torch.full_like(codes, diffusion.null_code)])

        def predict_noise(x: torch.Tensor, step: int) -> torch.Tensor:
            estimates = diffusion.predict_noise(torch.cat([x, x]), step, both)
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

    For a network that estimates something else, such as the clean sample, the losses are the
    squared errors of its estimate.

    The steps are :math:`t_k = \lfloor (k + \tfrac12)\, T / K \rfloor`, k = 0, ..., K - 1. All
    samples share the pairs :math:`(t_k, e_k)`, so that a sample's loss does not depend on the
    others.

    Parameters
    ----------
    diffusion : Diffusion
        The model.
    X : tensor of shape (n, ...)
        Samples with values in [-1, 1].
    codes : int64 tensor of shape (n,)
        Class code of each sample.
    n_draws : int
        Number K of pairs.
    generator : torch.Generator
        Source of the noise, on the device of X.

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
    with threads_for(diffusion.sample_shape):
        for x, c in zip(X.split(n_samples), codes.split(n_samples), strict=True):
            every_noise, every_x = noise.repeat(len(x), *ones), x.repeat_interleave(n_draws, dim=0)
            levels = level.repeat(len(x), *ones)
            x_t = add_noise(every_x, every_noise, levels)
            target = prediction_target(every_x, every_noise, levels, diffusion.prediction)
            estimate = diffusion.module(x_t, times.repeat(len(x)), c.repeat_interleave(n_draws))
            losses = denoising_losses(target.double(), estimate.double())
            means.append(losses.view(-1, n_draws).mean(dim=1))
    return torch.cat(means)
