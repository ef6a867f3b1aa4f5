"""Messages about mistakes that every estimator of a kind shares."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone, is_classifier, is_outlier_detector, is_regressor
from skorch import NeuralNet

from sklearn_ext import ConditionalDDPM, SFRonClassForgetter, all_estimators
from tests.instances import instance, instances, sample

NO_LABELS = "y must have a label for every sample"


def needs_two_classes(estimator):
    fits_one = ("DiffusionOODDetector", "RandomFeatureClassifier")
    is_given_labels = is_classifier(estimator) or is_outlier_detector(estimator)
    return is_given_labels and type(estimator).__name__ not in fits_one


def of_kind(*is_kind):
    found = [estimator for estimator in instances() if any(test(estimator) for test in is_kind)]
    return pytest.mark.parametrize(
        "estimator", [pytest.param(each, id=type(each).__name__) for each in found]
    )


@pytest.mark.parametrize("name", [name for name, _ in all_estimators()])
def test_a_wrong_argument_is_blamed_on_the_public_class(name):
    Estimator = dict(all_estimators())[name]
    if not issubclass(Estimator, NeuralNet):  # skorch checks when it builds the net
        with pytest.raises(TypeError, match=f"^{name}.__init__"):
            Estimator(no_such_parameter=1)
    with pytest.raises(TypeError, match=f"^{name}.__init__"):
        Estimator(*range(40))


@of_kind(is_regressor)
@pytest.mark.parametrize("make", [list, np.array, lambda y: np.array(y, dtype=object), pd.Series])
def test_targets_that_are_not_numbers_are_shown(estimator, make):
    X, y = sample(estimator, 30)
    with pytest.raises(ValueError, match=r"^y must contain numbers, got 'low'"):
        clone(estimator).fit(X, make(["low"] * len(y)))
    dates = np.full(len(y), np.datetime64("2026-01-01"))
    with pytest.raises(ValueError, match=r"^y must contain numbers, got datetime"):
        clone(estimator).fit(X, dates)


@of_kind(is_classifier, is_outlier_detector)
@pytest.mark.parametrize("missing", [np.datetime64("NaT"), None], ids=["NaT", "None"])
def test_a_missing_label_is_shown_with_its_sample(estimator, missing):
    X, y = sample(instance(type(estimator)), 30)
    y = np.arange(30) % 3 if y is None else y
    if isinstance(missing, np.datetime64):
        labels = np.datetime64("2026-01-01") + y.astype(int)
    else:
        labels = np.array(["abc"[k] for k in y], dtype=object)
    labels[4] = missing
    with pytest.raises(ValueError, match=NO_LABELS + ", got (NaT|None) for sample 4"):
        clone(estimator).fit(X, labels)


@of_kind(needs_two_classes)
def test_a_single_class_is_shown_as_it_was_given(estimator):
    X, _ = sample(estimator, 30)
    with pytest.raises(ValueError, match=r"class: \[?7\.0\b"):
        clone(estimator).fit(X, np.full(len(X), 7.0))


@pytest.mark.parametrize(
    ("parameters", "forget_class", "message"),
    [
        ({}, 9, r"^forget_class contains labels that are not among the classes \[0, 1\]: \[9\]"),
        ({"redirect_to": 9}, 1, r"^redirect_to contains labels .*: \[9\]"),
    ],
)
def test_an_unknown_class_is_blamed_on_its_parameter(parameters, forget_class, message):
    X, y = np.random.RandomState(0).uniform(size=(20, 2)), np.arange(20) % 2
    model = ConditionalDDPM(max_iter=2, width=8, random_state=0).fit(X, y)
    with pytest.raises(ValueError, match=message):
        SFRonClassForgetter(model, **parameters).fit(X, y, forget_class=forget_class)


@pytest.mark.parametrize("name", [name for name, _ in all_estimators()])
def test_fit_of_a_class_asks_for_an_instance(name):
    Estimator = dict(all_estimators())[name]
    with pytest.raises(TypeError, match=r"^fit must be called on an estimator, .* got ndarray"):
        Estimator.fit(np.zeros((3, 2)), np.zeros(3))
