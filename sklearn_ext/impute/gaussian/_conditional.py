r"""The Gaussian distribution of missing values given observed ones, on the CPU.

For a sample with observed part o and missing part m, the conditional mean and covariance follow
either from the covariance S or from the precision :math:`P = S^{-1}`,

.. math::
    z_m = \mu_m + S_{mo} S_{oo}^{-1} (x_o - \mu_o) = \mu_m - C P_{mo} (x_o - \mu_o), \qquad
    C = S_{mm} - S_{mo} S_{oo}^{-1} S_{om} = P_{mm}^{-1}.

The first form factorizes a matrix of the size of o, the second form a matrix of the size of m. Each
pattern of missing values uses the cheaper form. Results do not depend on the number of threads,
because patterns are divided into the same blocks, which are summed in order.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs

from ...utils._arrays import compiled, inner
from ...utils._typing import Array, BoolArray, FloatArray, IntArray
from ._missing_patterns import MissingPatterns, group_samples

_BLOCK_COST = 2e7  # multiplications in a block, which take about ten milliseconds
_MOST_NUMBERS = 2**21  # in a stack of matrices


Item = TypeVar("Item")
Result = TypeVar("Result")


class ConditionalGaussian(NamedTuple):
    """Distribution of the missing values of n samples given their observed entries.

    Attributes
    ----------
    completed : ndarray of shape (n, d)
        The samples with missing values replaced by conditional means or draws.
    variances : ndarray of shape (n, d)
        Conditional variances of missing values; 0 at observed entries.
    covariance_sum : ndarray of shape (d, d)
        Sum over samples of the conditional covariance C, with zeros at observed entries.
    """

    completed: FloatArray
    variances: FloatArray
    covariance_sum: FloatArray


class PatternTable(NamedTuple):
    """Samples grouped by pattern.

    Missing values of ``Z`` are 0. Each block is a range of patterns.
    """

    Z: FloatArray
    patterns: MissingPatterns
    blocks: list[slice]


def pattern_table(X: FloatArray) -> PatternTable:
    """Group samples, whose missing values are NaN, into patterns and blocks of similar cost."""
    observed = ~np.isnan(X)
    patterns = group_samples(observed)
    n_columns = X.shape[1]
    n_observed = patterns.observed.sum(axis=1)
    n_missing = n_columns - n_observed
    n_samples = np.diff(patterns.starts)
    cost = np.minimum(n_missing**3, n_observed**3 + n_missing * n_columns * n_observed) / 2.0
    block = (np.cumsum(cost + n_samples * n_missing * n_columns) // _BLOCK_COST).astype(int)
    bounds = np.searchsorted(block, np.arange(block[-1] + 2))
    blocks = [slice(int(a), int(b)) for a, b in pairwise(bounds) if a < b]
    return PatternTable(owned(np.where(observed, X, 0.0)), patterns, blocks)


def conditional_gaussian(
    X: FloatArray | PatternTable,
    mean: FloatArray,
    cov: FloatArray,
    *,
    noise: FloatArray | None = None,
    n_jobs: int | None = None,
) -> ConditionalGaussian:
    r"""Compute the Gaussian distribution of missing values given the observed entries.

    The missing part m of a sample with observed part o has the conditional mean and covariance

    .. math::
        z_m = \mu_m + S_{mo} S_{oo}^{-1} (x_o - \mu_o), \qquad
        C = S_{mm} - S_{mo} S_{oo}^{-1} S_{om}.

    Parameters
    ----------
    X : ndarray of shape (n, d), or PatternTable
        Samples with NaN for missing values, or the table that the numba engine prepared from them.
    mean : ndarray of shape (d,)
        Mean of the Gaussian.
    cov : ndarray of shape (d, d)
        Positive definite covariance of the Gaussian.
    noise : ndarray of shape (n, d), default=None
        Standard normal numbers. If given, missing values are the draw :math:`z_m + L e`, where L
        is the lower Cholesky factor of C and e holds the first entries of the sample's noise.
    n_jobs : int or None, default=None
        Number of threads, interpreted as in joblib. Results do not depend on it.

    Returns
    -------
    ConditionalGaussian
        The arrays ``completed`` and ``variances`` of shape (n, d), and ``covariance_sum`` of shape
        (d, d), the sum of C over samples.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext.impute import conditional_gaussian
    >>> X = np.array([[1.0, np.nan], [np.nan, np.nan]])
    >>> law = conditional_gaussian(X, np.zeros(2), np.array([[1.0, 0.5], [0.5, 1.0]]))
    >>> law.completed
    array([[1. , 0.5],
           [0. , 0. ]])
    >>> law.variances
    array([[0.  , 0.75],
           [1.  , 1.  ]])
    """
    table = X if isinstance(X, PatternTable) else pattern_table(X)
    patterns = table.patterns
    precision = np.linalg.inv(cov)
    precision = (precision + precision.T) / 2.0
    mean, cov = owned(mean), owned(cov)
    Z = table.Z.copy()
    variances = np.zeros(patterns.observed.shape)
    noise = np.empty((0, 0)) if noise is None else owned(noise)

    def complete_block(block: slice) -> FloatArray:
        covariance_sum = np.zeros(cov.shape)
        _complete(
            Z, patterns.observed[block], patterns.order, patterns.starts[block.start :],
            mean, cov, precision, covariance_sum, variances[block], noise,
        )  # fmt: skip
        return covariance_sum

    # The compiled function fills only the lower triangle.
    lower = sum(run_in_threads(complete_block, table.blocks, n_jobs), np.zeros(cov.shape))
    return ConditionalGaussian(Z, variances[patterns.of_sample], lower + np.tril(lower, -1).T)


def leave_one_out(
    table: PatternTable, mean: FloatArray, cov: FloatArray
) -> tuple[FloatArray, FloatArray]:
    r"""Predict each observed entry from the others of its sample; NaN at missing values.

    Mean and variance of the prediction are

    .. math:: x_p - u_p / (S_{oo}^{-1})_{pp}, \qquad 1 / (S_{oo}^{-1})_{pp}, \qquad
        u = S_{oo}^{-1} (x_o - \mu_o).
    """
    patterns, d = table.patterns, len(mean)
    out, variances = np.empty(table.Z.shape), np.empty(table.Z.shape)
    size = max(1, _MOST_NUMBERS // max(1, d * d))
    for first in range(0, len(out), size):
        samples = patterns.order[first : first + size]
        pattern = patterns.of_sample[samples]
        observed = patterns.observed[pattern[0] : pattern[-1] + 1]
        # Rows and columns of missing entries become those of the identity.
        both = observed[:, :, None] & observed[:, None, :]
        inverse = np.linalg.inv(np.where(both, cov, np.eye(d)))
        of_sample = pattern - pattern[0]
        given = observed[of_sample]
        rest = np.where(given, table.Z[samples] - mean, 0.0)
        u = (inverse[of_sample] @ rest[:, :, None])[:, :, 0]
        diagonal = inverse.diagonal(axis1=1, axis2=2)[of_sample]
        out[samples] = np.where(given, table.Z[samples] - u / diagonal, np.nan)
        variances[samples] = np.where(given, 1.0 / diagonal, np.nan)
    return out, variances


def owned(A: Array) -> Any:
    """Return a contiguous and writable array, so that numba compiles only one version."""
    return np.require(A, requirements=["C", "W"])


def run_in_threads(
    task: Callable[[Item], Result], items: Sequence[Item], n_jobs: int | None
) -> Iterable[Result]:
    """Apply a task to items, by `n_jobs` threads as in joblib, and return results in order."""
    if len(items) < 2 or effective_n_jobs(n_jobs) == 1:
        return [task(item) for item in items]
    results: list[Result] = Parallel(n_jobs=n_jobs, require="sharedmem")(
        delayed(task)(item) for item in items
    )
    return results


# The functions below compile within two seconds on first use because they are kept simple: arrays
# have one type each (contiguous, two-dimensional), rows are given by their indices, which are never
# constants, instead of slices, and arrays are filled by loops.


@inner(inline=True, reassociate=True)  # a sum vectorizes only if reordered
def _dot(A: FloatArray, i: int, B: FloatArray, j: int, n: int) -> float:
    total = 0.0
    for k in range(n):
        total += A[i, k] * B[j, k]
    return total


@inner(inline=True)
def _subtract(A: FloatArray, i: int, factor: float, B: FloatArray, j: int, n: int) -> None:
    for k in range(n):
        A[i, k] -= factor * B[j, k]


@inner()
def _cholesky(A: FloatArray, n: int) -> None:
    """Replace the lower triangle of A[:n, :n] by its Cholesky factor."""
    for i in range(n):
        for j in range(i):
            A[i, j] = (A[i, j] - _dot(A, i, A, j, j)) / A[j, j]
        # Rounding may make the pivot of a conditional covariance negative.
        A[i, i] = math.sqrt(max(A[i, i] - _dot(A, i, A, i, i), 1e-300))


@inner()
def _invert_lower(L: FloatArray, n: int, out: FloatArray) -> None:
    for i in range(n):
        for j in range(i):
            out[i, j] = 0.0
        for k in range(i):
            _subtract(out, i, L[i, k], out, k, k + 1)
        for j in range(i):
            out[i, j] /= L[i, i]
        out[i, i] = 1.0 / L[i, i]


@inner()
def _gather(
    A: FloatArray, rows: IntArray, n_rows: int, columns: IntArray, n_columns: int, out: FloatArray
) -> None:
    for i in range(n_rows):
        for j in range(n_columns):
            out[i, j] = A[rows[i], columns[j]]


@inner()
def _split(observed: BoolArray, g: int, o: IntArray, m: IntArray) -> int:
    """Write the observed columns of a pattern to o and the missing ones to m; count the former."""
    n_observed, n_missing = 0, 0
    for p in range(observed.shape[1]):
        if observed[g, p]:
            o[n_observed] = p
            n_observed += 1
        else:
            m[n_missing] = p
            n_missing += 1
    return n_observed


@compiled
def _complete(
    Z: FloatArray,
    observed: BoolArray,
    order: IntArray,
    starts: IntArray,
    mean: FloatArray,
    cov: FloatArray,
    precision: FloatArray,
    covariance_sum: FloatArray,
    variances: FloatArray,
    noise: FloatArray,
) -> None:
    """Complete the samples of some patterns in Z; add the lower triangle of each C to the sum."""
    size = mean.shape[0]
    C, factor, inverse = np.empty((size, size)), np.empty((size, size)), np.empty((size, size))
    # The last two rows are those of a sample: a constant as a row would be a type of its own.
    cross, given, result = np.empty((size + 2, size)), size, size + 1
    o, m = np.empty(size, np.int64), np.empty(size, np.int64)
    for g in range(observed.shape[0]):
        n_observed = _split(observed, g, o, m)
        n_missing = size - n_observed
        if n_missing == 0:
            continue
        by_precision = n_missing**2 < n_observed * (n_observed + n_missing) and n_observed > 0
        S, own, n_own = (precision, m, n_missing) if by_precision else (cov, o, n_observed)
        _gather(S, own, n_own, own, n_own, factor)
        _cholesky(factor, n_own)
        if by_precision:  # C is the inverse of P_mm
            _invert_lower(factor, n_missing, inverse)
            for i in range(n_missing):
                for j in range(i + 1):
                    C[i, j] = 0.0
            for k in range(n_missing):
                for i in range(k + 1):
                    _subtract(C, i, -inverse[k, i], inverse, k, i + 1)
            _gather(precision, m, n_missing, o, n_observed, cross)
        else:
            _gather(cov, o, n_observed, m, n_missing, cross)
            _gather(cov, m, n_missing, m, n_missing, C)
            for i in range(n_observed):
                for k in range(i):
                    _subtract(cross, i, factor[i, k], cross, k, n_missing)
                for j in range(n_missing):
                    cross[i, j] /= factor[i, i]
                for j in range(n_missing):
                    _subtract(C, j, cross[i, j], cross, i, j + 1)
        for i in range(n_missing):
            for j in range(i + 1):
                C[j, i] = C[i, j]
                covariance_sum[m[i], m[j]] += (starts[g + 1] - starts[g]) * C[i, j]
            variances[g, m[i]] = max(C[i, i], 0.0)
        for s in range(starts[g], starts[g + 1]):
            i_sample = order[s]
            for i in range(n_observed):
                cross[given, i] = Z[i_sample, o[i]] - mean[o[i]]
            if by_precision:
                for i in range(n_missing):
                    cross[result, i] = _dot(cross, i, cross, given, n_observed)
                for i in range(n_missing):
                    Z[i_sample, m[i]] = mean[m[i]] - _dot(C, i, cross, result, n_missing)
            else:
                for i in range(n_missing):
                    cross[result, i] = mean[m[i]]
                for i in range(n_observed):
                    cross[given, i] = (cross[given, i] - _dot(factor, i, cross, given, i)) / factor[
                        i, i
                    ]
                    _subtract(cross, result, -cross[given, i], cross, i, n_missing)
                for i in range(n_missing):
                    Z[i_sample, m[i]] = cross[result, i]
        if noise.shape[0] > 0:
            _cholesky(C, n_missing)
            for s in range(starts[g], starts[g + 1]):
                for i in range(n_missing):
                    Z[order[s], m[i]] += _dot(C, i, noise, order[s], i + 1)
