r"""How strong the noise of Flat-LoRA is, and which numbers it consists of.

Flat-LoRA minimises the loss averaged over Gaussian noise on the merged weight,

.. math::
    \min_{A, B} E_\varepsilon\, L(W' + \varepsilon), \qquad W' = W + s B A, \qquad
    \varepsilon_{ij} \sim N\Bigl(0, \frac{\sigma^2}{n} \lVert W'_{i,:} \rVert^2\Bigr)

(eq. 4 of the paper), with W frozen, (m, n); B (m, r); A (r, n). A convolution's weight is viewed as
one row a filter. Then :math:`E\lVert\varepsilon\rVert_F^2 = \sigma^2 \lVert W' \rVert_F^2`:
:math:`\sigma` is the relative size of the noise.
"""

import math
from collections.abc import Callable

import torch

SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": lambda progress: (1 - math.cos(math.pi * progress)) / 2,
    "linear": lambda progress: progress,
    "constant": lambda progress: 1.0,
}


def noise_strength(
    progress: float, sigma: float, schedule: str | Callable[[float], float] = "cosine"
) -> float:
    r"""Strength of the noise at a point of the training.

    "cosine" is :math:`\frac\sigma2 (1 - \cos \pi t / T)` (section 3.2 of the paper), "linear"
    :math:`\sigma t / T`, "constant" :math:`\sigma`.

    Parameters
    ----------
    progress : float in [0, 1]
        Share t / T of the training that is done.
    sigma : float
    schedule : {"cosine", "linear", "constant"} or callable
        A callable takes `progress` and returns the factor of `sigma`.

    Returns
    -------
    float
    """
    factor = schedule if callable(schedule) else SCHEDULES[schedule]
    return sigma * factor(progress)


def squared_row_norms(weight, A, B, scaling=1.0, weight_norms=None):
    r"""Squared norms of the rows of W + s B A, without forming it.

    .. math::
        \lVert W'_i \rVert^2 = \lVert W_i \rVert^2 + 2 s\, B_i (W A^T)_i^T
        + s^2 B_i (A A^T) B_i^T

    costs one product (m, n) x (n, r). Rounding below zero is cut off.

    Parameters
    ----------
    weight : tensor of shape (m, n)
    A : tensor of shape (r, n)
    B : tensor of shape (m, r)
    scaling : float, default=1.0
    weight_norms : tensor of shape (m,) or None, default=None
        :math:`\lVert W_i \rVert^2`, where they are known.

    Returns
    -------
    tensor of shape (m,)
    """
    if weight_norms is None:
        weight_norms = weight.square().sum(dim=1)
    cross = (B * (weight @ A.T)).sum(dim=1)
    low_rank = (B * (B @ (A @ A.T))).sum(dim=1)
    return (weight_norms + 2 * scaling * cross + scaling**2 * low_rank).clamp_(min=0.0)


def row_std(squared_norms, n, sigma):
    r"""Return :math:`\sigma \lVert W'_i \rVert / \sqrt n` for rows of n entries, shape (m,)."""
    return squared_norms.sqrt() * (sigma / math.sqrt(n))


def standard_normal_(out, seed):
    """Fill a tensor with standard normal numbers of a seed, from a generator of its own."""
    generator = torch.Generator(device=out.device)
    generator.manual_seed(seed)
    return out.normal_(generator=generator)
