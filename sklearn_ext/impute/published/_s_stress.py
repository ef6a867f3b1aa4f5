r"""The s-stress of samples with given squared distances, and its minimization.

The s-stress is minimized over the missing entries of X in the box [0, 1]:

.. math:: S = \sum_{i \neq j} w_{ij} \bigl(\lVert x_i - x_j \rVert^2 - T_{ij}\bigr)^2

With :math:`R = D(X) - T`, its gradient is
:math:`8 (\mathrm{diag}((W \circ R) 1) X - (W \circ R) X)`. As a function of one entry, the stress
is a quartic whose stationary points are the roots of a cubic, which have a closed form. A sweep of
exact coordinate steps therefore needs no step size and never raises S.
"""

import math

import numpy as np
from scipy.optimize import minimize

from ...utils._arrays import compiled
from ...utils._typing import BoolArray, FloatArray


def sqdist(X: FloatArray) -> FloatArray:
    """Compute squared Euclidean distances between samples."""
    norms = np.sum(X * X, axis=1)
    D = np.maximum(norms[:, None] + norms - 2.0 * X @ X.T, 0.0)
    np.fill_diagonal(D, 0.0)
    return D


def target_sqdist(K: FloatArray, gamma: float) -> FloatArray:
    r"""Compute the squared distances :math:`-\log K / \gamma` of a Gaussian kernel.

    A corrected kernel can have entries that no Gaussian kernel has. Entries above one give negative
    targets, and the logarithm of a negative entry is replaced by its real part.
    """
    T = -np.log(np.maximum(np.abs(K), 1e-300)) / gamma
    np.fill_diagonal(T, 0.0)
    return T


def stress(X: FloatArray, T: FloatArray, W: FloatArray) -> tuple[float, FloatArray]:
    """Compute the s-stress and its gradient in X.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    T : ndarray of shape (n, n)
        Squared distances to approximate, 0 on the diagonal.
    W : ndarray of shape (n, n)
        Symmetric weights, 0 on the diagonal.

    Returns
    -------
    value : float
    gradient : ndarray of shape (n, d)
    """
    R = sqdist(X) - T
    WR = W * R
    return float(np.sum(WR * R)), 8.0 * (WR.sum(axis=1)[:, None] * X - WR @ X)


def fit_by_lbfgs(
    X: FloatArray, missing: BoolArray, T: FloatArray, W: FloatArray, *, max_iter: int = 200
) -> FloatArray:
    """Minimize the stress over missing entries in [0, 1] by L-BFGS-B, starting from X."""
    X = X.copy()
    if not missing.any():
        return X

    def value_and_gradient(x: FloatArray) -> tuple[float, FloatArray]:
        X[missing] = x
        value, gradient = stress(X, T, W)
        return value, gradient[missing]

    found = minimize(
        value_and_gradient, X[missing], jac=True, method="L-BFGS-B",
        bounds=[(0.0, 1.0)] * int(missing.sum()), options={"maxiter": max_iter},
    )  # fmt: skip
    X[missing] = found.x
    return X


def fit_sample(
    x: FloatArray,
    missing: BoolArray,
    others: FloatArray,
    T: FloatArray,
    *,
    max_sweeps: int = 200,
    tol: float = 1e-6,
) -> FloatArray:
    """Complete one sample so that its squared distances to complete samples are close to T."""
    x = x.copy()
    for _ in range(max_sweeps):
        if _sweep_sample(x, missing, others, T) <= tol:
            break
    return x


def fit_by_adam(
    X: FloatArray,
    missing: BoolArray,
    T: FloatArray,
    *,
    max_sweeps: int = 20_000,
    tol: float = 1e-5,
) -> tuple[FloatArray, int, float]:
    """Sweep over samples with one Adam step each, as the authors' program does.

    Returns
    -------
    X : ndarray of shape (n, d)
    n_sweeps : int
    root_stress : float
    """
    X = np.ascontiguousarray(np.where(missing, 0.5, X))
    first, second = np.zeros(X.shape), np.zeros(X.shape)
    root, t = np.inf, 0
    while t < max_sweeps:
        t += 1
        _sweep_adam(X, missing, T, first, second, t)
        before, root = root, float(np.linalg.norm(sqdist(X) - T))
        if abs(before - root) < tol:
            break
    return X, t, root


@compiled
def _sweep_adam(
    X: FloatArray,
    missing: BoolArray,
    T: FloatArray,
    first: FloatArray,
    second: FloatArray,
    t: int,
) -> None:
    n, d = X.shape
    rate = 0.1 / math.sqrt(t)
    gradient, gap = np.empty(d), np.empty(d)
    for i in range(n):
        gradient[:] = 0.0
        for j in range(n):
            if j == i:
                continue
            distance = -T[i, j]
            for p in range(d):
                gap[p] = X[i, p] - X[j, p]
                distance += gap[p] * gap[p]
            for p in range(d):
                gradient[p] += 4.0 * distance * gap[p]
        for p in range(d):
            if missing[i, p]:
                first[i, p] = 0.9 * first[i, p] + 0.1 * gradient[p]
                second[i, p] = 0.999 * second[i, p] + 0.001 * gradient[p] ** 2
                direction = first[i, p] / (1.0 - 0.9**t)
                size = math.sqrt(second[i, p] / (1.0 - 0.999**t)) + 1e-8
                X[i, p] = min(max(X[i, p] - rate * direction / size, 0.0), 1.0)


@compiled
def _sweep_sample(
    x: FloatArray,
    missing: BoolArray,
    others: FloatArray,
    T: FloatArray,
) -> float:
    m, d = others.shape
    rest = np.empty(m)
    for j in range(m):
        rest[j] = -T[j]
        for p in range(d):
            rest[j] += (x[p] - others[j, p]) ** 2
    largest = 0.0
    for p in range(d):
        if not missing[p]:
            continue
        c3 = c2 = c1 = c0 = 0.0
        for j in range(m):
            a = others[j, p]
            rest[j] -= (x[p] - a) ** 2
            c3 += 1.0
            c2 -= 3.0 * a
            c1 += 3.0 * a * a + rest[j]
            c0 -= a * (a * a + rest[j])
        best = best_entry(c3, c2, c1, c0)
        largest = max(largest, abs(best - x[p]))
        x[p] = best
        for j in range(m):
            rest[j] += (best - others[j, p]) ** 2
    return largest


@compiled
def best_entry(c3: float, c2: float, c1: float, c0: float) -> float:
    """Minimize over [0, 1] the quartic with derivative 4 (c3 t^3 + c2 t^2 + c1 t + c0)."""
    best, least = 0.0, 0.0  # the quartic is 0 at t = 0
    roots = np.empty(4)
    roots[3] = 1.0
    n_roots = _cubic_roots(c3, c2, c1, c0, roots)
    for k in range(4):
        if n_roots <= k < 3:
            continue
        t = roots[k]
        for _ in range(2):  # Newton's method restores the precision that is lost above
            slope = (3.0 * c3 * t + 2.0 * c2) * t + c1
            if k < 3 and slope > 0.0:
                t -= (((c3 * t + c2) * t + c1) * t + c0) / slope
        t = min(max(t, 0.0), 1.0)
        value = (((c3 * t + 4.0 / 3.0 * c2) * t + 2.0 * c1) * t + 4.0 * c0) * t
        if value < least:
            best, least = t, value
    return best


@compiled
def _cubic_roots(c3: float, c2: float, c1: float, c0: float, roots: FloatArray) -> int:
    """Write the real roots of a cubic to `roots`; return their number."""
    if c3 <= 0.0:
        return 0
    shift = -c2 / (3.0 * c3)
    p = c1 / c3 - 3.0 * shift * shift
    q = c0 / c3 + shift * (c1 / c3 - 2.0 * shift * shift)
    discriminant = (q / 2.0) ** 2 + (p / 3.0) ** 3
    if discriminant > 0.0:
        half = math.sqrt(discriminant)
        # The larger cube root does not suffer from cancellation; the product of both is -p / 3.
        u = np.cbrt(-q / 2.0 - half if q > 0.0 else -q / 2.0 + half)
        roots[0] = shift + u - (p / (3.0 * u) if u != 0.0 else 0.0)
        return 1
    radius = math.sqrt(max(-p / 3.0, 0.0))
    angle = 0.0
    if radius > 0.0:
        angle = math.acos(min(max(-q / (2.0 * radius**3), -1.0), 1.0))
    for k in range(3):
        roots[k] = shift + 2.0 * radius * math.cos((angle - 2.0 * math.pi * k) / 3.0)
    return 3
