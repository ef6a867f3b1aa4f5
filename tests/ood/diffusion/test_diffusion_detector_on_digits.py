"""Digits 0 to 7 against five kinds of unusual images that ship with scikit-learn."""

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_sample_image
from sklearn.model_selection import train_test_split

from sklearn_ext import DiffusionOODDetector
from sklearn_ext.metrics import ood_report

SEEDS = (0, 1, 2)


def patches(photo, n, rng):
    """Patches of 8 x 8 pixels at scales 1 to 8, with contrast stretched to [0, 1]."""
    gray = photo.mean(axis=2)
    out = np.empty((n, 8, 8))
    for patch in out:
        scale = rng.choice([1, 2, 4, 8])
        top, left = (rng.randint(size - 8 * scale) for size in gray.shape)
        cut = gray[top : top + 8 * scale, left : left + 8 * scale]
        patch[:] = cut.reshape(8, scale, 8, scale).mean(axis=(1, 3))
        patch -= patch.min()
        patch /= max(patch.max(), 1e-6)
    return out


def digits(seed):
    X, y = load_digits(return_X_y=True)
    X, known = X.reshape(-1, 8, 8) / 16, y < 8
    X_train, X_test, y_train, _ = train_test_split(
        X[known], y[known], test_size=0.4, stratify=y[known], random_state=seed
    )
    rng = np.random.RandomState(seed)
    unusual = {
        "near": X[~known],
        "flower": patches(load_sample_image("flower.jpg"), len(X_test), rng),
        "uniform": rng.uniform(size=X_test.shape),
        "inverted": 1 - X_test,
        "rotated": np.rot90(X_test, axes=(1, 2)),
    }
    return X_train, y_train, X_test, unusual


def evaluate(score, X_test, unusual):
    return ood_report(score(X_test), {name: score(X) for name, X in unusual.items()})


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(64,), (8, 8)], ids=["MLP", "CNN"])
def test_regeneration_detects_unusual_images(shape):
    reports = {"defaults": [], "one draw": [], "ten steps": [], "largest probability": []}
    for seed in SEEDS:
        X_train, y_train, X_test, unusual = digits(seed)
        X_train, X_test = X_train.reshape(-1, *shape), X_test.reshape(-1, *shape)
        unusual = {name: X.reshape(-1, *shape) for name, X in unusual.items()}
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
            reports[name].append(evaluate(score, X_test, unusual))
    auroc = {name: np.mean([r.average["auroc"] for r in found]) for name, found in reports.items()}
    accepted = {
        name: np.mean([r.average["fpr_id_positive"] for r in found])
        for name, found in reports.items()
    }
    for name in ("defaults", "one draw"):
        assert auroc[name] >= 0.99
        assert accepted[name] <= 0.03
        assert np.mean([report.scores["near"]["auroc"] for report in reports[name]]) >= 0.975
    assert abs(auroc["ten steps"] - auroc["one draw"]) < 0.003
    # The CNN is less confident about unusual images than the MLP.
    assert auroc["largest probability"] <= (0.94 if shape == (64,) else auroc["defaults"] - 0.02)
