"""The head of a network, and the features that it receives."""

import contextlib
import threading
from collections.abc import Iterator

import torch
from torch import nn


def head_of(module: nn.Module, name: str | None = None) -> nn.Linear:
    """Find the linear layer that maps features to outputs.

    Parameters
    ----------
    module : torch.nn.Module
    name : str or None, default=None
        Name of the layer in ``module.named_modules()``; None means the last linear layer.

    Returns
    -------
    torch.nn.Linear

    Raises
    ------
    ValueError
        If the module has no such layer.
    """
    linear = {key: layer for key, layer in module.named_modules() if isinstance(layer, nn.Linear)}
    if not linear:
        raise ValueError(
            f"{type(module).__name__} has no torch.nn.Linear layer that could be its head."
        )
    if name is None:
        return list(linear.values())[-1]
    if name not in linear:
        raise ValueError(
            f"head={name!r} is not a torch.nn.Linear layer of {type(module).__name__}; "
            f"its linear layers are {list(linear)}."
        )
    return linear[name]


@contextlib.contextmanager
def _recorded_input(layer: nn.Module) -> Iterator[list[torch.Tensor]]:
    inputs: list[torch.Tensor] = []
    own_thread = threading.get_ident()

    def record(_: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        # Other threads may call the same module at the same time.
        if threading.get_ident() == own_thread:
            inputs.append(args[0])

    hook = layer.register_forward_pre_hook(record)
    try:
        yield inputs
    finally:
        hook.remove()


def outputs_and_features(
    module: nn.Module, X: torch.Tensor, head: nn.Module
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the outputs of a module and the input of its head, from one forward pass.

    Parameters
    ----------
    module : torch.nn.Module
    X : tensor
        A batch.
    head : torch.nn.Module
        Layer of `module`, as returned by :func:`head_of`.

    Returns
    -------
    outputs : tensor of shape (n, n_outputs)
    features : tensor of shape (n, n_features)
        Both are part of the autograd graph.

    Raises
    ------
    ValueError
        If the forward pass never calls the head.
    """
    with _recorded_input(head) as inputs:
        outputs = module(X)
    if not inputs:
        raise ValueError(
            f"The forward pass of {type(module).__name__} does not call the layer given as its "
            "head; choose another layer."
        )
    return outputs, inputs[-1]
