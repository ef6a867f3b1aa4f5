"""Digits under a shift: a network is pretrained on some digits and adapted to rotated ones.

The network is pretrained on 500 digits that are rotated by up to 36 degrees, with noise of standard
deviation 0.35. It is adapted to 200 digits that are rotated by 90 degrees, and tested on 697 such
digits, with and without noise of standard deviation 0.3.
"""

import numpy as np
import torch
from scipy.ndimage import rotate
from sklearn.datasets import load_digits
from torch import nn

N_PRETRAINING, N_TRAINING, N_TEST = 500, 200, 697
TEST_NOISE = 0.3


class Attention(nn.Module):
    """Self-attention whose projections are plain linear layers, so that adapters fit them."""

    def __init__(self, width, n_heads=4):
        super().__init__()
        self.n_heads = n_heads
        self.project = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x):
        n, tokens, width = x.shape
        heads = self.project(x).view(n, tokens, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(*heads)
        return self.out(mixed.transpose(1, 2).reshape(n, tokens, width))


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm_1, self.attention = nn.LayerNorm(width), Attention(width)
        self.norm_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x):
        x = x + self.attention(self.norm_1(x))
        return x + self.mlp(self.norm_2(x))


class DigitsTransformer(nn.Module):
    """A transformer with three blocks of width 48 on the 16 patches of 2 x 2 pixels."""

    def __init__(self, width=48, n_blocks=3, n_outputs=10):
        super().__init__()
        self.embed = nn.Linear(4, width)
        self.position = nn.Parameter(0.02 * torch.randn(16, width))
        self.blocks = nn.Sequential(*(Block(width) for _ in range(n_blocks)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, n_outputs)

    def forward(self, x):
        patches = x.unfold(1, 2, 2).unfold(2, 2, 2).reshape(len(x), 16, 4)
        hidden = self.blocks(self.embed(patches) + self.position)
        return self.head(self.norm(hidden).mean(dim=1))


def network(kind):
    from sklearn_ext.neural import SmallCNN

    return DigitsTransformer() if kind == "transformer" else SmallCNN(1, 10)


def digits(seed):
    """Return samples to pretrain on, samples to adapt to, and test samples, each with labels."""
    rng = np.random.RandomState(seed)
    X, y = load_digits(return_X_y=True)
    order = rng.permutation(len(X))
    X, y = (X[order] / 16).reshape(-1, 8, 8), y[order]
    first = slice(N_PRETRAINING)
    second = slice(N_PRETRAINING, N_PRETRAINING + N_TRAINING)
    third = slice(len(X) - N_TEST, None)
    angles = rng.uniform(-36, 36, N_PRETRAINING)
    corrupted = np.stack(
        [rotate(x, a, reshape=False, order=1) for x, a in zip(X[first], angles, strict=True)]
    )
    corrupted += 0.35 * rng.randn(*corrupted.shape)
    rotated = np.rot90(X, axes=(1, 2)).copy()
    return (corrupted, y[first]), (rotated[second], y[second]), (rotated[third], y[third])


def pretrained(kind, X, y, seed):
    """Train a network on corrupted digits and return it."""
    from sklearn_ext.neural import NetClassifier, seeded

    with seeded(seed):
        module = network(kind)
    return NetClassifier(module, max_epochs=20, lr=2e-3, random_state=seed).fit(X, y).module_
