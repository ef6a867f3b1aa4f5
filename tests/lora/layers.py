"""Adapted layers and networks for the tests of this folder."""

import torch
from torch import nn

from sklearn_ext.lora import inject_lora, noise_scale

LAYERS = {
    "linear": (lambda: nn.Linear(7, 5), (3, 7)),
    "linear without bias": (lambda: nn.Linear(7, 5, bias=False), (2, 3, 7)),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1), (2, 4, 9)),
    "conv2d": (lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1), (2, 4, 7, 8)),
    "dilated": (lambda: nn.Conv2d(4, 6, 3, dilation=2, padding=(1, 2)), (2, 4, 7, 8)),
    "circular": (
        lambda: nn.Conv2d(4, 6, (3, 2), padding="same", padding_mode="circular"),
        (2, 4, 7, 8),
    ),
    "same": (lambda: nn.Conv1d(4, 6, 4, padding="same"), (2, 4, 9)),
    "grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2, stride=2, dilation=2), (2, 4, 9, 8)),
    "depthwise": (lambda: nn.Conv1d(4, 8, 3, groups=4, bias=False), (2, 4, 9)),
    "channels last": (
        lambda: nn.Conv2d(4, 6, 3, padding=1).to(memory_format=torch.channels_last),
        (2, 4, 7, 8),
    ),
    "one sample": (lambda: nn.Linear(7, 5), (7,)),
    "one map": (lambda: nn.Conv1d(4, 6, 3, padding=1), (4, 9)),
    "own forward pass": (lambda: PaddedConv2d(4, 6, 3), (2, 4, 7, 8)),
}


class PaddedConv2d(nn.Conv2d):
    """A convolution whose class overrides the forward pass."""

    def forward(self, x):
        padded = nn.functional.pad(x, (0, 2, 0, 2))
        return nn.functional.conv2d(padded, self.weight, self.bias, self.stride)


def adapted_layer(base, **params):
    """Return an adapted layer, whose update is zero."""
    params = {"r": 3, "random_state": 1} | params
    return inject_lora(nn.Sequential(base), target_modules="all", **params)[0]


def randomized(base, **params):
    """Return an adapted layer with a nonzero update."""
    layer = adapted_layer(base, **params)
    nn.init.normal_(layer.lora_B.weight, generator=torch.Generator().manual_seed(1))
    return layer


def randomize_updates(module, seed=2):
    """Fill the factors B of a network with normal numbers."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.3, generator=generator)
    return module


@torch.no_grad()
def scale_of(layer, sigma):
    """Return the scale of the noise on an adapted layer."""
    return noise_scale(layer.frozen_weight.flatten(1), *layer.low_rank(), sigma)


class SmallNet(nn.Module):
    """Two convolutions with batch normalization, a linear layer and a head."""

    def __init__(self, n_outputs=4):
        super().__init__()
        self.first = nn.Conv2d(1, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.second = nn.Conv2d(6, 8, 3, stride=2)
        self.body = nn.Linear(8 * 9, 16)
        self.head = nn.Linear(16, n_outputs)

    def forward(self, x):
        x = self.norm(self.first(x.unsqueeze(1))).relu()
        x = self.second(x).relu().flatten(1)
        return self.head(self.body(x).relu())
