r"""The formulas of denoising diffusion, for NumPy arrays and torch tensors alike.

Throughout, a is the signal level :math:`\bar\alpha_t` at a sample's time, e is standard normal
noise, and :math:`\hat e` is an estimate of e. Levels are numbers or tensors that broadcast against
the samples.
"""

from typing import Any, Literal, TypeAlias

import torch

Prediction: TypeAlias = Literal["epsilon", "v", "sample"]
PREDICTIONS: tuple[Prediction, ...] = ("epsilon", "v", "sample")


def add_noise(x: Any, noise: Any, level: Any) -> Any:
    r"""Return :math:`x_t = \sqrt{a}\, x + \sqrt{1 - a}\, e` (Ho et al., 2020, Eq. 4)."""
    return level**0.5 * x + (1 - level) ** 0.5 * noise


def clean_from_noise(x_t: Any, noise: Any, level: Any) -> Any:
    r"""Solve `add_noise` for x: :math:`\hat x_0 = (x_t - \sqrt{1 - a}\, \hat e) / \sqrt{a}`."""
    return (x_t - (1 - level) ** 0.5 * noise) / level**0.5


def noise_from_clean(x_t: Any, clean: Any, level: Any) -> Any:
    r"""Solve `add_noise` for e: :math:`\hat e = (x_t - \sqrt{a}\, \hat x_0) / \sqrt{1 - a}`."""
    return (x_t - level**0.5 * clean) / (1 - level) ** 0.5


def prediction_target(x: Any, noise: Any, level: Any, prediction: Prediction) -> Any:
    r"""Return what a network estimates in :math:`x_t = \sqrt{a}\, x + \sqrt{1 - a}\, e`.

    "epsilon" is the noise e, "sample" is x, and "v" is :math:`\sqrt{a}\, e - \sqrt{1 - a}\, x`
    (Salimans and Ho, 2022, Appendix D).
    """
    if prediction == "epsilon":
        return noise
    return x if prediction == "sample" else level**0.5 * noise - (1 - level) ** 0.5 * x


def noise_from_prediction(x_t: Any, estimate: Any, level: Any, prediction: Prediction) -> Any:
    r"""Convert a network's output into an estimate of the noise.

    It is :math:`\hat e = \sqrt{a}\, \hat v + \sqrt{1 - a}\, x_t` for "v", and follows from
    :math:`\hat x_0` for "sample".
    """
    if prediction == "epsilon":
        return estimate
    if prediction == "v":
        return level**0.5 * estimate + (1 - level) ** 0.5 * x_t
    return noise_from_clean(x_t, estimate, level)


def denoising_losses(target: torch.Tensor, estimate: torch.Tensor) -> torch.Tensor:
    r"""Return :math:`\ell_i = \lVert e_i - \hat e_i \rVert^2`, summed over all but the first axis.

    The mean over samples, times and noise is the objective of training [1]_.

    Parameters
    ----------
    target : tensor of shape (n, ...)
        What the network estimates: the noise e in each sample, unless it was trained otherwise.
    estimate : tensor of shape (n, ...)
        The network's estimate.

    Returns
    -------
    tensor of shape (n,)
        The losses.

    References
    ----------
    .. [1] J. Ho, A. Jain, P. Abbeel, "Denoising Diffusion Probabilistic Models", NeurIPS 2020,
       Eq. 14.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.generative import denoising_losses
    >>> denoising_losses(torch.tensor([[3.0, 4.0], [0.0, 1.0]]), torch.zeros(2, 2))
    tensor([25.,  1.])
    """
    return (target - estimate).square().flatten(1).sum(dim=1)


def antithetic_steps(n: int, n_timesteps: int, generator: torch.Generator) -> torch.Tensor:
    r"""Draw steps in pairs t and T - 1 - t.

    Losses fall steeply with t, so the mean of a pair varies less than that of two independent
    draws.

    Parameters
    ----------
    n : int
        Number of steps to draw.
    n_timesteps : int
        Number T of steps of the schedule.
    generator : torch.Generator
        Source of the draws, on the device of the result.

    Returns
    -------
    tensor of shape (n,), int64
    """
    half = torch.randint(n_timesteps, (n // 2 + 1,), generator=generator, device=generator.device)
    return torch.cat([half, n_timesteps - 1 - half])[:n]


def guided(conditional: Any, unconditional: Any, guidance: float) -> Any:
    r"""Return :math:`(1 + w)\, \hat e(x_t, t, c) - w\, \hat e(x_t, t)`.

    This is classifier-free guidance (Ho and Salimans, 2022, Eq. 6); w = 0 is the conditional
    estimate.
    """
    return (1 + guidance) * conditional - guidance * unconditional


def ddim_step(
    x_t: Any,
    noise: Any,
    level: float,
    next_level: float,
    *,
    eta: float = 0.0,
    fresh_noise: Any = None,
    bounds: tuple[Any, Any] | None = None,
) -> Any:
    r"""Take samples from signal level a to the higher level a'.

    .. math::
        \hat x_0 = (x_t - \sqrt{1 - a}\, \hat e) / \sqrt{a}, \qquad
        \sigma = \eta \sqrt{\frac{1 - a'}{1 - a} \Bigl(1 - \frac{a}{a'}\Bigr)}, \qquad
        x' = \sqrt{a'}\, \hat x_0 + \sqrt{1 - a' - \sigma^2}\; \hat e + \sigma \xi

    With bounds, :math:`\hat x_0` is clipped to them and :math:`\hat e` becomes the noise that
    fits the clipped sample [1]_.

    Parameters
    ----------
    x_t : array or tensor of shape (n, ...)
        Noisy samples at level a.
    noise : array or tensor of shape (n, ...)
        The estimate :math:`\hat e` of their noise.
    level : float
        Signal level a of `x_t`, in (0, 1).
    next_level : float
        Signal level a' of the result, above a. The last step has a' = 1 and returns
        :math:`\hat x_0`.
    eta : float in [0, 1], default=0.0
        Amount :math:`\eta` of fresh noise: 0 is deterministic (DDIM, Eq. 12), 1 is the ancestral
        step of DDPM (Eq. 16).
    fresh_noise : array or tensor of shape (n, ...) or None, default=None
        Standard normal noise :math:`\xi`. It is needed if `eta` is positive and a' < 1.
    bounds : tuple of (lower, upper) or None, default=None
        Range of clean samples: numbers, or arrays that broadcast against `x_t`.

    Returns
    -------
    array or tensor of shape (n, ...)
        The samples at level a'.

    References
    ----------
    .. [1] J. Song, C. Meng, S. Ermon, "Denoising Diffusion Implicit Models", ICLR 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext.generative import ddim_step
    >>> clean, noise = np.array([[3.0, -2.0]]), np.array([[1.0, 1.0]])
    >>> x_t = 0.6 * clean + 0.8 * noise  # the signal level is 0.36
    >>> ddim_step(x_t, noise, 0.36, 1.0)
    array([[ 3., -2.]])
    >>> ddim_step(x_t, noise, 0.36, 0.64)  # 0.8 * clean + 0.6 * noise
    array([[ 3., -1.]])
    """
    clean = clean_from_noise(x_t, noise, level)
    if bounds is not None:
        clean = clean.clip(*bounds)
    if next_level == 1:
        return clean
    if bounds is not None:
        noise = noise_from_clean(x_t, clean, level)
    variance = step_variance(level, next_level, eta)
    x = next_level**0.5 * clean + max(1 - next_level - variance, 0.0) ** 0.5 * noise
    return x if variance == 0 else x + variance**0.5 * fresh_noise


def step_variance(level: float, next_level: float, eta: float) -> float:
    r"""Return :math:`\sigma^2 = \eta^2 \frac{1 - a'}{1 - a} (1 - a / a')` of :func:`ddim_step`."""
    return eta**2 * (1 - next_level) / (1 - level) * (1 - level / next_level)
