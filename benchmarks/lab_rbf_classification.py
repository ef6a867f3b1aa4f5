"""Compare LABRidgelessClassifier with boosting, logistic regression and a tuned SVC.

The first column is the area under the ROC curve, averaged over the classes. Categories are encoded
one-hot, except for boosting, which takes them as they are. All methods run with the defaults of
their library, after standardization where they need it. Only the SVC (support vector machine) is
tuned: cross-validation chooses ``C`` and ``gamma``, and Platt's method calibrates the
probabilities. Splits are drawn at random, stratified by class, with 30 % test samples.
"""

from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from ._contract import Benchmark, Task
from ._data import SHIPPED, load

FloatArray: TypeAlias = npt.NDArray[np.floating]
TABLES = (
    *("australian", "banana", "bupa", "crx", "german", "heart", "ionosphere", "magic"),
    *("mammographic", "phoneme", "pima", "ring", "saheart", "segment", "sonar", "spambase"),
    *("texture", "vehicle", "vowel", "wdbc"),
)
QUICK = ("breast_cancer",)
TEST_FRACTION = 0.3
MAX_SVC_SAMPLES = 6000
MAX_TUNING_SAMPLES = 2000  # the samples for choosing C and gamma
C_GRID, GAMMA_FACTORS = (0.1, 1.0, 10.0, 100.0), (0.1, 0.3, 1.0, 3.0)


def load_task(name: str, split: int) -> Task:
    # Other folders have files of the same names.
    arrays = load(name if name in SHIPPED else f"classification/{name}")
    X, y = arrays["X"].astype(np.float64), arrays["y"]
    categorical = arrays.get("categorical", np.zeros(X.shape[1], dtype=bool))
    parts = train_test_split(X, y, test_size=TEST_FRACTION, random_state=split, stratify=y)
    X_train, X_test, y_train, y_test = parts
    extra = {"categorical": categorical}
    return Task(name, split, X_train, y_train, X_test, y_test, extra=extra)


def encoded(task: Task, *steps: BaseEstimator) -> BaseEstimator:
    """Put an encoder of the categories before the steps."""
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    columns = np.flatnonzero(task.extra["categorical"])
    return make_pipeline(
        make_column_transformer((encoder, columns), remainder="passthrough"), *steps
    )


def lab(task: Task, seed: int, n_threads: int) -> BaseEstimator:
    from sklearn_ext import LABRidgelessClassifier

    return encoded(task, LABRidgelessClassifier(random_state=seed))


def hist_gradient_boosting(task: Task, seed: int, n_threads: int) -> BaseEstimator:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        categorical_features=task.extra["categorical"], random_state=seed
    )


def logistic_regression(task: Task, seed: int, n_threads: int) -> BaseEstimator:
    from sklearn.linear_model import LogisticRegression

    return encoded(task, StandardScaler(), LogisticRegression(max_iter=2000))


class TunedSVC(ClassifierMixin, BaseEstimator):
    """A support vector machine with tuned parameters and calibrated probabilities."""

    def __init__(self, random_state: int) -> None:
        self.random_state = random_state

    def fit(self, X: FloatArray, y: npt.NDArray[Any]) -> Self:
        order = np.random.RandomState(self.random_state).permutation(len(X))
        tuning, training = order[:MAX_TUNING_SAMPLES], order[:MAX_SVC_SAMPLES]
        grid = {"C": C_GRID, "gamma": [factor / X.shape[1] for factor in GAMMA_FACTORS]}
        search = GridSearchCV(SVC(), grid, cv=3).fit(X[tuning], y[tuning])
        model = CalibratedClassifierCV(search.best_estimator_, cv=3, ensemble=False)
        self.model_ = model.fit(X[training], y[training])
        self.classes_ = self.model_.classes_
        return self

    def predict_proba(self, X: FloatArray) -> FloatArray:
        return self.model_.predict_proba(X)


def tuned_svc(task: Task, seed: int, n_threads: int) -> BaseEstimator:
    return encoded(task, StandardScaler(), TunedSVC(seed))


def metrics(model: Any, proba: FloatArray, task: Task) -> dict[str, float]:
    scores = proba[:, 1] if proba.shape[1] == 2 else proba
    return {
        "AUC": roc_auc_score(task.y_test, scores, multi_class="ovr", labels=model.classes_),
        "log loss": log_loss(task.y_test, proba, labels=model.classes_),
    }


def warm_up(model: Any, task: Task) -> None:
    """Fit a few samples of every class."""
    few, _ = train_test_split(
        np.arange(len(task.y_train)), train_size=100, random_state=0, stratify=task.y_train
    )
    model.fit(task.X_train[few], task.y_train[few])


BENCHMARK = Benchmark(
    datasets=(*QUICK, *TABLES),
    quick=QUICK,
    load=load_task,
    splits=(0, 1, 2),
    ours={"LAB": lab},
    peers={
        "HistGradientBoosting": hist_gradient_boosting,
        "LogisticRegression": logistic_regression,
        "SVC, tuned": tuned_svc,
    },
    response="predict_proba",
    metrics=metrics,
    warm_up=warm_up,
    notes=(
        "AUC is averaged over the classes, each against the others.",
        f"Three-fold cross-validation on at most {MAX_TUNING_SAMPLES:,} samples chooses C and "
        f"gamma of the SVC among 16 pairs; it trains on at most {MAX_SVC_SAMPLES:,} samples.",
    ),
)
