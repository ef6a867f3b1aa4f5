"""Linear layers and convolutions with a low-rank update of a frozen weight."""

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Self, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from .._noise import WeightNoise, full_precision
from ._frozen import (
    AdaptableLayer,
    call_with_weight,
    conv_geometry,
    dense,
    is_plain,
    layer_type,
    noisy_output,
)

_HALF = (torch.float16, torch.bfloat16)


class LoRAFactor(nn.Module):
    """One of the two factors, which keeps full precision if the network is cast to half."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        def keep_precision(tensor: torch.Tensor) -> torch.Tensor:
            moved = fn(tensor)
            return tensor.to(moved.device) if moved.dtype in _HALF else moved

        return super()._apply(keep_precision, recurse)


class LoRALayer(nn.Module):
    r"""Base class of frozen layers with the weight W + s B A.

    Use :class:`LoRALinear`, :class:`LoRAConv1d` or :class:`LoRAConv2d`. The factors are `lora_A`
    and `lora_B`. The original layer is `base_layer`, whose weight is never overwritten. `weight`
    returns the merged weight, so code that reads the weight instead of calling the layer also gets
    the update and the noise. All other attributes are those of `base_layer`.

    The update is added to the output as s B (A x). If this is not cheaper, or if the layer's class
    overrides `forward`, the base layer is called with the merged weight instead, and the attribute
    `weight_space` is True.

    Parameters
    ----------
    base_layer : torch.nn.Linear, Conv1d or Conv2d
    r : int, default=8
        Rank of the update; at most ``min(m, n)`` is used.
    lora_alpha : float, default=16
        The scaling s is ``lora_alpha / r``, or ``lora_alpha / sqrt(r)`` with `use_rslora`.
    lora_dropout : float in [0, 1), default=0.0
        Dropout rate on the input of the update.
    use_rslora : bool, default=False
    takes_noise : bool, default=True
        Whether a :class:`NoiseProcess` applies noise to this layer.
    generator : torch.Generator or None, default=None
        Draws A; B starts at zero.
    """

    base_layer: AdaptableLayer
    merged_weight: torch.Tensor | None
    noise: WeightNoise | None

    def __init__(
        self,
        base_layer: AdaptableLayer,
        *,
        r: int = 8,
        lora_alpha: float = 16,
        lora_dropout: float = 0.0,
        use_rslora: bool = False,
        takes_noise: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        weight = dense(base_layer.weight)
        self.base_layer = base_layer.requires_grad_(False)
        m, *rest = weight.shape
        self.r = min(r, m, math.prod(rest))
        self.scaling = lora_alpha / (math.sqrt(self.r) if use_rslora else self.r)
        self.lora_dropout = nn.Dropout(lora_dropout)
        A = nn.init.kaiming_uniform_(
            torch.empty(self.r, *rest), a=math.sqrt(5), generator=generator
        )
        B = torch.zeros(m, self.r, *(1 for _ in rest[1:]))
        dtype = full_precision(weight)
        self.lora_A = LoRAFactor(A.to(dtype=dtype, device=weight.device))
        self.lora_B = LoRAFactor(B.to(dtype=dtype, device=weight.device))
        self.weight_space = not is_plain(base_layer)
        self.takes_noise = takes_noise
        self.noise = None
        self.register_buffer("merged_weight", None, persistent=False)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("base_layer"), name)

    @property
    def frozen_weight(self) -> torch.Tensor:
        """W as a plain tensor."""
        return dense(self.base_layer.weight)

    @property
    def active_noise(self) -> WeightNoise | None:
        """The noise that applies in the current mode, or None."""
        noise = self.noise
        return noise if noise is not None and noise.training == self.training else None

    def low_rank(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return A of shape (r, n) and s B of shape (m, r)."""
        return self.lora_A.weight.flatten(1), self.scaling * self.lora_B.weight.flatten(1)

    def delta(self) -> torch.Tensor:
        """Return s B A in the shape of the weight and the precision of the factors."""
        A, B = self.low_rank()
        return (B @ A).view(self.base_layer.weight.shape)

    @property
    def weight(self) -> torch.Tensor:
        """W + s B A, plus the noise if one is active."""
        W, noise = self.frozen_weight, self.active_noise
        if noise is None and self.merged_weight is not None:
            return self.merged_weight
        merged = W + self.delta()
        if noise is not None:
            merged = merged + noise.sample(W)
        return merged.to(W.dtype)

    @property
    def bias(self) -> torch.Tensor | None:
        return self.base_layer.bias

    @torch.no_grad()
    def merge(self) -> None:
        """Use W + s B A from now on; W and the factors are kept."""
        self.merged_weight = self.weight

    def unmerge(self) -> None:
        """Use W and the factors again."""
        self.merged_weight = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        noise = self.active_noise
        if noise is None and self.merged_weight is not None:
            return call_with_weight(self.base_layer, self.merged_weight, x)
        if self.weight_space and not (self.training and self.lora_dropout.p > 0):
            return call_with_weight(self.base_layer, self.weight, x)
        if noise is None:
            frozen = self.base_layer(x)
        elif noise.local and isinstance(self.base_layer, nn.Linear):
            frozen = self.base_layer(x)
            frozen = frozen + noise.output_noise(x).to(frozen.dtype)
        else:
            frozen = noisy_output(self.base_layer, x, noise)
        update = self._update(self.lora_dropout(x).to(self.lora_A.weight.dtype))
        return frozen + update.to(frozen.dtype)

    def _update(self, x: torch.Tensor) -> torch.Tensor:
        if not self.weight_space:
            return self._thin_products(x)
        no_bias = {} if self.bias is None else {"bias": torch.zeros_like(self.bias)}
        return call_with_weight(self.base_layer, self.delta(), x, **no_bias)

    @abstractmethod
    def _thin_products(self, x: torch.Tensor) -> torch.Tensor:
        """Return s B (A x) without forming B A."""


class LoRALinear(LoRALayer):
    """A frozen linear layer with the update x -> s B (A x)."""

    def _thin_products(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(F.linear(x, self.lora_A.weight) * self.scaling, self.lora_B.weight)


class _LoRAConv(LoRALayer):
    convolve: Any  # torch's function for the number of dimensions

    def __init__(self, base_layer: nn.Conv1d | nn.Conv2d, **params: Any) -> None:
        super().__init__(base_layer, **params)
        self.weight_space = self.weight_space or base_layer.groups > 1

    def _thin_products(self, x: torch.Tensor) -> torch.Tensor:
        base = cast(nn.Conv1d | nn.Conv2d, self.base_layer)
        x, padding = conv_geometry(base, x)
        hidden = self.convolve(x, self.lora_A.weight, None, base.stride, padding, base.dilation)
        return self.convolve(hidden * self.scaling, self.lora_B.weight)


class LoRAConv1d(_LoRAConv):
    """A frozen one-dimensional convolution with a low-rank update."""

    convolve = staticmethod(F.conv1d)


class LoRAConv2d(_LoRAConv):
    """A frozen two-dimensional convolution with a low-rank update."""

    convolve = staticmethod(F.conv2d)


_LORA_TYPES: dict[Any, Any] = {
    nn.Linear: LoRALinear,
    nn.Conv1d: LoRAConv1d,
    nn.Conv2d: LoRAConv2d,
}


def with_low_rank_update(layer: AdaptableLayer, **params: Any) -> LoRALayer:
    """Wrap a plain layer in the LoRA layer of its type; the parameters are those of LoRALayer."""
    return _LORA_TYPES[layer_type(layer)](layer, **params)
