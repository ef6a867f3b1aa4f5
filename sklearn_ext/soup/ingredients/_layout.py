"""Layout of a module: the tensors that a soup mixes, averages or copies, by name."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from ...neural.files import KeyMap, matched_tensors, names_of_tensors

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

    def own_tensors(self) -> dict[str, torch.Tensor]:
        """Return all tensors that a file of the module must contain, each of them once."""
        return {**self.parameters, **self.float_buffers, **self.other_buffers}


def layout_of(module: nn.Module) -> Layout:
    """Return the layout of a module; its tensors share memory with the module."""
    aliases = names_of_tensors(module)
    stored = module.state_dict(keep_vars=True)
    parameters = dict(module.named_parameters())
    buffers = {name: stored[name] for name in aliases if name not in parameters}
    floating = {name: b for name, b in buffers.items() if b.is_floating_point()}
    return Layout(
        parameters,
        floating,
        {name: b for name, b in buffers.items() if name not in floating},
        aliases,
    )


def tensors_of_ingredient(
    layout: Layout, tensors: Mapping[str, torch.Tensor], label: str, key_map: KeyMap | None = None
) -> Mapping[str, torch.Tensor]:
    """Return the tensors of an ingredient under the names of a module.

    Parameters
    ----------
    layout : Layout
        Layout of the module.
    tensors : mapping of str to tensor
        Tensors of the ingredient.
    label : str
        Name of the ingredient in error messages.
    key_map : mapping, callable or None, default=None
        New names of tensors, as for :func:`matched_tensors`.

    Raises
    ------
    ValueError
        If the tensors do not fit the module, or if the module has factors of a low-rank adapter,
        which must not be averaged.
    """
    factor = next((n for n in layout.parameters if any(mark in n for mark in _ADAPTER_MARKS)), None)
    if factor is not None:
        raise ValueError(
            f"{factor!r} is a factor of a low-rank adapter. The product of averaged factors is "
            "not the average of the products; merge each adapter into its network first."
        )
    own = layout.own_tensors()
    return matched_tensors(tensors, own, label, aliases=layout.aliases, key_map=key_map)


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
