"""The Statlog heart set with holes, as stored by the authors of the two-stage method.

270 rows of 13 features from the UCI repository (CC BY 4.0), scaled to [0, 1]; order of the rows and
masks of the first repetition at 20, 50 and 60 % missing.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np


class Cell(NamedTuple):
    """Training rows with and without holes, and complete test rows."""

    X: np.ndarray
    y: np.ndarray
    complete: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray


def load_cell(ratio):
    stored = np.load(Path(__file__).with_name("heart.npz"))
    k = int(np.flatnonzero(np.isclose(stored["ratio"], ratio))[0])
    order = stored["perm"][k].astype(int)
    X, y = stored["X"][order], stored["y"][order].astype(float)
    n_train, n_validation, _ = stored["sizes"][k]
    bits = np.unpackbits(stored["mask_bits"][k])[: n_train * X.shape[1]]
    holes = bits.reshape(n_train, -1).astype(bool)
    test = slice(n_train + n_validation, None)
    return Cell(np.where(holes, np.nan, X[:n_train]), y[:n_train], X[:n_train], X[test], y[test])
