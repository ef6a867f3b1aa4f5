"""A small version of how soups are used: one pretrained network, fine-tuned twelve times.

The network is pretrained on corrupted images (rotated by up to 36 degrees, with noise), and its
head is trained on clean ones. It is then fine-tuned twelve times with randomly drawn learning
rates, weight decay, augmentation, label smoothing, mixup and lengths. The code is plain torch; it
uses only the default networks of the package.
"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from ._data import load

N_INGREDIENTS = 12
BATCH = 32


class Recipe(NamedTuple):
    """Numbers of samples (pretraining, fine-tuning, mixing, test), network, epochs and shift."""

    sizes: tuple[int, int, int, int]
    make_module: object
    pretraining_epochs: int
    probing_epochs: int
    shift: int


class Problem(NamedTuple):
    """Paths of the ingredients and of their start, a factory of their network, and samples."""

    paths: list[str]
    base: str
    make_module: object
    X_mixing: np.ndarray
    y_mixing: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray


def _mlp(side, *hidden_sizes):
    def make():
        from sklearn_ext.neural import MLP

        return MLP(side * side, 10, hidden_sizes)

    return make


def _cnn():
    from sklearn_ext.neural import SmallCNN

    return SmallCNN(1, 10, (16, 32))


RECIPES = {
    "digits": Recipe((500, 300, 300, 697), _mlp(8, 128, 64), 40, 20, 1),
    "digits_cnn": Recipe((500, 300, 300, 697), _cnn, 20, 20, 1),
    "fashion_mnist": Recipe((6000, 1000, 1000, 4000), _mlp(28, 256, 128), 8, 5, 2),
}


def images(name):
    """Return all images as (n, side, side) with values in [0, 1], and their labels."""
    if name == "fashion_mnist":
        arrays = load("fashion_mnist")
        return arrays["X_train"].astype(np.float32) / 255, arrays["y_train"].astype(np.int64)
    arrays = load("digits")
    return (arrays["X"].reshape(-1, 8, 8) / 16).astype(np.float32), arrays["y"].astype(np.int64)


def rotated_and_noisy(X, generator):
    angle = (2 * torch.rand(len(X), generator=generator) - 1) * math.radians(36)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros(len(X))
    rows = torch.stack((cos, -sin, zero), 1), torch.stack((sin, cos, zero), 1)
    grid = F.affine_grid(torch.stack(rows, 1), [len(X), 1, *X.shape[1:]], align_corners=False)
    turned = F.grid_sample(X.unsqueeze(1), grid, align_corners=False).squeeze(1)
    return turned + 0.35 * torch.randn(X.shape, generator=generator)


def shifted_and_noisy(X, shift, noise, generator):
    if shift:
        down, right = torch.randint(-shift, shift + 1, (2,), generator=generator).tolist()
        X = torch.roll(X, (down, right), dims=(1, 2))
    return X + noise * torch.randn(X.shape, generator=generator)


def train(module, X, y, generator, *, parameters=None, n_epochs, lr, weight_decay=0.0,
          augment=None, label_smoothing=0.0, mixup=0.0):  # fmt: skip
    """Train in place with AdamW and a cosine decay of the learning rate."""
    parameters = list(module.parameters()) if parameters is None else parameters
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay)
    n_steps = n_epochs * (len(X) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    loss_of = nn.CrossEntropyLoss(label_smoothing=label_smoothing)
    module.train()
    for _ in range(n_epochs):
        order = torch.randperm(len(X), generator=generator)
        for index in order[: len(X) // BATCH * BATCH].split(BATCH):
            inputs, targets = X[index], F.one_hot(y[index], 10).float()
            inputs = inputs if augment is None else augment(inputs)
            if mixup:
                weight = float(torch.rand((), generator=generator)) * mixup
                inputs = inputs.lerp(inputs.flip(0), weight)
                targets = targets.lerp(targets.flip(0), weight)
            optimizer.zero_grad()
            loss_of(module(inputs), targets).backward()
            optimizer.step()
            schedule.step()
    return module.eval()


def drawn_settings(rng, shift):
    """Return randomly drawn settings of one fine-tuning run."""
    return {
        "lr": float(np.exp(rng.uniform(np.log(3e-4), np.log(6e-3)))),
        "weight_decay": float(np.exp(rng.uniform(np.log(1e-4), np.log(0.1)))),
        "n_epochs": int(rng.integers(8, 21)),
        "shift": int(rng.integers(2)) * shift,
        "noise": float(rng.uniform(0.0, 0.2)),
        "label_smoothing": float(rng.choice([0.0, rng.uniform(0.0, 0.2)])),
        "mixup": float(rng.choice([0.0, rng.uniform(0.0, 0.5)])),
    }


def make_problem(name, seed, folder):
    """Pretrain and fine-tune the network, and write the ingredients to a folder.

    Parameters
    ----------
    name : str
        A key of `RECIPES`.
    seed : int
        Seed of the split of the samples, of the initial weights and of all runs.
    folder : path-like

    Returns
    -------
    Problem
    """
    from sklearn_ext.neural import save_tensors, seeded

    recipe = RECIPES[name]
    X, y = images(name)
    order = np.random.default_rng(seed).permutation(len(X))[: sum(recipe.sizes)]
    parts = [torch.as_tensor(part) for part in np.split(order, np.cumsum(recipe.sizes)[:-1])]
    X, y = torch.as_tensor(X), torch.as_tensor(y)
    pretraining, tuning, mixing, test = parts
    generator = torch.Generator().manual_seed(seed)
    with seeded(seed):
        start = recipe.make_module()
    train(start, X[pretraining], y[pretraining], generator, n_epochs=recipe.pretraining_epochs,
          lr=2e-3, augment=lambda images: rotated_and_noisy(images, generator))  # fmt: skip
    head = list(start.children())[-1]
    train(start, X[tuning], y[tuning], generator, parameters=list(head.parameters()),
          n_epochs=recipe.probing_epochs, lr=2e-3)  # fmt: skip
    weights = {key: value.clone() for key, value in start.state_dict().items()}
    base = str(Path(folder) / "base.safetensors")
    save_tensors(base, weights)
    rng = np.random.default_rng(1000 + seed)
    paths = []
    for k in range(N_INGREDIENTS):
        settings = drawn_settings(rng, recipe.shift)
        shift, noise = settings.pop("shift"), settings.pop("noise")
        module = recipe.make_module()
        module.load_state_dict(weights)
        train(module, X[tuning], y[tuning], generator, **settings,
              augment=lambda images, s=shift, e=noise: shifted_and_noisy(images, s, e, generator),
              )  # fmt: skip
        paths.append(str(Path(folder) / f"{k:02d}.safetensors"))
        save_tensors(paths[-1], module.state_dict())
    arrays = [array for part in (mixing, test) for array in (X[part].numpy(), y[part].numpy())]
    return Problem(paths, base, recipe.make_module, *arrays)
