r"""Regeneration: how a diffusion model turns a sample into noise and back.

At time t in [0, 1] a sample x has become

.. math:: x_t = \sqrt{a(t)}\, x + \sqrt{1 - a(t)}\, e, \qquad e \sim N(0, I),

with a signal level a that falls from one to zero. A denoiser estimates the noise e from
:math:`x_t`. This is equivalent to an estimate of x, because the equation relates the three.
"""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from ...generative import add_noise, ddim_step, guided
from ...utils._typing import FloatArray, IntArray


class Denoiser(Protocol):
    """The part of a diffusion model that regeneration needs."""

    def signal_level(self, t: float) -> float:
        """Return a(t), strictly between 0 and 1 and falling in t."""

    def predict_noise(self, x_t: FloatArray, t: float, y: IntArray | None = None) -> FloatArray:
        """Estimate the noise in samples at time t.

        Parameters
        ----------
        x_t : float32 ndarray of shape (n, ...)
            Noisy samples, in the units of the denoiser and in the shape of the data.
        t : float
        y : int ndarray of shape (n,) or None
            Class indices to condition on; None for no condition.

        Returns
        -------
        array of the shape of x_t
        """


def guided_noise(
    denoiser: Denoiser, x_t: FloatArray, t: float, y: IntArray | None = None, guidance: float = 0.0
) -> FloatArray:
    r"""Return :math:`(1 + w)\, \hat e(x_t, t, y) - w\, \hat e(x_t, t)`, classifier-free guidance.

    w = 0 gives the conditional estimate (Ho and Salimans, 2022, Eq. 6). Without y, the result is
    the unconditional estimate.
    """
    conditional = denoiser.predict_noise(x_t, t, y)
    if y is None or guidance == 0:
        return conditional
    return guided(conditional, denoiser.predict_noise(x_t, t, None), guidance)


def _descent(
    denoiser: Denoiser, start: float, n_steps: int
) -> Iterator[tuple[float, float, float]]:
    r"""Yield the time and the signal levels before and after each step down from `start`.

    The times are :math:`t_s = \mathrm{start}\,(1 - s/S)`. The last step ends at level 1.
    """
    times = start * (1 - np.arange(n_steps) / n_steps)
    levels = [denoiser.signal_level(t) for t in times]
    yield from zip(times.tolist(), levels, [*levels[1:], 1.0], strict=True)


def regenerate(
    x: FloatArray,
    noise: FloatArray,
    denoiser: Denoiser,
    *,
    noise_level: float = 0.2,
    n_steps: int = 1,
    guidance: float = 1.0,
    codes: IntArray | None = None,
    bounds: tuple[Any, Any] = (-1.0, 1.0),
) -> FloatArray:
    r"""Add noise to samples and remove it again, once for each draw of noise.

    The samples go up to time `noise_level`, and down in S deterministic steps
    (:func:`~sklearn_ext.generative.ddim_step`) from :math:`t_s = \mathrm{noise\_level}\,(1 - s/S)`
    to the next time. All samples get the same noise, so that the result for a sample does not
    depend on the others.

    Parameters
    ----------
    x : float32 ndarray of shape (n_samples, ...)
        Samples in the units of the denoiser.
    noise : float32 ndarray of shape (n_repeats, ...)
        Standard normal noise; each draw has the shape of one sample.
    denoiser : object
        The diffusion model, with ``signal_level(t)`` and ``predict_noise(x_t, t, y=None)``, such
        as :class:`~sklearn_ext.ood.EmpiricalDenoiser`.
    noise_level : float in (0, 1], default=0.2
        Time from which the samples are regenerated.
    n_steps : int, default=1
        Number S of steps. A single step is the denoiser's estimate itself.
    guidance : float, default=1.0
        Weight of classifier-free guidance; it has no effect without `codes`.
    codes : int ndarray of shape (n_samples,) or None, default=None
        Class indices to regenerate the samples as; None for no condition.
    bounds : tuple of (lower, upper), default=(-1.0, 1.0)
        Range of the data, to which every clean estimate is clipped: numbers, or arrays that
        broadcast against x.

    Returns
    -------
    float32 ndarray of shape (n_repeats, n_samples, ...)
        The regenerated samples.

    References
    ----------
    .. [1] J. Song, C. Meng, S. Ermon, "Denoising Diffusion Implicit Models", ICLR 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext.ood import EmpiricalDenoiser, regenerate
    >>> stored = np.array([[-0.5], [0.5]], dtype=np.float32)
    >>> noise = np.zeros((1, 1), dtype=np.float32)
    >>> x = np.array([[0.4], [0.9]], dtype=np.float32)
    >>> regenerate(x, noise, EmpiricalDenoiser(stored), noise_level=0.1).round(3)
    array([[[0.5],
            [0.5]]], dtype=float32)
    """
    x_t = add_noise(x[None], noise[:, None], denoiser.signal_level(noise_level))
    shape, x_t = x_t.shape, x_t.reshape(-1, *x.shape[1:])
    y = None if codes is None else np.tile(codes, len(noise))
    for time, level, next_level in _descent(denoiser, noise_level, n_steps):
        estimate = guided_noise(denoiser, x_t, time, y, guidance)
        x_t = ddim_step(x_t, estimate, level, next_level, bounds=bounds)
    return x_t.reshape(shape)


def draw_from_noise(
    noise: FloatArray,
    denoiser: Denoiser,
    *,
    n_steps: int,
    guidance: float,
    codes: IntArray | None,
    bounds: tuple[Any, Any],
) -> FloatArray:
    """Turn pure noise of shape (n, ...) into samples; the arguments are those of `regenerate`."""
    x_t = noise
    for time, level, next_level in _descent(denoiser, 1.0, n_steps):
        estimate = guided_noise(denoiser, x_t, time, codes, guidance)
        x_t = ddim_step(x_t, estimate, level, next_level, bounds=bounds)
    return x_t
