"""Mixing samples: their reader, and the types that a net takes."""

from typing import Any

import numpy as np
import skorch
import torch
from torch import nn

from ...neural import (
    AnySamples,
    ConventionalNet,
    NetSamples,
    class_codes,
    device_of,
    module_inputs,
)
from ...utils._typing import Array

_NUMPY_TYPES = {torch.float32: np.float32, torch.float64: np.float64}


def samples_of(module: nn.Module, X: AnySamples, y: Any) -> NetSamples:
    """Return a reader of samples for a module.

    Parameters
    ----------
    module : torch.nn.Module
    X : array, tensor, dict of them, Dataset, or NetSamples
        A reader is returned as it is.
    y : array-like or None
        Targets in the form that the loss takes. A reader has its own.
    """
    if isinstance(X, NetSamples):
        return X
    # A net says where and in which type the module computes. Its optimizer and loss are not used.
    net = skorch.NeuralNet(module, criterion=nn.Identity, device=device_of(module)).initialize()
    return NetSamples(net, X, None if y is None else torch.as_tensor(y))


def as_computed(net: skorch.NeuralNet, X: AnySamples) -> AnySamples:
    """Return an array in the type in which an initialized net computes, and anything else as it is.

    Our own nets cast each batch, but skorch's nets do not.
    """
    if isinstance(net, ConventionalNet) or not isinstance(X, np.ndarray):
        return X
    dtype = module_inputs(net, torch.as_tensor(X[:2])).dtype
    return X.astype(_NUMPY_TYPES.get(dtype, X.dtype), copy=False)


def targets_of(net: skorch.NeuralNet, y: Array) -> torch.Tensor:
    """Return targets in the form that the loss of a fitted net takes.

    Parameters
    ----------
    net : skorch.NeuralNet
    y : ndarray of shape (n_samples,) or (n_samples, n_outputs)

    Returns
    -------
    tensor
        Class indices for a classifier, else float32 of shape (n_samples, n_outputs).
    """
    if isinstance(net, skorch.NeuralNetClassifier):
        return torch.as_tensor(class_codes(net, y))
    if isinstance(net, skorch.NeuralNetBinaryClassifier):
        return torch.as_tensor(class_codes(net, y), dtype=torch.float32)
    return torch.as_tensor(np.asarray(y, dtype=np.float32).reshape(len(y), -1))
