"""Weighted sums of tensors of any size and dtype, in little memory."""

from collections.abc import Sequence

import torch

CHUNK = 2**20  # entries; 4 MiB of float32 stay in the cache while other tensors are read
SMALL_CHUNK = 2**16  # entries; a chunk of each of many tensors stays in the cache


def as_real(tensor: torch.Tensor) -> torch.Tensor:
    """Return a view of real numbers; coefficients are real, so complex entries count as pairs."""
    if not tensor.is_complex():
        return tensor.detach()
    return torch.view_as_real(tensor.detach().resolve_conj())


def chunks(tensor: torch.Tensor, size: int = CHUNK) -> tuple[torch.Tensor, ...]:
    """Split a tensor into one-dimensional views of at most `size` real numbers."""
    return as_real(tensor).reshape(-1).split(size)


@torch.no_grad()
def weighted_sum_(
    out: torch.Tensor, tensors: Sequence[torch.Tensor], weights: Sequence[float]
) -> torch.Tensor:
    r"""Write :math:`\sum_k \beta_k t_k` into `out`.

    Parameters
    ----------
    out : contiguous floating-point tensor
        On any device. A half-precision result is summed in float32 and rounded once. `out` may be
        one of the tensors if that tensor comes first.
    tensors : sequence of tensors
        Tensors of the shape of `out`, on any device and of any floating-point dtype.
    weights : sequence of float

    Returns
    -------
    tensor
        `out`.
    """
    for target, *parts in zip(chunks(out), *map(chunks, tensors), strict=True):
        add_parts_(target, parts, weights)
    return out


def add_parts_(
    target: torch.Tensor, parts: Sequence[torch.Tensor], weights: Sequence[float]
) -> None:
    """Write the weighted sum of one chunk of each tensor into `target`; see `weighted_sum_`."""
    exact = target.dtype in (torch.float32, torch.float64)
    total = target if exact else torch.empty_like(target, dtype=torch.float32)
    torch.mul(like(parts[0], total), weights[0], out=total)
    for part, weight in zip(parts[1:], weights[1:], strict=True):
        total.add_(like(part, total), alpha=weight)
    if not exact:
        target.copy_(total)


def like(tensor: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return a tensor on the device and in the dtype of another, without a copy if possible."""
    return tensor.to(other.device, other.dtype)
