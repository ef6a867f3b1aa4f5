"""Load the pretrained weights of a backbone from a file, a mapping, a module or a net."""

import copy
import os
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from ..neural import LazyTensors
from ._injection import merge_lora


def pretrained_state(pretrained: Any) -> Mapping[str, torch.Tensor]:
    """Return the tensors that a `pretrained` parameter stands for, by name.

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
        If `pretrained` is of another type.
    ValueError
        If `pretrained` is a net that is not fitted.
    """
    if isinstance(pretrained, str | os.PathLike):
        return LazyTensors(pretrained)
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
    own = module.state_dict()
    heads = tuple(f"{name}." for name in replaceable)
    required = {name for name in own if not name.startswith(heads)}
    counters = {name for name in own if name.endswith("num_batches_tracked")}
    missing = sorted(required - counters - set(state))
    unknown = sorted(name for name in set(state) - set(own) if not name.startswith(heads))
    fitting = {name: state[name] for name in own if name in state}
    wrong = [
        f"{name} {tuple(tensor.shape)} instead of {tuple(own[name].shape)}"
        for name, tensor in fitting.items()
        if tensor.shape != own[name].shape
    ]
    if missing or unknown or [text for text in wrong if not text.startswith(heads)]:
        raise ValueError(
            f"pretrained does not fit {type(module).__name__}: missing {missing}, unknown "
            f"{unknown}, of another shape {wrong}. If a part is meant to be new, such as a head, "
            "add its name to modules_to_save."
        )
    fitting = {n: tensor for n, tensor in fitting.items() if tensor.shape == own[n].shape}
    if isinstance(state, LazyTensors):
        _assign(module, fitting, own, heads)
    else:
        module.load_state_dict(fitting, strict=False)


def _assign(
    module: nn.Module,
    tensors: Mapping[str, torch.Tensor],
    own: Mapping[str, torch.Tensor],
    heads: tuple[str, ...],
) -> None:
    in_place = {
        name: tensor
        for name, tensor in tensors.items()
        if tensor.dtype == own[name].dtype and not name.startswith(heads)
    }
    module.load_state_dict(in_place, strict=False, assign=True)
    copied = {name: tensor for name, tensor in tensors.items() if name not in in_place}
    module.load_state_dict(copied, strict=False)
