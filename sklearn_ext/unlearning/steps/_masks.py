r"""Masks over the weights that matter for the rows to forget, and the gradients behind them.

Gradients and masks are dictionaries from parameter names to tensors of the parameter's shape. The
loss of a batch comes as a function, so that everything here suits any model.
"""

import torch


def gradients(loss, parameters):
    """Return the gradients of a scalar loss; zeros for parameters that it does not reach.

    Parameters
    ----------
    loss : tensor, scalar
    parameters : dict of str to tensor

    Returns
    -------
    dict of str to tensor
    """
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return {
        name: torch.zeros_like(parameter) if gradient is None else gradient
        for (name, parameter), gradient in zip(parameters.items(), found, strict=True)
    }


def summed_gradients(mean_loss, parameters, batches):
    r"""Return :math:`\sum_b \nabla_\theta L_b`, the gradients of the batch losses summed.

    Parameters
    ----------
    mean_loss : callable
        From a batch to its scalar loss.
    parameters : dict of str to tensor
    batches : iterable

    Returns
    -------
    dict of str to tensor
    """
    total = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    for batch in batches:
        for name, gradient in gradients(mean_loss(batch), parameters).items():
            total[name] += gradient
    return total


def squared_batch_gradients(mean_loss, parameters, batches):
    r"""Return the mean over batches of :math:`(\partial L_b / \partial \theta_p)^2` (SFRon, eq. 6).

    Its expectation holds the variance within batches divided by their size, so that two results
    are comparable for one batch size only.

    Parameters
    ----------
    mean_loss : callable
        From a batch to its scalar loss.
    parameters : dict of str to tensor
    batches : iterable

    Returns
    -------
    dict of str to tensor
    """
    total = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    n_batches = 0
    for batch in batches:
        for name, gradient in gradients(mean_loss(batch), parameters).items():
            total[name] += gradient**2
        n_batches += 1
    return {name: value / n_batches for name, value in total.items()}


def squared_row_gradients(row_loss, parameters, batches):
    r"""Return the mean over rows of :math:`(\partial \ell_i / \partial \theta_p)^2`.

    This is the diagonal of the empirical Fisher matrix.

    Parameters
    ----------
    row_loss : callable
        From a dict of parameters and one row of a batch, without the batch axis, to the row's
        scalar loss.
    parameters : dict of str to tensor
    batches : iterable of tuples of tensors
        Their first axis is that of the rows.

    Returns
    -------
    dict of str to tensor
    """
    of_row = torch.func.grad(row_loss)
    detached = {name: parameter.detach() for name, parameter in parameters.items()}
    total = {name: torch.zeros_like(parameter) for name, parameter in detached.items()}
    n_rows = 0
    for batch in batches:
        per_row = torch.func.vmap(lambda *row: of_row(detached, *row))(*batch)
        for name, gradient in per_row.items():
            total[name] += (gradient**2).sum(dim=0)
        n_rows += len(batch[0])
    return {name: value / n_rows for name, value in total.items()}


def balanced_mask(forget_fisher, retain_fisher, gamma):
    r"""Return SFRon's forget-remain balanced mask (eq. 6).

    .. math::
        m_p = 1\Bigl[\frac{F_{f,p} + 10^{-15}}{F_{r,p} + 10^{-15}} \ge \gamma\Bigr]

    selects the weights that matter more for the forget rows than for the others.

    Parameters
    ----------
    forget_fisher, retain_fisher : dict of str to tensor
    gamma : float

    Returns
    -------
    dict of str to tensor of bool
    """
    return {
        name: (value + 1e-15) / (retain_fisher[name] + 1e-15) >= gamma
        for name, value in forget_fisher.items()
    }


def top_fraction_mask(saliency, fraction):
    """Return the mask of the given fraction of all weights with the largest absolute saliency.

    Weights that tie with the smallest selected one are selected, too.

    Parameters
    ----------
    saliency : dict of str to tensor
    fraction : float in [0, 1]

    Returns
    -------
    dict of str to tensor of bool
    """
    size = torch.cat([value.abs().flatten() for value in saliency.values()])
    n_kept = round(fraction * len(size))
    if n_kept == 0:
        return {name: torch.zeros_like(value, dtype=torch.bool) for name, value in saliency.items()}
    threshold = torch.kthvalue(size, len(size) - n_kept + 1).values
    return {name: value.abs() >= threshold for name, value in saliency.items()}


def density(mask):
    """Return the share of weights that a mask selects."""
    selected = sum(int(value.sum()) for value in mask.values())
    return selected / sum(value.numel() for value in mask.values())
