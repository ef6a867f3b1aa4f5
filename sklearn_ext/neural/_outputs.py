"""Outputs of any network: logits, log-probabilities, and the features that its head receives."""

import contextlib
import functools
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import skorch
import torch
from torch import nn

from ..utils._typing import Array, FloatArray
from ._batches import NetSamples
from ._input import HALF, AnySamples, n_samples_of, select_samples
from ._modules import device_of, name_of, uncompiled

_PREDICTION_BATCH = 1024
_CHECKED_SAMPLES = 64
_TOLERANCE = 1e-3  # relative to the largest output
_TOLERANCE_HALF = 3e-2  # four units in the last place of bfloat16 in each of two sums
_LOGITS = ("logits", "out")  # names of Hugging Face's transformers and of torchvision


def head_of(module: nn.Module, name: str | None = None) -> Any:
    """Find the linear layer that maps features to outputs.

    A layer with an adapter, such as those of Flat-LoRA and peft, counts as one layer.

    Parameters
    ----------
    module : torch.nn.Module
    name : str or None, default=None
        Name of the layer in ``module.named_modules()``; None means the last linear layer.
        :func:`checked_head` finds the layer that the outputs come from.

    Returns
    -------
    torch.nn.Linear, or the layer that wraps it
        Its attribute `weight` may lack the update of an adapter; see :func:`head_parameters`.

    Raises
    ------
    ValueError
        If the module has no such layer.
    """
    linear = linear_layers(module)
    if not linear:
        raise ValueError(f"{name_of(module)} has no torch.nn.Linear layer that could be its head.")
    if name is None:
        return list(linear.values())[-1]
    if name not in linear:
        raise ValueError(
            f"head={name!r} is not a torch.nn.Linear layer of {name_of(module)}; "
            f"its linear layers are {list(linear)}."
        )
    return linear[name]


def linear_layers(module: nn.Module) -> dict[str, nn.Module]:
    """Return the linear layers of a module by name, each with its adapter if it has one."""
    found: dict[str, nn.Module] = {}
    for name, layer in uncompiled(module).named_modules():
        is_adapted = isinstance(getattr(layer, "base_layer", None), nn.Linear)
        is_part = any(name.startswith(f"{other}.") for other in found)
        if not is_part and (is_adapted or isinstance(layer, nn.Linear)):
            found[name] = layer
    return found


@torch.no_grad()
def head_parameters(layer: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weight and the bias of a linear layer, in double precision on the CPU.

    For a layer with an adapter, both include the adapter's update.

    Parameters
    ----------
    layer : torch.nn.Module
        As :func:`head_of` returns it.

    Returns
    -------
    weight : tensor of shape (n_outputs, n_features)
    bias : tensor of shape (n_outputs,)
        Zero if the layer has none.
    """
    if isinstance(layer, nn.Linear):
        weight = layer.weight.detach().cpu().double()
        # torch's stubs call the bias a Tensor; it is None in a layer without one.
        own: torch.Tensor | None = layer.bias
        return weight, weight.new_zeros(len(weight)) if own is None else own.cpu().double()
    # Only the layer knows what its adapter adds, so its outputs for a basis are computed.
    base: Any = layer.base_layer
    zero = torch.zeros(1, base.in_features, dtype=base.weight.dtype, device=base.weight.device)
    basis = torch.eye(base.in_features, dtype=zero.dtype, device=zero.device)
    was_training = layer.training
    layer.eval()
    bias = layer(zero)[0].cpu().double()
    weight = (layer(basis).cpu().double() - bias).T
    layer.train(was_training)
    return weight.contiguous(), bias


@dataclass(frozen=True, eq=False)
class Head:
    """The linear layer that turns the features of a net into its logits.

    :func:`checked_head` finds it, and checks that its logits are those of the net.

    Parameters
    ----------
    name : str
        Name of the layer in the module.
    weight : ndarray of float64 of shape (n_classes, n_features)
        Weight of the layer, including the update of an adapter and divided by the temperature if
        the net has one.
    bias : ndarray of float64 of shape (n_classes,)
        Bias of the layer, with the same changes.
    norm : float or None, default=None
        Norm to which the logits of each sample are scaled; None leaves them as they are.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from sklearn_ext.neural import Head
    >>> head = Head("1", weight=np.array([[1.0, 0.0], [0.0, 2.0]]), bias=np.zeros(2))
    >>> head.logits(torch.tensor([[3.0, 2.0]], dtype=torch.float64))
    tensor([[3., 4.]], dtype=torch.float64)
    """

    name: str
    weight: FloatArray
    bias: FloatArray
    norm: float | None = None

    def tensors(self, device: torch.device | str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
        """Return the weight and the bias as tensors.

        Parameters
        ----------
        device : torch.device or str, default="cpu"

        Returns
        -------
        weight : tensor of shape (n_classes, n_features)
        bias : tensor of shape (n_classes,)
        """
        return torch.from_numpy(self.weight).to(device), torch.from_numpy(self.bias).to(device)

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        """Return the logits of features.

        Parameters
        ----------
        features : tensor of float64 of shape (..., n_features)

        Returns
        -------
        tensor of shape (..., n_classes)
        """
        weight, bias = self.tensors(features.device)
        logits = features @ weight.T + bias
        if self.norm is None:
            return logits
        return self.norm * nn.functional.normalize(logits, dim=-1)


@torch.no_grad()
def checked_head(net: skorch.NeuralNet, X: AnySamples, name: str | None = None) -> Head:
    """Find the head of a net, and check on some samples that the outputs come from it.

    The outputs may be the logits of the head, their probabilities or log-probabilities, the logits
    divided by a temperature, or the logits scaled to a fixed norm. Anything else is refused,
    because logits computed from the features would differ from those of the net.

    Parameters
    ----------
    net : skorch.NeuralNet
        A fitted net.
    X : samples in any form
        The first 64 are used.
    name : str or None, default=None
        Name of the layer; None means the last linear layer whose outputs are those of the module.

    Returns
    -------
    Head

    Raises
    ------
    ValueError
        If no layer fits, or the named layer does not.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext import NetClassifier
    >>> from sklearn_ext.neural import checked_head
    >>> X, y = load_iris(return_X_y=True)
    >>> net = NetClassifier(max_epochs=1, random_state=0).fit(X, y)
    >>> head = checked_head(net, X)
    >>> head.name, head.weight.shape
    ('5', (3, 128))
    """
    module = uncompiled(net.module_)
    layers = linear_layers(module) if name is None else {name: head_of(module, name)}
    head_of(module, name)  # raises an error if no layer is linear
    first = select_samples(X, np.arange(min(_CHECKED_SAMPLES, n_samples_of(X))))
    net._set_training(False)
    inputs, _ = NetSamples(net, first).take(torch.arange(n_samples_of(first)))
    close = functools.partial(_are_close, tolerance=_tolerance(net))
    mismatch = ""
    for key, layer in reversed(layers.items()):
        with _recorded_input(layer) as recorded:
            outputs = main_output(_infer(net, inputs)).cpu().double()
        if not recorded:
            mismatch = mismatch or f"the forward pass does not call {key!r}"
            continue
        features = recorded[-1].cpu().double()
        weight, bias = head_parameters(layer)
        if features.ndim != 2 or outputs.ndim != 2 or outputs.shape[1] != len(weight):
            mismatch = mismatch or (
                f"{key!r} maps features of shape {tuple(features.shape)} to {len(weight)} values, "
                f"but the outputs have shape {tuple(outputs.shape)}"
            )
            continue
        logits = features @ weight.T + bias
        log_p = _known_log_probabilities(net, outputs)
        same_p = log_p is not None and close(log_p.exp(), logits.softmax(dim=1))
        if same_p or close(outputs, logits):
            return Head(key, weight.numpy(), bias.numpy())
        factor = float((outputs * logits).sum() / logits.square().sum())
        if close(outputs, factor * logits):
            return Head(key, (factor * weight).numpy(), (factor * bias).numpy())
        norm = float(outputs.norm(dim=1).mean())
        if close(outputs, norm * nn.functional.normalize(logits, dim=1)):
            return Head(key, weight.numpy(), bias.numpy(), norm)
        mismatch = mismatch or (
            f"the outputs differ from those of {key!r} by up to "
            f"{float((outputs - logits).abs().max()):.2g}"
        )
    raise ValueError(
        f"The head of {name_of(module)} must be a linear layer whose outputs are the logits of "
        f"the module, up to a softmax, a temperature or a normalization; {mismatch}. Name another "
        f"layer as `head`; the linear layers are {list(linear_layers(module))}."
    )


def _are_close(outputs: torch.Tensor, others: torch.Tensor, tolerance: float) -> bool:
    scale = float(outputs.abs().amax()) if outputs.numel() else 0.0
    return torch.allclose(outputs, others, rtol=0, atol=tolerance * max(scale, 1e-6))


def _tolerance(net: skorch.NeuralNet) -> float:
    in_half = any(parameter.dtype in HALF for parameter in net.module_.parameters())
    in_half = in_half or getattr(net, "precision", "full") != "full"
    return _TOLERANCE_HALF if in_half else _TOLERANCE


def _known_log_probabilities(net: skorch.NeuralNet, outputs: torch.Tensor) -> torch.Tensor | None:
    """Return the log-probabilities of a net, or None if its criterion does not define them."""
    try:
        return log_probabilities(net, outputs)
    except ValueError:
        return None


def _infer(net: skorch.NeuralNet, inputs: Any) -> Any:
    """Pass a batch through a net and call its hooks, which a compiled module would skip."""
    module = uncompiled(net.module_)
    if module is net.module_:
        return net.infer(inputs)
    return module(**inputs) if isinstance(inputs, Mapping) else module(inputs)


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
    module: nn.Module, X: torch.Tensor | Mapping[str, torch.Tensor], head: nn.Module
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the outputs of a module and the input of its head, from one forward pass.

    Parameters
    ----------
    module : torch.nn.Module
    X : tensor, or dict of tensors
        A batch; a dict becomes keyword arguments.
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
        plain = uncompiled(module)
        outputs = main_output(plain(**X) if isinstance(X, Mapping) else plain(X))
    return outputs, _only(inputs, module)


def infer_with_features(
    net: skorch.NeuralNet, inputs: Any, head: nn.Module
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what :func:`outputs_and_features` returns, in the type and precision of a net.

    Parameters
    ----------
    net : skorch.NeuralNet
    inputs : tensor, or dict of tensors
        A batch, as :class:`NetSamples` yields it.
    head : torch.nn.Module
        Layer of the module of `net`, as returned by :func:`head_of`.

    Returns
    -------
    outputs : tensor of shape (n, n_outputs)
    features : tensor of shape (n, n_features)

    Raises
    ------
    ValueError
        If the forward pass never calls the head.
    """
    with _recorded_input(head) as recorded:
        outputs = main_output(_infer(net, inputs))
    return outputs, in_single_precision(_only(recorded, net.module_))


def _only(inputs: list[torch.Tensor], module: nn.Module) -> torch.Tensor:
    if not inputs:
        raise ValueError(
            f"The forward pass of {name_of(module)} does not call the layer given as its "
            "head; choose another layer."
        )
    return inputs[-1]


def main_output(outputs: Any) -> torch.Tensor:
    """Return the logits among the outputs of a module.

    The logits are the only output, the first one of a tuple, or the entry "logits" of a dict, such
    as an output of Hugging Face's transformers. In torchvision's dicts, the entry is called "out".

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
    """Return whether outputs for a negative log-likelihood are log-probabilities.

    Log-probabilities are never positive, but each sample has at least one positive probability.
    """
    return not bool((outputs.detach() > 0).any())


def in_single_precision(outputs: Any) -> Any:
    """Return outputs in which tensors in half precision are cast to float32."""
    if isinstance(outputs, torch.Tensor):
        return outputs.float() if outputs.dtype in HALF else outputs
    if type(outputs) in (tuple, list):
        return type(outputs)(in_single_precision(part) for part in outputs)
    if isinstance(outputs, Mapping):
        for name, part in list(outputs.items()):
            if isinstance(part, torch.Tensor) and part.dtype in HALF:
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
    head: str | nn.Module | None = None,
    batch_size: int | None = None,
) -> torch.Tensor:
    """Return the features that the head of a fitted net receives in evaluation mode.

    Parameters
    ----------
    net : skorch.NeuralNet
    X : samples in any form
    head : str, torch.nn.Module or None, default=None
        The head or its name, as for :func:`head_of`.
    batch_size : int or None, default=None
        Number of samples in a forward pass; None means 1,024.

    Returns
    -------
    tensor of shape (n_samples, n_penultimate)
    """
    net._set_training(False)
    layer = head if isinstance(head, nn.Module) else head_of(net.module_, head)
    batches = NetSamples(net, X).in_order(_PREDICTION_BATCH if batch_size is None else batch_size)
    return torch.cat([infer_with_features(net, inputs, layer)[1] for inputs, _ in batches])


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
