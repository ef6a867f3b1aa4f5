r"""Conditional Gaussians on the CPU: one small Cholesky factorisation a missing pattern.

For a row with observed part o and holes m, the conditional law of the holes is written either
with the covariance or with the precision :math:`P = S^{-1}`,

.. math::
    C = S_{mm} - S_{mo} S_{oo}^{-1} S_{om} = P_{mm}^{-1}, \qquad
    z_m = \mu_m + S_{mo} S_{oo}^{-1} (x_o - \mu_o) = \mu_m - C P_{mo} (x_o - \mu_o).

The first factorises a matrix of the size of o, the second one of the size of m; each pattern
takes the cheaper one. Patterns are cut into blocks that do not depend on the number of threads,
and blocks are added up in order, so neither do the results.
"""

import math
from itertools import pairwise

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from numba import njit

from ._missing_patterns import group_rows

_BLOCK_COST = 2e7  # multiplications of a block: some ten milliseconds
_ROWS = 256  # rows that a thread smooths in one go

_jit = njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})


class NumbaEngine:
    """Conditional Gaussian laws and expected kernels on NumPy arrays, in float64.

    Parameters
    ----------
    n_jobs : int or None
        Threads over blocks of patterns, with joblib's meaning.
    """

    name = "numba"

    def __init__(self, n_jobs=None):
        self.n_jobs = n_jobs

    def table(self, X):
        """Prepare a table whose holes are NaN; the other methods take what this returns."""
        observed = ~np.isnan(X)
        return _Table(np.where(observed, X, 0.0), group_rows(observed))

    def moments(self, table, mean, cov):
        """Sum over rows of z - mean, and of E[(x - mean)(x - mean)'], given what is observed."""
        spread = self._condition(table, mean, cov, table.Z)
        R = table.Z - mean
        return R.sum(axis=0), R.T @ R + spread

    def posterior(self, table, mean, cov):
        """Completed rows, and the variances of their holes (0 where observed)."""
        Z = table.Z.copy()
        variances = np.zeros(table.patterns.observed.shape)
        self._condition(table, mean, cov, Z, variances=variances)
        return Z, variances[table.patterns.of_row]

    def draw(self, table, mean, cov, noise):
        """Rows completed by z + L e: L the lower Cholesky factor of C, e the row's noise.

        The k-th hole of a row takes the k-th column of `noise`.
        """
        Z = table.Z.copy()
        self._condition(table, mean, cov, Z, noise=np.ascontiguousarray(noise))
        return Z

    def leave_one_out(self, table, mean, cov):
        r"""Predict each observed entry from the others of its row; NaN where nothing is observed.

        .. math:: x_p - u_p / (S_{oo}^{-1})_{pp}, \qquad u = S_{oo}^{-1} (x_o - \mu_o).
        """
        out = np.full(table.Z.shape, np.nan)
        patterns = table.patterns
        _leave_one_out(table.Z, patterns.observed, patterns.order, patterns.starts, mean, cov, out)
        return out

    def expected_kernel(self, Z_a, V_a, Z_b, V_b, gamma):
        """Compute the expected Gaussian kernel of rows with independent Gaussian entries."""
        return _expected_kernel(Z_a, V_a, Z_b, V_b, gamma)

    def smooth(self, Z, V, holes, anchors, gamma):
        """Weighted sums of the anchors' residuals, and sums of the weights, at the holes.

        The formula is that of :mod:`._residual_smoothing`.
        """
        totals, masses = np.zeros(Z.shape), np.zeros(Z.shape)

        def run(first):
            part = slice(first, first + _ROWS)
            _smooth(Z[part], V[part], holes[part], *anchors, gamma, totals[part], masses[part])

        self._each(run, range(0, len(Z), _ROWS))
        return totals, masses

    def _each(self, task, items):
        if len(items) < 2 or effective_n_jobs(self.n_jobs) == 1:
            return [task(item) for item in items]
        return Parallel(n_jobs=self.n_jobs, prefer="threads")(delayed(task)(i) for i in items)

    def _condition(self, table, mean, cov, Z, *, variances=None, noise=None):
        """Write the completed holes into Z; return the sum over rows of C."""
        patterns = table.patterns
        precision = np.linalg.inv(cov)
        precision = (precision + precision.T) / 2.0
        nothing = np.empty((0, 0))
        variances = nothing if variances is None else variances
        noise = nothing if noise is None else noise

        def run(block):
            spread = np.zeros(cov.shape)
            _condition(
                Z, patterns.observed[block], patterns.order, patterns.starts[block.start :],
                mean, cov, precision, spread, variances[block], noise,
            )  # fmt: skip
            return spread

        # C alone is enough for all rows of a pattern, and its lower triangle says it all.
        lower = sum(self._each(run, table.blocks), np.zeros(cov.shape))
        return lower + np.tril(lower, -1).T


class _Table:
    def __init__(self, Z, patterns):
        self.Z, self.patterns = Z, patterns
        n_columns = Z.shape[1]
        n_observed = patterns.observed.sum(axis=1)
        n_holes = n_columns - n_observed
        n_rows = np.diff(patterns.starts)
        cost = np.minimum(n_holes**3, n_observed**3 + n_holes * n_columns * n_observed) / 2.0
        block = (np.cumsum(cost + n_rows * n_holes * n_columns) // _BLOCK_COST).astype(int)
        bounds = np.searchsorted(block, np.arange(block[-1] + 2))
        self.blocks = [slice(a, b) for a, b in pairwise(bounds) if a < b]


@njit(inline="always", fastmath={"contract", "reassoc"})  # a sum vectorises only if reordered
def _dot(a, b, n):
    total = 0.0
    for i in range(n):
        total += a[i] * b[i]
    return total


@njit(inline="always", fastmath={"contract"})
def _subtract(out, factor, row, n):
    for i in range(n):
        out[i] -= factor * row[i]


@_jit
def _cholesky(A, n):
    """Replace the lower triangle of A[:n, :n] by its Cholesky factor."""
    for i in range(n):
        for j in range(i):
            A[i, j] = (A[i, j] - _dot(A[i], A[j], j)) / A[j, j]
        # A conditional covariance may have lost its last digits; it is never negative.
        A[i, i] = math.sqrt(max(A[i, i] - _dot(A[i], A[i], i), 1e-300))


@_jit
def _invert_lower(L, n, out):
    for i in range(n):
        out[i, :i] = 0.0
        for k in range(i):
            _subtract(out[i], L[i, k], out[k], k + 1)
        for j in range(i):
            out[i, j] /= L[i, i]
        out[i, i] = 1.0 / L[i, i]


@_jit
def _gather(A, rows, columns, out):
    for i in range(rows.shape[0]):
        for j in range(columns.shape[0]):
            out[i, j] = A[rows[i], columns[j]]


@_jit
def _by_precision(Z, rows, o, m, mean, precision, C, work, factor):
    """Complete rows through P_mm; leave its inverse in C."""
    n_holes = m.shape[0]
    _gather(precision, m, m, factor)
    _cholesky(factor, n_holes)
    _invert_lower(factor, n_holes, work)
    C[:n_holes, :n_holes] = 0.0
    for k in range(n_holes):
        for i in range(k + 1):
            _subtract(C[i], -work[k, i], work[k], i + 1)
    for i in range(n_holes):
        for j in range(i):
            C[j, i] = C[i, j]
    _gather(precision, m, o, work)
    rest, pull = np.empty(o.shape[0]), np.empty(n_holes)
    for row in rows:
        for j in range(o.shape[0]):
            rest[j] = Z[row, o[j]] - mean[o[j]]
        for i in range(n_holes):
            pull[i] = _dot(work[i], rest, o.shape[0])
        for i in range(n_holes):
            Z[row, m[i]] = mean[m[i]] - _dot(C[i], pull, n_holes)


@_jit
def _by_covariance(Z, rows, o, m, mean, cov, C, work, factor):
    """Complete rows through S_oo; leave the conditional covariance in C."""
    n_observed, n_holes = o.shape[0], m.shape[0]
    _gather(cov, o, o, factor)
    _cholesky(factor, n_observed)
    _gather(cov, o, m, work)
    _gather(cov, m, m, C)
    for i in range(n_observed):
        for k in range(i):
            _subtract(work[i], factor[i, k], work[k], n_holes)
        for j in range(n_holes):
            work[i, j] /= factor[i, i]
        for j in range(n_holes):
            _subtract(C[j], work[i, j], work[i], j + 1)
    for i in range(n_holes):
        for j in range(i):
            C[j, i] = C[i, j]
    rest = np.empty(n_observed)
    for row in rows:
        for i in range(n_holes):
            Z[row, m[i]] = mean[m[i]]
        for i in range(n_observed):
            rest[i] = (Z[row, o[i]] - mean[o[i]] - _dot(factor[i], rest, i)) / factor[i, i]
            for j in range(n_holes):
                Z[row, m[j]] += work[i, j] * rest[i]


@_jit
def _condition(Z, observed, order, starts, mean, cov, precision, spread, variances, noise):
    size = mean.shape[0]
    C, work, factor = np.empty((size, size)), np.empty((size, size)), np.empty((size, size))
    for g in range(observed.shape[0]):
        o, m = np.flatnonzero(observed[g]), np.flatnonzero(~observed[g])
        rows = order[starts[g] : starts[g + 1]]
        n_observed, n_holes = o.shape[0], m.shape[0]
        if n_holes == 0:
            continue
        if n_holes**2 < n_observed * (n_observed + n_holes) and n_observed > 0:
            _by_precision(Z, rows, o, m, mean, precision, C, work, factor)
        else:
            _by_covariance(Z, rows, o, m, mean, cov, C, work, factor)
        for i in range(n_holes):
            for j in range(i + 1):
                spread[m[i], m[j]] += rows.shape[0] * C[i, j]
        if variances.shape[0] > 0:
            for i in range(n_holes):
                variances[g, m[i]] = max(C[i, i], 0.0)
        if noise.shape[0] > 0:
            _cholesky(C, n_holes)
            for row in rows:
                for i in range(n_holes):
                    Z[row, m[i]] += _dot(C[i], noise[row], i + 1)


@_jit
def _leave_one_out(Z, observed, order, starts, mean, cov, out):
    size = mean.shape[0]
    factor, inverse = np.empty((size, size)), np.empty((size, size))
    for g in range(observed.shape[0]):
        o = np.flatnonzero(observed[g])
        n = o.shape[0]
        _gather(cov, o, o, factor)
        _cholesky(factor, n)
        _invert_lower(factor, n, inverse)
        rest, half = np.empty(n), np.empty(n)
        for row in order[starts[g] : starts[g + 1]]:
            for i in range(n):
                rest[i] = Z[row, o[i]] - mean[o[i]]
            for i in range(n):
                half[i] = _dot(inverse[i], rest, i + 1)
            for p in range(n):
                u, diagonal = 0.0, 0.0
                for k in range(p, n):
                    u += inverse[k, p] * half[k]
                    diagonal += inverse[k, p] * inverse[k, p]
                out[row, o[p]] = Z[row, o[p]] - u / diagonal


@_jit
def _expected_kernel(Z_a, V_a, Z_b, V_b, gamma):
    n, m, d = Z_a.shape[0], Z_b.shape[0], Z_a.shape[1]
    K = np.empty((n, m))
    for i in range(n):
        for j in range(m):
            exponent, widening = 0.0, 1.0
            for p in range(d):
                width = 1.0 + 2.0 * gamma * (V_a[i, p] + V_b[j, p])
                gap = Z_a[i, p] - Z_b[j, p]
                exponent += gap * gap / width
                widening *= width
            K[i, j] = math.exp(-gamma * exponent) / math.sqrt(widening)
    return K


@_jit
def _smooth(Z, V, holes, Z_b, V_b, observed_b, residuals, gamma, totals, masses):
    d = Z.shape[1]
    terms = np.empty(d)
    for i in range(Z.shape[0]):
        for j in range(Z_b.shape[0]):
            distance = 0.0
            for p in range(d):
                gap = Z[i, p] - Z_b[j, p]
                terms[p] = gap * gap + V[i, p] + V_b[j, p]
                distance += terms[p]
            for p in range(d):
                if holes[i, p] and observed_b[j, p]:
                    exponent = gamma * (distance - terms[p])
                    if exponent < 40.0:  # beyond, a weight is below 1e-17
                        k = math.exp(-exponent)
                        masses[i, p] += k
                        totals[i, p] += k * residuals[j, p]
