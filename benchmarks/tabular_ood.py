"""Anomaly detection on tables without labels: one class of a table as the outliers.

Each data set is a table of the KEEL collection, or one that ships with scikit-learn. Split 0 takes
the rarest class as the outliers, split 1 the most frequent one. The detector is fitted to 60 % of
the other samples, at most 5,000, without labels. It is tested on the rest of them, at most 2,000,
and as many outliers. Categories become indicator columns. The peers are detectors of pyod.

``python -m benchmarks.tabular_ood`` prints the mean AUROC and the mean rank of each contender over
the tables and splits of the full records.
"""

from collections import defaultdict

import numpy as np
from scipy.stats import rankdata
from sklearn.base import BaseEstimator
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import OneHotEncoder

from ._contract import Benchmark, Task
from ._data import SHIPPED, load

QUICK = ("breast_cancer",)
TABLES = (
    "australian", "banana", "bupa", "crx", "german", "heart", "ionosphere", "magic",
    "mammographic", "phoneme", "pima", "ring", "saheart", "segment", "sonar", "spambase",
    "texture", "vehicle", "vowel", "wdbc",
)  # fmt: skip
N_TRAIN, N_TEST, FRACTION = 5000, 2000, 0.6


def load_task(name, split):
    arrays = load(name) if name in SHIPPED else load(f"classification/{name}")
    X, y = np.asarray(arrays["X"], dtype=np.float64), arrays["y"]
    categorical = arrays.get("categorical", np.zeros(X.shape[1], dtype=bool))
    if categorical.any():
        encoder = OneHotEncoder(sparse_output=False, max_categories=20)
        X = np.hstack([X[:, ~categorical], encoder.fit_transform(X[:, categorical])])
    classes, counts = np.unique(y, return_counts=True)
    outlier = classes[np.argsort(counts, kind="stable")[-split]]
    rng = np.random.RandomState(split)
    known, unknown = (rng.permutation(np.flatnonzero(m)) for m in (y != outlier, y == outlier))
    n_train = int(FRACTION * len(known))
    test = np.concatenate([known[n_train:][:N_TEST], unknown[:N_TEST]])
    is_known = y[test] != outlier
    return Task(name, split, X[known[:n_train][:N_TRAIN]], None, X[test], is_known)


def metrics(model, scores, task):
    return {"AUROC": 100 * roc_auc_score(task.y_test, scores)}


def ours(**parameters):
    def build(task, seed, n_threads):
        from sklearn_ext import DiffusionOODDetector

        return DiffusionOODDetector(random_state=seed, **parameters)

    return build


class Higher(BaseEstimator):
    """A detector of pyod with the signs of scikit-learn."""

    def __init__(self, detector):
        self.detector = detector

    def fit(self, X, y=None):
        self.detector.fit(X)
        return self

    def score_samples(self, X):
        return -self.detector.decision_function(X)


def isolation_forest(task, seed, n_threads):
    from pyod.models.iforest import IForest

    return Higher(IForest(random_state=seed, n_jobs=n_threads))


def local_outlier_factor(task, seed, n_threads):
    from pyod.models.lof import LOF

    return Higher(LOF(novelty=True, n_jobs=n_threads))


def ecod(task, seed, n_threads):
    from pyod.models.ecod import ECOD

    return Higher(ECOD(n_jobs=n_threads))


def warm_up(model, task):
    model.fit(task.X_train[:100])


BENCHMARK = Benchmark(
    datasets=(*QUICK, *TABLES),
    quick=QUICK,
    load=load_task,
    splits=(0, 1),
    response="score_samples",
    ours={
        "regeneration": ours(),
        "noise level 0.2": ours(noise_level=0.2),
    },
    peers={
        "IsolationForest": isolation_forest,
        "LOF": local_outlier_factor,
        "ECOD": ecod,
    },
    metrics=metrics,
    warm_up=warm_up,
    notes=(
        "AUROC is in percent. Detectors are fitted without labels to samples of the other classes.",
        "Split 0 takes the rarest class as outliers, split 1 the most frequent one.",
    ),
)


def ranks(rows, names=("regeneration", "IsolationForest", "LOF", "ECOD")):
    """Return mean AUROC and mean rank of some contenders over all tables and splits."""
    found = defaultdict(dict)
    for row in rows:
        found[row["data"], row["split"]][row["contender"]] = row["metrics"]["AUROC"]
    table = np.array([[scores[name] for name in names] for scores in found.values()])
    order = np.array([rankdata(-scores) for scores in table])
    return dict(zip(names, zip(table.mean(axis=0), order.mean(axis=0), strict=True), strict=True))


if __name__ == "__main__":
    from ._records import full_reports, merged

    for name, (auroc, rank) in ranks(merged(full_reports("tabular_ood"))["rows"]).items():
        print(f"{name:16s} AUROC {auroc:.1f}  mean rank {rank:.2f}")
