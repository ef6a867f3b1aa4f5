"""The Gaussian model on NumPy arrays, with compiled kernels on CPU threads."""

import math

import numpy as np

from ...utils._arrays import compiled
from ...utils._typing import BoolArray, FloatArray
from ._conditional import (
    PatternTable,
    conditional_gaussian,
    leave_one_out,
    owned,
    pattern_table,
    run_in_threads,
)

_SAMPLES = 256  # samples that a thread smooths at once


class GaussianNumbaEngine:
    """A :class:`GaussianEngine` for the CPU.

    Parameters
    ----------
    n_jobs : int or None, default=None
        Number of threads, interpreted as in joblib. Results do not depend on it.
    """

    name = "numba"

    def __init__(self, n_jobs: int | None = None) -> None:
        self.n_jobs = n_jobs

    def table(self, X: FloatArray) -> PatternTable:
        return pattern_table(X)

    def moments(
        self, table: PatternTable, mean: FloatArray, cov: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        law = conditional_gaussian(table, mean, cov, n_jobs=self.n_jobs)
        R = law.completed - mean
        return R.sum(axis=0), R.T @ R + law.covariance_sum

    def posterior(
        self, table: PatternTable, mean: FloatArray, cov: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        law = conditional_gaussian(table, mean, cov, n_jobs=self.n_jobs)
        return law.completed, law.variances

    def draw(
        self, table: PatternTable, mean: FloatArray, cov: FloatArray, noise: FloatArray
    ) -> FloatArray:
        return conditional_gaussian(table, mean, cov, noise=noise, n_jobs=self.n_jobs).completed

    def leave_one_out(
        self, table: PatternTable, mean: FloatArray, cov: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        return leave_one_out(table, mean, cov)

    def expected_kernel(
        self,
        Z_a: FloatArray,
        V_a: FloatArray,
        Z_b: FloatArray,
        V_b: FloatArray,
        gamma: float,
    ) -> FloatArray:
        K: FloatArray = _expected_kernel(
            owned(Z_a), owned(V_a), owned(Z_b), owned(V_b), float(gamma)
        )
        return K

    def smooth(
        self,
        Z: FloatArray,
        V: FloatArray,
        missing: BoolArray,
        anchors: tuple[FloatArray, FloatArray, BoolArray, FloatArray],
        gamma: float,
    ) -> tuple[FloatArray, FloatArray]:
        totals, masses = np.zeros(Z.shape), np.zeros(Z.shape)
        Z, V, missing = owned(Z), owned(V), owned(missing)
        Z_b, V_b, observed_b, residuals = map(owned, anchors)

        def smooth_part(first: int) -> None:
            part = slice(first, first + _SAMPLES)
            _smooth(
                Z[part], V[part], missing[part], Z_b, V_b, observed_b, residuals,
                float(gamma), totals[part], masses[part],
            )  # fmt: skip

        run_in_threads(smooth_part, range(0, len(Z), _SAMPLES), self.n_jobs)
        return totals, masses


@compiled
def _expected_kernel(
    Z_a: FloatArray, V_a: FloatArray, Z_b: FloatArray, V_b: FloatArray, gamma: float
) -> FloatArray:
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


@compiled
def _smooth(
    Z: FloatArray,
    V: FloatArray,
    missing: BoolArray,
    Z_b: FloatArray,
    V_b: FloatArray,
    observed_b: BoolArray,
    residuals: FloatArray,
    gamma: float,
    totals: FloatArray,
    masses: FloatArray,
) -> None:
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
                if missing[i, p] and observed_b[j, p]:
                    exponent = gamma * (distance - terms[p])
                    if exponent < 40.0:  # larger exponents give weights below 1e-17
                        k = math.exp(-exponent)
                        masses[i, p] += k
                        totals[i, p] += k * residuals[j, p]
