"""Which tensors of a module are mixed, averaged or copied, and what an ingredient must hold."""

from dataclasses import dataclass

import torch

_ADAPTER_MARKS = ("lora_A", "lora_B")


@dataclass(frozen=True)
class Layout:
    """Names of the tensors of a module, by what a soup does to them.

    Attributes
    ----------
    parameters : dict of str to tensor
        The module's own parameters; tied ones come once.
    float_buffers : dict of str to tensor
        Its stored floating buffers, such as running statistics. They are averaged.
    other_buffers : dict of str to tensor
        Stored counters, positions and masks. They are copied.
    aliases : dict of str to tuple of str
        All names of a parameter, its own first.
    """

    parameters: dict
    float_buffers: dict
    other_buffers: dict
    aliases: dict

    def read(self, tensors, name):
        """Return a tensor of an ingredient under any of its names."""
        return tensors[next(key for key in self.aliases[name] if key in tensors)]

    def own_tensors(self):
        """Everything that a file of the module has to hold; no tensor comes twice."""
        return {**self.parameters, **self.float_buffers, **self.other_buffers}


def layout_of(module):
    """Read the layout of a module.

    Parameters
    ----------
    module : torch.nn.Module

    Returns
    -------
    Layout
        Its tensors share memory with the module.
    """
    parameters = dict(module.named_parameters())
    owner = {id(parameter): name for name, parameter in parameters.items()}
    aliases = {name: (name,) for name in parameters}
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


def check_tensors(layout, tensors, label):
    """Check that an ingredient is a version of the module.

    Parameters
    ----------
    layout : Layout
    tensors : mapping of str to tensor
        Of an ingredient.
    label : str
        What errors call it.

    Raises
    ------
    ValueError
        Naming the first tensor that is missing, unknown or of another shape; or if the module is
        made of adapter factors, whose average is not the average of the adapters.
    """
    known = {key for names in layout.aliases.values() for key in names}
    if unknown := next((name for name in tensors if name not in known), None):
        raise ValueError(
            f"{label} holds a tensor {unknown!r} that the network of the estimator lacks."
        )
    for name, own in layout.own_tensors().items():
        if any(mark in name for mark in _ADAPTER_MARKS):
            raise ValueError(
                f"{name!r} is a factor of a low-rank adapter. Products of averaged factors are "
                "not averages of the products: merge each adapter into its network first."
            )
        if not any(key in tensors for key in layout.aliases[name]):
            raise ValueError(f"{label} lacks the tensor {name!r} of the network.")
        shape = tuple(layout.read(tensors, name).shape)
        if shape != tuple(own.shape):
            raise ValueError(
                f"{label}: the tensor {name!r} has shape {shape}, the network's has "
                f"{tuple(own.shape)}. All ingredients must be of one architecture."
            )


def is_finite(layout):
    """Whether the module holds neither NaN nor infinity."""
    tensors = [*layout.parameters.values(), *layout.float_buffers.values()]
    return all(bool(torch.isfinite(tensor.detach()).all()) for tensor in tensors)
