"""Losses of rows from their log-probabilities."""

import torch


def row_losses(log_p, targets):
    """Return the cross-entropy of each row with hard or soft targets.

    Parameters
    ----------
    log_p : tensor of shape (n, n_classes)
    targets : int64 tensor of shape (n,), or float tensor of shape (n, n_classes)

    Returns
    -------
    tensor of shape (n,)
    """
    if targets.ndim == 1:
        return -log_p.gather(1, targets[:, None])[:, 0]
    return -(targets * log_p).sum(dim=1)


def distillation(log_p, targets, temperature):
    r"""Return the mean of :math:`\mathrm{KL}(q \,\|\, \mathrm{softmax}(z / T))` over rows.

    Parameters
    ----------
    log_p : tensor of shape (n, n_classes)
        Log-probabilities, which are logits z up to a constant in each row.
    targets : tensor of shape (n, n_classes)
        Probabilities q.
    temperature : float

    Returns
    -------
    tensor, scalar
    """
    student = (log_p / temperature).log_softmax(dim=1)
    return (torch.xlogy(targets, targets) - targets * student).sum(dim=1).mean()
