"""Outputs of any network: logits, log-probabilities, and the features that its head receives."""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import skorch
import torch
from torch import nn

from ..utils._typing import Array
from ._batches import NetSamples
from ._input import AnySamples
from ._modules import device_of, uncompiled

_PREDICTION_BATCH = 1024
_HALF = (torch.float16, torch.bfloat16)
_LOGITS = ("logits", "out")  # names of Hugging Face's transformers and of torchvision


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
        outputs = main_output(module(X))
    return outputs, _only(inputs, module)


def _only(inputs: list[torch.Tensor], module: nn.Module) -> torch.Tensor:
    if not inputs:
        raise ValueError(
            f"The forward pass of {type(module).__name__} does not call the layer given as its "
            "head; choose another layer."
        )
    return inputs[-1]


def main_output(outputs: Any) -> torch.Tensor:
    """Return the logits among the outputs of a module.

    They are the only output, the first of a tuple, or the entry "logits" of a dict such as an
    output of Hugging Face's transformers. torchvision's dicts have them under "out".

    Raises
    ------
    ValueError
        If the module returns something else.
    """
    if isinstance(outputs, torch.Tensor):
        return outputs
    if isinstance(outputs, Mapping):
        names = [name for name in _LOGITS if isinstance(outputs.get(name), torch.Tensor)]
        if names:
            return outputs[names[0]]
        raise ValueError(
            "The module returns a dict, whose logits must have the name 'logits' or 'out', got "
            f"the names {list(outputs)}."
        )
    if isinstance(outputs, (tuple, list)) and len(outputs) and isinstance(outputs[0], torch.Tensor):
        return outputs[0]
    raise ValueError(
        "The module must return a tensor, a tuple that begins with one, or a dict with the entry "
        f"'logits', got {type(outputs).__name__}."
    )


def are_log_probabilities(outputs: torch.Tensor) -> bool:
    """Return whether outputs that a negative log-likelihood takes are log-probabilities.

    They are never positive, whereas a probability of each sample is.
    """
    return not bool((outputs.detach() > 0).any())


def in_single_precision(outputs: Any) -> Any:
    """Return outputs in which tensors in half precision are cast to float32."""
    if isinstance(outputs, torch.Tensor):
        return outputs.float() if outputs.dtype in _HALF else outputs
    if type(outputs) in (tuple, list):
        return type(outputs)(in_single_precision(part) for part in outputs)
    if isinstance(outputs, Mapping):
        for name, part in list(outputs.items()):
            if isinstance(part, torch.Tensor) and part.dtype in _HALF:
                outputs[name] = part.float()  # type: ignore[index]
    return outputs


@torch.no_grad()
def predict_logits(
    module: nn.Module, X: Array | torch.Tensor, *, batch_size: int | None = None
) -> torch.Tensor:
    """Return the raw outputs of a module, which stays in evaluation mode.

    Parameters
    ----------
    module : torch.nn.Module
    X : ndarray or tensor of shape (n_samples, ...)
    batch_size : int or None, default=None
        Number of samples in a forward pass; None means 1,024.

    Returns
    -------
    tensor of shape (n_samples, n_outputs)
    """
    module.eval()
    X = torch.as_tensor(X, device=device_of(module))
    batches = X.split(_PREDICTION_BATCH if batch_size is None else batch_size)
    return torch.cat([main_output(module(batch)) for batch in batches])


@torch.no_grad()
def raw_outputs(
    net: skorch.NeuralNet, X: AnySamples, *, batch_size: int | None = None
) -> torch.Tensor:
    """Return the raw outputs of a fitted net, which stays in evaluation mode.

    Parameters
    ----------
    net : skorch.NeuralNet
    X : samples in any form
    batch_size : int or None, default=None
        Number of samples in a forward pass; None means 1,024.

    Returns
    -------
    tensor of shape (n_samples, n_outputs)
        Logits, unless the module returns probabilities; see :func:`log_probabilities`.
    """
    net._set_training(False)
    batches = NetSamples(net, X).in_order(_PREDICTION_BATCH if batch_size is None else batch_size)
    return torch.cat([main_output(net.infer(inputs)) for inputs, _ in batches])


@torch.no_grad()
def penultimate(
    net: skorch.NeuralNet,
    X: AnySamples,
    *,
    head: str | None = None,
    batch_size: int | None = None,
) -> torch.Tensor:
    """Return the features that the head of a fitted net receives in evaluation mode.

    Parameters
    ----------
    net : skorch.NeuralNet
    X : samples in any form
    head : str or None, default=None
        Name of the head, as for :func:`head_of`.
    batch_size : int or None, default=None
        Number of samples in a forward pass; None means 1,024.

    Returns
    -------
    tensor of shape (n_samples, n_penultimate)
    """
    net._set_training(False)
    layer = head_of(net.module_, head)
    batches = NetSamples(net, X).in_order(_PREDICTION_BATCH if batch_size is None else batch_size)
    features = []
    for inputs, _ in batches:
        with _recorded_input(layer) as recorded:
            net.infer(inputs)
        features.append(_only(recorded, net.module_))
    return torch.cat(features)


def log_probabilities(net: skorch.NeuralNet, outputs: torch.Tensor) -> torch.Tensor:
    """Return the log-probabilities that correspond to the outputs of a net's module.

    The outputs are logits if the criterion is the cross-entropy. With ``NLLLoss``, they are
    log-probabilities, or else probabilities, as in skorch. For any other criterion, the net's
    parameter `predict_nonlinearity` must turn them into probabilities.

    Parameters
    ----------
    net : skorch.NeuralNet
    outputs : tensor of shape (n, n_classes)
        Logits, as :func:`main_output` returns them.

    Raises
    ------
    ValueError
        If the net has another criterion and no `predict_nonlinearity` of its own.
    """
    if callable(net.predict_nonlinearity):
        return _safe_log(net.predict_nonlinearity(outputs))
    criterion = uncompiled(net.criterion_)
    if isinstance(criterion, nn.CrossEntropyLoss):
        return outputs.log_softmax(dim=1)
    if isinstance(criterion, nn.NLLLoss):
        return outputs if are_log_probabilities(outputs) else _safe_log(outputs)
    raise ValueError(
        "The criterion of the net must be torch.nn.CrossEntropyLoss or torch.nn.NLLLoss, or the "
        "net must have a function as `predict_nonlinearity` that turns its outputs into "
        f"probabilities; got {type(criterion).__name__}."
    )


def _safe_log(probabilities: torch.Tensor) -> torch.Tensor:
    return torch.log(probabilities + torch.finfo(probabilities.dtype).eps)
