"""Weighted sums of tensors of any size and dtype, in little memory."""

import torch

CHUNK = 2**18  # entries: a megabyte of float32, which stays in the cache while tensors are added


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
    exact = out.dtype in (torch.float32, torch.float64)
    pieces = [chunks(tensor) for tensor in tensors]
    for target, *parts in zip(out.view(-1).split(CHUNK), *pieces, strict=True):
        total = target if exact else torch.empty_like(target, dtype=torch.float32)
        torch.mul(parts[0].to(total.device, total.dtype), weights[0], out=total)
        for part, weight in zip(parts[1:], weights[1:], strict=True):
            total.add_(part.to(total.device, total.dtype), alpha=weight)
        if total is not target:
            target.copy_(total)
    return out
