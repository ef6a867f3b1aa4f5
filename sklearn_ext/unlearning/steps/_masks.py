r"""Masks over the weights that matter for the forget set, and the gradients behind them.

Gradients and masks are dictionaries that map parameter names to tensors of the parameter's shape.
The loss of a batch is passed as a function, so that everything here suits any model.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import torch

Tensors: TypeAlias = dict[str, torch.Tensor]


def gradients(loss: torch.Tensor, parameters: Mapping[str, torch.Tensor]) -> Tensors:
    """Return the gradients of a scalar loss, zero for parameters that it does not depend on.

    Parameters
    ----------
    loss : tensor, scalar
        The loss, part of the autograd graph.
    parameters : mapping of str to tensor
        The parameters by name.

    Returns
    -------
    dict of str to tensor
    """
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return {
        name: torch.zeros_like(parameter) if gradient is None else gradient
        for (name, parameter), gradient in zip(parameters.items(), found, strict=True)
    }


def summed_gradients(
    mean_loss: Callable[[Any], torch.Tensor],
    parameters: Mapping[str, torch.Tensor],
    batches: Iterable[Any],
) -> Tensors:
    r"""Return :math:`\sum_b \nabla_\theta L_b`, the sum of the gradients of the batch losses.

    Parameters
    ----------
    mean_loss : callable
        Maps a batch to its scalar loss.
    parameters : mapping of str to tensor
        The parameters by name.
    batches : iterable
        The batches.

    Returns
    -------
    dict of str to tensor
    """
    total = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    for batch in batches:
        for name, gradient in gradients(mean_loss(batch), parameters).items():
            total[name] += gradient
    return total


def squared_batch_gradients(
    mean_loss: Callable[[Any], torch.Tensor],
    parameters: Mapping[str, torch.Tensor],
    batches: Iterable[Any],
) -> Tensors:
    r"""Return the mean over batches of :math:`(\partial L_b / \partial \theta_p)^2` (SFRon, eq. 6).

    Its expectation contains the variance within a batch divided by the batch size. Two results are
    therefore comparable only if their batches have the same size.

    Parameters
    ----------
    mean_loss : callable
        Maps a batch to its scalar loss.
    parameters : mapping of str to tensor
        The parameters by name.
    batches : iterable
        At least one batch.

    Returns
    -------
    dict of str to tensor
    """
    total = {name: _squared_length(torch.zeros_like(p)) for name, p in parameters.items()}
    n_batches = 0
    for batch in batches:
        for name, gradient in gradients(mean_loss(batch), parameters).items():
            total[name] += _squared_length(gradient)
        n_batches += 1
    return {name: value / n_batches for name, value in total.items()}


def squared_sample_gradients(
    sample_loss: Callable[..., torch.Tensor],
    parameters: Mapping[str, torch.Tensor],
    batches: Iterable[tuple[torch.Tensor, ...]],
) -> Tensors:
    r"""Return the mean over samples of :math:`(\partial \ell_i / \partial \theta_p)^2`.

    This is the diagonal of the empirical Fisher matrix.

    Parameters
    ----------
    sample_loss : callable
        Maps a dictionary of parameters and one sample of a batch, without the batch axis, to the
        sample's scalar loss.
    parameters : mapping of str to tensor
        The parameters by name.
    batches : iterable of tuples of tensors
        The samples lie along the first axis of each tensor.

    Returns
    -------
    dict of str to tensor
    """
    detached = {name: parameter.detach() for name, parameter in parameters.items()}
    gradient_of_sample = torch.func.grad(sample_loss)

    def sample_gradient(*sample: torch.Tensor) -> Tensors:
        return gradient_of_sample(detached, *sample)

    total = {name: _squared_length(torch.zeros_like(p)) for name, p in detached.items()}
    n_samples = 0
    for batch in batches:
        per_sample = torch.func.vmap(sample_gradient)(*batch)
        for name, gradient in per_sample.items():
            total[name] += _squared_length(gradient).sum(dim=0)
        n_samples += len(batch[0])
    return {name: value / n_samples for name, value in total.items()}


def balanced_mask(
    forget_fisher: Mapping[str, torch.Tensor],
    retain_fisher: Mapping[str, torch.Tensor],
    threshold: float,
) -> Tensors:
    r"""Return the forget-remain balanced mask of SFRon (eq. 6).

    .. math::
        m_p = 1\Bigl[\frac{F_{f,p} + 10^{-15}}{F_{r,p} + 10^{-15}} \ge \gamma\Bigr]

    selects the weights that matter more for the forget set than for the retained set.

    Parameters
    ----------
    forget_fisher : mapping of str to tensor
        Mean squared gradients :math:`F_f` on the forget set, by parameter name.
    retain_fisher : mapping of str to tensor
        Mean squared gradients :math:`F_r` on the retained set, by parameter name.
    threshold : float
        The smallest ratio :math:`\gamma` of a selected weight.

    Returns
    -------
    dict of str to tensor of bool

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.unlearning.steps import balanced_mask
    >>> forget, retain = torch.tensor([4.0, 1.0]), torch.tensor([1.0, 2.0])
    >>> balanced_mask({"weight": forget}, {"weight": retain}, 1.0)
    {'weight': tensor([ True, False])}
    """
    return {
        name: (value + 1e-15) / (retain_fisher[name] + 1e-15) >= threshold
        for name, value in forget_fisher.items()
    }


def top_fraction_mask(saliency: Mapping[str, torch.Tensor], fraction: float) -> Tensors:
    """Return the mask of the given fraction of all weights with the largest absolute saliency.

    Weights that tie with the smallest selected one are selected as well.

    Parameters
    ----------
    saliency : mapping of str to tensor
        Saliency of the weights, by parameter name.
    fraction : float in [0, 1]
        Fraction of the weights to select.

    Returns
    -------
    dict of str to tensor of bool
    """
    size = torch.cat([value.abs().flatten() for value in saliency.values()])
    n_selected = round(fraction * len(size))
    if n_selected == 0:
        return {name: torch.zeros_like(value, dtype=torch.bool) for name, value in saliency.items()}
    threshold = torch.kthvalue(size, len(size) - n_selected + 1).values
    return {name: value.abs() >= threshold for name, value in saliency.items()}


def density(mask: Mapping[str, torch.Tensor]) -> float:
    """Return the fraction of the weights that a mask selects."""
    selected = sum(int(value.sum()) for value in mask.values())
    return selected / sum(value.numel() for value in mask.values())


def _squared_length(gradient: torch.Tensor) -> torch.Tensor:
    """Return the squares of real or complex entries; those of half precision would underflow."""
    length = gradient.abs()
    return (length.float() if length.dtype.itemsize < 4 else length) ** 2
