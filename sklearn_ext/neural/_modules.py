"""Default networks, and functions for the parameters and copies of any module."""

import copy
import math
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn


class MLP(nn.Sequential):
    """A multilayer perceptron with ReLU units for tabular data.

    Parameters
    ----------
    n_features : int
        Number of features; inputs of several dimensions are flattened first.
    n_outputs : int
    hidden_sizes : sequence of int, default=(128, 128)
        Number of units in each hidden layer.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.neural import MLP
    >>> MLP(8, 3, hidden_sizes=(16,))(torch.zeros(5, 8)).shape
    torch.Size([5, 3])
    """

    def __init__(
        self, n_features: int, n_outputs: int, hidden_sizes: Sequence[int] = (128, 128)
    ) -> None:
        layers: list[nn.Module] = []
        for width in hidden_sizes:
            layers += [nn.Linear(n_features, width), nn.ReLU()]
            n_features = width
        super().__init__(nn.Flatten(), *layers, nn.Linear(n_features, n_outputs))


class SmallCNN(nn.Module):
    """A small convolutional network for images of any size.

    Each block consists of a 3 x 3 convolution, batch normalization and a ReLU. Max pooling halves
    the resolution between blocks, and a linear head receives the average over all positions.

    Parameters
    ----------
    n_channels : int
        Number of channels of an image. Images without a channel axis have one channel.
    n_outputs : int
    widths : sequence of int, default=(16, 32, 64)
        Number of channels in each block.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.neural import SmallCNN
    >>> SmallCNN(1, 10)(torch.zeros(2, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self, n_channels: int, n_outputs: int, widths: Sequence[int] = (16, 32, 64)
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for k, width in enumerate(widths):
            if k > 0:
                layers.append(nn.MaxPool2d(2, ceil_mode=True))
            convolution = nn.Conv2d(n_channels, width, 3, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(width), nn.ReLU()]
            n_channels = width
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(n_channels, n_outputs)

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """Return the logits.

        Parameters
        ----------
        X : tensor of shape (n, height, width) or (n, channels, height, width)

        Returns
        -------
        tensor of shape (n, n_outputs)
        """
        return self.head(self.body(X.unsqueeze(1) if X.ndim == 3 else X))


def default_module(input_shape: Sequence[int], n_outputs: int, **params: Any) -> nn.Module:
    """Choose a network for inputs of a given shape.

    Parameters
    ----------
    input_shape : sequence of int
        Shape of one sample: (features,), (height, width) or (channels, height, width).
    n_outputs : int
    **params
        Passed to the constructor of the network.

    Returns
    -------
    MLP or SmallCNN
    """
    if len(input_shape) == 1:
        return MLP(input_shape[0], n_outputs, **params)
    return SmallCNN(math.prod(input_shape[:-2]), n_outputs, **params)


def parameter_dict(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return the detached parameters by name, sharing memory; tied parameters appear once."""
    return {name: parameter.detach() for name, parameter in module.named_parameters()}


def device_of(module: nn.Module) -> torch.device:
    """Return the device of a module's parameters; a module without any is on the CPU."""
    parameter = next(module.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def has_finite_parameters(module: nn.Module) -> bool:
    """Return whether all parameters of a module are finite."""
    return all(bool(parameter.isfinite().all()) for parameter in module.parameters())


def _is_compiled(module: Any) -> bool:
    # Importing the compiler takes a second, so it counts only if torch has already loaded it.
    compiler = sys.modules.get("torch._dynamo")
    return compiler is not None and isinstance(module, compiler.OptimizedModule)


def uncompiled(module: Any) -> Any:
    """Return the module inside a compiled one, or anything else as it is."""
    return module._orig_mod if _is_compiled(module) else module


def name_of(module: nn.Module) -> str:
    """Return the name of the class of a module, compiled or not, for messages."""
    return type(uncompiled(module)).__name__


def copied_module(module: nn.Module, memo: dict[int, Any] | None = None) -> nn.Module:
    """Return a copy of a module that shares no tensor with it, without pickling anything.

    Functions, such as hooks, are shared. A compiled module is copied as such.

    Parameters
    ----------
    module : torch.nn.Module
    memo : dict or None, default=None
        Copies that have already been made, as for :func:`copy.deepcopy`.

    Raises
    ------
    TypeError
        If an attribute of the module cannot be copied, such as a computed weight or an open file.
    """
    memo = {} if memo is None else memo
    if _is_compiled(module):
        original = copied_module(uncompiled(module), memo)
        copied = type(module)(original, module.dynamo_ctx).train(module.training)
        memo[id(module)] = copied
        return copied
    try:
        with torch.no_grad():  # otherwise, optimizers would reject the copies of scripted modules
            other = copy.deepcopy(module, memo)
    except (RuntimeError, TypeError) as error:
        raise TypeError(
            f"{type(module).__name__} cannot be copied: {error} Weights that are computed from "
            "others must be a torch.nn.utils.parametrize parametrization, and file handles and "
            "locks must not be attributes of a module."
        ) from error
    for new, old in zip(other.parameters(), module.parameters(), strict=True):
        if new.requires_grad != old.requires_grad:
            new.requires_grad_(old.requires_grad)
    return other
