r"""The formulas of denoising diffusion, on tensors of any shape; the first ones on arrays, too.

Throughout, a is the signal level :math:`\bar\alpha_t` of a row's time, a number or a tensor that
broadcasts against the rows; e is standard normal noise; and :math:`\hat e` an estimate of it.
"""

import torch


def add_noise(x, noise, level):
    r"""Return :math:`x_t = \sqrt{a}\, x + \sqrt{1 - a}\, e` (Ho et al., 2020, Eq. 4)."""
    return level**0.5 * x + (1 - level) ** 0.5 * noise


def clean_from_noise(x_t, noise, level):
    r"""Return :math:`\hat x_0 = (x_t - \sqrt{1 - a}\, \hat e) / \sqrt{a}`, `add_noise` solved."""
    return (x_t - (1 - level) ** 0.5 * noise) / level**0.5


def noise_from_clean(x_t, clean, level):
    r"""Return :math:`\hat e = (x_t - \sqrt{a}\, \hat x_0) / \sqrt{1 - a}`, the other solution."""
    return (x_t - level**0.5 * clean) / (1 - level) ** 0.5


def denoising_losses(noise, estimate):
    r"""Return :math:`\ell_i = \lVert e_i - \hat e_i \rVert^2`, summed over all but the first axis.

    Its mean over rows and times is the simple objective (Ho et al., 2020, Eq. 14).

    Parameters
    ----------
    noise, estimate : tensors of shape (n, ...)

    Returns
    -------
    tensor of shape (n,)
    """
    return (noise - estimate).square().flatten(1).sum(dim=1)


def antithetic_steps(n: int, n_timesteps: int, generator: torch.Generator) -> torch.Tensor:
    r"""Draw steps in pairs t and T - 1 - t.

    Losses fall steeply with t, so a pair's mean varies less than that of two independent draws.

    Parameters
    ----------
    n : int
    n_timesteps : int
        T.
    generator : torch.Generator

    Returns
    -------
    tensor of shape (n,), int64
    """
    half = torch.randint(n_timesteps, (n // 2 + 1,), generator=generator, device=generator.device)
    return torch.cat([half, n_timesteps - 1 - half])[:n]


def guided(conditional, unconditional, guidance):
    r"""Return :math:`(1 + w)\, \hat e(x_t, t, c) - w\, \hat e(x_t, t)`.

    Classifier-free guidance (Ho and Salimans, 2022, Eq. 6); w = 0 is the conditional estimate.
    """
    return (1 + guidance) * conditional - guidance * unconditional


def step_down(x_t, noise, level, next_level, *, eta=0.0, fresh_noise=None, bound=None):
    r"""Take rows from signal level a to the higher level a'.

    .. math::
        \hat x_0 = (x_t - \sqrt{1 - a}\, \hat e) / \sqrt{a}, \qquad
        \sigma = \eta \sqrt{\frac{1 - a'}{1 - a} \Bigl(1 - \frac{a}{a'}\Bigr)}, \qquad
        x' = \sqrt{a'}\, \hat x_0 + \sqrt{1 - a' - \sigma^2}\; \hat e + \sigma \xi

    (Song, Meng and Ermon, 2021, Eq. 12 and 16). :math:`\eta = 0` is deterministic (DDIM),
    :math:`\eta = 1` the ancestral step of DDPM. With a bound, :math:`\hat x_0` is clipped to it
    and :math:`\hat e` becomes the noise that fits the clipped row.

    Parameters
    ----------
    x_t, noise : tensors of shape (n, ...)
        :math:`\hat e` is `noise`.
    level, next_level : float
        a < a'; the last step has a' = 1.
    eta : float in [0, 1], default=0
    fresh_noise : tensor of the shape of x_t or None
        :math:`\xi`; needed if `eta` is positive and a' < 1.
    bound : float or None, default=None

    Returns
    -------
    tensor of the shape of x_t
    """
    clean = clean_from_noise(x_t, noise, level)
    if bound is not None:
        clean = clean.clamp(-bound, bound)
        noise = noise_from_clean(x_t, clean, level)
    variance = step_variance(level, next_level, eta)
    x = next_level**0.5 * clean + max(1 - next_level - variance, 0.0) ** 0.5 * noise
    return x if variance == 0 else x + variance**0.5 * fresh_noise


def step_variance(level, next_level, eta):
    r"""Return :math:`\sigma^2 = \eta^2 \frac{1 - a'}{1 - a} (1 - a / a')` of `step_down`."""
    return eta**2 * (1 - next_level) / (1 - level) * (1 - level / next_level)
