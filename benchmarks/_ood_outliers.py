"""Known outliers for the sets of ``_ood_sets``, and two sets on which nothing was tuned.

Outliers are made from training images and the photograph ``china.jpg``, never from test data. They
are patches and mixtures of two classes and, for digits, also shuffled pixels and halves of two
classes side by side. There is one outlier of each kind per training image. The training data are
shuffled, and outliers have the label -1.

``cifar`` is CIFAR-10 (32 by 32 pixels, JPEG, 2,000 images). The unknown inputs are textures,
Fashion-MNIST, uniform noise and images with inverted pixels. ``cifar_embedded`` is described in
``_ood_embedded``.
"""

import numpy as np
from sklearn.datasets import load_sample_image

from . import _ood_embedded, _ood_sets
from ._contract import Task
from ._data import decoded, load_npz

CIFAR = "cifar"
DATASETS = ("digits", "digits_rows", "fashion_rows", CIFAR, _ood_embedded.NAME)
QUICK = ("digits_rows",)
N_CIFAR_TRAIN, N_CIFAR_TEST = 2000, 1000


def load_task(name, split):
    """Return a task of ``_ood_sets`` or one with CIFAR-10, with outliers for training."""
    if name == _ood_embedded.NAME:
        return _ood_embedded.load_task(split)
    task = _cifar(split) if name == CIFAR else _ood_sets.load_task(name, split)
    rng = np.random.RandomState(1000 + split)
    outliers = _outliers(task.X_train, task.y_train, rng, all_kinds=name.startswith("digits"))
    X = np.concatenate([task.X_train, outliers.astype(np.float32)])
    y = np.concatenate([task.y_train, np.full(len(outliers), -1)])
    order = rng.permutation(len(X))
    return Task(name, split, X[order], y[order], task.X_test, task.y_test, extra=task.extra)


def _outliers(X, y, rng, *, all_kinds):
    partner = np.empty(len(X), dtype=int)
    for label in np.unique(y):
        partner[y == label] = rng.choice(np.flatnonzero(y != label), size=(y == label).sum())
    size = int(np.sqrt(X[0].size)) if X.ndim == 2 else X.shape[-1]
    photo = load_sample_image("china.jpg")
    if X.ndim == 4:
        cuts = _color_patches(photo, len(X), size, rng)
    else:
        cuts = _ood_sets.patches(photo, len(X), size, rng).reshape(X.shape)
    weight = rng.uniform(0.35, 0.65, size=(len(X), *[1] * (X.ndim - 1)))
    parts = [cuts, weight * X + (1 - weight) * X[partner]]
    if all_kinds:
        images, others = (part.reshape(-1, size, size) for part in (X, X[partner]))
        halves, top = images.copy(), rng.rand(len(X)) < 0.5
        halves[top, : size // 2] = others[top, : size // 2]
        halves[~top, :, : size // 2] = others[~top, :, : size // 2]
        flat = X.reshape(len(X), -1)
        shuffled = np.take_along_axis(flat, rng.random_sample(flat.shape).argsort(axis=1), axis=1)
        parts += [halves.reshape(X.shape), shuffled.reshape(X.shape)]
    return np.concatenate(parts)


def _color_patches(photo, n, size, rng, scales=(1, 2, 4, 8)):
    out, photo = np.empty((n, 3, size, size)), photo / 255
    for patch in out:
        patch[:] = _ood_sets.patch_of(photo, size, rng.choice(scales), rng).transpose(2, 0, 1)
    return out


def _cifar(seed):
    stored, clothes = load_npz("cifar10_jpeg"), load_npz("fashion_mnist")
    photos = _ood_sets._scikit_image_data()
    rng = np.random.RandomState(seed)
    train, test = (
        rng.permutation(np.flatnonzero(stored["is_test"] == part))[:n]
        for part, n in ((False, N_CIFAR_TRAIN), (True, N_CIFAR_TEST))
    )
    X_test = _pixels(stored, test)
    textures = [
        _ood_sets.patches(getattr(photos, name)(), 500, 32, rng)
        for name in ("brick", "grass", "gravel")
    ]
    padded = np.pad(clothes["X_test"][:1000] / 255, ((0, 0), (2, 2), (2, 2)))
    parts = {
        "known": X_test,
        "textures": _ood_sets.in_color(np.concatenate(textures)),
        "clothes": _ood_sets.in_color(padded),
        "uniform": rng.uniform(size=(1000, 3, 32, 32)),
        "inverted": 1 - X_test,
    }
    kind = np.repeat(list(parts), [len(part) for part in parts.values()])
    X = np.concatenate(list(parts.values())).astype(np.float32)
    labels = stored["y"][train].astype(int)
    return Task(CIFAR, seed, _pixels(stored, train), labels, X, kind, extra={"near": "textures"})


def _pixels(stored, rows):
    return decoded(stored, rows).astype(np.float32) / 255
