"""Layers of peft as layers that take noise."""

import functools
from typing import Any

import torch
from torch import nn

from .._noise import WeightNoise
from ._frozen import dense, is_plain, layer_type, noisy_output

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
        # The merged weight of DoRA is not W + s B A.
        is_dora = len(getattr(layer, "lora_magnitude_vector", ())) > 0
        self.takes_noise = layer_type(base) is not None and is_plain(base) and not is_dora

    @property
    def frozen_weight(self) -> torch.Tensor:
        return dense(self.layer.base_layer.weight)

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
        return None if forward is None else forward.args[1]

    @noise.setter
    def noise(self, noise: WeightNoise | None) -> None:
        base = self.layer.base_layer
        vars(base).pop("forward", None)
        if noise is not None:
            base.forward = functools.partial(_forward_with_noise, base, noise)


def _forward_with_noise(base: Any, noise: WeightNoise, x: torch.Tensor) -> torch.Tensor:
    if base.training != noise.training:
        return type(base).forward(base, x)
    return noisy_output(base, x, noise)
