"""Digits 0 to 7 against five kinds of unusual images that ship with scikit-learn."""

import numpy as np
import pytest

from benchmarks._ood_sets import load_task
from sklearn_ext import DiffusionOODDetector
from sklearn_ext.metrics import ood_report

SEEDS = (0, 1, 2)


def evaluate(score, parts):
    scores = {name: score(X) for name, X in parts.items()}
    return ood_report(scores.pop("known"), scores)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(64,), (8, 8)], ids=["MLP", "CNN"])
def test_regeneration_detects_unusual_images(shape):
    reports = {"defaults": [], "one draw": [], "ten steps": [], "largest probability": []}
    for seed in SEEDS:
        task = load_task("digits", seed)
        X_train, y_train = task.X_train.reshape(-1, *shape), task.y_train
        X_test = task.X_test.reshape(-1, *shape)
        parts = {name: X_test[task.y_test == name] for name in dict.fromkeys(task.y_test.tolist())}
        detector = DiffusionOODDetector(random_state=seed).fit(X_train, y_train)
        net = detector.classifier_
        one_draw = DiffusionOODDetector(net, n_repeats=1, random_state=seed)
        ten_steps = DiffusionOODDetector(net, n_repeats=1, n_steps=10, random_state=seed)
        for name, score in {
            "defaults": detector.score_samples,
            "one draw": one_draw.fit(X_train, y_train).score_samples,
            "ten steps": ten_steps.fit(X_train, y_train).score_samples,
            "largest probability": lambda X, net=net: net.predict_proba(X).max(axis=1),
        }.items():
            reports[name].append(evaluate(score, parts))
    auroc = {name: np.mean([r.average["auroc"] for r in found]) for name, found in reports.items()}
    accepted = {
        name: np.mean([r.average["fpr_id_positive"] for r in found])
        for name, found in reports.items()
    }
    for name in ("defaults", "one draw"):
        assert auroc[name] >= 0.99
        assert accepted[name] <= 0.03
        near = [report.scores[task.extra["near"]]["auroc"] for report in reports[name]]
        assert np.mean(near) >= 0.975
    assert abs(auroc["ten steps"] - auroc["one draw"]) < 0.003
    # The CNN is less confident about unusual images than the MLP.
    assert auroc["largest probability"] <= (0.94 if shape == (64,) else auroc["defaults"] - 0.02)
