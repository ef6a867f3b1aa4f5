"""The Statlog heart data with the masks of the two-stage method's authors.

The 270 samples have 13 features, scaled to [0, 1], in the order and with the masks of the first
repetition. Tests that need these data are skipped where they are not available.
"""

from typing import NamedTuple

import numpy as np

from benchmarks.imputation import stored_cell
from tests.real_data import loaded_or_skipped


class Cell(NamedTuple):
    """Training samples with and without missing values, and complete test samples."""

    X: np.ndarray
    y: np.ndarray
    complete: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray


def load_cell(ratio):
    X, y, (n_train, n_validation, _), missing = loaded_or_skipped(stored_cell, "heart", ratio, 1)
    y, test = y.astype(float), slice(n_train + n_validation, None)
    return Cell(np.where(missing, np.nan, X[:n_train]), y[:n_train], X[:n_train], X[test], y[test])
