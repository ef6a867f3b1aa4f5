"""Layout of a module: the tensors that a soup mixes, averages or copies, by name."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

_ADAPTER_MARKS = ("lora_A", "lora_B")


@dataclass(frozen=True)
class Layout:
    """The tensors of a module by name, grouped by how a soup treats them.

    Attributes
    ----------
    parameters : dict of str to tensor
        Parameters of the module. Tied parameters appear once.
    float_buffers : dict of str to tensor
        Stored floating-point buffers, such as running statistics. They are averaged.
    other_buffers : dict of str to tensor
        Stored counters, positions and masks. They are copied.
    aliases : dict of str to tuple of str
        All names of each tensor, its own name first.
    """

    parameters: dict[str, nn.Parameter]
    float_buffers: dict[str, torch.Tensor]
    other_buffers: dict[str, torch.Tensor]
    aliases: dict[str, tuple[str, ...]]

    def read(self, tensors: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
        """Return a tensor of an ingredient, which may have any of its names."""
        return tensors[next(key for key in self.aliases[name] if key in tensors)]

    def own_tensors(self) -> dict[str, torch.Tensor]:
        """Return all tensors that a file of the module must contain, each of them once."""
        return {**self.parameters, **self.float_buffers, **self.other_buffers}


def layout_of(module: nn.Module) -> Layout:
    """Return the layout of a module; its tensors share memory with the module."""
    parameters = dict(module.named_parameters())
    owner = {id(parameter): name for name, parameter in parameters.items()}
    aliases: dict[str, tuple[str, ...]] = {name: (name,) for name in parameters}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        own = owner[id(parameter)]
        if name != own:
            aliases[own] += (name,)
    stored = module.state_dict(keep_vars=True)
    buffers = {name: b for name, b in module.named_buffers() if name in stored}
    floating = {name: b for name, b in buffers.items() if b.is_floating_point()}
    return Layout(
        parameters,
        floating,
        {name: b for name, b in buffers.items() if name not in floating},
        {**aliases, **{name: (name,) for name in buffers}},
    )


def check_tensors(layout: Layout, tensors: Mapping[str, torch.Tensor], label: str) -> None:
    """Check that the tensors of an ingredient fit a module.

    Parameters
    ----------
    layout : Layout
        Layout of the module.
    tensors : mapping of str to tensor
        Tensors of the ingredient.
    label : str
        Name of the ingredient in error messages.

    Raises
    ------
    ValueError
        If a tensor is missing, unknown or of another shape, or is a factor of a low-rank adapter,
        which must not be averaged. The message names the first such tensor.
    """
    known = {key for names in layout.aliases.values() for key in names}
    if unknown := next((name for name in tensors if name not in known), None):
        raise ValueError(
            f"{label} has a tensor {unknown!r}, which the network of the estimator lacks."
        )
    for name, own in layout.own_tensors().items():
        if any(mark in name for mark in _ADAPTER_MARKS):
            raise ValueError(
                f"{name!r} is a factor of a low-rank adapter. The product of averaged factors is "
                "not the average of the products; merge each adapter into its network first."
            )
        if not any(key in tensors for key in layout.aliases[name]):
            raise ValueError(f"{label} lacks the tensor {name!r} of the network.")
        shape = tuple(layout.read(tensors, name).shape)
        if shape != tuple(own.shape):
            raise ValueError(
                f"{label}: the tensor {name!r} has shape {shape}, but the network's has shape "
                f"{tuple(own.shape)}. All ingredients must have the same architecture."
            )


def first_not_finite(layout: Layout) -> str | None:
    """Return the name of a parameter that is not finite or of a buffer with NaN, or None.

    Infinite buffers are allowed, because masks contain them.
    """
    for name, parameter in layout.parameters.items():
        if not bool(torch.isfinite(parameter.detach()).all()):
            return name
    for name, buffer in layout.float_buffers.items():
        if bool(torch.isnan(buffer).any()):
            return name
    return None
