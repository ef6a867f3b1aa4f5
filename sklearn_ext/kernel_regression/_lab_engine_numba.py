"""LAB kernels on the CPU: fused numba loops, and LAPACK for the linear system.

Differences are formed directly, never by expanding the square, so that identical points are at
distance zero exactly. The innermost loop runs over the centers: it is contiguous, needs no
reassociation, and LLVM turns it into vector instructions; four points share each load of the
centers' tables. Nothing here starts a thread, so results do not depend on the number of threads,
and fits can run side by side.

Loops over ``math.exp`` would call the scalar function of the C library once per element, which
takes two thirds of a training step. :func:`exp_nonpositive` does the same argument reduction and a
polynomial in plain arithmetic, which LLVM vectorizes: six times faster with AVX-512, and exact to
one unit in the last place.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from scipy.linalg import LinAlgError, lapack

from ..utils._arrays import NumpyArrays, compiled
from ..utils._typing import FloatArray

LOG2_E = 1.4426950408889634
# ln 2 in two parts: k * LN2_HIGH is exact for every exponent k that can occur.
LN2_HIGH = 6.93147180369123816490e-01
LN2_LOW = 1.90821492927058770002e-10
SMALLEST_ARGUMENT = -708.0  # below, exp leaves the range of normal numbers
EXPONENT_BIAS = 1023
MANTISSA_BITS = 52


@intrinsic
def _bits_to_float(typing_context: Any, bits: Any) -> tuple[Any, Callable]:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.int64), codegen


@njit(inline="always")
def exp_nonpositive(x: float) -> float:
    r"""Return :math:`e^x` for :math:`x \le 0`, by :math:`e^x = 2^k e^r`, :math:`|r| \le \ln(2)/2`.

    Arguments below -708 give :math:`e^{-708} \approx 3 \cdot 10^{-308}`.
    """
    x = max(x, SMALLEST_ARGUMENT)
    k = math.floor(x * LOG2_E + 0.5)
    r = (x - k * LN2_HIGH) - k * LN2_LOW
    # Horner's scheme for the Taylor polynomial of degree 12: its remainder is below 2e-16.
    p = r / 479001600.0 + 1.0 / 39916800.0
    p = p * r + 1.0 / 3628800.0
    p = p * r + 1.0 / 362880.0
    p = p * r + 1.0 / 40320.0
    p = p * r + 1.0 / 5040.0
    p = p * r + 1.0 / 720.0
    p = p * r + 1.0 / 120.0
    p = p * r + 1.0 / 24.0
    p = p * r + 1.0 / 6.0
    p = p * r + 0.5
    p = p * r + 1.0
    p = p * r + 1.0
    return p * _bits_to_float((np.int64(k) + EXPONENT_BIAS) << MANTISSA_BITS)  # type: ignore[call-arg]  # an intrinsic


_RBF, _EXPONENTIAL, _LAPLACIAN = range(3)
_CODES = {"rbf": _RBF, "exponential": _EXPONENTIAL, "laplacian": _LAPLACIAN}
_GROUP = 4  # points that share one pass over the centers; the loops below are unrolled for it


class LABNumbaEngine(NumpyArrays):
    """A :class:`LABEngine` on NumPy arrays of float64.

    The engine reuses the memory of the large matrices: what :meth:`kernel` and :meth:`factorize`
    return is valid until they are called again. Page faults in newly allocated memory would take as
    long as the arithmetic.
    """

    name = "numba"

    def __init__(self) -> None:
        self._memory: dict[str, FloatArray] = {}

    def _reuse(self, name: str, shape: tuple[int, ...]) -> FloatArray:
        size = math.prod(shape)
        if name not in self._memory or self._memory[name].size < size:
            self._memory[name] = np.empty(size)
        return self._memory[name][:size].reshape(shape)

    def repeat_row(self, row: FloatArray, n: int) -> FloatArray:
        return np.repeat(row, n, axis=0)

    def norm(self, x: FloatArray) -> float:
        return float(np.sqrt(np.vdot(x, x)))

    def kernel(
        self, kernel: str, points: FloatArray, centers: FloatArray, theta: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return K = exp(-D), of shape (n_points, n_centers), and D if its gradient needs it."""
        shape = (points.shape[0], centers.shape[0])
        K = self._reuse("K", shape)
        D = self._reuse("D", shape if kernel == "exponential" else (0, 0))
        _kernel(_CODES[kernel], points, _columns(centers), _columns(theta**2), K, D)
        return K, D

    def factorize(self, K: FloatArray, alpha: float) -> "_LU":
        """Return the LU factors of K + alpha I."""
        A = self._reuse("A", K.shape)
        A[:] = K
        A.flat[:: A.shape[1] + 1] += alpha
        return _LU(A)

    def theta_gradient(
        self,
        kernel: str,
        points: FloatArray,
        centers: FloatArray,
        theta: FloatArray,
        K: FloatArray,
        D: FloatArray,
        left: FloatArray,
        right: FloatArray,
    ) -> FloatArray:
        """Return the gradient in theta of a loss whose gradient in K is ``left @ right.T``."""
        out = np.zeros(centers.shape[::-1])
        _bandwidth_gradient(
            _CODES[kernel], points, _columns(centers), K, D, left, _columns(right), out
        )
        return 2.0 * theta * out.T

    def predict(
        self,
        kernel: str,
        X: FloatArray,
        centers: FloatArray,
        theta: FloatArray,
        coef: FloatArray,
        intercept: FloatArray,
    ) -> FloatArray:
        """Return ``K @ coef + intercept`` without forming K."""
        out = np.empty((X.shape[0], coef.shape[1]))
        _predict(
            _CODES[kernel], X, _columns(centers), _columns(theta**2), _columns(coef), intercept, out
        )
        return out


class _LU:
    def __init__(self, A: FloatArray) -> None:
        # The transpose of a C-ordered array is Fortran-ordered: LAPACK factorizes A^T in place.
        self._lu, self._pivots, info = lapack.dgetrf(A.T, overwrite_a=True)
        if info > 0:
            raise LinAlgError("the kernel matrix of the support points is singular")

    def solve(self, B: FloatArray, transposed: bool = False) -> FloatArray:
        x, _ = lapack.dgetrs(self._lu, self._pivots, B, trans=0 if transposed else 1)
        return np.ascontiguousarray(x)


def _columns(x: FloatArray) -> FloatArray:
    return np.ascontiguousarray(x.T)


@compiled
def _padded(points: FloatArray) -> FloatArray:
    """Copy the points and repeat the last one until their number is a multiple of the group."""
    n = points.shape[0]
    out = np.empty((-(-n // _GROUP) * _GROUP, points.shape[1]))
    for t in range(out.shape[0]):
        for k in range(out.shape[1]):
            out[t, k] = points[min(t, n - 1), k]
    return out


@njit(inline="always")
def _gap(code: int, x: float, c: float) -> float:
    return abs(x - c) if code == _LAPLACIAN else (x - c) * (x - c)


@njit(
    inline="always", fastmath={"contract", "reassoc"}
)  # a sum is vectorized only if it may be reordered
def _dot(a: FloatArray, b: FloatArray) -> float:
    total = 0.0
    for i in range(a.shape[0]):
        total += a[i] * b[i]
    return total


@compiled
def _exponents(
    code: int,
    points: FloatArray,
    t: int,
    centers: FloatArray,
    bandwidths: FloatArray,
    out: FloatArray,
) -> None:
    """Write D between the points t, ..., t + 3 and all centers into ``out`` (4, m)."""
    out[:] = 0.0
    for k in range(points.shape[1]):
        x0, x1 = points[t, k], points[t + 1, k]
        x2, x3 = points[t + 2, k], points[t + 3, k]
        for i in range(centers.shape[1]):
            c = centers[k, i]
            b = bandwidths[k, i]
            out[0, i] += b * _gap(code, x0, c)
            out[1, i] += b * _gap(code, x1, c)
            out[2, i] += b * _gap(code, x2, c)
            out[3, i] += b * _gap(code, x3, c)
    if code == _EXPONENTIAL:
        for s in range(_GROUP):
            for i in range(centers.shape[1]):
                out[s, i] = math.sqrt(out[s, i])


@compiled
def _kernel(
    code: int,
    points: FloatArray,
    centers: FloatArray,
    bandwidths: FloatArray,
    K: FloatArray,
    D: FloatArray,
) -> None:
    n, m = K.shape
    points = _padded(points)
    group = np.empty((_GROUP, m))
    for t in range(0, n, _GROUP):
        _exponents(code, points, t, centers, bandwidths, group)
        for s in range(min(_GROUP, n - t)):
            for i in range(m):
                K[t + s, i] = exp_nonpositive(-group[s, i])
            if code == _EXPONENTIAL:
                for i in range(m):
                    D[t + s, i] = group[s, i]


@compiled
def _bandwidth_gradient(
    code: int,
    points: FloatArray,
    centers: FloatArray,
    K: FloatArray,
    D: FloatArray,
    left: FloatArray,
    right: FloatArray,
    out: FloatArray,
) -> None:
    """Add sum_t S_ti dK_ti / dB_ik with S = left right^T and B = theta^2 to ``out`` (d, m)."""
    n, m = K.shape
    points = _padded(points)
    weights = np.empty((_GROUP, m))
    for t in range(0, n, _GROUP):
        weights[:] = 0.0
        for s in range(min(_GROUP, n - t)):
            for j in range(left.shape[1]):
                for i in range(m):
                    weights[s, i] -= left[t + s, j] * right[j, i]
            for i in range(m):
                weights[s, i] *= K[t + s, i]
            if code == _EXPONENTIAL:
                for i in range(m):
                    # At distance zero, the kernel is 1 for any bandwidths.
                    r = D[t + s, i]
                    weights[s, i] *= 0.5 / r if r > 0.0 else 0.0
        for k in range(points.shape[1]):
            x0, x1 = points[t, k], points[t + 1, k]
            x2, x3 = points[t + 2, k], points[t + 3, k]
            for i in range(m):
                c = centers[k, i]
                out[k, i] += (
                    weights[0, i] * _gap(code, x0, c) + weights[1, i] * _gap(code, x1, c)
                ) + (weights[2, i] * _gap(code, x2, c) + weights[3, i] * _gap(code, x3, c))


@compiled
def _predict(
    code: int,
    X: FloatArray,
    centers: FloatArray,
    bandwidths: FloatArray,
    coef: FloatArray,
    intercept: FloatArray,
    out: FloatArray,
) -> None:
    n, q = out.shape
    m = centers.shape[1]
    X = _padded(X)
    group = np.empty((_GROUP, m))
    for t in range(0, n, _GROUP):
        _exponents(code, X, t, centers, bandwidths, group)
        for s in range(min(_GROUP, n - t)):
            for i in range(m):
                group[s, i] = exp_nonpositive(-group[s, i])
            for j in range(q):
                out[t + s, j] = intercept[j] + _dot(group[s], coef[j])
