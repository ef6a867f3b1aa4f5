r"""Noise schedules: how much of a row is left at each step of the way to noise.

A schedule is the array of signal levels :math:`\bar\alpha_t = \prod_{s \le t} (1 - \beta_s)`,
t = 0, ..., T - 1, falling from almost one to almost zero.
"""

import numpy as np

_OFFSET = 0.008
_LARGEST_BETA = 0.999


def linear_levels(n_timesteps: int) -> np.ndarray:
    r"""Return the signal levels of the linear schedule (Ho, Jain and Abbeel, 2020, section 4).

    :math:`\beta_t` rises linearly from :math:`10^{-4}` to 0.02 over 1000 steps; for another
    number of steps both ends are multiplied by 1000 / T, which keeps the noise at the end.

    Parameters
    ----------
    n_timesteps : int
        T.

    Returns
    -------
    ndarray of float64, shape (T,)
    """
    scale = 1000 / n_timesteps
    betas = np.linspace(1e-4 * scale, 0.02 * scale, n_timesteps)
    return np.cumprod(1 - np.minimum(betas, _LARGEST_BETA))


def cosine_levels(n_timesteps: int) -> np.ndarray:
    r"""Return the signal levels of the cosine schedule (Nichol and Dhariwal, 2021, Eq. 17).

    With :math:`f(u) = \cos^2(\tfrac\pi2 \tfrac{u + s}{1 + s})`, s = 0.008, and u = t / T,
    :math:`\beta_t = \min(1 - f(\tfrac{t+1}{T}) / f(\tfrac tT), 0.999)`.

    Parameters
    ----------
    n_timesteps : int
        T.

    Returns
    -------
    ndarray of float64, shape (T,)
    """
    u = np.arange(n_timesteps + 1) / n_timesteps
    f = np.cos((u + _OFFSET) / (1 + _OFFSET) * np.pi / 2) ** 2
    return np.cumprod(1 - np.minimum(1 - f[1:] / f[:-1], _LARGEST_BETA))


SCHEDULES = {"linear": linear_levels, "cosine": cosine_levels}


def time_of(step, n_timesteps):
    """Return the time in [0, 1) that denoisers see at a step: t / T, whatever T is."""
    return step / n_timesteps


def sampling_steps(n_timesteps: int, n_steps: int, last: int | None = None) -> list[int]:
    r"""Return the steps that a sampler visits, in falling order.

    Parameters
    ----------
    n_timesteps : int
        T.
    n_steps : int
        S. No more steps are visited than there are.
    last : int or None, default=None
        Where the way down begins; None is T - 1.

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
