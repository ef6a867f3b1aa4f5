"""Results of OrthLoss on digits and clothes, as means over three splits."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from benchmarks import _ood_outliers
from benchmarks._ood_sets import metrics
from sklearn_ext import MSPOODDetector, OrthLossOODDetector
from sklearn_ext.neural import NetClassifier
from tests.real_data import loaded_or_skipped

pytestmark = pytest.mark.slow
SPLITS = (0, 1, 2)
EXPOSURE = {"sep_weight": 0.0, "clu_weight": 0.0}


def fit(task, **params):
    return OrthLossOODDetector(random_state=task.split, **params).fit(task.X_train, task.y_train)


def evaluate(detector, task, **params):
    scores = detector.set_params(**params).score_samples(task.X_test)
    return metrics(detector, scores, task)


def evaluate_plain_classifier(task):
    known = task.y_train >= 0
    net = NetClassifier(random_state=task.split).fit(task.X_train[known], task.y_train[known])
    return evaluate(MSPOODDetector(net).fit(task.X_train[known]), task)


def averages(results):
    return {name: np.mean([one[name] for one in results]) for name in results[0]}


def tasks(name):
    return [loaded_or_skipped(_ood_outliers.load_task, name, split) for split in SPLITS]


def accuracy(detector, task):
    X, y = load_digits(return_X_y=True)
    X, y = X[y < 8] / 16, y[y < 8]
    _, _, _, labels = train_test_split(X, y, test_size=0.4, stratify=y, random_state=task.split)
    return np.mean(detector.predict_class(task.X_test[task.y_test == "known"]) == labels)


def test_default_detector_on_images_of_digits():
    ours, exposed, turned = [], [], []
    for task in tasks("digits"):
        detector = fit(task)
        ours.append(evaluate(detector, task) | {"accuracy": accuracy(detector, task)})
        outlier_exposure = fit(task, **EXPOSURE)
        exposed.append(evaluate(outlier_exposure, task, ood_score="msp"))
        separated = fit(task, sep_reduction="sum", clu_weight=0.0)
        turned.append(
            [one.separation_["after"]["outlier_cosine"] for one in (separated, outlier_exposure)]
        )
    ours, exposed = averages(ours), averages(exposed)
    assert ours["FPR95"] <= 3.5
    assert ours["AUROC"] >= 99.0
    assert ours["accuracy"] >= 0.985
    assert ours["FPR95"] < exposed["FPR95"]
    assert ours["AUROC"] > exposed["AUROC"]
    separated, alone = np.mean(turned, axis=0)
    assert separated <= 0.5 * alone


def test_default_and_paper_detectors_on_flat_digits():
    ours, published, plain = [], [], []
    for task in tasks("digits_rows"):
        detector = fit(task)
        ours.append(evaluate(detector, task) | {"accuracy": accuracy(detector, task)})
        paper = OrthLossOODDetector.from_paper(random_state=task.split)
        paper.fit(task.X_train, task.y_train)
        published.append(evaluate(paper, task))
        plain.append(evaluate_plain_classifier(task))
    ours, published, plain = averages(ours), averages(published), averages(plain)
    assert plain["FPR95"] >= 20.0
    assert ours["FPR95"] <= 6.0
    assert ours["AUROC"] >= 98.5
    assert ours["accuracy"] >= 0.985
    assert published["FPR95"] <= 7.0
    assert published["AUROC"] >= 98.0


def test_new_samples_are_rejected_at_the_nominal_rate():
    rates = []
    for task in tasks("digits_rows"):
        detector = fit(task, validation_fraction=0.2)
        rates.append(np.mean(detector.predict(task.X_test[task.y_test == "known"]) == -1))
    assert np.mean(rates) == pytest.approx(0.05, abs=0.03)


def test_default_detector_on_flat_clothes():
    ours, exposed, plain = [], [], []
    for task in tasks("fashion_rows"):
        ours.append(evaluate(fit(task), task))
        exposed.append(evaluate(fit(task, ood_score="msp", **EXPOSURE), task))
        plain.append(evaluate_plain_classifier(task))
    ours, exposed, plain = averages(ours), averages(exposed), averages(plain)
    assert ours["FPR95"] <= 22.0
    assert ours["FPR95"] <= exposed["FPR95"] - 10.0
    assert ours["FPR95"] <= plain["FPR95"] - 45.0
