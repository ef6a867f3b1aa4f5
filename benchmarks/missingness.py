"""Compare imputers under thirteen mechanisms that make entries missing.

A data set ``table@mechanism`` is a table from which a mechanism removes about 30% of the entries
that it can reach. The mechanisms are those of the public suites: completely at random,
at random given observed columns, and not at random, where the missing value itself matters. The
error is the root mean squared error of the imputed entries, in standard deviations of their
columns.

``python -m benchmarks.missingness`` prints the mean errors over three tables that come with
scikit-learn, and how many of the true values lie in the 90% bands of our standard deviations, over
six splits. ``--tables`` names other tables. ``--only`` can add HyperImpute, which needs pandas 2.
"""

import argparse
import sys
import warnings
from collections.abc import Sequence

import numpy as np
from scipy.special import expit

from . import imputation
from ._contract import Task
from ._data import load

TABLES = ("wine_cultivars", "diabetes", "iris")
MOST_SAMPLES = 800
RATE = 0.3
COVERAGE_SPLITS = range(6)  # with one split, columns of 150 samples have an error of 4 points
BAND = 1.645  # standard deviations on each side of the mean of a Gaussian band of 90%
OURS, WITHOUT_LABELS = "joint Gaussian", "joint Gaussian, no y"
CONTENDERS = {
    OURS: imputation.ours(),
    WITHOUT_LABELS: imputation.ours(condition_on_y=False),
    "mean": imputation.plain(imputation.SimpleImputer),
    "KNN": imputation.plain(imputation.KNNImputer),
    "iterative, ridge": imputation.iterative,
    "iterative, trees": imputation.iterative_trees,
    "HyperImpute": imputation.hyper_impute,
}
USUAL = [name for name in CONTENDERS if name != "HyperImpute"]


def standardized(X):
    scale = X.std(axis=0)
    return (X - X.mean(axis=0)) / np.where(scale > 0, scale, 1.0)


def probabilities(score):
    """Return probabilities with mean RATE that are a logistic function of a score."""
    low, high = -20.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (middle, high) if expit(score + middle).mean() < RATE else (low, middle)
    return expit(score + low)


def completely_at_random(X, y, rng):
    return rng.rand(*X.shape) < RATE


def given_one_column(X, y, rng):
    driver = rng.randint(X.shape[1])
    missing = rng.rand(*X.shape) < probabilities(2.0 * X[:, driver])[:, None]
    missing[:, driver] = False
    return missing


def given_several_columns(X, y, rng):
    drivers = rng.choice(X.shape[1], max(2, X.shape[1] // 3), replace=False)
    missing = np.zeros(X.shape, dtype=bool)
    for p in np.setdiff1d(np.arange(X.shape[1]), drivers):
        score = X[:, drivers] @ rng.randn(len(drivers)) / np.sqrt(len(drivers))
        missing[:, p] = rng.rand(len(X)) < probabilities(2.0 * score)
    return missing


def given_all_columns(X, y, rng):
    """Depend on all columns, including entries that are missing themselves."""
    score = X @ rng.randn(X.shape[1], X.shape[1]) / np.sqrt(X.shape[1])
    return rng.rand(*X.shape) < np.column_stack([probabilities(2.0 * s) for s in score.T])


def self_masked(direction):
    def mechanism(X, y, rng):
        return rng.rand(*X.shape) < np.column_stack([probabilities(2 * direction(x)) for x in X.T])

    return mechanism


def censored(direction):
    """Remove all values beyond a quantile from half of the columns."""

    def mechanism(X, y, rng):
        columns = rng.choice(X.shape[1], (X.shape[1] + 1) // 2, replace=False)
        missing = np.zeros(X.shape, dtype=bool)
        values = direction(X[:, columns])
        missing[:, columns] = values > np.quantile(values, 1.0 - RATE, axis=0)
        return missing

    return mechanism


def in_blocks(X, y, rng):
    """Remove the columns of each of three groups together."""
    group = rng.permutation(np.arange(X.shape[1]) % 3)
    return (rng.rand(len(X), 3) < RATE)[:, group]


def monotone(X, y, rng):
    """Remove all columns after the first missing one."""
    d = X.shape[1]
    # The first column is complete. Half of the samples drop out, at a random column.
    first = np.where(rng.rand(len(X)) < 2 * RATE, rng.randint(1, d, size=len(X)), d)
    return np.arange(d) >= first[:, None]


def by_group(X, y, rng):
    """Remove entries at rates that depend on the tercile of a complete column."""
    column = rng.randint(X.shape[1])
    thirds = np.searchsorted(np.quantile(X[:, column], [1 / 3, 2 / 3]), X[:, column])
    missing = rng.rand(*X.shape) < np.array([0.05, 0.25, 0.6])[rng.permutation(3)][thirds, None]
    missing[:, column] = False
    return missing


def by_label(X, y, rng):
    """Remove entries at rates that depend on the label, or on the half of a numeric target."""
    classes = np.unique(y, return_inverse=True)[1]
    upper = classes >= np.median(classes) if classes.max() > 20 else classes % 2 == 0
    return rng.rand(*X.shape) < np.where(upper, 0.5, 0.1)[:, None]


MECHANISMS = {
    "at random": completely_at_random,
    "one column": given_one_column,
    "several columns": given_several_columns,
    "all columns": given_all_columns,
    "self, high": self_masked(lambda x: x),
    "self, low": self_masked(lambda x: -x),
    "self, tails": self_masked(lambda x: np.abs(x) - 1.0),
    "censored, high": censored(lambda x: x),
    "censored, low": censored(lambda x: -x),
    "blocks": in_blocks,
    "monotone": monotone,
    "by group": by_group,
    "by label": by_label,
}


def load_task(name, split):
    """Return a table with missing values; every sample and every column keeps a value."""
    table, mechanism = name.split("@")
    arrays = load(table)
    rng = np.random.RandomState(split)
    order = rng.permutation(len(arrays["X"]))[:MOST_SAMPLES]
    X, y = arrays["X"][order].astype(float), arrays["y"][order]
    X = standardized(X[:, np.ptp(X, axis=0) > 0])
    missing = MECHANISMS[mechanism](X, y, rng)
    empty = np.flatnonzero(missing.all(axis=1))
    missing[empty, rng.randint(X.shape[1], size=len(empty))] = False
    samples = np.where(missing, np.nan, X)
    return Task(name, split, samples, y, X, y, extra={"missing": missing})


def error(filled, task):
    """Return the root mean squared error, in standard deviations of columns."""
    missing = task.extra["missing"]
    return float(np.sqrt(np.mean((filled - task.X_test)[missing] ** 2)))


def coverage(table):
    """Return the percentage of missing values in the 90% bands of each column that varies."""
    inside, total = 0, 0
    for split in COVERAGE_SPLITS:
        task = load_task(f"{table}@at random", split)
        imputer = CONTENDERS[WITHOUT_LABELS](task, split, 1).imputer.fit(task.X_train, task.y_train)
        filled, std = imputer.transform(task.X_train, return_std=True)
        missing = task.extra["missing"]
        inside += (missing & (np.abs(filled - task.X_test) <= BAND * std)).sum(axis=0)
        total += missing.sum(axis=0)
    return 100.0 * inside / total


def measure(tables, names, splits):
    """Return errors by mechanism and contender, a list with one entry per table and split."""
    errors = {mechanism: {name: [] for name in names} for mechanism in MECHANISMS}
    for mechanism in MECHANISMS:
        for table in tables:
            for split in splits:
                task = load_task(f"{table}@{mechanism}", split)
                for name in names:
                    model = CONTENDERS[name](task, split, 1)
                    with warnings.catch_warnings(action="ignore"):  # of slow convergence
                        model.fit(task.X_train, task.y_train)
                    errors[mechanism][name].append(error(model.imputed_, task))
    return errors


def text(errors):
    """Format mean errors as a table, and count where each contender has the lowest one."""
    names = list(next(iter(errors.values())))
    lines = ["".ljust(18) + "".join(f"{name:>22}" for name in names)]
    lowest = dict.fromkeys(names, 0)
    for mechanism, found in errors.items():
        means = {name: np.mean(values) for name, values in found.items()}
        lowest[min(means, key=lambda name: means[name])] += 1
        lines.append(mechanism.ljust(18) + "".join(f"{means[name]:>22.3f}" for name in names))
    lines.append("lowest error".ljust(18) + "".join(f"{lowest[name]:>22}" for name in names))
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.missingness", description=__doc__)
    parser.add_argument("--tables", nargs="*", default=TABLES, metavar="NAME")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=USUAL)
    parser.add_argument("--splits", nargs="+", type=int, default=[0])
    parser.add_argument("--coverage", nargs="*", metavar="NAME",
                        help="tables for the bands (default: those of --tables)")  # fmt: skip
    arguments = parser.parse_args(argv)
    if arguments.tables:
        print(f"Mean error over {', '.join(arguments.tables)}, in standard deviations of columns")
        print(text(measure(arguments.tables, arguments.only, arguments.splits)) + "\n")
    for_bands = arguments.tables if arguments.coverage is None else arguments.coverage
    if for_bands:
        print("Percent of the missing values in 90% bands, entries missing at random")
    for table in for_bands:
        found = coverage(table)
        n_right = int(((found >= 85.0) & (found <= 95.0)).sum())
        print(
            f"{table.rpartition('/')[2]:18}mean {found.mean():.1f}, lowest column "
            f"{found.min():.1f}, highest column {found.max():.1f}, {n_right} of {len(found)} "
            "columns from 85 to 95"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
