"""Pretrained weights of a backbone, from a file, a mapping, a module or a net."""

import copy
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ..neural import LazyTensors
from ..neural.files import matched_tensors, names_of_tensors
from ._injection import merge_lora


def pretrained_state(pretrained: Any) -> Mapping[str, torch.Tensor]:
    """Return the tensors that a `pretrained` parameter specifies, by name.

    Parameters
    ----------
    pretrained : str, path-like, mapping, torch.nn.Module or fitted skorch net
        The adapters of a module or a net are merged into a copy.

    Returns
    -------
    mapping of str to tensor

    Raises
    ------
    TypeError
        If `pretrained` has another type.
    ValueError
        If `pretrained` is an unfitted net or a damaged file.
    """
    if isinstance(pretrained, str | os.PathLike):
        tensors = LazyTensors(pretrained)
        tensors.verify()
        return tensors
    if isinstance(pretrained, Mapping):
        return {name: torch.as_tensor(value) for name, value in pretrained.items()}
    if hasattr(pretrained, "initialized_"):
        if not pretrained.initialized_:
            raise ValueError(f"pretrained must be a fitted net, but {pretrained!r} is not fitted.")
        pretrained = pretrained.module_
    if isinstance(pretrained, nn.Module):
        return merge_lora(copy.deepcopy(pretrained)).state_dict()
    raise TypeError(
        "pretrained must be None, a path, a mapping of names to tensors, a torch.nn.Module or a "
        f"fitted skorch net, got {pretrained!r}."
    )


@torch.no_grad()
def load_pretrained(
    module: nn.Module, state: Mapping[str, torch.Tensor], replaceable: Iterable[str]
) -> None:
    """Load tensors into a network.

    Tensors that are mapped from a file are used in place, so that the backbone takes no additional
    memory. Other tensors are copied.

    Parameters
    ----------
    module : torch.nn.Module
    state : mapping of str to tensor
    replaceable : iterable of str
        Names of modules whose tensors may be missing or have other shapes.

    Raises
    ------
    ValueError
        If any other tensor is missing, unknown or has another shape.
    """
    names = names_of_tensors(module)
    own = module.state_dict(keep_vars=True)
    own = {name: own[name] for name in names}
    heads = tuple(f"{name}." for name in replaceable)
    counters = tuple(name for name in own if name.endswith("num_batches_tracked"))
    try:
        fitting = matched_tensors(
            state, own, "pretrained", aliases=names, replaceable=(*heads, *counters)
        )
    except ValueError as error:
        raise ValueError(
            f"{error} The network is a {type(module).__name__}. If a part is meant to be new, such "
            "as a head, add its name to modules_to_save."
        ) from error
    mapped = isinstance(state, LazyTensors)
    for name, tensor in fitting.items():
        target = own[name]
        if mapped and tensor.dtype == target.dtype and not name.startswith(heads):
            _assign(module, names[name], tensor)
        else:
            target.copy_(tensor)


def _assign(module: nn.Module, names: Sequence[str], tensor: torch.Tensor) -> None:
    """Use a tensor in place of a parameter or buffer of a network, under all of its names."""
    parameter: nn.Parameter | None = None
    for name in names:
        owner, _, leaf = name.rpartition(".")
        part = module.get_submodule(owner)
        if leaf in part._buffers:
            part._buffers[leaf] = tensor
            continue
        old = part._parameters[leaf]
        if parameter is None:
            parameter = nn.Parameter(tensor, requires_grad=old is None or old.requires_grad)
        part._parameters[leaf] = parameter
