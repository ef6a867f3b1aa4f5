"""Measure the cost of LAB-RBF: time per step, time per fit, and memory.

    python -m benchmarks.lab_rbf_cost

A step is compared with autograd, and a fit with boosting. Everything runs on one thread. Run it on
an idle machine.
"""

import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits
from torch import Tensor

from sklearn_ext import LABRidgelessRegressor
from sklearn_ext.kernel_regression import make_engine, outer_loss

ALPHA = 1e-3
SIZES = ((128, 200, 10), (128, 350, 20), (512, 350, 20))  # batch, support points, features


def median_seconds(function: Callable[..., object], *arguments: Any, repeats: int = 15) -> float:
    function(*arguments)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function(*arguments)
        seconds.append(time.perf_counter() - start)
    return np.median(seconds)


def differences(kernel: str, points: Tensor, centers: Tensor, theta: Tensor) -> Tensor:
    """Compute the exponents of the kernel from differences, as our numba engine does."""
    gaps = points[:, None, :] - centers
    if kernel == "laplacian":
        return (theta**2 * gaps.abs()).sum(dim=2)
    squares = (theta**2 * gaps**2).sum(dim=2)
    return squares if kernel == "rbf" else squares.clamp_min(1e-12).sqrt()


def products(kernel: str, points: Tensor, centers: Tensor, theta: Tensor) -> Tensor:
    """Compute the exponents from matrix products, which the laplacian kernel does not allow."""
    b = theta**2
    squares = points**2 @ b.T - 2 * points @ (b * centers).T + (b * centers**2).sum(dim=1)
    return squares if kernel == "rbf" else squares.clamp_min(1e-12).sqrt()


def autograd_step(
    exponents: Callable[[str, Tensor, Tensor, Tensor], Tensor],
    kernel: str,
    X: Tensor,
    Y: Tensor,
    centers: Tensor,
    targets: Tensor,
    theta: Tensor,
) -> None:
    K = torch.exp(-exponents(kernel, torch.cat((X, centers)), centers, theta))
    A = K[len(X) :] + ALPHA * torch.eye(len(centers), dtype=K.dtype)
    loss = ((K[: len(X)] @ torch.linalg.solve(A, targets) - Y) ** 2).mean()
    torch.autograd.grad(loss, (theta, targets))


def steps() -> None:
    print("milliseconds per step        ours   autograd, differences   autograd, products")
    rng = np.random.default_rng(0)
    engine = make_engine("numba", None)
    for p, m, d in SIZES:
        arrays = [rng.normal(size=shape) for shape in ((p, d), (p, 1), (m, d), (m, 1))]
        theta, ones = np.full((m, d), 0.3), np.ones((p, 1))
        tensors = [torch.tensor(a) for a in (*arrays, theta)]
        for tensor in tensors[3:]:
            tensor.requires_grad_()
        for kernel in ("exponential", "laplacian", "rbf"):
            X, Y, *support = arrays
            ours = median_seconds(outer_loss, engine, kernel, X, Y, ones, *support, theta, ALPHA)
            row = f"p={p} m={m} d={d} {kernel:<12}{1e3 * ours:7.2f}"
            for form in (differences, products) if kernel != "laplacian" else (differences,):
                theirs = median_seconds(autograd_step, form, kernel, *tensors)
                row += f"{1e3 * theirs:15.2f} ({theirs / ours:4.1f}x)"
            print(row)


def fit_against_boosting(n_samples: int = 10_000, n_features: int = 10, rounds: int = 3) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_samples, n_features))
    y = np.sin(2 * X[:, 0]) + X[:, 1] * X[:, 2] + 0.1 * rng.normal(size=n_samples)
    models = (LABRidgelessRegressor(random_state=0), HistGradientBoostingRegressor(random_state=0))
    seconds = np.empty((rounds, 2))
    for r in range(rounds):
        for k, model in enumerate(models):
            start = time.perf_counter()
            model.fit(X, y)
            seconds[r, k] = time.perf_counter() - start
    ours, boosting = np.median(seconds, axis=0)
    print(f"\nfit of {n_samples:,} x {n_features}: LAB {ours:.2f} s, HistGradientBoosting", end=" ")
    print(f"{boosting:.2f} s, ratio {ours / boosting:.1f}")


def memory_against_samples(
    n_features: int = 20, n_support: int = 500, n_iterations: int = 54
) -> None:
    """Print the peak memory beyond the data. Sizes ascend, since the peak never decreases."""
    print(f"\nd={n_features}, {n_support} support points, {n_iterations} steps")
    rng = np.random.default_rng(0)
    for n_samples in (10_000, 100_000, 1_000_000):
        X = np.empty((n_samples, n_features))
        for chunk in np.array_split(X, 100):
            chunk[:] = rng.normal(size=chunk.shape)
        y = np.sin(X[:, 0]) + X[:, 1]
        model = LABRidgelessRegressor(
            n_support=n_support,
            n_warmup=4,
            growth_iter=4,
            max_iter=n_iterations - 24,
            random_state=0,
        )
        moments: list[float] = []
        begin = time.perf_counter()
        model.set_callbacks(Clock(moments))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        model.fit(X, y)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        step = 1e3 * np.median(np.diff(moments)[-20:])
        print(
            f"n={n_samples:>9,}: {(after - before) / 1024:6.0f} MiB beyond the data, setup "
            f"{moments[0] - begin:5.2f} s, {step:5.2f} ms per step"
        )


class Clock:
    """Callback that records when every iteration begins."""

    def __init__(self, moments: list[float]) -> None:
        self.moments = moments

    def setup(self, estimator: Any, context: Any) -> None: ...

    def teardown(self, estimator: Any, context: Any) -> None: ...

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        if context.task_name == "iteration":
            self.moments.append(time.perf_counter())

    def on_fit_task_end(self, estimator: Any, context: Any) -> None: ...


if __name__ == "__main__":
    torch.set_num_threads(1)
    with threadpool_limits(1):
        steps()
        fit_against_boosting()
        memory_against_samples()
