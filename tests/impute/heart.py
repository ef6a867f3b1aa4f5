"""The Statlog heart data with the masks of the two-stage method's authors.

The 270 samples have 13 features, scaled to [0, 1], in the order and with the masks of the first
repetition. The data are not part of the package. Tests that need them are skipped without them.
"""

from typing import NamedTuple

import numpy as np

from benchmarks._data import load
from tests.real_data import loaded_or_skipped


class Cell(NamedTuple):
    """Training samples with and without missing values, and complete test samples."""

    X: np.ndarray
    y: np.ndarray
    complete: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray


def load_cell(ratio):
    stored = loaded_or_skipped(load, "imputation/heart")
    k = int(np.flatnonzero(np.isclose(stored["ratio"], ratio) & (stored["rep"] == 1))[0])
    order = stored["perm"][k].astype(int)
    X, y = stored["X"][order], stored["y"][order].astype(float)
    n_train, n_validation, _ = stored["sizes"][k]
    bits = np.unpackbits(stored["mask_bits"][k])[: n_train * X.shape[1]]
    missing = bits.reshape(n_train, -1).astype(bool)
    test = slice(n_train + n_validation, None)
    return Cell(np.where(missing, np.nan, X[:n_train]), y[:n_train], X[:n_train], X[test], y[test])
