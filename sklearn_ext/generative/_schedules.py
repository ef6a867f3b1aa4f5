r"""Noise schedules: how much of a sample is left at each step of the way to noise.

A schedule is the array of signal levels :math:`\bar\alpha_t = \prod_{s \le t} (1 - \beta_s)`,
t = 0, ..., T - 1, falling from almost one to almost zero.
"""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch

from ..utils._typing import FloatArray

_OFFSET = 0.008
_LARGEST_BETA = 0.999
_SMALLEST_LEVEL = 1e-5

_Steps = TypeVar("_Steps", float, torch.Tensor)


def linear_levels(n_timesteps: int) -> FloatArray:
    r"""Return the signal levels of the linear schedule.

    :math:`\beta_t` rises linearly from :math:`10^{-4}` to 0.02 over 1000 steps. For another
    number of steps, both ends are multiplied by 1000 / T, so that the final level hardly changes.

    Parameters
    ----------
    n_timesteps : int
        Number T of steps.

    Returns
    -------
    ndarray of float64, shape (n_timesteps,)
        The signal levels, in falling order.

    References
    ----------
    .. [1] J. Ho, A. Jain, P. Abbeel, "Denoising Diffusion Probabilistic Models", NeurIPS 2020,
       section 4.

    Examples
    --------
    >>> from sklearn_ext.generative import linear_levels
    >>> linear_levels(1000)[[0, 500, 999]].round(4)
    array([0.9999, 0.0778, 0.    ])
    """
    scale = 1000 / n_timesteps
    betas = np.linspace(1e-4 * scale, 0.02 * scale, n_timesteps)
    return np.cumprod(1 - np.minimum(betas, _LARGEST_BETA))


def cosine_levels(n_timesteps: int) -> FloatArray:
    r"""Return the signal levels of the cosine schedule.

    With :math:`f(u) = \cos^2(\tfrac\pi2 \tfrac{u + s}{1 + s})`, s = 0.008, and u = t / T,
    :math:`\beta_t = \min(1 - f(\tfrac{t+1}{T}) / f(\tfrac tT), 0.999)`.

    Parameters
    ----------
    n_timesteps : int
        Number T of steps.

    Returns
    -------
    ndarray of float64, shape (n_timesteps,)
        The signal levels, in falling order.

    References
    ----------
    .. [1] A. Nichol, P. Dhariwal, "Improved Denoising Diffusion Probabilistic Models",
       ICML 2021, Eq. 17.

    Examples
    --------
    >>> from sklearn_ext.generative import cosine_levels
    >>> cosine_levels(1000)[[0, 500, 998]].round(4)
    array([1.    , 0.4923, 0.    ])
    """
    f = _squared_cosine(np.arange(n_timesteps + 1) / n_timesteps)
    return np.cumprod(1 - np.minimum(1 - f[1:] / f[:-1], _LARGEST_BETA))


def cosine_signal_level(t: float) -> float:
    r"""Return the signal level :math:`f(t) / f(0)` of the cosine schedule in continuous time.

    f is the function of :func:`cosine_levels`. The level is kept between 1e-5 and 1 - 1e-5.

    Parameters
    ----------
    t : float in [0, 1]

    Returns
    -------
    float
        A Python float, which leaves float32 arrays in their precision.
    """
    level = _squared_cosine(t) / _squared_cosine(0.0)
    return float(np.clip(level, _SMALLEST_LEVEL, 1 - _SMALLEST_LEVEL))


def _squared_cosine(u: float | FloatArray) -> FloatArray:
    return np.cos(np.pi / 2 * (u + _OFFSET) / (1 + _OFFSET)) ** 2


SCHEDULES: dict[str, Callable[[int], FloatArray]] = {
    "linear": linear_levels,
    "cosine": cosine_levels,
}


def time_of(step: _Steps, n_timesteps: int) -> _Steps:
    """Return the time t / T in [0, 1) that denoisers get for a step t."""
    return step / n_timesteps


def sampling_steps(n_timesteps: int, n_steps: int, last: int | None = None) -> list[int]:
    r"""Return the steps that a sampler visits, in falling order.

    Parameters
    ----------
    n_timesteps : int
        Number T of steps of the schedule.
    n_steps : int
        Number S of steps to visit, at most as many as there are.
    last : int or None, default=None
        The first step to visit; None is T - 1.

    Returns
    -------
    list of int
        S numbers from `last` to 0, evenly spaced up to rounding.
    """
    last = n_timesteps - 1 if last is None else last
    n_steps = min(n_steps, last + 1)
    if n_steps == 1:
        return [last]
    return [round(last * (1 - s / (n_steps - 1))) for s in range(n_steps)]
