"""The parameters of a module as one mapping or one vector."""

import torch
from torch import nn


def parameter_dict(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return the detached parameters by name; tied ones come once. They share memory."""
    return {name: parameter.detach() for name, parameter in module.named_parameters()}


def parameter_vector(module: nn.Module) -> torch.Tensor:
    """Return a copy of all parameters as one vector, in the order of ``module.parameters()``."""
    return torch.cat([parameter.detach().reshape(-1) for parameter in module.parameters()])


@torch.no_grad()
def set_parameter_vector(module: nn.Module, vector: torch.Tensor) -> None:
    """Copy a vector as :func:`parameter_vector` returns it into the parameters.

    Raises
    ------
    ValueError
        If its length is not the number of parameters.
    """
    parameters = list(module.parameters())
    sizes = [parameter.numel() for parameter in parameters]
    if vector.shape != (sum(sizes),):
        raise ValueError(
            f"vector must have shape ({sum(sizes)},), one entry a parameter, "
            f"got {tuple(vector.shape)}."
        )
    for parameter, piece in zip(parameters, vector.split(sizes), strict=True):
        parameter.copy_(piece.view_as(parameter))


def has_finite_parameters(module):
    """Whether training has left every weight of a module a number."""
    return all(bool(parameter.isfinite().all()) for parameter in module.parameters())
