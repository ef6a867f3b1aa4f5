"""Layers with a low-rank update of a frozen weight."""

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Self, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from .._noise import WeightNoise, full_precision, squared_filter_norms
from ._frozen import (
    AdaptableLayer,
    call_with_weight,
    conv_geometry,
    filters_of,
    in_layout_of,
    is_linear,
    is_plain,
    layer_type,
    noisy_output,
)
from ._initialization import SUBTRACTED, factors_from_gradient, initial_factors

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

    Use :class:`LoRALinear`, :class:`LoRAConv1d`, :class:`LoRAConv2d` or :class:`LoRAEmbedding`. The
    factors are `lora_A` and `lora_B`. The original layer is `base_layer`, whose weight is never
    overwritten. `weight` returns the merged weight, so code that reads the weight instead of
    calling the layer also gets the update and the noise. All other attributes are those of
    `base_layer`.

    An initial product :math:`s B_0 A_0` that is not zero is subtracted, so the update starts at
    zero. With `use_dora`, the filters of :math:`V = W + s B A` are scaled to norms that are trained
    as `lora_magnitude_vector` [1]_; noise is added to V before the scaling.

    The update is added to the output as s B (A x). If this is not cheaper, or if the layer's class
    overrides `forward`, the base layer is called with the merged weight instead, and the attribute
    `weight_space` is True.

    Parameters
    ----------
    base_layer : torch.nn.Linear, Conv1d, Conv2d or Embedding, or transformers' Conv1D
    r : int, default=8
        Rank of the update.
    lora_alpha : float, default=16
        The scaling s is ``lora_alpha / r``, or ``lora_alpha / sqrt(r)`` with `use_rslora`.
    lora_dropout : float in [0, 1), default=0.0
        Dropout rate on the input of the update.
    use_rslora : bool, default=False
    use_dora : bool, default=False
    init_lora_weights : bool or str, default=True
        See :func:`initial_factors`.
    takes_noise : bool, default=True
        Whether a :class:`NoiseProcess` applies noise to this layer.
    generator : torch.Generator or None, default=None
        Draws the factors.

    References
    ----------
    .. [1] S.-Y. Liu et al., "DoRA: Weight-Decomposed Low-Rank Adaptation", ICML 2024,
       arXiv:2402.09353.
    """

    base_layer: AdaptableLayer
    merged_weight: torch.Tensor | None
    initial_a: torch.Tensor | None
    initial_b: torch.Tensor | None
    noise: WeightNoise | None

    def __init__(
        self,
        base_layer: AdaptableLayer,
        *,
        r: int = 8,
        lora_alpha: float = 16,
        lora_dropout: float = 0.0,
        use_rslora: bool = False,
        use_dora: bool = False,
        init_lora_weights: bool | str = True,
        takes_noise: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if use_dora and lora_dropout > 0 and not is_plain(base_layer):
            # Only the layer itself knows which part of its output to scale.
            raise ValueError(
                f"lora_dropout must be 0 with use_dora for {type(base_layer).__name__}, which "
                f"overrides the forward pass, got {lora_dropout}."
            )
        self.base_layer = base_layer.requires_grad_(False)
        self.r = r
        self.scaling = lora_alpha / (math.sqrt(r) if use_rslora else r)
        self.lora_dropout = nn.Dropout(lora_dropout)
        weight = filters_of(base_layer).detach()
        weight = weight.to(full_precision(weight))
        A, B = self._initial_factors(weight.flatten(1), init_lora_weights, generator)
        m, *rest = weight.shape
        A, B = A.reshape(r, *rest), B.reshape(m, r, *(1 for _ in rest[1:]))
        self.lora_A = LoRAFactor(A.to(dtype=weight.dtype, device=weight.device))
        self.lora_B = LoRAFactor(B.to(dtype=weight.dtype, device=weight.device))
        self.register_buffer("initial_a", None)
        self.register_buffer("initial_b", None)
        if init_lora_weights in SUBTRACTED:
            self._subtract_product()
        self.lora_magnitude_vector: LoRAFactor | None = None
        if use_dora:
            norms = torch.linalg.vector_norm(weight.flatten(1), dim=1)
            first = (1,) if rest[1:] else ()
            shape = (*first, m, *(1 for _ in rest[1:]))
            self.lora_magnitude_vector = LoRAFactor(norms.view(shape))
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
        """W as a plain tensor with one filter per output."""
        return filters_of(self.base_layer)

    @property
    def active_noise(self) -> WeightNoise | None:
        """The noise that applies in the current mode, or None."""
        noise = self.noise
        return noise if noise is not None and noise.training == self.training else None

    def _initial_factors(
        self, weight: torch.Tensor, method: bool | str, generator: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return initial_factors(weight, self.r, self.scaling, method, generator)

    @torch.no_grad()
    def follow_gradient(self, gradient: torch.Tensor) -> None:
        """Replace the factors by those of LoRA-GA, given the gradient of the weight."""
        filters = in_layout_of(self.base_layer, gradient).flatten(1)
        A, B = factors_from_gradient(filters.to(self.lora_A.weight.dtype), self.r)
        self.lora_A.weight.copy_(A.view_as(self.lora_A.weight))
        self.lora_B.weight.copy_(B.reshape(self.lora_B.weight.shape))
        self._subtract_product()

    def _subtract_product(self) -> None:
        self.initial_a = self.lora_A.weight.detach().clone()
        self.initial_b = self.lora_B.weight.detach().clone()

    def factors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return A and B of the update s B A, including the initial product to subtract."""
        A, B = self.lora_A.weight, self.lora_B.weight
        if self.initial_a is None or self.initial_b is None:
            return A, B
        return torch.cat([A, self.initial_a]), torch.cat([B, -self.initial_b], dim=1)

    def low_rank(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return A of shape (r, n) and s B of shape (m, r)."""
        A, B = self.factors()
        return A.flatten(1), self.scaling * B.flatten(1)

    def delta(self) -> torch.Tensor:
        """Return s B A with the shape of the filters, in the precision of the factors."""
        A, B = self.low_rank()
        return (B @ A).view(self.frozen_weight.shape)

    def _gain(self) -> torch.Tensor | None:
        """Return the factor of each filter of V, which DoRA trains, or None."""
        if self.lora_magnitude_vector is None:
            return None
        A, B = self.low_rank()
        W = self.frozen_weight.detach().flatten(1).to(A.dtype)
        # The norms count as constants in the gradient, as in the paper.
        norms = squared_filter_norms(W, A.detach(), B.detach()).sqrt()
        return self.lora_magnitude_vector.weight.flatten() / norms

    @property
    def weight(self) -> torch.Tensor:
        """The merged weight, plus the noise if one is active, in the layout of `base_layer`."""
        W, noise = self.frozen_weight, self.active_noise
        if noise is None and self.merged_weight is not None:
            return self.merged_weight
        merged = W + self.delta()
        if noise is not None:
            merged = merged + noise.sample(W)
        gain = self._gain()
        if gain is not None:
            merged = gain.view(-1, *(1 for _ in merged.shape[1:])) * merged
        return in_layout_of(self.base_layer, merged.to(W.dtype))

    @property
    def bias(self) -> torch.Tensor | None:
        bias: torch.Tensor | None = self.base_layer._parameters.get("bias")
        return bias

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
        gain = self._gain()
        if self.weight_space and not (self.training and self.lora_dropout.p > 0):
            return call_with_weight(self.base_layer, self.weight, x)
        if noise is None:
            frozen = self.base_layer(x)
        elif noise.local and is_linear(self.base_layer):
            frozen = self.base_layer(x)
            frozen = frozen + noise.output_noise(x).to(frozen.dtype)
        else:
            frozen = noisy_output(self.base_layer, x, noise)
        update = self._update(self._dropped(x)).to(frozen.dtype)
        return frozen + update if gain is None else self._scaled(frozen + update, gain)

    def _dropped(self, x: torch.Tensor) -> torch.Tensor:
        return self.lora_dropout(x).to(self.lora_A.weight.dtype)

    def _scaled(self, output: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
        """Multiply the output without its bias by one factor per filter."""
        shape = (-1, *(1 for _ in self.base_layer.weight.shape[2:]))
        gain = gain.to(output.dtype).view(shape)
        if self.bias is None:
            return gain * output
        bias = self.bias.to(output.dtype).view(shape)
        return gain * (output - bias) + bias

    def _update(self, x: torch.Tensor) -> torch.Tensor:
        if not self.weight_space:
            return self._thin_products(x)
        no_bias = {} if self.bias is None else {"bias": torch.zeros_like(self.bias)}
        delta = in_layout_of(self.base_layer, self.delta())
        return call_with_weight(self.base_layer, delta, x, **no_bias)

    @abstractmethod
    def _thin_products(self, x: torch.Tensor) -> torch.Tensor:
        """Return s B (A x) without forming B A."""


class LoRALinear(LoRALayer):
    """A frozen linear layer with the update x -> s B (A x), with its weight in either layout."""

    def _thin_products(self, x: torch.Tensor) -> torch.Tensor:
        A, B = self.factors()
        return F.linear(F.linear(x, A) * self.scaling, B)


class LoRAEmbedding(LoRALayer):
    """A frozen embedding with the update k -> s B A[:, k], without dropout or noise.

    As in peft, A starts at zero and B is normal.
    """

    def __init__(self, base_layer: nn.Embedding, **params: Any) -> None:
        super().__init__(base_layer, **params | {"takes_noise": False})

    def _initial_factors(
        self, weight: torch.Tensor, method: bool | str, generator: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        m, n = weight.shape
        A, B = torch.zeros(self.r, n), torch.empty(m, self.r)
        if method is False:
            A.normal_(generator=generator)
        return A, B.normal_(generator=generator)

    def _subtract_product(self) -> None:
        """Subtract nothing, because the product starts at zero in any case."""

    def follow_gradient(self, gradient: torch.Tensor) -> None:
        """Keep the factors."""

    def _dropped(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def _thin_products(self, x: torch.Tensor) -> torch.Tensor:
        A, B = self.factors()
        padding = cast(nn.Embedding, self.base_layer).padding_idx
        return F.linear(F.embedding(x, A.T, padding), B) * self.scaling


class _LoRAConv(LoRALayer):
    convolve: Any  # torch's function for the number of dimensions

    def __init__(self, base_layer: nn.Conv1d | nn.Conv2d, **params: Any) -> None:
        super().__init__(base_layer, **params)
        self.weight_space = self.weight_space or base_layer.groups > 1

    def _thin_products(self, x: torch.Tensor) -> torch.Tensor:
        base = cast(nn.Conv1d | nn.Conv2d, self.base_layer)
        x, padding = conv_geometry(base, x)
        A, B = self.factors()
        hidden = self.convolve(x, A, None, base.stride, padding, base.dilation)
        return self.convolve(hidden * self.scaling, B)


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
    nn.Embedding: LoRAEmbedding,
}


def with_low_rank_update(layer: AdaptableLayer, **params: Any) -> LoRALayer:
    """Wrap a plain layer in the LoRA layer of its type; the parameters are those of LoRALayer."""
    cls = LoRALinear if is_linear(layer) else _LORA_TYPES[layer_type(layer)]
    return cls(layer, **params).train(layer.training)
