"""Compare imputers by their errors and by the accuracy of classifiers that follow.

A cell is a data set, a percentage of missing training entries and a repetition, named
``set@percent``. The data sets of the folder ``imputation`` bring their own splits (training,
validation, test) and masks. Training samples have missing values. Test samples are evaluated
complete (A) and with as many missing values as the training samples (B), drawn with a fixed seed.
An imputer is fitted to the training samples and their labels. Then a support vector machine, tuned
on the complete validation samples, logistic regression and a random forest are fitted to its
output. Classifiers that accept missing values are evaluated by themselves.

``python -m benchmarks.imputation RESULT.json`` averages a result of the runner over the data sets:
it prints means by percentage of missing entries, and the gain in accuracy over mean imputation with
its paired standard error.
"""

import json
import statistics
import sys
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from ._contract import Benchmark, Task
from ._data import SHIPPED, load

SETS = ("australian", "banknote", "breast", "heart", "ionosphere", "parkinsons", "pima")
PERCENTS = (20, 50, 80)
GRID = [2.0**k for k in range(-5, 6, 2)]
# The grid has as many points as there are pairs (C, gamma) for the SVM.
BOOSTING_GRID = [
    {"learning_rate": rate, "max_leaf_nodes": leaves, "l2_regularization": ridge}
    for rate in (0.02, 0.05, 0.1, 0.3)
    for leaves in (4, 8, 31)
    for ridge in (0.0, 1.0, 10.0)
]
REFERENCE = "mean"
PUBLISHED_ITERATIONS = 200


def load_task(name, split):
    """Return a cell. Splits are repetitions, numbered from one."""
    name_of_set, percent = name.split("@")
    ratio = int(percent) / 100
    if name_of_set in SHIPPED:
        X, y, sizes, missing = drawn_cell(name_of_set, ratio, split)
    else:
        X, y, sizes, missing = stored_cell(name_of_set, ratio, split)
    train, validation = sizes[0], sizes[0] + sizes[1]
    X_test = X[validation:]
    hidden = np.random.RandomState(1000 * split + int(percent)).rand(*X_test.shape) < ratio
    extra = {
        "complete": X[:train],
        "X_validation": X[train:validation],
        "y_validation": y[train:validation],
        "hidden": hidden,
        "random_state": split,
    }
    samples = np.where(missing, np.nan, X[:train])
    return Task(name, split, samples, y[:train], X_test, y[validation:], extra=extra)


def stored_cell(name, ratio, repetition):
    """Return samples, labels, the sizes of the three parts, and the mask of a repetition."""
    arrays = load(f"imputation/{name}")
    (found,) = np.flatnonzero(np.isclose(arrays["ratio"], ratio) & (arrays["rep"] == repetition))
    order, sizes = arrays["perm"][found].astype(int), arrays["sizes"][found].astype(int)
    X, y = arrays["X"][order], arrays["y"][order]
    n_entries = sizes[0] * X.shape[1]
    bits = np.unpackbits(arrays["mask_bits"][found])[:n_entries]
    return X, y, sizes, bits.reshape(sizes[0], -1).astype(bool)


def drawn_cell(name, ratio, seed):
    """Return the same for a data set without stored splits, drawn with a seed."""
    arrays = load(name)
    rng = np.random.RandomState(seed)
    order = rng.permutation(len(arrays["X"]))
    X, y = arrays["X"][order], arrays["y"][order]
    X = (X - X.min(axis=0)) / np.where(np.ptp(X, axis=0) > 0, np.ptp(X, axis=0), 1.0)
    n = len(X)
    sizes = np.array([round(0.4 * n), round(0.3 * n), n - round(0.4 * n) - round(0.3 * n)])
    return X, y, sizes, rng.rand(sizes[0], X.shape[1]) < ratio


class Imputed(BaseEstimator):
    """An imputer that is fitted to incomplete samples and also accepts complete ones."""

    def __init__(self, imputer):
        self.imputer = imputer

    def fit(self, X, y):
        self.imputer_ = clone(self.imputer)
        self.imputed_ = self.imputer_.fit_transform(X, y)
        return self

    def transform(self, X):
        # Some libraries refuse complete samples.
        return self.imputer_.transform(X) if np.isnan(X).any() else X


class Incomplete(BaseEstimator):
    """A classifier that accepts missing values, tuned on the validation samples."""

    def __init__(self, classifier, grid=({},), X_validation=None, y_validation=None):
        self.classifier = classifier
        self.grid = grid
        self.X_validation = X_validation
        self.y_validation = y_validation

    def fit(self, X, y):
        fitted = [clone(self.classifier).set_params(**point).fit(X, y) for point in self.grid]
        scores = [model.score(self.X_validation, self.y_validation) for model in fitted]
        self.classifier_ = fitted[int(np.argmax(scores))]
        return self

    def transform(self, X):
        return X


class PublishedAfterTuning(BaseEstimator):
    """The two-stage method with (C, gamma) tuned on mean-imputed samples, as in the paper."""

    def __init__(self, X_validation, y_validation, **parameters):
        self.X_validation = X_validation
        self.y_validation = y_validation
        self.parameters = parameters

    def get_params(self, deep=True):
        given = {"X_validation": self.X_validation, "y_validation": self.y_validation}
        return given | self.parameters

    def fit_transform(self, X, y):
        from sklearn_ext import SupervisedKernelImputer

        machine = tuned_machine(
            SimpleImputer().fit_transform(X), y, self.X_validation, self.y_validation
        )
        self.imputer_ = SupervisedKernelImputer.from_paper(
            C=machine.C, gamma=machine.gamma, **self.parameters
        )
        return self.imputer_.fit_transform(X, y)

    def transform(self, X):
        return self.imputer_.transform(X)


def tuned_machine(X, y, X_validation, y_validation):
    """Return the fitted SVM with the first pair (C, gamma) that is best on validation samples."""
    machines = [SVC(C=C, gamma=gamma) for C in GRID for gamma in GRID]
    scores = [machine.fit(X, y).score(X_validation, y_validation) for machine in machines]
    return machines[int(np.argmax(scores))]


def nrmse(imputed, X, missing):
    """Return the root mean squared error divided by the standard deviation of the true values."""
    return np.sqrt(np.mean((imputed - X)[missing] ** 2)) / np.std(X[missing])


def metrics(model, output, task):
    """Return accuracies on complete (A) and incomplete (B) test samples, and imputation errors."""
    extra, X_test, y_test = task.extra, task.X_test, task.y_test
    incomplete = np.where(extra["hidden"], np.nan, X_test)
    if isinstance(model, Incomplete):
        classifier = model.classifier_
        return {"own A": classifier.score(X_test, y_test), "own B": classifier.score(
            incomplete, y_test)}  # fmt: skip
    imputed_test = model.transform(incomplete)
    classifiers = {
        "SVM": tuned_machine(
            model.imputed_, task.y_train, extra["X_validation"], extra["y_validation"]
        ),
        "logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        "forest": RandomForestClassifier(random_state=extra["random_state"]),
    }
    out = {}
    for name, classifier in classifiers.items():
        classifier.fit(model.imputed_, task.y_train)
        out[f"{name} A"] = classifier.score(X_test, y_test)
        out[f"{name} B"] = classifier.score(imputed_test, y_test)
    out["NRMSE train"] = nrmse(model.imputed_, extra["complete"], np.isnan(task.X_train))
    out["NRMSE test"] = nrmse(imputed_test, X_test, extra["hidden"])
    return out


def ours(**parameters):
    def build(task, seed, n_threads):
        from sklearn_ext import SupervisedKernelImputer

        return Imputed(SupervisedKernelImputer(random_state=seed, n_jobs=n_threads, **parameters))

    return build


def published(**parameters):
    def build(task, seed, n_threads):
        validation = task.extra["X_validation"], task.extra["y_validation"]
        return Imputed(PublishedAfterTuning(*validation, random_state=seed, **parameters))

    return build


def expected_kernel(task, seed, n_threads):
    from sklearn_ext import SupervisedKernelClassifier

    classifier = SupervisedKernelClassifier(random_state=seed, n_jobs=n_threads)
    grid = [{"C": C, "gamma": gamma} for C in GRID for gamma in GRID]
    return Incomplete(classifier, grid, task.extra["X_validation"], task.extra["y_validation"])


def plain(make):
    return lambda task, seed, n_threads: Imputed(make())


def iterative(task, seed, n_threads):
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer

    return Imputed(IterativeImputer(random_state=seed))


def iterative_trees(task, seed, n_threads):
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer

    trees = ExtraTreesRegressor(n_estimators=30, n_jobs=n_threads, random_state=seed)
    return Imputed(IterativeImputer(trees, max_iter=5, random_state=seed))


def miss_forest(task, seed, n_threads):
    from missforest import MissForest

    class Forest(BaseEstimator):
        def fit_transform(self, X, y):
            import pandas as pd

            self.forest_ = MissForest()
            return self.forest_.fit_transform(pd.DataFrame(X)).to_numpy()

        def transform(self, X):
            import pandas as pd

            return self.forest_.transform(pd.DataFrame(X)).to_numpy()

    return Imputed(Forest())


def hyper_impute(task, seed, n_threads):
    import pandas as pd
    from hyperimpute.plugins.imputers import Imputers

    if int(pd.__version__.split(".")[0]) > 2:
        # Its chained assignments have no effect there, so that it returns column means.
        raise ImportError("HyperImpute 0.1.17 needs pandas 2")

    class Hyper(BaseEstimator):
        def fit_transform(self, X, y):
            self.imputer_ = Imputers().get("hyperimpute", random_state=seed)
            return self.imputer_.fit_transform(pd.DataFrame(X)).to_numpy()

    return Imputed(Hyper())


def hist_gradient_boosting(grid):
    def build(task, seed, n_threads):
        from sklearn.ensemble import HistGradientBoostingClassifier

        classifier = HistGradientBoostingClassifier(random_state=seed)
        return Incomplete(classifier, grid, task.extra["X_validation"], task.extra["y_validation"])

    return build


def average(rows):
    """Average cells by percentage of missing entries and contender.

    Parameters
    ----------
    rows : list of dict
        The rows of a report.

    Returns
    -------
    dict of (percent, contender) to dict
        Mean of each metric, ``(mean, standard error)`` of the differences of accuracies to those of
        mean imputation on the same cells, and median seconds of a fit.
    """
    cells = {}
    for row in rows:
        if "metrics" in row:
            percent = int(row["data"].split("@")[1])
            cell = (row["data"], row["split"], row["seed"])
            cells.setdefault((percent, row["contender"]), {})[cell] = row
    out = {}
    for (percent, contender), found in cells.items():
        entry = {
            name: statistics.fmean(row["metrics"][name] for row in found.values())
            for name in next(iter(found.values()))["metrics"]
        }
        for name in [name for name in entry if name[-2:] in (" A", " B")]:
            # Classifiers without an imputer are compared with the SVM on mean-imputed samples.
            against = name.replace("own", "SVM")
            reference = cells.get((percent, REFERENCE), {})
            gains = [
                row["metrics"][name] - reference[cell]["metrics"][against]
                for cell, row in found.items()
                if cell in reference
            ]
            if len(gains) > 1:
                error = statistics.stdev(gains) / len(gains) ** 0.5
                entry[f"{name} gain"] = (statistics.fmean(gains), error)
        entry["seconds"] = statistics.median(row["fit_seconds"] for row in found.values())
        entry["cells"] = len(found)
        out[percent, contender] = entry
    return out


def text(averages):
    """Format the averages as text, with one block per percentage of missing entries."""
    lines = []
    accuracies = [f"{name} {rows}" for name in ("SVM", "logistic", "forest") for rows in "AB"]
    for percent in sorted({percent for percent, _ in averages}):
        heads = ["NRMSE train", "NRMSE test", *accuracies]
        lines += ["", f"{percent} % missing".ljust(24) + "".join(f"{h:>15}" for h in heads)
                  + f"{'fit s':>9}"]  # fmt: skip
        for (p, contender), entry in averages.items():
            if p != percent:
                continue
            cells = [f"{entry[h]:.3f}" if h in entry else "-" for h in heads[:2]]
            for name in accuracies:
                own = name.replace("SVM", "own")
                gain = entry.get(f"{name} gain", entry.get(f"{own} gain"))
                cells.append("-" if gain is None else f"{gain[0]:+.3f}±{gain[1]:.3f}")
            line = f"{contender:<24}" + "".join(f"{c:>15}" for c in cells)
            lines.append(f"{line}{entry['seconds']:>9.2f}")
    return "\n".join(lines).lstrip("\n")


BENCHMARK = Benchmark(
    datasets=(
        *(f"{name}@{percent}" for percent in PERCENTS for name in SETS),
        "breast_cancer@50",
        "wine_cultivars@50",
    ),
    quick=("breast_cancer@50",),
    load=load_task,
    splits=(1, 2),
    response="transform",
    ours={
        "joint Gaussian": ours(),
        "joint Gaussian, no y": ours(condition_on_y=False),
        "expected kernel": expected_kernel,
        "published": published(max_iter=PUBLISHED_ITERATIONS),
        "published, centered": published(center="base"),
    },
    peers={
        REFERENCE: plain(SimpleImputer),
        "KNN": plain(KNNImputer),
        "iterative, ridge": iterative,
        "iterative, trees": iterative_trees,
        "HistGradientBoosting": hist_gradient_boosting(({},)),
        "HistGradientBoosting, tuned": hist_gradient_boosting(BOOSTING_GRID),
        "MissForest": miss_forest,
    },
    metrics=metrics,
    notes=(
        "A: complete test samples; B: test samples with as many missing values as in training",
        f"published: {PUBLISHED_ITERATIONS} iterations of stage I; (C, gamma) of the machine on "
        "mean-imputed samples; its completion of test samples is not in the paper",
        "own: accuracy of a classifier that accepts missing values; other accuracies are those of "
        "models fitted to the imputed samples",
        "the expected kernel, the machines on imputed samples and boosting, where it is tuned, "
        "choose among 36 points of a grid on the validation samples",
        "miceforest is left out because it does not run with LightGBM 4.7",
    ),
)

if __name__ == "__main__":
    print(text(average(json.loads(Path(sys.argv[1]).read_text())["rows"])))
