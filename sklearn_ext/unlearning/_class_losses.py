r"""What steps of forgetting lower when a diffusion model is to forget a class.

Two objectives: to climb the denoising loss of the class's rows (`weighted_ascent` of
`denoising_row_losses`), or to give the class's name another meaning (`redirection`).
"""

from collections.abc import Callable

import torch
from torch import nn

from ..generative import Noising, denoising_losses


def denoising_row_losses(
    module: nn.Module, noising: Noising, x: torch.Tensor, codes: torch.Tensor
) -> Callable[[torch.Tensor], torch.Tensor]:
    r"""Return the function from rows to :math:`\lVert e_i - \hat e(x_{i,t}, t, c_i) \rVert^2`.

    Times and noise are drawn anew in each call, and classes hidden as `noising` says.

    Parameters
    ----------
    module : torch.nn.Module
    noising : Noising
    x : tensor of shape (n, ...)
    codes : int64 tensor of shape (n,)

    Returns
    -------
    callable
        From indices of rows to a tensor of their losses.
    """

    def losses(rows):
        return noising(x[rows], codes[rows]).losses(module)

    return losses


def redirection(
    module: nn.Module,
    noising: Noising,
    x: torch.Tensor,
    codes: torch.Tensor,
    other_codes: torch.Tensor,
) -> Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    r"""Return the objective that makes a class mean what another one does.

    .. math::
        \frac{1}{n d} \sum_i \lVert \hat e_\theta(x_{i,t}, t, c_i)
            - \mathrm{sg}\, \hat e_\theta(x_{i,t}, t, c'_i) \rVert^2

    over noisy rows of the class, with no gradient (sg) through the estimate for the other class.
    It cannot grow beyond all bounds, as the denoising loss can in an ascent.

    Parameters
    ----------
    module : torch.nn.Module
    noising : Noising
        Must hide no classes.
    x : tensor of shape (n, ...)
    codes, other_codes : int64 tensors of shape (n,)
        The classes of the rows, and those to be taken for.

    Returns
    -------
    callable
        From indices of rows to the objective and the mean denoising loss of the rows.
    """

    def objective(rows):
        batch = noising(x[rows], codes[rows])
        estimate = module(batch.x, batch.times, batch.codes)
        with torch.no_grad():
            target = module(batch.x, batch.times, other_codes[rows])
            loss = denoising_losses(batch.noise, estimate).mean()
        return (estimate - target).square().mean(), loss

    return objective
