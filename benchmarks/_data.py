"""Data sets by name: from a folder of ``.npz`` files, or shipped with scikit-learn.

The folder is ``$SKLEARN_EXT_DATA`` or, by default, ``../shared/data`` beside the repository. A
file holds ``X`` (n, d) and ``y`` (n,); sets of the UCI collection also hold ``test_masks``, the
test rows of ten splits as bits packed along the first axis.
"""

import os
from pathlib import Path

import numpy as np
from sklearn import datasets
from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit

TEST_FRACTION = 0.2


class MissingDataError(FileNotFoundError):
    """A data set's file is not in the folder."""


def folder():
    default = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    return Path(os.environ.get("SKLEARN_EXT_DATA", default))


def load_npz(name):
    """Return the arrays of ``<name>.npz``, searched for in the folder and below it."""
    paths = sorted(folder().glob(f"**/{name}.npz"))
    if not paths:
        raise MissingDataError(
            f"no {name}.npz in {folder()}; set SKLEARN_EXT_DATA to the folder that holds it"
        )
    if len(paths) > 1:
        raise ValueError(f"{name}.npz is ambiguous: {', '.join(map(str, paths))}")
    with np.load(paths[0]) as file:
        return {key: file[key] for key in file.files}


SHIPPED = {
    "diabetes": datasets.load_diabetes,
    "iris": datasets.load_iris,
    "wine_cultivars": datasets.load_wine,
    "breast_cancer": datasets.load_breast_cancer,
    "digits": datasets.load_digits,
}


def load(name):
    """Return a data set's arrays, at least ``X`` and ``y``."""
    if name in SHIPPED:
        X, y = SHIPPED[name](return_X_y=True)
        return {"X": X, "y": y}
    return load_npz(name)


def split_mask(arrays, split, groups=None):
    """Return the boolean mask of a split's test rows.

    Splits are those of the file where it has some, else a fifth of the rows (of the groups),
    drawn with the split's number as the seed.
    """
    n = len(arrays["X"])
    if groups is None and "test_masks" in arrays:
        masks = np.unpackbits(arrays["test_masks"], axis=0)[:n].astype(bool)
        if split >= masks.shape[1]:
            raise ValueError(f"split {split} asked for, but the file has {masks.shape[1]}")
        return masks[:, split]
    Splitter = ShuffleSplit if groups is None else GroupShuffleSplit
    splitter = Splitter(n_splits=1, test_size=TEST_FRACTION, random_state=split)
    mask = np.zeros(n, dtype=bool)
    mask[next(splitter.split(arrays["X"], groups=groups))[1]] = True
    return mask
