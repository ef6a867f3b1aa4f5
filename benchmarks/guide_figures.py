"""Single figures of the user guide that belong to no comparison, each from a few lines.

    python -m benchmarks.guide_figures [NAME ...]

Seconds are of the processor, on one thread. Everything runs on data that need no download.
"""

import copy
import sys
import time
import warnings

import numpy as np
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


def digits():
    """Digits in [0, 1], a quarter of them for tests."""
    X, y = load_digits(return_X_y=True)
    return train_test_split(X / 16, y, test_size=0.25, stratify=y, random_state=0)


def seconds(function, *args, **kwargs):
    start = time.process_time()
    function(*args, **kwargs)
    return time.process_time() - start


def waves(n, d, seed=0):
    """Rows in a cube, and a smooth target with noise."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(size=(n, d))
    return X, np.sin(6 * X[:, 0]) + X[:, 1] * X[:, 2] + 0.1 * rng.standard_normal(n)


def dekrr_cost():
    for n_nodes, rows, n_components in ((10, 1032, 60), (20, 50_000, 100)):
        X, y = waves(n_nodes * rows, 8)
        node = np.repeat(np.arange(n_nodes), rows)
        model = DecentralizedRFKRR(n_components=n_components, n_nodes=n_nodes, random_state=0)
        took = seconds(model.fit, X, y, node=node)
        yield f"{n_nodes} nodes of {rows:,} rows, {n_components} features each: {took:.2f} s"


def imputation_cost():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((100_000, 10)) @ rng.standard_normal((10, 50))
    X += 0.3 * rng.standard_normal(X.shape)
    X[rng.uniform(size=X.shape) < 0.4] = np.nan
    took = seconds(SupervisedKernelImputer(random_state=0).fit_transform, X)
    yield f"100,000 rows of 50 columns, 40 % missing: {took:.1f} s"


def orthloss_cost():
    X, X_test, y, _ = digits()
    outliers = np.random.default_rng(0).uniform(size=(500, 64))
    thousand = np.tile(X_test, (3, 1))[:1000]
    detector = OrthLossOODDetector(outlier_label=-1, random_state=0)
    detector.fit(np.vstack((X, outliers)), np.concatenate((y, np.full(500, -1))))
    yield f"scores of 1,000 digits: {seconds(detector.score_samples, thousand):.3f} s"


def regeneration_cost():
    X, X_test, y, _ = digits()
    known, thousand = X[:692], np.tile(X_test, (3, 1))[:1000]
    for name, shape in (("rows, MLP", (-1, 64)), ("images, CNN", (-1, 8, 8))):
        detector = DiffusionOODDetector(NetClassifier(random_state=0), random_state=0)
        detector.fit(known.reshape(shape), y[:692])
        took = seconds(detector.score_samples, thousand.reshape(shape))
        yield f"scores of 1,000 digits as {name}, fitted on 692: {took:.3f} s"
    rows = np.random.default_rng(0).uniform(size=(6000, 196))
    detector = DiffusionOODDetector(disparity="pixel", random_state=0).fit(rows)
    took = seconds(detector.score_samples, rows[:1000])
    yield f"scores of 1,000 rows of 196 features, 5,000 stored: {took:.3f} s"


def shifted_digits():
    X, X_test, y, _ = digits()
    moved = np.roll(X_test.reshape(-1, 8, 8), 1, axis=2)
    for name, shape in (("rows, MLP", (-1, 64)), ("images, CNN", (-1, 8, 8))):
        detector = DiffusionOODDetector(NetClassifier(random_state=0), random_state=0)
        detector.fit(X.reshape(shape), y)
        rejected = (detector.predict(moved.reshape(shape)) == -1).mean()
        plain = (detector.predict(X_test.reshape(shape)) == -1).mean()
        yield f"moved by a pixel, {name}: {rejected:.0%} rejected ({plain:.0%} unmoved)"


def soup_starts():
    X, X_test, y, y_test = digits()
    start = NetClassifier(max_epochs=5, random_state=0).fit(X, y)

    def trained_on(seed):
        return copy.deepcopy(start).set_params(random_state=seed).partial_fit(X, y)

    one = [trained_on(seed) for seed in range(4)]
    several = [NetClassifier(max_epochs=10, random_state=seed).fit(X, y) for seed in range(4)]
    for name, nets in (("one start", one), ("four starts", several)):
        singles = [net.score(X_test, y_test) for net in nets]
        with warnings.catch_warnings(action="ignore"):
            soup = UniformSoup(ingredients=nets).fit(X, y)
        yield (
            f"four networks of {name}: {min(singles):.1%} to {max(singles):.1%} right, "
            f"their average {soup.score(X_test, y_test):.1%}"
        )


def forgotten_digit():
    X, y = load_digits(return_X_y=True)
    X = X / 8 - 1
    judge = MLPClassifier((256, 128), random_state=0).fit(X, y)
    model = ConditionalDDPM(random_state=0).fit(X, y)

    def share_of_threes(model, name=None, **options):
        drawn = model.sample(500, name, random_state=0, **options)[0]
        return (judge.predict(drawn) == 3).mean()

    def forgotten(**parameters):
        forgetter = SFRonClassForgetter(FrozenEstimator(model), random_state=0, **parameters)
        return forgetter.fit(X, y, forget_class=3)

    threes = np.full(500, 3)
    before = share_of_threes(model, guidance=-1.0)
    after = share_of_threes(forgotten(), guidance=-1.0)
    yield f"3 among digits drawn by the network without a class: {before:.0%}, then {after:.0%}"
    for loss in ("redirect", "ascent"):
        slow = forgotten(forget_loss=loss, lr=1e-4)
        left = share_of_threes(slow, threes, allow_forgotten=True)
        yield f"asked for a 3 after 50 steps at lr=1e-4, {loss}: {left:.0%}"


FIGURES = {
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


def main():
    for name in sys.argv[1:] or FIGURES:
        with threadpool_limits(1):
            for line in FIGURES[name]():
                print(f"{name}: {line}", flush=True)


if __name__ == "__main__":
    main()
