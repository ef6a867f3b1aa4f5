"""Samples grouped by the pattern of their observed entries.

Under a Gaussian model, the conditional covariance of a sample depends only on its pattern of
missing values. Samples that share a pattern therefore share one factorization.
"""

from typing import NamedTuple

import numpy as np

from ...utils._typing import BoolArray, FloatArray, IntArray


class MissingPatterns(NamedTuple):
    """The distinct patterns of a table, and its samples sorted by them.

    Samples ``order[starts[g]:starts[g + 1]]`` have the pattern ``observed[g]``. Sample i has the
    pattern ``of_sample[i]``.
    """

    observed: BoolArray
    order: IntArray
    starts: IntArray
    of_sample: IntArray


def work_per_iteration(X: FloatArray) -> float:
    """Estimate the multiplications of an iteration with a full covariance; NaN is missing."""
    missing = np.unique(np.isnan(X), axis=0).sum(axis=1).astype(float)
    observed = X.shape[1] - missing
    return float(np.minimum(missing**3, observed**3 + missing * X.shape[1] * observed).sum() / 2.0)


def group_samples(observed: BoolArray) -> MissingPatterns:
    """Group the samples of a mask by their pattern.

    Parameters
    ----------
    observed : bool ndarray of shape (n_samples, n_columns)

    Returns
    -------
    MissingPatterns
    """
    # Padding gives a table without columns one pattern, because a key needs at least one byte.
    packed = np.ascontiguousarray(np.packbits(np.pad(observed, ((0, 0), (0, 1))), axis=1))
    keys = packed.view(np.dtype((np.void, packed.shape[1]))).ravel()
    _, first, of_sample = np.unique(keys, return_index=True, return_inverse=True)
    counts = np.bincount(of_sample, minlength=len(first))
    return MissingPatterns(
        observed=np.ascontiguousarray(observed[first]),
        order=np.argsort(of_sample, kind="stable"),
        starts=np.concatenate(([0], np.cumsum(counts))),
        of_sample=of_sample,
    )
