"""Images of known classes, and sets of images that belong to none of them.

``digits`` are 8 by 8 digits 0 to 7, split 60/40 at random. The unknown inputs are digits 8 and 9,
patches of a photograph, uniform noise, inverted digits, rotated digits and, in
``digits_and_faces``, faces. ``fashion`` has eight classes of Fashion-MNIST, mean-pooled to 14 by 14
pixels, with 6,500 training images. The unknown inputs are the two other classes, MNIST, textures,
faces, text, uniform noise and clothes upside down. Names that end in ``_rows`` contain the same
images as flat vectors, for which default networks have no convolutions. Faces, textures and text
come with scikit-image.
"""

import numpy as np
from sklearn.datasets import load_digits, load_sample_image
from sklearn.model_selection import train_test_split

from sklearn_ext.metrics import ood_report

from ._contract import Task
from ._data import MissingDataError, load_npz

N_FASHION_TRAIN, N_FASHION_TEST = 6500, 2000
NAMES = ("digits", "digits_and_faces", "fashion")
DATASETS = tuple(f"{name}{suffix}" for name in NAMES for suffix in ("", "_rows"))
QUICK = ("digits_rows",)


def load_task(name, split):
    """Return a task whose test data are known images, followed by each set of unknown ones."""
    base = name.removesuffix("_rows")
    X, y, X_known, unknown = {
        "digits": _digits,
        "digits_and_faces": lambda seed: _digits(seed, with_faces=True),
        "fashion": _fashion,
    }[base](split)
    parts = {"known": X_known, **unknown}
    X_test = np.concatenate(list(parts.values()))
    if name != base:
        X, X_test = X.reshape(len(X), -1), X_test.reshape(len(X_test), -1)
    kind = np.repeat(list(parts), [len(part) for part in parts.values()])
    X, X_test = X.astype(np.float32), X_test.astype(np.float32)
    return Task(name, split, X, y, X_test, kind, extra={"near": next(iter(unknown))})


def metrics(model, scores, task):
    """Return AUROC and FPR95 in percent, as means over the sets and for the nearest set.

    Known samples are the positive class.
    """
    names = list(dict.fromkeys(task.y_test.tolist()))[1:]
    unknown = {name: scores[task.y_test == name] for name in names}
    report = ood_report(scores[task.y_test == "known"], unknown)
    near, mean = report.scores[task.extra["near"]], report.average
    return {
        "AUROC": 100 * mean["auroc"],
        "FPR95": 100 * mean["fpr_id_positive"],
        "AUROC near": 100 * near["auroc"],
        "FPR95 near": 100 * near["fpr_id_positive"],
    }


def _digits(seed, *, with_faces=False):
    X, y = load_digits(return_X_y=True)
    X, known = X.reshape(-1, 8, 8) / 16, y < 8
    X_train, X_test, y_train, _ = train_test_split(
        X[known], y[known], test_size=0.4, stratify=y[known], random_state=seed
    )
    rng = np.random.RandomState(seed)
    unknown = {
        "digits 8, 9": X[~known],
        "flower": patches(load_sample_image("flower.jpg"), len(X_test), 8, rng),
        "uniform": rng.uniform(size=X_test.shape),
        "inverted": 1 - X_test,
        "rotated": np.rot90(X_test, axes=(1, 2)),
    }
    if with_faces:
        unknown["faces"] = _faces(8)
    return X_train, y_train, X_test, unknown


def _fashion(seed):
    clothes, mnist = load_npz("fashion_mnist"), load_npz("mnist")
    rng = np.random.RandomState(seed)
    train, test = (
        rng.permutation(np.flatnonzero(clothes[f"y_{part}"] < 8))[:n]
        for part, n in (("train", N_FASHION_TRAIN), ("test", N_FASHION_TEST))
    )
    photos = _scikit_image_data()
    X_test = _pooled(clothes["X_test"][test])
    textures = [patches(getattr(photos, name)(), 500, 14, rng) for name in (
        "brick", "grass", "gravel")]  # fmt: skip
    unknown = {
        "bags, boots": _pooled(clothes["X_test"][clothes["y_test"] >= 8]),
        "MNIST": _pooled(mnist["X_test"][:2000]),
        "textures": np.concatenate(textures),
        "faces": _faces(14),
        "text": patches(photos.page(), 1000, 14, rng, scales=(1, 2, 4)),
        "uniform": rng.uniform(size=(2000, 14, 14)),
        "upside down": X_test[:, ::-1],
    }
    return _pooled(clothes["X_train"][train]), clothes["y_train"][train], X_test, unknown


def patches(photo, n, size, rng, scales=(1, 2, 4, 8)):
    """Return square patches at random scales, mean-pooled, with contrast stretched to [0, 1]."""
    gray = photo.mean(axis=2) if photo.ndim == 3 else photo.astype(float)
    out = np.empty((n, size, size))
    for patch in out:
        patch[:] = patch_of(gray, size, rng.choice(scales), rng)
        patch -= patch.min()
        patch /= max(patch.max(), 1e-6)
    return out


def patch_of(photo, size, scale, rng):
    """Return a mean-pooled square patch at a random place of a photograph."""
    top, left = (rng.randint(length - size * scale) for length in photo.shape[:2])
    cut = photo[top : top + size * scale, left : left + size * scale]
    return cut.reshape(size, scale, size, scale, *photo.shape[2:]).mean(axis=(1, 3))


def in_color(images):
    """Return gray images with three equal channels."""
    return np.repeat(images[:, None], 3, axis=1)


def _pooled(images):
    return images.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)) / 255


def _faces(size):
    photos = _scikit_image_data()
    from skimage.transform import resize

    faces = photos.lfw_subset()[:100]  # the second half shows no faces
    return np.array([resize(face, (size, size), anti_aliasing=True) for face in faces])


def _scikit_image_data():
    try:
        from skimage import data
    except ImportError as error:
        raise MissingDataError("faces, textures and text: pip install scikit-image") from error
    return data
