"""Weighted sums of tensors of any size and dtype, in little memory."""

import torch

CHUNK = 2**20  # entries: four megabytes of float32, which stay in the cache while others stream by


def chunks(tensor):
    """Cut a tensor in pieces of at most `CHUNK` entries; they share its memory.

    Parameters
    ----------
    tensor : tensor of any shape

    Returns
    -------
    tuple of tensors of one dimension
    """
    return tensor.detach().reshape(-1).split(CHUNK)


@torch.no_grad()
def weighted_sum_(out, tensors, weights):
    r"""Write :math:`\sum_k \beta_k t_k` into `out`.

    Parameters
    ----------
    out : contiguous floating tensor
        Of any device; half precision is summed in float32 and rounded once. May be one of the
        tensors if that comes first.
    tensors : sequence of tensors
        Of the shape of `out`, on any device and of any floating dtype.
    weights : sequence of float

    Returns
    -------
    tensor
        `out`.
    """
    for target, *parts in zip(chunks(out), *map(chunks, tensors), strict=True):
        add_parts_(target, parts, weights)
    return out


def add_parts_(target, parts, weights):
    """Do the same as :func:`weighted_sum_`, for one chunk of each tensor."""
    exact = target.dtype in (torch.float32, torch.float64)
    total = target if exact else torch.empty_like(target, dtype=torch.float32)
    torch.mul(like(parts[0], total), weights[0], out=total)
    for part, weight in zip(parts[1:], weights[1:], strict=True):
        total.add_(like(part, total), alpha=weight)
    if not exact:
        target.copy_(total)


def like(tensor, other):
    """Return a tensor on the device and in the dtype of another; itself where it is so already."""
    return tensor.to(other.device, other.dtype)
