"""Layers of peft as layers that take noise."""

from typing import Any

import torch
from torch import nn

from .._noise import WeightNoise
from ._frozen import filters_of, is_plain, layer_type, noisy_output

_PEFT_ATTRIBUTES = ("base_layer", "lora_A", "lora_B", "scaling", "active_adapters")


def is_peft_layer(module: nn.Module) -> bool:
    """Return whether a module has the attributes of peft's LoRA layers."""
    return all(hasattr(module, name) for name in _PEFT_ATTRIBUTES)


class PeftLayer:
    """Wrapper that makes a LoRA layer of peft a `NoisyLayer`.

    The noise enters the forward pass of the base layer, whose weight is not overwritten.

    Parameters
    ----------
    layer : torch.nn.Module
        A layer with `base_layer`, and with `lora_A`, `lora_B` and `scaling` by adapter name.
    """

    def __init__(self, layer: Any) -> None:
        self.layer = layer
        base = layer.base_layer
        is_known = layer_type(base) not in (None, nn.Embedding) and is_plain(base)
        # With dropout, the DoRA of peft computes a part of the output without calling the layer.
        is_dora = len(getattr(layer, "lora_magnitude_vector", ())) > 0
        drops = any(getattr(part, "p", 0) > 0 for part in layer.lora_dropout.values())
        self.takes_noise = is_known and not (is_dora and drops)

    @property
    def frozen_weight(self) -> torch.Tensor:
        return filters_of(self.layer.base_layer)

    def low_rank(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return A and s B of all active adapters, concatenated along the rank."""
        layer = self.layer
        active = [name for name in layer.active_adapters if name in layer.lora_A]
        A = [layer.lora_A[name].weight.flatten(1) for name in active]
        B = [layer.scaling[name] * layer.lora_B[name].weight.flatten(1) for name in active]
        return torch.cat(A), torch.cat(B, dim=1)

    @property
    def noise(self) -> WeightNoise | None:
        forward = vars(self.layer.base_layer).get("forward")
        return None if forward is None else forward.noise

    @noise.setter
    def noise(self, noise: WeightNoise | None) -> None:
        base = self.layer.base_layer
        if noise is None:
            vars(base).pop("forward", None)
        elif "forward" in vars(base):
            # A compiled network would be compiled again for another function.
            base.forward.noise = noise
        else:
            base.forward = _NoisyForward(base, noise)


class _NoisyForward:
    """The forward pass of a frozen layer, under noise in the mode that the noise is for."""

    def __init__(self, base: Any, noise: WeightNoise) -> None:
        self.base = base
        self.noise = noise

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if self.base.training != self.noise.training:
            return type(self.base).forward(self.base, x)
        return noisy_output(self.base, x, self.noise)
