r"""Exact sums of floating-point numbers, from which addends can be subtracted again.

A sum is an integer in units of the smallest positive float, :math:`2^{-1074}`, kept as digits to
the base :math:`2^{32}`. Addition of integers is exact, so a sum depends neither on the order of the
addends nor on addends that were subtracted: after samples are forgotten, the digits are those of a
sum over the retained samples, bit for bit.

Products of two floats enter as two addends whose sum is the exact product, so that a variance
does not suffer from a large mean.
"""

from typing import Any

import numpy as np
from numba import njit

from ....utils._typing import FloatArray, IntArray

N_DIGITS = 68  # 2046 exponents and 53 bits of a mantissa, in digits of 32 bits
_MOMENTS = 3  # of weights, weighted values, and weighted squares
_CONSTANT = 2**80  # a variance this much below the mean square is rounding of weighted squares


@njit(nogil=True, cache=True, error_model="numpy")
def _add(digits: IntArray, value: float, bits: int, sign: int) -> None:
    """Add a float, whose bits are given, to a sum."""
    if value < 0.0:
        sign = -sign
    exponent = (bits >> 52) & 2047
    mantissa = bits & 4503599627370495
    if exponent == 0:
        exponent = 1  # a subnormal number
    else:
        mantissa |= 4503599627370496
    place, shift = (exponent - 1) >> 5, (exponent - 1) & 31
    low = (mantissa & 134217727) << shift
    high = (mantissa >> 27) << shift
    digits[place] += sign * ((low & 4294967295) + ((high & 31) << 27))
    digits[place + 1] += sign * ((low >> 32) + ((high >> 5) & 4294967295))
    digits[place + 2] += sign * (high >> 37)


@njit(nogil=True, cache=True, error_model="numpy")
def _product_error(a: float, b: float, product: float) -> float:
    """Return a * b - product, by Dekker's algorithm."""
    t = 134217729.0 * a
    a_high = t - (t - a)
    a_low = a - a_high
    t = 134217729.0 * b
    b_high = t - (t - b)
    b_low = b - b_high
    return ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low


@njit(nogil=True, cache=True, error_model="numpy")
def _add_moments(digits: IntArray, X: FloatArray, weights: FloatArray, sign: int) -> None:
    """Add weights, weighted values and weighted squares of the values that are not missing."""
    n, d = X.shape
    addend = np.empty(1)
    bits = addend.view(np.int64)
    for j in range(d):
        for i in range(n):
            x, w = X[i, j], weights[i]
            if np.isnan(x):
                continue
            addend[0] = w
            _add(digits[0, j], w, bits[0], sign)
            first = w * x
            square = x * x
            second = w * square
            error = _product_error(x, x, square)
            for moment, value in (
                (1, first),
                (1, _product_error(w, x, first)),
                (2, second),
                (2, _product_error(w, square, second)),
                (2, w * error),
            ):
                addend[0] = value
                _add(digits[moment, j], value, bits[0], sign)
    for moment in range(digits.shape[0]):  # carry, so that equal sums have equal digits
        for j in range(d):
            for k in range(digits.shape[2] - 1):
                carry = digits[moment, j, k] >> 32
                digits[moment, j, k] -= carry << 32
                digits[moment, j, k + 1] += carry


def empty_moments(n_columns: int) -> IntArray:
    """Return the moments of no samples.

    Returns
    -------
    ndarray of int64 of shape (3, n_columns, n_digits)
        Digits of the sums of weights, of weighted values and of weighted squares.
    """
    return np.zeros((_MOMENTS, n_columns, N_DIGITS), dtype=np.int64)


def changed_moments(digits: IntArray, X: FloatArray, weights: FloatArray, sign: int) -> IntArray:
    """Add (sign 1) or subtract (-1) samples; NaN is left out.

    Parameters
    ----------
    digits : ndarray of int64 of shape (3, n_columns, n_digits)
        Moments, as from `empty_moments`.
    X : ndarray of shape (n_samples, n_columns)
        Samples, with absolute values below 1e100.
    weights : ndarray of shape (n_samples,)
        Weights of the samples.
    sign : {1, -1}
        Whether the samples are added or subtracted.

    Returns
    -------
    ndarray of int64 of shape (3, n_columns, n_digits)
    """
    digits = digits.copy()
    _add_moments(digits, np.ascontiguousarray(X), np.ascontiguousarray(weights), sign)
    return digits


def integers(digits: IntArray) -> list[int]:
    """Return sums as integers in units of the smallest float.

    Parameters
    ----------
    digits : ndarray of int64 of shape (n_columns, n_digits)
        Sums.

    Returns
    -------
    list of int
    """
    totals = [0] * len(digits)
    for column, place in zip(*np.nonzero(digits), strict=True):
        totals[column] += int(digits[column, place]) << (32 * int(place))
    return totals


def mean_and_variance(digits: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return the correctly rounded mean and variance of each column, or NaN without a value.

    Parameters
    ----------
    digits : ndarray of int64 of shape (3, n_columns, n_digits)
        Moments.

    Returns
    -------
    mean : ndarray of shape (n_columns,)
    variance : ndarray of shape (n_columns,)
        Zero where all values are equal.
    """
    totals: Any = zip(*(integers(moment) for moment in digits), strict=True)
    mean, variance = (np.full(digits.shape[1], np.nan) for _ in range(2))
    for j, (weight, first, second) in enumerate(totals):
        if weight == 0:
            continue
        mean[j] = first / weight
        # Python divides integers without intermediate rounding.
        spread = second * weight - first * first
        is_constant = spread * _CONSTANT <= second * weight
        variance[j] = 0.0 if is_constant else spread / (weight * weight)
    return mean, variance
