"""What detectors read off a fitted net."""

import numpy as np
from torch import Tensor, nn

from ..neural import head_of, penultimate

_BATCH = 1024
# Matrix products of fewer rows take other kernels, which round differently.
_FEWEST_ROWS = 16


def with_few_more_rows(X: np.ndarray) -> np.ndarray:
    """Repeat the last row until no batch is so small that it would be rounded differently.

    With this, the answer for a row does not depend on what comes with it.

    Parameters
    ----------
    X : ndarray of shape (n, ...)

    Returns
    -------
    ndarray of shape (m, ...)
        The n rows, and from 0 to 15 more.
    """
    last = len(X) % _BATCH
    missing = _FEWEST_ROWS - last if 0 < last < _FEWEST_ROWS else 0
    return np.concatenate([X, np.repeat(X[-1:], missing, axis=0)]) if missing else X


def head_parameters(module: nn.Module, head: str | None = None) -> tuple[Tensor, Tensor]:
    """Rows and biases of a network's head, in double precision on the CPU.

    Parameters
    ----------
    module : torch.nn.Module
    head : str, default=None
        Name of the layer; None is the last linear layer.

    Returns
    -------
    weight : tensor of shape (C, d)
    bias : tensor of shape (C,)
        Zero where the layer has none.
    """
    layer = head_of(module, head)
    weight = layer.weight.detach().cpu().double()
    bias = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach()
    return weight, bias.cpu().double()


def features_of(net, X: np.ndarray, head: str | None = None) -> Tensor:
    """Compute what a network's head sees, in double precision on the CPU.

    What comes after costs little and is computed in double precision.

    Parameters
    ----------
    net : skorch.NeuralNet
    X : ndarray of shape (n, ...)
    head : str, default=None

    Returns
    -------
    tensor of shape (n, d)
    """
    features = penultimate(net, X, head=head, batch_size=_BATCH).cpu().double()
    if features.ndim != 2:
        raise ValueError(
            "The head must get one vector a row, got features of shape "
            f"{tuple(features.shape)}; name another layer as `head`."
        )
    return features


def check_head(module: nn.Module, classes: np.ndarray, head: str | None = None) -> None:
    """Raise ValueError unless the head of a network has one output a class."""
    layer = head_of(module, head)
    if layer.out_features != len(classes):
        raise ValueError(
            f"The head must have one output for each of the {len(classes)} classes, "
            f"got {layer}; name another layer as `head`."
        )
