"""Accuracy of classifiers when 60 to 90% of the entries are missing, with paired intervals.

Each repetition draws a split, with at most 300 training samples, and entries to remove completely
at random from training and test samples. All contenders see the same samples, so their accuracies
are compared in pairs. Support vector machines are tuned by cross-validation on their completed
training samples; our classifier and boosting have their defaults.

``python -m benchmarks.missing_accuracy`` prints mean accuracies and differences from our classifier
for the tables that come with scikit-learn. ``--tables`` names other tables.
"""

import argparse
import sys
from collections.abc import Sequence

import numpy as np
from scipy.stats import t as student
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.model_selection import GridSearchCV, StratifiedKFold, StratifiedShuffleSplit
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from sklearn_ext import SupervisedKernelClassifier, SupervisedKernelImputer

from ._data import load

TABLES = ("iris", "wine_cultivars", "breast_cancer")
RATIOS = (0.6, 0.7, 0.8, 0.9)
MOST_TRAINING, MOST_TEST = 300, 500
OURS = "classifier"


def with_svm(imputer):
    def predict(X, y, X_test):
        completed = imputer.fit_transform(X, y)
        scaler = StandardScaler().fit(completed)
        gamma = 1.0 / completed.shape[1]
        grid = {"C": [0.1, 1.0, 10.0, 100.0], "gamma": [gamma / 16, gamma / 4, gamma]}
        folds = StratifiedKFold(3, shuffle=True, random_state=0)
        search = GridSearchCV(SVC(), grid, cv=folds).fit(scaler.transform(completed), y)
        return search.predict(scaler.transform(imputer.transform(X_test)))

    return predict


def directly(estimator):
    return lambda X, y, X_test: estimator.fit(X, y).predict(X_test)


CONTENDERS = {
    OURS: directly(SupervisedKernelClassifier(random_state=0)),
    "imputer, SVM": with_svm(SupervisedKernelImputer(random_state=0)),
    "KNN, SVM": with_svm(KNNImputer()),
    "means, SVM": with_svm(SimpleImputer()),
    "boosting": directly(HistGradientBoostingClassifier(random_state=0)),
}
PEERS = [name for name in CONTENDERS if name != OURS]


def accuracies(table, ratio, repetition, names):
    """Return the accuracies of contenders on the same samples."""
    arrays = load(table)
    X, y = arrays["X"].astype(float), arrays["y"]
    half = len(y) // 2
    splitter = StratifiedShuffleSplit(
        1,
        train_size=min(MOST_TRAINING, half),
        test_size=min(MOST_TEST, half),
        random_state=repetition,
    )
    train, test = next(splitter.split(X, y))
    rng = np.random.RandomState([repetition, int(100 * ratio)])
    X = np.where(rng.rand(*X.shape) < ratio, np.nan, X)
    # No contender can use a column that is constant in training.
    varies = [len(np.unique(x[~np.isnan(x)])) > 1 for x in X[train].T]
    X = X[:, varies]
    return [np.mean(CONTENDERS[name](X[train], y[train], X[test]) == y[test]) for name in names]


def interval(differences):
    """Return the mean of paired differences, and the half width of its 95% t interval."""
    n = len(differences)
    return np.mean(differences), student.ppf(0.975, n - 1) * np.std(differences, ddof=1) / n**0.5


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.missing_accuracy", description=__doc__
    )
    parser.add_argument("--tables", nargs="+", default=TABLES, metavar="NAME")
    parser.add_argument("--repetitions", type=int, default=8, metavar="K")
    parser.add_argument("--peers", nargs="+", default=PEERS, choices=PEERS, metavar="NAME")
    arguments = parser.parse_args(argv)
    names = [OURS, *arguments.peers]
    print(
        f"Percent of right classes over {arguments.repetitions} draws, and what {OURS} gains, with "
        "95% intervals"
    )
    print(f"{'table, missing':28}{OURS:>12}" + "".join(f"{name:>16}" for name in names[1:]))
    better, worse = (dict.fromkeys(names[1:], 0) for _ in range(2))
    for table in arguments.tables:
        for ratio in RATIOS:
            found = [accuracies(table, ratio, k, names) for k in range(arguments.repetitions)]
            found = 100.0 * np.array(found)
            line = (
                f"{table.rpartition('/')[2]}, {ratio:.0%}".ljust(28) + f"{found[:, 0].mean():12.1f}"
            )
            for name, other in zip(names[1:], found.T[1:], strict=True):
                gain, half_width = interval(found[:, 0] - other)
                better[name] += gain > half_width
                worse[name] += gain < -half_width
                line += f"{gain:+10.1f} ±{half_width:4.1f}"
            print(line, flush=True)
    n = len(RATIOS) * len(arguments.tables)
    for title, counts in ((f"better, of {n}", better), (f"worse, of {n}", worse)):
        print(f"{OURS} {title}".ljust(40) + "".join(f"{int(v):>16}" for v in counts.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
