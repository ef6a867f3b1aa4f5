r"""Rows whose squared distances are close to given ones: the s-stress and its minimisation.

.. math:: S = \sum_{i \neq j} w_{ij} \bigl(\lVert x_i - x_j \rVert^2 - T_{ij}\bigr)^2

over the holes of X, in the box [0, 1]. With :math:`R = D(X) - T` its gradient is
:math:`8 (\mathrm{diag}((W \circ R) 1) X - (W \circ R) X)`. In one entry t = x_ip the stress is a
quartic whose stationary points are the roots of a cubic, which has a closed form: a sweep over the
entries needs no step size and never raises S.
"""

import math

import numpy as np
from numba import njit
from scipy.optimize import minimize

_jit = njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})


def sqdist(X):
    """Squared Euclidean distances between rows."""
    norms = np.sum(X * X, axis=1)
    D = np.maximum(norms[:, None] + norms - 2.0 * X @ X.T, 0.0)
    np.fill_diagonal(D, 0.0)
    return D


def target_sqdist(K, gamma):
    r"""Squared distances :math:`-\log K / \gamma` that a Gaussian kernel stands for.

    A corrected kernel can have entries that no Gaussian kernel has: above one they give negative
    targets, and of a negative one the real part of the logarithm is taken.
    """
    T = -np.log(np.maximum(np.abs(K), 1e-300)) / gamma
    np.fill_diagonal(T, 0.0)
    return T


def stress(X, T, W):
    """Compute the s-stress and its gradient in X.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    T, W : ndarrays of shape (n, n)
        Targets and symmetric weights, both 0 on the diagonal.

    Returns
    -------
    value : float
    gradient : ndarray of shape (n, d)
    """
    R = sqdist(X) - T
    WR = W * R
    return float(np.sum(WR * R)), 8.0 * (WR.sum(axis=1)[:, None] * X - WR @ X)


def fit_by_lbfgs(X, holes, T, W, *, max_iter=200):
    """Minimise the stress over the holes in [0, 1] by L-BFGS-B, from where they are."""
    X = X.copy()
    if not holes.any():
        return X

    def value_and_gradient(x):
        X[holes] = x
        value, gradient = stress(X, T, W)
        return value, gradient[holes]

    found = minimize(
        value_and_gradient, X[holes], jac=True, method="L-BFGS-B",
        bounds=[(0.0, 1.0)] * int(holes.sum()), options={"maxiter": max_iter},
    )  # fmt: skip
    X[holes] = found.x
    return X


def fit_by_coordinates(X, holes, T, W, *, max_sweeps=200, tol=1e-6):
    """Minimise the stress over the holes by exact coordinate steps.

    Sweeps stop when no hole moves by more than `tol`.
    """
    X = np.ascontiguousarray(X, dtype=float).copy()
    for _ in range(max_sweeps):
        if sweep_coordinates(X, holes, T, W) <= tol:
            break
    return X


def fit_row(x, holes, others, T, *, max_sweeps=200, tol=1e-6):
    """Complete one row so that its squared distances to complete rows are close to T."""
    x = x.copy()
    weights = np.ones(len(others))
    for _ in range(max_sweeps):
        if _sweep_row(x, holes, others, T, weights) <= tol:
            break
    return x


def fit_as_published(X, holes, T, *, max_sweeps=20_000, tol=1e-5):
    """Sweep over rows with one Adam step each, as the authors' program does.

    Returns
    -------
    X : ndarray of shape (n, d)
    n_sweeps : int
    root_stress : float
    """
    X = np.ascontiguousarray(np.where(holes, 0.5, X))
    first, second = np.zeros(X.shape), np.zeros(X.shape)
    root, t = np.inf, 0
    while t < max_sweeps:
        t += 1
        _sweep_adam(X, holes, T, first, second, t)
        before, root = root, float(np.linalg.norm(sqdist(X) - T))
        if abs(before - root) < tol:
            break
    return X, t, root


@_jit
def _sweep_adam(X, holes, T, first, second, t):
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
            if holes[i, p]:
                first[i, p] = 0.9 * first[i, p] + 0.1 * gradient[p]
                second[i, p] = 0.999 * second[i, p] + 0.001 * gradient[p] ** 2
                direction = first[i, p] / (1.0 - 0.9**t)
                size = math.sqrt(second[i, p] / (1.0 - 0.999**t)) + 1e-8
                X[i, p] = min(max(X[i, p] - rate * direction / size, 0.0), 1.0)


@_jit
def sweep_coordinates(X, holes, T, W):
    """Set each hole of X in turn to its best value; return the largest move."""
    largest = 0.0
    for i in range(X.shape[0]):
        largest = max(largest, _sweep_row(X[i], holes[i], X, T[i], W[i]))
    return largest


@_jit
def _sweep_row(x, holes, others, T, weights):
    m, d = others.shape
    rest = np.empty(m)
    for j in range(m):
        rest[j] = -T[j]
        for p in range(d):
            rest[j] += (x[p] - others[j, p]) ** 2
    largest = 0.0
    for p in range(d):
        if not holes[p]:
            continue
        c3 = c2 = c1 = c0 = 0.0
        for j in range(m):
            w, a = weights[j], others[j, p]
            rest[j] -= (x[p] - a) ** 2
            c3 += w
            c2 -= 3.0 * w * a
            c1 += w * (3.0 * a * a + rest[j])
            c0 -= w * a * (a * a + rest[j])
        best = best_entry(c3, c2, c1, c0)
        largest = max(largest, abs(best - x[p]))
        x[p] = best
        for j in range(m):
            rest[j] += (best - others[j, p]) ** 2
    return largest


@_jit
def best_entry(c3, c2, c1, c0):
    """Minimiser in [0, 1] of the quartic whose derivative is 4 (c3 t^3 + c2 t^2 + c1 t + c0)."""
    best, least = 0.0, 0.0  # the quartic is taken to be 0 at t = 0
    roots = np.empty(4)
    roots[3] = 1.0
    n_roots = _cubic_roots(c3, c2, c1, c0, roots)
    for k in range(4):
        if n_roots <= k < 3:
            continue
        t = roots[k]
        for _ in range(2):  # Newton's method gives back the digits that the closed form lost
            slope = (3.0 * c3 * t + 2.0 * c2) * t + c1
            if k < 3 and slope > 0.0:
                t -= (((c3 * t + c2) * t + c1) * t + c0) / slope
        t = min(max(t, 0.0), 1.0)
        value = (((c3 * t + 4.0 / 3.0 * c2) * t + 2.0 * c1) * t + 4.0 * c0) * t
        if value < least:
            best, least = t, value
    return best


@_jit
def _cubic_roots(c3, c2, c1, c0, roots):
    """Write the real roots of a cubic; return how many there are."""
    if c3 <= 0.0:
        return 0
    shift = -c2 / (3.0 * c3)
    p = c1 / c3 - 3.0 * shift * shift
    q = c0 / c3 + shift * (c1 / c3 - 2.0 * shift * shift)
    discriminant = (q / 2.0) ** 2 + (p / 3.0) ** 3
    if discriminant > 0.0:
        half = math.sqrt(discriminant)
        # The larger of the two cube roots does not cancel; their product is -p / 3.
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
