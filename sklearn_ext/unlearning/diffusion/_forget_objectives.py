r"""What forget steps lower when a diffusion model is made to forget a class.

There are two objectives: climbing the denoising loss of the class's samples (`weighted_ascent` of
`denoising_sample_losses`), and giving the class's code another meaning (`redirection`).
"""

from collections.abc import Callable

import torch
from torch import nn

from ...generative import Noising, NoisyBatch, denoising_losses


def denoising_sample_losses(
    module: nn.Module, noising: Noising, x: torch.Tensor, codes: torch.Tensor
) -> Callable[[torch.Tensor], torch.Tensor]:
    r"""Return the function of the losses :math:`\lVert e_i - \hat e(x_{i,t}, t, c_i) \rVert^2`.

    Each call draws new times and noise, and hides classes as `noising` determines.

    Parameters
    ----------
    module : torch.nn.Module
    noising : Noising
    x : tensor of shape (n, ...)
    codes : int64 tensor of shape (n,)

    Returns
    -------
    callable
        Maps indices of samples to a tensor of their losses.
    """

    def losses(indices: torch.Tensor) -> torch.Tensor:
        return noising(x[indices], codes[indices]).losses(module)

    return losses


def redirection(
    module: nn.Module,
    noising: Callable[[torch.Tensor, torch.Tensor], NoisyBatch],
    x: torch.Tensor,
    codes: torch.Tensor,
    other_codes: torch.Tensor,
) -> Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    r"""Return the objective that gives a class the meaning of another class.

    .. math::
        \frac{1}{n d} \sum_i \lVert \hat e_\theta(x_{i,t}, t, c_i)
            - \mathrm{sg}\, \hat e_\theta(x_{i,t}, t, c'_i) \rVert^2

    over noisy samples of the class, without a gradient (sg) through the estimate for the other
    class. Unlike the denoising loss in an ascent, this objective is bounded.

    Parameters
    ----------
    module : torch.nn.Module
        The network, ``forward(x, t, c)``.
    noising : callable
        Maps samples and class codes to a noisy batch. It must not hide classes.
    x : tensor of shape (n_samples, ...)
        Samples in [-1, 1].
    codes : int64 tensor of shape (n_samples,)
        Their class codes c.
    other_codes : int64 tensor of shape (n_samples,)
        The class codes c' whose meaning they get.

    Returns
    -------
    callable
        Maps indices of samples to the objective and to the mean denoising loss of the samples.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.generative import MLPDenoiser, Noising, cosine_levels
    >>> from sklearn_ext.unlearning.diffusion import redirection
    >>> noising = Noising(cosine_levels(100), 2, 0.0, torch.Generator().manual_seed(0))
    >>> x, zeros, ones = torch.zeros(4, 3), torch.zeros(4).long(), torch.ones(4).long()
    >>> objective = redirection(MLPDenoiser((3,), n_classes=2), noising, x, zeros, ones)
    >>> value, loss = objective(torch.arange(4))
    >>> value.item()  # an untrained denoiser does not distinguish classes
    0.0
    """

    def objective(indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        batch = noising(x[indices], codes[indices])
        estimate = module(batch.x, batch.times, batch.codes)
        with torch.no_grad():
            target = module(batch.x, batch.times, other_codes[indices])
            loss = denoising_losses(batch.noise, estimate).mean()
        return (estimate - target).square().mean(), loss

    return objective
