"""Load data sets by name, from a folder of ``.npz`` files or from scikit-learn.

The environment variable ``SKLEARN_EXT_DATA`` names the folder. Its default is ``shared/data`` next
to the repository. A file contains ``X`` of shape (n, d) and ``y`` of shape (n,). Files of the UCI
collection also contain ``test_masks``, the masks of the test samples of ten splits, whose bits are
packed along the first axis.
"""

import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn import datasets
from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit

Arrays: TypeAlias = dict[str, npt.NDArray[Any]]
TEST_FRACTION = 0.2


class MissingDataError(FileNotFoundError):
    """The folder does not contain the file of a data set."""


def folder() -> Path:
    default = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    return Path(os.environ.get("SKLEARN_EXT_DATA", default))


def load_npz(name: str) -> Arrays:
    """Return the arrays of ``<name>.npz`` in the folder or in one of its subfolders."""
    paths = sorted(folder().glob(f"**/{name}.npz"))
    if not paths:
        raise MissingDataError(
            f"The folder {folder()} does not contain {name}.npz. Set SKLEARN_EXT_DATA to the "
            "folder that contains it."
        )
    if len(paths) > 1:
        raise ValueError(f"Several files are named {name}.npz: {', '.join(map(str, paths))}.")
    with np.load(paths[0]) as file:
        return {key: file[key] for key in file.files}


SHIPPED = {
    "diabetes": datasets.load_diabetes,
    "iris": datasets.load_iris,
    "wine_cultivars": datasets.load_wine,
    "breast_cancer": datasets.load_breast_cancer,
    "digits": datasets.load_digits,
}


def load(name: str) -> Arrays:
    """Return the arrays of a data set, at least ``X`` and ``y``."""
    if name in SHIPPED:
        X, y = SHIPPED[name](return_X_y=True)
        return {"X": X, "y": y}
    return load_npz(name)


def decoded(arrays: Arrays, rows: Iterable[int]) -> npt.NDArray[np.uint8]:
    """Return images of a file of JPEGs as (n, channels, height, width)."""
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDataError("The images are stored as JPEG: pip install pillow") from error
    blob, offset = arrays["blob"].tobytes(), arrays["offset"]
    files = (io.BytesIO(blob[offset[k] : offset[k + 1]]) for k in rows)
    return np.stack([np.asarray(Image.open(file)).transpose(2, 0, 1) for file in files])


def split_mask(
    arrays: Arrays, split: int, groups: npt.ArrayLike | None = None
) -> npt.NDArray[np.bool_]:
    """Return the boolean mask of the test samples of a split.

    If the file contains splits, one of them is used. Otherwise the test set is one fifth of the
    samples or groups, drawn with the index of the split as the seed.
    """
    n = len(arrays["X"])
    if groups is None and "test_masks" in arrays:
        masks = np.unpackbits(arrays["test_masks"], axis=0)[:n].astype(bool)
        if split >= masks.shape[1]:
            raise ValueError(
                f"split must be below {masks.shape[1]}, the number of splits in the file, "
                f"got {split}."
            )
        return masks[:, split]
    Splitter = ShuffleSplit if groups is None else GroupShuffleSplit
    splitter = Splitter(n_splits=1, test_size=TEST_FRACTION, random_state=split)
    mask = np.zeros(n, dtype=bool)
    mask[next(splitter.split(arrays["X"], groups=groups))[1]] = True
    return mask
