"""Products with a frozen weight under noise, which never write that weight.

The forward pass forms the noisy weight in a buffer, multiplies, and forgets it; the backward pass
forms it again from the seed of the noise. What is kept is the weight by reference, the standard
deviations of its rows, and the seed.
"""

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.autograd.function import once_differentiable


@dataclass(frozen=True)
class LinearProduct:
    """y = x W^T + b."""

    def output(self, x, weight, bias):
        return F.linear(x, weight, bias)

    def input_gradient(self, shape, weight, gradient):
        return gradient @ weight

    def bias_gradient(self, gradient):
        return gradient.sum_to_size(gradient.shape[-1])


_CONVOLUTIONS = {
    1: (F.conv1d, nn.grad.conv1d_input),
    2: (F.conv2d, nn.grad.conv2d_input),
}


@dataclass(frozen=True)
class ConvolutionProduct:
    """y = x * W + b with the geometry of a convolution in one or two dimensions."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    @property
    def _geometry(self):
        return self.stride, self.padding, self.dilation, self.groups

    def output(self, x, weight, bias):
        convolve, _ = _CONVOLUTIONS[weight.ndim - 2]
        return convolve(x, weight, bias, *self._geometry)

    def input_gradient(self, shape, weight, gradient):
        _, transposed = _CONVOLUTIONS[weight.ndim - 2]
        return transposed(shape, weight, gradient, *self._geometry)

    def bias_gradient(self, gradient):
        return gradient.transpose(0, 1).flatten(1).sum(dim=1)


class _NoisyProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, noise, product):
        ctx.save_for_backward(weight)
        ctx.noise, ctx.product = noise, product
        ctx.shape, ctx.dtype = x.shape, x.dtype
        return product.output(x, noise.added_to(weight, x.dtype), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        (weight,) = ctx.saved_tensors
        x_gradient = bias_gradient = None
        if ctx.needs_input_grad[0]:
            noisy = ctx.noise.added_to(weight, gradient.dtype)
            x_gradient = ctx.product.input_gradient(ctx.shape, noisy, gradient).to(ctx.dtype)
        if ctx.needs_input_grad[2]:
            bias_gradient = ctx.product.bias_gradient(gradient)
        return x_gradient, None, bias_gradient, None, None


def noisy_product(x, weight, bias, noise, product):
    """Product of an input with a frozen weight plus noise.

    Parameters
    ----------
    x : tensor of shape (..., n), or a batch of feature maps
    weight : tensor of shape (m, n), or of a convolution
        Is never written, and gets no gradient.
    bias : tensor of shape (m,) or None
    noise : WeightNoise
    product : LinearProduct or ConvolutionProduct

    Returns
    -------
    tensor of shape (..., m), or a batch of feature maps
    """
    return _NoisyProduct.apply(x, weight, bias, noise, product)


LAYER_TYPES = (nn.Linear, nn.Conv1d, nn.Conv2d)


def layer_type(layer):
    """Return which of the three types of layers with an update this is, or None."""
    return next((cls for cls in LAYER_TYPES if isinstance(layer, cls)), None)


def is_plain(layer):
    """Whether a layer computes as its type does; a subclass may do more, say pad first."""
    return type(layer).forward is layer_type(layer).forward and not layer.weight.is_quantized


def dense(weight):
    """Return a weight as a plain tensor; a quantised one is dequantised."""
    return weight.dequantize() if weight.is_quantized else weight


def call_with_weight(layer, weight, x, **others):
    """Output of a layer as if it had another weight.

    A copy of the layer is called, because other threads may be calling the layer itself.
    """
    stand_in = copy.copy(layer)
    stand_in._parameters = {**layer._parameters, "weight": weight, **others}
    return stand_in(x)


def conv_geometry(layer, x):
    """Input and padding of the convolution with zeros at the borders that a layer amounts to."""
    if layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
        return x, tuple(layer.padding)
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded = F.pad(x, layer._reversed_padding_repeated_twice, mode=mode)
    return padded, (0,) * len(layer.kernel_size)


def noisy_output(layer, x, noise):
    """Output of a frozen layer under noise on its weight.

    Parameters
    ----------
    layer : torch.nn.Linear, Conv1d, Conv2d or of a subclass of one
    x : tensor
    noise : WeightNoise

    Returns
    -------
    tensor
    """
    W = dense(layer.weight)
    if not is_plain(layer):
        return call_with_weight(layer, (W + noise.sample(W)).to(W.dtype), x)
    if isinstance(layer, nn.Linear):
        return noisy_product(x, W, layer.bias, noise, LinearProduct())
    x, padding = conv_geometry(layer, x)
    product = ConvolutionProduct(tuple(layer.stride), padding, tuple(layer.dilation), layer.groups)
    if x.ndim < W.ndim:  # one map, without an axis for rows
        return noisy_product(x[None], W, layer.bias, noise, product)[0]
    return noisy_product(x, W, layer.bias, noise, product)
