"""Compare deletions from a whole pipeline with fitting again and with shards.

The training data lose a tenth of their samples, in requests of ten. The first column is R2 for
regression, and the area under the ROC curve (averaged over classes) for classification, before the
requests. Splits are drawn at random. Scaler, encoder and kernel features of the pipelines are
fitted to a fifth of the training samples, which are pinned; the last step is fitted to all.

- ``pipeline``: ``LearnedKernelFeatures`` of a LAB model beside the standardized columns, and a
  ridge regression that forgets and chooses its penalty again after every request;
- ``pipeline, random features``: the default random features of the last step instead;
- ``HistGradientBoosting``: scikit-learn's default parameters, fitted again for each request;
- ``SISA``: ten shards of the data, with one HistGradientBoosting each, whose outputs are averaged.
  A request fits the shards of its samples again.
"""

import time
from functools import partial

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.compose import make_column_transformer
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.pipeline import make_union

from ._contract import Benchmark, Task
from ._data import load, split_mask

REGRESSION = ("comp_activ", "ccpp", "california_housing", "sml", "parkinsons")
CLASSIFICATION = (
    "australian",
    "banana",
    "crx",
    "german",
    "magic",
    "mammographic",
    "phoneme",
    "pima",
    "ring",
    "segment",
    "spambase",
    "texture",
    "vehicle",
    "vowel",
)
QUICK = ("diabetes", "breast_cancer")
REQUEST_SIZE = 10
FORGOTTEN = 0.1
N_TIMED = 5  # requests that are timed; the rest is made at once
N_SHARDS = 10
PINNED = 0.2
# Up to so many samples, LAB may prefer equal bandwidths unless it is given a number of support
# points. This number was best on a quarter of the training samples of ten classification tables.
FEW, N_SUPPORT = 2000, 100
N_CENTERS = 2000  # or all pinned samples, if there are fewer
PENALTIES = tuple(10.0**k for k in range(-4, 3))


def load_task(name, split):
    folder = "" if name in QUICK else "regression/" if name in REGRESSION else "classification/"
    arrays = load(folder + name)  # other folders have files of the same names
    test = split_mask({"X": arrays["X"]}, split)  # without the splits that a file may contain
    X, y = arrays["X"].astype(np.float64), arrays["y"]
    classes = name in CLASSIFICATION or name == "breast_cancer"
    y = y if classes else y.astype(np.float64)
    categorical = arrays.get("categorical", np.zeros(X.shape[1], dtype=bool))
    extra = {"classes": classes, "categorical": categorical}
    return Task(name, split, X[~test], y[~test], X[test], y[test], extra=extra)


class Deleting(BaseEstimator):
    """A model that deletes samples by a new fit; its outputs are predictions or class scores."""

    def __init__(self, estimator):
        self.estimator = estimator

    def fit(self, X, y):
        self.X_, self.y_, self.ids_ = X, y, np.arange(len(y))
        self.model_ = clone(self.estimator).fit(X, y)
        return self

    def outputs(self, X):
        return outputs(self.model_, X)

    def delete(self, ids):
        kept = ~np.isin(self.ids_, ids)
        self.X_, self.y_, self.ids_ = self.X_[kept], self.y_[kept], self.ids_[kept]
        self.model_ = clone(self.estimator).fit(self.X_, self.y_)


class DeletingPipeline(Deleting):
    """A pipeline that forgets."""

    def fit(self, X, y):
        self.model_ = clone(self.estimator).fit(X, y)
        return self

    def delete(self, ids):
        self.model_.forget(ids)


class SISA(Deleting):
    """Shards of the data, each with its own model."""

    def __init__(self, estimator, n_shards=N_SHARDS, random_state=None):
        self.estimator = estimator
        self.n_shards = n_shards
        self.random_state = random_state

    def fit(self, X, y):
        rng = np.random.default_rng((self.random_state, 1))  # not that of the requests
        self.classes_ = np.unique(y)
        rows = np.array_split(rng.permutation(len(y)), self.n_shards)
        self.shards_ = [Deleting(self.estimator).fit(X[r], y[r]) for r in rows]
        for shard, ids in zip(self.shards_, rows, strict=True):
            shard.ids_ = ids
        return self

    def outputs(self, X):
        return np.mean([self._of_all_classes(shard, X) for shard in self.shards_], axis=0)

    def delete(self, ids):
        for shard in self.shards_:
            if np.isin(shard.ids_, ids).any():
                shard.delete(ids)

    def _of_all_classes(self, shard, X):
        values = shard.outputs(X)
        if not hasattr(shard.model_, "classes_"):
            return values
        out = np.zeros((len(X), len(self.classes_)))
        out[:, np.searchsorted(self.classes_, shard.model_.classes_)] = values
        return out


def outputs(model, X):
    return model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X)


def boosting(task, seed):
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    if not task.extra["classes"]:
        return HistGradientBoostingRegressor(random_state=seed)
    categorical = task.extra["categorical"]
    return HistGradientBoostingClassifier(
        random_state=seed, categorical_features=categorical if categorical.any() else None
    )


def refitted_boosting(task, seed, n_threads):
    return Deleting(boosting(task, seed))


def sisa(task, seed, n_threads):
    return SISA(boosting(task, seed), random_state=seed)


def pipeline(task, seed, n_threads, *, learned=True):
    from sklearn_ext import (
        ForgettingOneHotEncoder,
        ForgettingScaler,
        LABRidgelessClassifier,
        LABRidgelessRegressor,
        LearnedKernelFeatures,
        RandomFeatureClassifier,
        RandomFeatureRegressor,
        make_forgetting_pipeline,
    )

    classes, categorical = task.extra["classes"], task.extra["categorical"]
    columns = make_column_transformer(
        (ForgettingScaler(), np.flatnonzero(~categorical)),
        (ForgettingOneHotEncoder(), np.flatnonzero(categorical)),
    )
    lab = (LABRidgelessClassifier if classes else LABRidgelessRegressor)(random_state=seed)
    if PINNED * len(task.y_train) <= FEW:
        lab.set_params(n_support=N_SUPPORT)
    Head = RandomFeatureClassifier if classes else RandomFeatureRegressor
    steps = [columns]
    head = Head(alpha=PENALTIES, random_state=seed)
    if learned:
        kernel = LearnedKernelFeatures(lab, n_centers=N_CENTERS, random_state=seed)
        steps.append(make_union("passthrough", kernel))
        head.set_params(feature_map="identity")
    return DeletingPipeline(
        make_forgetting_pipeline(
            *steps, head, pin="preprocessing", pinned_fraction=PINNED, random_state=seed
        )
    )


def score(output, task):
    if not task.extra["classes"]:
        return r2_score(task.y_test, output)
    truth = task.y_test[:, None] == np.unique(task.y_train)
    truth = truth[:, 1:] if truth.shape[1] == 2 else truth
    return roc_auc_score(truth, output[:, -truth.shape[1] :], average="macro")


def coverage(model, task):
    lower, upper = model.model_.predict_interval(task.X_test, alpha=0.1)
    return 100.0 * np.mean((lower <= task.y_test) & (task.y_test <= upper))


def warm_up(contender, task):
    """Compile, without changing the contender."""
    few = slice(None, None, max(1, len(task.y_train) // 150))  # some tables are sorted by class
    contender.fit(task.X_train[few], task.y_train[few])


def metrics(model, output, task):
    """Delete a tenth of the samples; return scores, coverage, milliseconds and the difference."""
    rng = np.random.RandomState(task.split)
    exact = isinstance(model, DeletingPipeline)
    ids = np.arange(len(task.y_train))
    if exact:
        ids = np.setdiff1d(ids, model.model_.pinned_)
    ids = rng.permutation(ids)[: round(FORGOTTEN * len(task.y_train))]
    has_intervals = exact and not task.extra["classes"]
    result = {"score": score(output, task)}
    if has_intervals:
        result["coverage"] = coverage(model, task)
    times = []
    for start in range(0, N_TIMED * REQUEST_SIZE, REQUEST_SIZE):
        begin = time.process_time()
        model.delete(ids[start : start + REQUEST_SIZE])
        times.append(time.process_time() - begin)
    result["ms/request"] = 1e3 * np.median(times)
    if exact:
        model.delete(ids[N_TIMED * REQUEST_SIZE :])
        begin = time.process_time()
        refitted = model.model_.refitted()
        result["ms/refit"] = 1e3 * (time.process_time() - begin)
        ours, theirs = (outputs(m, task.X_test) for m in (model.model_, refitted))
        result["score after"] = score(ours, task)
        largest = abs(ours - theirs).max() / abs(theirs).max()
        result["digits"] = -np.log10(max(largest, 1e-16))
    if has_intervals:
        result["coverage after"] = coverage(model, task)
    return result


BENCHMARK = Benchmark(
    datasets=(*REGRESSION, *CLASSIFICATION, *QUICK),
    quick=QUICK,
    load=load_task,
    splits=(0, 1),
    response="outputs",
    ours={
        "pipeline": pipeline,
        "pipeline, random features": partial(pipeline, learned=False),
    },
    peers={"HistGradientBoosting": refitted_boosting, "SISA": sisa},
    metrics=metrics,
    warm_up=warm_up,
    notes=(
        f"a tenth of the training samples is deleted in requests of {REQUEST_SIZE}; ms/request is "
        "CPU time, the median of the first five",
        "ms/refit: CPU time of a new fit of the pipeline's last step, with the same pinned steps",
        "score: R2 of a regression, area under the ROC curve of a classification, before requests",
        "digits: -log10 of the largest difference between an output and that of a pipeline fitted "
        "without the deleted samples, divided by the largest output",
        "coverage: percent of test targets inside 90 % intervals, before and after the requests",
    ),
)
