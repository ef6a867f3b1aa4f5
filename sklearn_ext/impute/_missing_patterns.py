"""Rows grouped by which of their entries are observed.

Everything that a Gaussian model says about a row's covariance depends on the pattern of its holes
only, so rows with one pattern share one factorisation.
"""

from typing import NamedTuple

import numpy as np


class MissingPatterns(NamedTuple):
    """A table's patterns, and its rows sorted by them.

    Rows ``order[starts[g]:starts[g + 1]]`` have the pattern ``observed[g]``; row i has the
    pattern ``of_row[i]``.
    """

    observed: np.ndarray
    order: np.ndarray
    starts: np.ndarray
    of_row: np.ndarray


def group_rows(observed):
    """Group the rows of a mask.

    Parameters
    ----------
    observed : bool ndarray of shape (n_samples, n_columns)

    Returns
    -------
    MissingPatterns
    """
    # A table without columns has one pattern, and keys cannot be of no bytes.
    packed = np.ascontiguousarray(np.packbits(np.pad(observed, ((0, 0), (0, 1))), axis=1))
    keys = packed.view(np.dtype((np.void, packed.shape[1]))).ravel()
    _, first, of_row = np.unique(keys, return_index=True, return_inverse=True)
    counts = np.bincount(of_row, minlength=len(first))
    return MissingPatterns(
        observed=np.ascontiguousarray(observed[first]),
        order=np.argsort(of_row, kind="stable"),
        starts=np.concatenate(([0], np.cumsum(counts))),
        of_row=of_row,
    )
