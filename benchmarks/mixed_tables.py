"""Tables of numbers and categories: how well missing entries are imputed, and at what cost.

A fifth and half of the entries are removed completely at random. The peers are column means with
the most frequent category, and scikit-learn's imputers after an ``OrdinalEncoder``, whose output is
rounded to the nearest code. Errors of numbers are in standard deviations of their columns. Figures
are means over three draws of the missing entries.

``python -m benchmarks.mixed_tables`` measures a generated table with the columns of a census, and
the time of larger tables. ``--tables`` names tables of the data folder instead, whose categories
become strings and whose whole numbers become integers.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.datasets import make_classification
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer
from sklearn.preprocessing import OrdinalEncoder

from sklearn_ext import SupervisedKernelClassifier, SupervisedKernelImputer
from sklearn_ext.metrics._tables import hide

from ._data import load
from ._measure import _peak_of_memory, _start_of_memory

RATIOS = (0.2, 0.5)
REPETITIONS = 3
CATEGORIES = {
    **{"workclass": 8, "education": 16, "marital": 7, "occupation": 14, "relationship": 6},
    **{"race": 5, "sex": 2, "country": 41},
}


def census(n, seed=0):
    """Generate 14 columns like those of the census table "adult": 6 integers and 8 categories."""
    rng = np.random.RandomState(seed)
    z = rng.randn(n, 4)
    numbers = {
        "age": 38 + 13 * z[:, 0] + 4 * rng.randn(n),
        "weight": np.exp(12 + 0.5 * rng.randn(n)),
        "years": 10 + 2 * z[:, 1] + rng.randn(n),
        "gain": np.where(rng.rand(n) < 0.08, np.exp(8 + z[:, 1] + 0.5 * rng.randn(n)), 0),
        "loss": np.where(rng.rand(n) < 0.05, 1900 + 300 * rng.randn(n), 0),
        "hours": 40 + 6 * z[:, 2] + 9 * rng.randn(n),
    }
    frame = pd.DataFrame({name: pd.array(np.rint(x), "Int64") for name, x in numbers.items()})
    for name, k in CATEGORIES.items():
        score = z @ rng.randn(4, k) + 1.5 * rng.randn(k) - np.log(-np.log(rng.rand(n, k)))
        frame[name] = np.char.add(f"{name} ", score.argmax(axis=1).astype(str))
    return frame


def stored(name):
    """Return a table of the data folder with its types."""
    arrays = load(name)
    frame = pd.DataFrame(arrays["X"].astype(float)).add_prefix("x")
    for column, is_category in zip(frame, arrays["categorical"], strict=True):
        if is_category:
            frame[column] = frame[column].astype(str)
        elif (frame[column] % 1 == 0).all():
            frame[column] = frame[column].astype("Int64")
    return frame.loc[:, frame.nunique() > 1]


def ours(holes):
    return SupervisedKernelImputer(random_state=0).fit_transform(holes)


def simple(holes):
    means = {c: holes[c].mode()[0] if is_category(holes[c]) else holes[c].mean() for c in holes}
    return holes.astype(object).fillna(means)


def encoded(imputer):
    """Impute codes of categories, and decode what is imputed."""

    def impute(holes):
        names = [c for c in holes if is_category(holes[c])]
        encoder = OrdinalEncoder().fit(holes[names])
        numbers = holes.drop(columns=names).astype(float)
        codes = pd.DataFrame(encoder.transform(holes[names]), columns=names)
        filled = imputer.fit_transform(pd.concat((numbers, codes), axis=1))
        out = pd.DataFrame(filled, columns=[*numbers, *names]).astype(object)
        largest = [pd.notna(values).sum() - 1 for values in encoder.categories_]
        nearest = np.clip(np.rint(filled[:, numbers.shape[1] :]), 0, largest)
        out[names] = encoder.inverse_transform(nearest)
        return out[holes.columns]

    return impute


CONTENDERS = {
    "ours": ours,
    "mean, most frequent": simple,
    "iterative, ridge": encoded(IterativeImputer(random_state=0)),
    "KNN": encoded(KNNImputer()),
}


def is_category(column):
    return not pd.api.types.is_numeric_dtype(column)


def quality(filled, frame, missing):
    """Return the percentage of right categories, and the error of numbers."""
    right, squares = [], []
    for p, name in enumerate(frame):
        at = missing[:, p]
        guess, truth = filled[name].to_numpy()[at], frame[name].to_numpy()[at]
        if is_category(frame[name]):
            right.append(guess == truth)
        else:
            scale = frame[name].astype(float).std()
            squares.append((guess.astype(float) - truth.astype(float)) ** 2 / scale**2)
    error = np.sqrt(np.mean(np.concatenate(squares))) if squares else np.nan
    return 100.0 * np.mean(np.concatenate(right)), error


def compare(name, frame):
    """Yield a line for every ratio of missing entries."""
    for ratio in RATIOS:
        found = []
        for seed in range(REPETITIONS):
            missing = np.random.RandomState(seed).rand(*frame.shape) < ratio
            holes = hide(frame, missing)
            with warnings.catch_warnings(action="ignore"):  # of slow convergence
                found.append(
                    [quality(impute(holes), frame, missing) for impute in CONTENDERS.values()]
                )
        cells = [f"{right:>14.1f} / {error:.3f}" for right, error in np.mean(found, axis=0)]
        yield f"{name}, {ratio:.0%}".ljust(20) + "".join(cell.rjust(22) for cell in cells)


def cost(title, fit, *args):
    """Return a line with the CPU seconds of a call, and the memory that it adds at its peak."""
    before, start = _start_of_memory(), time.process_time()
    fit(*args)
    seconds, peak = time.process_time() - start, _peak_of_memory() - before
    return f"{title:60}{seconds:8.1f} s{peak / 2**20:8.0f} MiB"


def costs():
    """Yield the costs of tables that are long, wide or have many classes."""
    rng = np.random.RandomState(0)
    ours(hide(census(500), rng.rand(500, 14) < 0.2))  # imports and compiles
    long = census(50_000)
    holes = hide(long, rng.rand(*long.shape) < 0.2)
    yield cost("50,000 samples of 14 mixed columns, 20% missing", ours, holes)
    X = rng.randn(100_000, 10) @ rng.randn(10, 50) + 0.3 * rng.randn(100_000, 50)
    X[rng.rand(*X.shape) < 0.4] = np.nan
    yield cost("100,000 samples of 50 numbers, 40% missing", ours, X)
    X = rng.randn(60, 5) @ rng.randn(5, 1000) + rng.randn(60, 1000)
    X[rng.rand(*X.shape) < 0.3] = np.nan
    yield cost("60 samples of 1,000 numbers, 30% missing", ours, X)
    X, y = make_classification(3000, 20, n_informative=15, n_classes=100, random_state=0)
    X[rng.rand(*X.shape) < 0.2] = np.nan
    fit = SupervisedKernelClassifier(random_state=0).fit
    yield cost("classifier of 100 classes, 3,000 samples of 20 numbers", fit, X, y)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mixed_tables", description=__doc__)
    parser.add_argument("--tables", nargs="+", default=[], metavar="NAME")
    arguments = parser.parse_args(argv)
    frames = {name: stored(name) for name in arguments.tables} or {"census": census(2000)}
    print("Percent of right categories / error of numbers")
    print("table, missing".ljust(20) + "".join(f"{name:>22}" for name in CONTENDERS))
    for name, frame in frames.items():
        for line in compare(name, frame):
            print(line, flush=True)
    if not arguments.tables:
        print()
        for line in costs():
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
