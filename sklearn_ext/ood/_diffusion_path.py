r"""From a row to noise and back: the path on which a diffusion model regenerates its input.

At time t in [0, 1] a row x of data has become

.. math:: x_t = \sqrt{a(t)}\, x + \sqrt{1 - a(t)}\, e, \qquad e \sim N(0, I),

with a signal level a that falls from one to zero. A denoiser estimates the noise e from
:math:`x_t`; this is the same as an estimate of x, since the equation ties the three together.
"""

from typing import Any, Protocol

import numpy as np

from ..generative import add_noise, cosine_signal_level, ddim_step, guided


class Denoiser(Protocol):
    """What regeneration asks of a diffusion model."""

    def signal_level(self, t: float) -> float:
        """Return a(t), strictly between 0 and 1 and falling in t."""

    def predict_noise(self, x_t: np.ndarray, t: float, y: np.ndarray | None = None) -> Any:
        """Estimate the noise in rows at time t.

        Parameters
        ----------
        x_t : float32 ndarray of shape (n, ...)
            Noisy rows, in the units of the path and in the shape of the data.
        t : float
        y : int ndarray of shape (n,) or None
            Codes of the classes to condition on; None for no condition.

        Returns
        -------
        array of the shape of x_t
        """


class CallableDenoiser:
    """A function ``noise = function(x_t, t, y)`` as a denoiser.

    A function that brings its own schedule has it as an attribute ``signal_level``; without it,
    the schedule is :func:`cosine_signal_level`.
    """

    def __init__(self, function):
        self.function = function

    def signal_level(self, t):
        # A Python float, unlike one of numpy, leaves float32 rows in their precision.
        return float(getattr(self.function, "signal_level", cosine_signal_level)(t))

    def predict_noise(self, x_t, t, y=None):
        noise = np.asarray(self.function(x_t, t, y), dtype=x_t.dtype)
        if noise.shape != x_t.shape:
            raise ValueError(
                f"The callable given as diffusion returned shape {noise.shape} for rows of shape "
                f"{x_t.shape}; it must return one estimate of the noise per entry."
            )
        if not np.isfinite(noise).all():
            raise ValueError(f"The callable given as diffusion returned NaN or infinity at t={t}.")
        return noise


def guided_noise(denoiser, x_t, t, y=None, guidance=0.0):
    r"""Return :math:`(1 + w)\, \hat e(x_t, t, y) - w\, \hat e(x_t, t)`, classifier-free guidance.

    w = 0 is the conditional estimate; without y there is only the unconditional one (Ho and
    Salimans, 2022, Eq. 6).
    """
    conditional = denoiser.predict_noise(x_t, t, y)
    if y is None or guidance == 0:
        return conditional
    free = denoiser.predict_noise(x_t, t, None)
    return guided(conditional, free, guidance)


def denoise(denoiser, x_t, start, n_steps, lower, upper, y=None, guidance=0.0):
    r"""Follow the deterministic path (DDIM) from noisy rows at time `start` down to time 0.

    At times :math:`t_s = \mathrm{start}\,(1 - s/S)`, with a = a(t_s) and a' = a(t_{s+1}),

    .. math::
        x_0 = \mathrm{clip}\bigl((x_t - \sqrt{1 - a}\,\hat e)/\sqrt{a}\bigr), \quad
        e = (x_t - \sqrt{a}\,x_0)/\sqrt{1 - a}, \quad
        x_{t'} = \sqrt{a'}\,x_0 + \sqrt{1 - a'}\,e,

    and the last step returns :math:`x_0` (Song, Meng and Ermon, 2021, Eq. 12 with zero variance).

    Parameters
    ----------
    denoiser : Denoiser
    x_t : float32 ndarray of shape (n, ...)
    start : float in (0, 1]
    n_steps : int
        S; one step is the denoiser's estimate itself.
    lower, upper : float or array that broadcasts against x_t
        Range of the data, to which every :math:`x_0` is clipped.
    y : int ndarray of shape (n,) or None
    guidance : float
        See :func:`guided_noise`.

    Returns
    -------
    float32 ndarray of the shape of x_t
    """
    times = start * (1 - np.arange(n_steps + 1) / n_steps)
    levels = [*(denoiser.signal_level(t) for t in times[:-1]), 1.0]
    for step in range(n_steps):
        noise = guided_noise(denoiser, x_t, float(times[step]), y, guidance)
        x_t = ddim_step(x_t, noise, levels[step], levels[step + 1], bounds=(lower, upper))
    return x_t


def regenerate(denoiser, x, noise, start, n_steps, lower, upper, y=None, guidance=0.0):
    """Noise rows up to time `start` and denoise them again, once for every row of noise.

    Every row of data meets the same noise, so that its regenerations depend on nothing else.

    Parameters
    ----------
    denoiser : Denoiser
    x : float32 ndarray of shape (n, ...)
    noise : float32 ndarray of shape (n_repeats, ...)
        Standard normal, a row's shape each.
    start, n_steps, lower, upper, guidance
        As in :func:`denoise`.
    y : int ndarray of shape (n,) or None

    Returns
    -------
    float32 ndarray of shape (n_repeats, n, ...)
    """
    x_t = add_noise(x[None], noise[:, None], denoiser.signal_level(start))
    labels = None if y is None else np.tile(y, len(noise))
    rows = x_t.reshape(-1, *x.shape[1:])
    clean = denoise(denoiser, rows, start, n_steps, lower, upper, labels, guidance)
    return clean.reshape(x_t.shape)
