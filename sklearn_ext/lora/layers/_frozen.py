"""Frozen layers: their outputs under noise or with another weight.

No function overwrites the frozen weight. Under noise, the forward pass forms the noisy weight in a
buffer, multiplies by it and drops it. The backward pass forms it again from the seed of the noise.
Between the two, only a reference to the weight, the scale of the noise and its seed are kept.
"""

import copy
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import grad

from .._noise import WeightNoise

# The transposed linear layer of transformers belongs to it, but the library is optional.
AdaptableLayer: TypeAlias = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Embedding
LAYER_TYPES = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Embedding)
_TRANSPOSED_LINEAR = ("transformers.pytorch_utils", "Conv1D")


@dataclass(frozen=True)
class LinearProduct:
    """The product of a linear layer, y = x W^T + b."""

    def output(
        self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        return F.linear(x, weight, bias)

    def input_gradient(
        self, shape: torch.Size, weight: torch.Tensor, gradient: torch.Tensor
    ) -> torch.Tensor:
        return gradient @ weight

    def bias_gradient(self, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.sum_to_size(gradient.shape[-1])


_CONVOLUTIONS: dict[int, tuple[Any, Any]] = {
    1: (F.conv1d, grad.conv1d_input),
    2: (F.conv2d, grad.conv2d_input),
}


@dataclass(frozen=True)
class ConvolutionProduct:
    """The product y = x * W + b of a convolution in one or two dimensions."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    @property
    def _geometry(self) -> tuple[Any, ...]:
        return self.stride, self.padding, self.dilation, self.groups

    def output(
        self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        convolve, _ = _CONVOLUTIONS[weight.ndim - 2]
        return convolve(x, weight, bias, *self._geometry)

    def input_gradient(
        self, shape: torch.Size, weight: torch.Tensor, gradient: torch.Tensor
    ) -> torch.Tensor:
        _, transposed = _CONVOLUTIONS[weight.ndim - 2]
        return transposed(shape, weight, gradient, *self._geometry)

    def bias_gradient(self, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.transpose(0, 1).flatten(1).sum(dim=1)


class _NoisyProduct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        noise: WeightNoise,
        product: LinearProduct | ConvolutionProduct,
    ) -> torch.Tensor:
        ctx.save_for_backward(weight)
        ctx.noise, ctx.product = noise, product
        ctx.shape, ctx.dtype = x.shape, x.dtype
        return product.output(x, noise.noisy_weight(weight, x.dtype), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        x_gradient = bias_gradient = None
        if ctx.needs_input_grad[0]:
            noisy = ctx.noise.noisy_weight(weight, gradient.dtype)
            x_gradient = ctx.product.input_gradient(ctx.shape, noisy, gradient).to(ctx.dtype)
        if ctx.needs_input_grad[2]:
            bias_gradient = ctx.product.bias_gradient(gradient)
        return x_gradient, None, bias_gradient, None, None


# A compiler cannot trace private generators, and would compile anew for each seed.
@torch.compiler.disable
def noisy_output(layer: AdaptableLayer, x: torch.Tensor, noise: WeightNoise) -> torch.Tensor:
    """Compute the output of a frozen layer under noise on its weight.

    Parameters
    ----------
    layer : torch.nn.Linear, Conv1d or Conv2d, or transformers' Conv1D, or an instance of a subclass
        Its weight is not overwritten and gets no gradient.
    x : tensor
    noise : WeightNoise

    Returns
    -------
    tensor
    """
    W = filters_of(layer)
    if not is_plain(layer):
        noisy = (W + noise.sample(W)).to(W.dtype)
        return call_with_weight(layer, in_layout_of(layer, noisy), x)
    if is_linear(layer):
        return _NoisyProduct.apply(x, W, layer.bias, noise, LinearProduct())
    conv = cast(nn.Conv1d | nn.Conv2d, layer)
    x, padding = conv_geometry(conv, x)
    product = ConvolutionProduct(tuple(conv.stride), padding, tuple(conv.dilation), conv.groups)
    if x.ndim < W.ndim:  # a single feature map without a batch axis
        return _NoisyProduct.apply(x[None], W, layer.bias, noise, product)[0]
    return _NoisyProduct.apply(x, W, layer.bias, noise, product)


def layer_type(layer: object) -> type[AdaptableLayer] | None:
    """Return the adaptable type to which a layer belongs, or None."""
    is_type = (cls for cls in type(layer).__mro__ if cls in LAYER_TYPES or _is_transposed(cls))
    return next(is_type, None)


def is_linear(layer: object) -> bool:
    """Return whether a layer is a linear one, with its weight in either layout."""
    cls = layer_type(layer)
    return cls is not None and (cls is nn.Linear or _is_transposed(cls))


def _is_transposed(cls: type) -> bool:
    return (cls.__module__, cls.__name__) == _TRANSPOSED_LINEAR


def is_plain(layer: AdaptableLayer) -> bool:
    """Return whether a layer computes exactly what its type does.

    A subclass may do more, such as padding its input first.
    """
    cls = layer_type(layer)
    return cls is not None and type(layer).forward is cls.forward and not layer.weight.is_quantized


def filters_of(layer: AdaptableLayer) -> torch.Tensor:
    """Return the weight of a layer as a plain tensor with one filter per output.

    An embedding is a linear layer on indicators of its indices.
    """
    return in_layout_of(layer, dense(layer.weight))


def in_layout_of(layer: AdaptableLayer, weight: torch.Tensor) -> torch.Tensor:
    """Turn filters into the layout of a layer's weight, or the reverse."""
    cls = layer_type(layer)
    stores_outputs_last = cls is not None and (cls is nn.Embedding or _is_transposed(cls))
    return weight.T if stores_outputs_last else weight


def dense(weight: torch.Tensor) -> torch.Tensor:
    """Return a weight as a plain tensor; a quantized weight is dequantized."""
    return weight.dequantize() if weight.is_quantized else weight


def call_with_weight(
    layer: AdaptableLayer, weight: torch.Tensor, x: torch.Tensor, **others: torch.Tensor
) -> torch.Tensor:
    """Compute the output of a layer for another weight.

    The call goes to a copy of the layer, because other threads may be using the layer itself.
    """
    stand_in = copy.copy(layer)
    parameters: dict[str, Any] = {**layer._parameters, "weight": weight, **others}
    stand_in._parameters = parameters
    return stand_in(x)


def conv_geometry(
    layer: nn.Conv1d | nn.Conv2d, x: torch.Tensor
) -> tuple[torch.Tensor, tuple[int, ...]]:
    """Return the input and the zero padding of the plain convolution that a layer amounts to."""
    if layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
        return x, tuple(layer.padding)
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded = F.pad(x, layer._reversed_padding_repeated_twice, mode=mode)
    return padded, (0,) * len(layer.kernel_size)
