"""Measure figures that the user guide cites and that are not part of a comparison.

    python -m benchmarks.guide_figures [NAME ...]

Seconds are CPU time on one thread. All data are generated or ship with scikit-learn.
"""

import copy
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from sklearn_ext import (
    ConditionalDDPM,
    DecentralizedRFKRR,
    DiffusionOODDetector,
    NetClassifier,
    OrthLossOODDetector,
    SFRonClassForgetter,
    SupervisedKernelImputer,
    UniformSoup,
)

FloatArray: TypeAlias = npt.NDArray[np.floating]
IntArray: TypeAlias = npt.NDArray[np.integer]


def digits() -> tuple[FloatArray, FloatArray, IntArray, IntArray]:
    """Return digits in [0, 1], split into three quarters for training and a quarter for testing."""
    X, y = load_digits(return_X_y=True)
    return train_test_split(X / 16, y, test_size=0.25, stratify=y, random_state=0)


def seconds(function: Callable[..., object], *args: Any, **kwargs: Any) -> float:
    """Return the CPU time of a call."""
    start = time.process_time()
    function(*args, **kwargs)
    return time.process_time() - start


def waves(n: int, d: int, seed: int = 0) -> tuple[FloatArray, FloatArray]:
    """Return samples in a cube, and a smooth target with noise."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(size=(n, d))
    return X, np.sin(6 * X[:, 0]) + X[:, 1] * X[:, 2] + 0.1 * rng.standard_normal(n)


def dekrr_cost() -> Iterator[str]:
    for n_nodes, n_samples, n_components in ((10, 1032, 60), (20, 50_000, 100)):
        X, y = waves(n_nodes * n_samples, 8)
        node = np.repeat(np.arange(n_nodes), n_samples)
        model = DecentralizedRFKRR(n_components=n_components, n_nodes=n_nodes, random_state=0)
        took = seconds(model.fit, X, y, node=node)
        yield (
            f"{n_nodes} nodes of {n_samples:,} samples, {n_components} random features each: "
            f"{took:.2f} s"
        )


def imputation_cost() -> Iterator[str]:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((100_000, 10)) @ rng.standard_normal((10, 50))
    X += 0.3 * rng.standard_normal(X.shape)
    X[rng.uniform(size=X.shape) < 0.4] = np.nan
    took = seconds(SupervisedKernelImputer(random_state=0).fit_transform, X)
    yield f"100,000 samples, 50 features, 40% missing: {took:.1f} s"


def orthloss_cost() -> Iterator[str]:
    X, X_test, y, _ = digits()
    outliers = np.random.default_rng(0).uniform(size=(500, 64))
    thousand = np.tile(X_test, (3, 1))[:1000]
    detector = OrthLossOODDetector(outlier_label=-1, random_state=0)
    detector.fit(np.vstack((X, outliers)), np.concatenate((y, np.full(500, -1))))
    yield f"scores of 1,000 digits: {seconds(detector.score_samples, thousand):.3f} s"


def regeneration_cost() -> Iterator[str]:
    X, X_test, y, _ = digits()
    known, thousand = X[:692], np.tile(X_test, (3, 1))[:1000]
    for name, shape in (("vectors, MLP", (-1, 64)), ("images, CNN", (-1, 8, 8))):
        detector = DiffusionOODDetector(NetClassifier(random_state=0), random_state=0)
        detector.fit(known.reshape(shape), y[:692])
        took = seconds(detector.score_samples, thousand.reshape(shape))
        yield f"scores of 1,000 digits as {name}, fitted on 692: {took:.3f} s"
    X = np.random.default_rng(0).uniform(size=(6000, 196))
    detector = DiffusionOODDetector(disparity="pixel", random_state=0).fit(X)
    took = seconds(detector.score_samples, X[:1000])
    yield f"scores of 1,000 samples of 196 features, 5,000 stored: {took:.3f} s"


def shifted_digits() -> Iterator[str]:
    X, X_test, y, _ = digits()
    shifted = np.roll(X_test.reshape(-1, 8, 8), 1, axis=2)
    for name, shape in (("vectors, MLP", (-1, 64)), ("images, CNN", (-1, 8, 8))):
        detector = DiffusionOODDetector(NetClassifier(random_state=0), random_state=0)
        detector.fit(X.reshape(shape), y)
        rejected = (detector.predict(shifted.reshape(shape)) == -1).mean()
        plain = (detector.predict(X_test.reshape(shape)) == -1).mean()
        yield f"shifted by a pixel, {name}: {rejected:.0%} rejected ({plain:.0%} unshifted)"


def soup_starts() -> Iterator[str]:
    X, X_test, y, y_test = digits()
    start = NetClassifier(max_epochs=5, random_state=0).fit(X, y)

    def trained_further(seed: int) -> NetClassifier:
        return copy.deepcopy(start).set_params(random_state=seed).partial_fit(X, y)

    one = [trained_further(seed) for seed in range(4)]
    several = [NetClassifier(max_epochs=10, random_state=seed).fit(X, y) for seed in range(4)]
    for name, nets in (("fine-tuned from one", one), ("trained independently", several)):
        singles = [net.score(X_test, y_test) for net in nets]
        with warnings.catch_warnings(action="ignore"):
            soup = UniformSoup(ingredients=nets).fit(X, y)
        yield (
            f"four networks {name}: accuracy {min(singles):.1%} to {max(singles):.1%}, "
            f"average of their weights {soup.score(X_test, y_test):.1%}"
        )


def forgotten_digit() -> Iterator[str]:
    X, y = load_digits(return_X_y=True)
    X = X / 8 - 1
    classifier = MLPClassifier((256, 128), random_state=0).fit(X, y)
    model = ConditionalDDPM(random_state=0).fit(X, y)

    def fraction_of_threes(
        model: ConditionalDDPM | SFRonClassForgetter, y: IntArray | None = None, **options: Any
    ) -> float:
        drawn = model.sample(500, y, random_state=0, **options)[0]
        return (classifier.predict(drawn) == 3).mean()

    def forgotten(**parameters: Any) -> SFRonClassForgetter:
        forgetter = SFRonClassForgetter(FrozenEstimator(model), random_state=0, **parameters)
        return forgetter.fit(X, y, forget_class=3)

    threes = np.full(500, 3)
    before = fraction_of_threes(model, guidance=-1.0)
    after = fraction_of_threes(forgotten(), guidance=-1.0)
    yield f"3s among digits drawn without a class: {before:.0%} before, {after:.0%} after"
    for loss in ("redirect", "ascent"):
        slow = forgotten(forget_loss=loss, learning_rate=1e-4)
        left = fraction_of_threes(slow, threes, allow_forgotten=True)
        yield f"asked for a 3 after 50 iterations at learning_rate=1e-4, {loss}: {left:.0%}"


FIGURES: dict[str, Callable[[], Iterator[str]]] = {
    function.__name__: function
    for function in (
        dekrr_cost,
        imputation_cost,
        orthloss_cost,
        regeneration_cost,
        shifted_digits,
        soup_starts,
        forgotten_digit,
    )
}


def main() -> None:
    for name in sys.argv[1:] or FIGURES:
        with threadpool_limits(1):
            for line in FIGURES[name]():
                print(f"{name}: {line}", flush=True)


if __name__ == "__main__":
    main()
