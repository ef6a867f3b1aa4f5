"""Linear layers and convolutions with a low-rank update beside a frozen weight."""

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from ._functional import (
    call_with_weight,
    conv_geometry,
    dense,
    is_plain,
    layer_type,
    noisy_output,
)
from ._weight_noise import full_precision

_HALF = (torch.float16, torch.bfloat16)


class LoRAFactor(nn.Module):
    """One of the two factors; it keeps full precision when the network is cast to a half one."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def _apply(self, fn, recurse=True):
        def keep_precision(tensor):
            moved = fn(tensor)
            return tensor.to(moved.device) if moved.dtype in _HALF else moved

        return super()._apply(keep_precision, recurse)


class LoRALayer(nn.Module):
    r"""A frozen layer with the weight W + s B A.

    Not used itself: see :class:`LoRALinear`, :class:`LoRAConv1d` and :class:`LoRAConv2d`. The
    factors lie in `lora_A` and `lora_B`, the layer that was there before in `base_layer`, whose
    weight is never written. `weight` returns the merged weight, so that code that reads the weight
    of a layer instead of calling it sees the update and the noise. Other attributes are those of
    `base_layer`.

    The update is added to the output as s B (A x). Where that is not the cheaper way, or a
    subclass computes in a way of its own, the layer is called with the merged weight instead:
    `weight_space`.

    Parameters
    ----------
    base_layer : torch.nn.Linear, Conv1d or Conv2d
    r : int
        Rank; at most ``min(m, n)`` is used.
    lora_alpha : float
        The scaling s is ``lora_alpha / r``, or over the root of r with `use_rslora`.
    lora_dropout : float in [0, 1)
        Dropout on the input of the update.
    use_rslora : bool
    generator : torch.Generator or None
        Draws A; B is zero.
    """

    def __init__(
        self,
        base_layer,
        *,
        r=8,
        lora_alpha=16,
        lora_dropout=0.0,
        use_rslora=False,
        generator=None,
    ):
        super().__init__()
        weight = dense(base_layer.weight)
        self.base_layer = base_layer.requires_grad_(False)
        m, *rest = weight.shape
        self.r = min(r, m, math.prod(rest))
        self.scaling = lora_alpha / (math.sqrt(self.r) if use_rslora else self.r)
        self.lora_dropout = nn.Dropout(lora_dropout)
        kind = {"dtype": full_precision(weight), "device": weight.device}
        A = nn.init.kaiming_uniform_(
            torch.empty(self.r, *rest), a=math.sqrt(5), generator=generator
        )
        B = torch.zeros(m, self.r, *(1 for _ in rest[1:]))
        self.lora_A, self.lora_B = LoRAFactor(A.to(**kind)), LoRAFactor(B.to(**kind))
        self.weight_space = not is_plain(base_layer)
        self.takes_noise = True
        self.noise = None
        self.register_buffer("merged_weight", None, persistent=False)

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("base_layer"), name)

    @property
    def frozen_weight(self):
        """W, as a plain tensor."""
        return dense(self.base_layer.weight)

    @property
    def active_noise(self):
        """The noise that a call sees: None outside of the steps that it is for."""
        noise = self.noise
        return noise if noise is not None and noise.training == self.training else None

    def low_rank(self):
        """Return A (r, n) and s B (m, r)."""
        return self.lora_A.weight.flatten(1), self.scaling * self.lora_B.weight.flatten(1)

    def delta(self):
        """Return s B A in the shape of the weight and the precision of the factors."""
        A, B = self.low_rank()
        return (B @ A).view(self.base_layer.weight.shape)

    @property
    def weight(self):
        """W + s B A, plus the noise during a step that has some."""
        W, noise = self.frozen_weight, self.active_noise
        if noise is None and self.merged_weight is not None:
            return self.merged_weight
        merged = W + self.delta()
        if noise is not None:
            merged = merged + noise.sample(W)
        return merged.to(W.dtype)

    @property
    def bias(self):
        return self.base_layer.bias

    @torch.no_grad()
    def merge(self):
        """Compute with W + s B A from now on; W and the factors are kept."""
        self.merged_weight = self.weight

    def unmerge(self):
        """Compute with W and the factors again."""
        self.merged_weight = None

    def forward(self, x):
        noise = self.active_noise
        if noise is None and self.merged_weight is not None:
            return call_with_weight(self.base_layer, self.merged_weight, x)
        if self.weight_space and not (self.training and self.lora_dropout.p > 0):
            return call_with_weight(self.base_layer, self.weight, x)
        frozen = self._frozen(x, noise)
        update = self._update(self.lora_dropout(x).to(self.lora_A.weight.dtype))
        return frozen + update.to(frozen.dtype)

    def _frozen(self, x, noise):
        return self.base_layer(x) if noise is None else noisy_output(self.base_layer, x, noise)

    def _update(self, x):
        if not self.weight_space:
            return self._thin_products(x)
        no_bias = {} if self.bias is None else {"bias": torch.zeros_like(self.bias)}
        return call_with_weight(self.base_layer, self.delta(), x, **no_bias)


class LoRALinear(LoRALayer):
    """A frozen linear layer and the update x -> s B (A x)."""

    def _frozen(self, x, noise):
        if noise is None or not noise.local:
            return super()._frozen(x, noise)
        frozen = self.base_layer(x)
        return frozen + noise.of_outputs(x).to(frozen.dtype)

    def _thin_products(self, x):
        return F.linear(F.linear(x, self.lora_A.weight) * self.scaling, self.lora_B.weight)


class _LoRAConv(LoRALayer):
    convolve: staticmethod

    def __init__(self, base_layer, **params):
        super().__init__(base_layer, **params)
        self.weight_space = self.weight_space or base_layer.groups > 1

    def _thin_products(self, x):
        base = self.base_layer
        x, padding = conv_geometry(base, x)
        hidden = self.convolve(x, self.lora_A.weight, None, base.stride, padding, base.dilation)
        return self.convolve(hidden * self.scaling, self.lora_B.weight)


class LoRAConv1d(_LoRAConv):
    """A frozen convolution in one dimension and its low-rank update."""

    convolve = staticmethod(F.conv1d)


class LoRAConv2d(_LoRAConv):
    """A frozen convolution in two dimensions and its low-rank update."""

    convolve = staticmethod(F.conv2d)


LORA_TYPES = {nn.Linear: LoRALinear, nn.Conv1d: LoRAConv1d, nn.Conv2d: LoRAConv2d}


def adapted(layer, **params):
    """Return a layer with a low-rank update around a plain one."""
    return LORA_TYPES[layer_type(layer)](layer, **params)
