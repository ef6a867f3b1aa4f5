"""Layers that peft has adapted, seen as layers that take noise."""

import functools

import torch

from ._functional import dense, is_plain, layer_type, noisy_output

_PARTS = ("base_layer", "lora_A", "lora_B", "scaling", "active_adapters")


def is_peft_layer(module):
    """Whether a module has what peft's LoRA layers have."""
    return all(hasattr(module, part) for part in _PARTS)


class PeftLayer:
    """A LoRA layer of peft, and what noise asks of a layer.

    The noise goes into the forward pass of its base layer, whose weight is not written.

    Parameters
    ----------
    layer : torch.nn.Module
        With `base_layer`, and by name of adapter `lora_A`, `lora_B` and `scaling`.
    """

    def __init__(self, layer):
        self.layer = layer
        base = layer.base_layer
        # The merged weight of DoRA is another than W + s B A.
        is_dora = len(getattr(layer, "lora_magnitude_vector", ())) > 0
        self.takes_noise = layer_type(base) is not None and is_plain(base) and not is_dora

    @property
    def frozen_weight(self):
        return dense(self.layer.base_layer.weight)

    def low_rank(self):
        """Return A and s B of the active adapters, side by side."""
        layer = self.layer
        active = [name for name in layer.active_adapters if name in layer.lora_A]
        A = [layer.lora_A[name].weight.flatten(1) for name in active]
        B = [layer.scaling[name] * layer.lora_B[name].weight.flatten(1) for name in active]
        return torch.cat(A), torch.cat(B, dim=1)

    @property
    def noise(self):
        forward = vars(self.layer.base_layer).get("forward")
        return None if forward is None else forward.args[1]

    @noise.setter
    def noise(self, noise):
        base = self.layer.base_layer
        vars(base).pop("forward", None)
        if noise is not None:
            base.forward = functools.partial(_forward, base, noise)


def _forward(base, noise, x):
    if base.training != noise.training:
        return type(base).forward(base, x)
    return noisy_output(base, x, noise)
