"""Unlearning, exact in random-feature models and approximate in networks."""

import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split

from sklearn_ext import (
    FineTuneUnlearner,
    MUSOUnlearner,
    NatMUUnlearner,
    NetClassifier,
    RandomFeatureClassifier,
    RandomLabelUnlearner,
    SFRonUnlearner,
    UnlearningReportDisplay,
    unlearning_report,
)

from .shared import show, timed

FORGOTTEN = 3
METRICS = ("FA", "RA", "TA", "MIA")


def run(figure):
    """Forget digits exactly in a linear model, and approximately in networks."""
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X / 16, y, stratify=y, random_state=0)
    exactly(X, y)
    approximately(figure, X, y, X_test, y_test)


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
