"""Unlearning, exact in pipelines and random-feature models, and approximate in networks."""

import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split

from sklearn_ext import (
    FineTuneUnlearner,
    ForgettingScaler,
    MUSOUnlearner,
    NatMUUnlearner,
    NetClassifier,
    RandomFeatureClassifier,
    RandomFeatureRegressor,
    RandomLabelUnlearner,
    SFRonUnlearner,
    UnlearningReportDisplay,
    make_forgetting_pipeline,
    unlearning_report,
)

from .shared import show, timed

FORGOTTEN = 3
METRICS = ("FA", "RA", "TA", "MIA")


def run(figure):
    """Delete rows from a pipeline, and make a linear model and networks forget digits."""
    from_a_pipeline()
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X / 16, y, stratify=y, random_state=0)
    exactly(X, y)
    approximately(figure, X, y, X_test, y_test)


def from_a_pipeline():
    """Delete patients from a scaler and a model, and compare with fitting both again."""
    X, y = load_diabetes(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X, y, random_state=0)
    model = RandomFeatureRegressor(gamma=0.01, alpha=1.0, random_state=0)
    rows = []
    for pin, name in (("features", "* forget"), ("preprocessing", "* forget, scaler pinned")):
        pipeline = make_forgetting_pipeline(
            ForgettingScaler(), model, pin=pin, pinned_fraction=0.2, random_state=0
        ).fit(X, y)
        patients = np.setdiff1d(pipeline.sample_id_, pipeline.pinned_)[:10]
        _, seconds = timed(pipeline.forget, patients)
        lower, upper = pipeline.predict_interval(X_test, alpha=0.1)
        covered = f"{np.mean((lower <= y_test) & (y_test <= upper)):.0%}"
        ours, expected = pipeline.predict(X_test), pipeline.refitted().predict(X_test)
        difference = float(np.abs(ours - expected).max() / np.abs(expected).max())
        rows.append((name, pipeline.score(X_test, y_test), covered, seconds, difference))
    left = np.delete(np.arange(len(y)), patients)
    boosting = HistGradientBoostingRegressor(random_state=0)
    _, seconds = timed(boosting.fit, X[left], y[left])
    rows.append(("boosting, fitted again", boosting.score(X_test, y_test), "", seconds, 0))
    show(
        "Diabetes: 10 of 331 patients deleted from scaler and model",
        ["", "R2", "in 90% intervals", "seconds", "difference from a new fit"],
        rows,
    )


def exactly(X, y):
    """Make a random-feature model forget 20 samples, and compare it with a new fit."""
    forget = np.arange(20)
    model = RandomFeatureClassifier(1000, random_state=0)
    fitted = clone(model).fit(X, y)
    _, seconds = timed(fitted.forget, forget)
    refitted, again = timed(clone(model).fit, np.delete(X, forget, axis=0), np.delete(y, forget))
    ours, expected = fitted.feature_coef_, refitted.feature_coef_
    difference = np.abs(ours - expected).max() / np.abs(expected).max()
    show(
        "Digits: 20 of 1,347 samples forgotten by a random-feature model",
        ["", "seconds", "difference of coefficients"],
        [("* forget", seconds, float(difference)), ("fitted again", again, 0)],
    )


def approximately(figure, X, y, X_test, y_test):
    """Make networks forget a digit, and compare them with one retrained without it."""
    forget = y == FORGOTTEN
    net = NetClassifier(random_state=0, max_epochs=40)
    original, _ = timed(clone(net).fit, X, y)
    retrained, seconds = timed(clone(net).fit, X[~forget], y[~forget])
    unlearners = {
        "* MUSO": MUSOUnlearner,
        "* NatMU": NatMUUnlearner,
        "* SFRon": SFRonUnlearner,
        "fine-tuning": FineTuneUnlearner,
        "random labels": RandomLabelUnlearner,
    }
    models, times = {"original": original}, {"original": 0, "retrained": seconds}
    for name, Unlearner in unlearners.items():
        unlearner = Unlearner(FrozenEstimator(original), random_state=0)
        models[name], times[name] = timed(unlearner.fit, X, y, forget=forget)
    report = unlearning_report(
        models, X, y, forget, X_test=X_test, y_test=y_test, retrained=retrained
    )
    rows = [
        (name, *(report.scores[name][metric] for metric in (*METRICS, "gap")), times[name])
        for name in models
    ]
    show(
        f"Digits: a network forgets the {FORGOTTEN}; gap is the distance from retraining in points",
        ["", *METRICS, "gap", "seconds"],
        rows,
    )
    UnlearningReportDisplay.from_report(
        report, metrics=("FA", "MIA"), axes=figure.subplots(1, 2, sharey=True)
    )
    figure.suptitle(f"Unlearning the {FORGOTTEN}; the line is the retrained model")
