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
from numba.extending import intrinsic, overload
from numpy.typing import ArrayLike, DTypeLike
from scipy.linalg import LinAlgError, lapack

from ...utils._arrays import NumpyArrays, compiled
from ...utils._typing import FloatArray

LOG2_E = 1.4426950408889634
# ln 2 in two parts: k * LN2_HIGH is exact for every exponent k that can occur.
LN2_HIGH = 6.93147180369123816490e-01
LN2_LOW = 1.90821492927058770002e-10
SMALLEST_ARGUMENT = -708.0  # below, exp leaves the range of normal numbers
EXPONENT_BIAS = 1023
MANTISSA_BITS = 52

# The same in single precision. Every constant is typed: Python numbers would widen the arithmetic.
_SINGLE = np.float32
LOG2_E_SINGLE = _SINGLE(LOG2_E)
LN2_HIGH_SINGLE = _SINGLE(0.693359375)
LN2_LOW_SINGLE = _SINGLE(math.log(2.0) - 0.693359375)
SMALLEST_ARGUMENT_SINGLE = _SINGLE(-87.0)
HALF, ONE = _SINGLE(0.5), _SINGLE(1.0)
A3, A4, A5, A6, A7 = (_SINGLE(1.0 / math.factorial(k)) for k in range(3, 8))


def _bitcast(source: Any, target: Any, llvm_type: ir.Type) -> Callable:
    """Make a function that reads the bits of an integer as a floating-point number."""

    def bits_to_float(typing_context: Any, bits: Any) -> tuple[Any, Callable]:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.bitcast(args[0], llvm_type)

        return target(source), codegen

    return intrinsic(bits_to_float)


_bits_to_double = _bitcast(types.int64, types.float64, ir.DoubleType())
_bits_to_single = _bitcast(types.int32, types.float32, ir.FloatType())


def exp_nonpositive(x: float) -> float:
    r"""Return :math:`e^x` for :math:`x \le 0`, by :math:`e^x = 2^k e^r`, :math:`|r| \le \ln(2)/2`.

    Arguments below -708 give :math:`e^{-708} \approx 3 \cdot 10^{-308}`, and in single precision
    arguments below -87 give :math:`e^{-87} \approx 10^{-38}`.
    """
    return math.exp(x)


@overload(exp_nonpositive, inline="always", strict=False)
def _exp_in_the_precision_of(x: Any) -> Callable:
    return _exp_single if x == types.float32 else _exp_double


def _exp_double(x: float) -> float:
    x = x if x > SMALLEST_ARGUMENT else SMALLEST_ARGUMENT  # max takes longer to compile
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
    return p * _bits_to_double((np.int64(k) + EXPONENT_BIAS) << MANTISSA_BITS)


def _exp_single(x: np.float32) -> np.float32:
    x = x if x > SMALLEST_ARGUMENT_SINGLE else SMALLEST_ARGUMENT_SINGLE
    k = np.floor(x * LOG2_E_SINGLE + HALF)
    r = (x - k * LN2_HIGH_SINGLE) - k * LN2_LOW_SINGLE
    # The remainder of degree 7 is below 6e-9.
    p = r * A7 + A6
    p = p * r + A5
    p = p * r + A4
    p = p * r + A3
    p = p * r + HALF
    p = p * r + ONE
    p = p * r + ONE
    return p * _bits_to_single(np.int32((np.int32(k) + np.int32(127)) << np.int32(23)))


_RBF, _EXPONENTIAL, _LAPLACIAN = range(3)
_CODES = {"rbf": _RBF, "exponential": _EXPONENTIAL, "laplacian": _LAPLACIAN}
_GROUP = 4  # points that share one pass over the centers; the loops below are unrolled for it


class LABNumbaEngine(NumpyArrays):
    """A :class:`LABEngine` on NumPy arrays.

    Parameters
    ----------
    dtype : dtype, default=float64
        Type of all arrays and of the linear system.

    Notes
    -----
    The engine reuses the memory of the large matrices: results of :meth:`kernel` and
    :meth:`factorize` are valid until the next call. Page faults in newly allocated memory would
    take as long as the arithmetic.
    """

    name = "numba"

    def __init__(self, dtype: DTypeLike = np.float64) -> None:
        self.dtype = np.dtype(dtype)
        self._memory: dict[str, FloatArray] = {}

    def in_single_precision(self) -> "LABNumbaEngine":
        return LABNumbaEngine(np.float32)

    def asarray(self, x: ArrayLike) -> FloatArray:
        return np.ascontiguousarray(x, dtype=self.dtype)

    def to_numpy(self, x: FloatArray) -> FloatArray:
        return x.astype(np.float64, copy=False)

    def zeros(self, *shape: int) -> FloatArray:
        return np.zeros(shape, dtype=self.dtype)

    def _reuse(self, name: str, shape: tuple[int, ...]) -> FloatArray:
        size = math.prod(shape)
        if name not in self._memory or self._memory[name].size < size:
            self._memory[name] = np.empty(size, dtype=self.dtype)
        return self._memory[name][:size].reshape(shape)

    def _group(self, n_centers: int) -> FloatArray:
        return self._reuse("group", (_GROUP, n_centers))

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
        _kernel(
            _CODES[kernel],
            _padded(points),
            _columns(centers),
            _columns(theta**2),
            K,
            D,
            self._group(shape[1]),
        )
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
        out = self.zeros(*centers.shape[::-1])
        _bandwidth_gradient(
            _CODES[kernel],
            _padded(points),
            _columns(centers),
            K,
            D,
            left,
            _columns(right),
            out,
            self._group(K.shape[1]),
        )
        return 2.0 * theta * out.T


class _LU:
    def __init__(self, A: FloatArray) -> None:
        # The transpose of a C-ordered array is Fortran-ordered: LAPACK factorizes A^T in place.
        is_single = A.dtype == np.float32
        factorize = lapack.sgetrf if is_single else lapack.dgetrf
        self._solve = lapack.sgetrs if is_single else lapack.dgetrs
        self._lu, self._pivots, info = factorize(A.T, overwrite_a=True)
        if info > 0:
            raise LinAlgError("the kernel matrix of the support points is singular")

    def solve(self, B: FloatArray, transposed: bool = False) -> FloatArray:
        x, _ = self._solve(self._lu, self._pivots, B, trans=0 if transposed else 1)
        return np.ascontiguousarray(x)


def _columns(x: FloatArray) -> FloatArray:
    return np.ascontiguousarray(x.T)


def _padded(points: FloatArray) -> FloatArray:
    """Copy the points and repeat the last one until their number is a multiple of the group."""
    return np.concatenate((points, np.repeat(points[-1:], -len(points) % _GROUP, axis=0)))


@njit(inline="always")
def _gap(code: int, x: float, c: float) -> float:
    return abs(x - c) if code == _LAPLACIAN else (x - c) * (x - c)


@compiled
def _kernel(
    code: int,
    points: FloatArray,
    centers: FloatArray,
    bandwidths: FloatArray,
    K: FloatArray,
    D: FloatArray,
    group: FloatArray,
) -> None:
    """Write the kernels of padded points to ``K`` (n, m), and the exponents to ``D`` if needed.

    ``group`` (4, m) is working memory, passed in because allocations take long to compile.
    """
    n, m = K.shape
    for t in range(0, n, _GROUP):
        for s in range(_GROUP):
            for i in range(m):
                group[s, i] = 0.0
        for k in range(points.shape[1]):
            x0, x1 = points[t, k], points[t + 1, k]
            x2, x3 = points[t + 2, k], points[t + 3, k]
            for i in range(m):
                c = centers[k, i]
                b = bandwidths[k, i]
                group[0, i] += b * _gap(code, x0, c)
                group[1, i] += b * _gap(code, x1, c)
                group[2, i] += b * _gap(code, x2, c)
                group[3, i] += b * _gap(code, x3, c)
        for s in range(_GROUP if t + _GROUP <= n else n - t):
            if code == _EXPONENTIAL:
                for i in range(m):
                    group[s, i] = D[t + s, i] = math.sqrt(group[s, i])
            for i in range(m):
                K[t + s, i] = exp_nonpositive(-group[s, i])


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
    weights: FloatArray,
) -> None:
    """Add sum_t S_ti dK_ti / dB_ik to ``out`` (d, m), with S = left right^T and B = theta^2.

    The points are padded, and ``weights`` (4, m) is working memory.
    """
    n, m = K.shape
    for t in range(0, n, _GROUP):
        for s in range(_GROUP):
            for i in range(m):
                weights[s, i] = 0.0
        for s in range(_GROUP if t + _GROUP <= n else n - t):
            for j in range(left.shape[1]):
                for i in range(m):
                    weights[s, i] -= left[t + s, j] * right[j, i]
            for i in range(m):
                weights[s, i] *= K[t + s, i]
            if code == _EXPONENTIAL:
                for i in range(m):
                    # At distance zero, the kernel is 1 for any bandwidths.
                    r = D[t + s, i]
                    weights[s, i] *= HALF / r if r > 0.0 else _SINGLE(0.0)
        for k in range(points.shape[1]):
            x0, x1 = points[t, k], points[t + 1, k]
            x2, x3 = points[t + 2, k], points[t + 3, k]
            for i in range(m):
                c = centers[k, i]
                out[k, i] += (
                    weights[0, i] * _gap(code, x0, c) + weights[1, i] * _gap(code, x1, c)
                ) + (weights[2, i] * _gap(code, x2, c) + weights[3, i] * _gap(code, x3, c))
