"""OrthLoss and diffusion disparity: inputs of no known class."""

import numpy as np
from sklearn.datasets import load_digits, load_sample_images
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split

from sklearn_ext import (
    DiffusionOODDetector,
    EnergyOODDetector,
    KNNOODDetector,
    MSPOODDetector,
    NetClassifier,
    OrthLossOODDetector,
)
from sklearn_ext.metrics import ood_report

from .shared import show, timed

N_KNOWN = 8  # digits 0 to 7 are known; 8 and 9 appear in the test
SIDE = 8


def run(figure):
    """Detect other digits, photo patches and noise after training on eight digits."""
    images, labels = load_digits(return_X_y=True)
    images, known = images.reshape(-1, SIDE, SIDE) / 16, labels < N_KNOWN
    X, X_test, y, _ = train_test_split(
        images[known], labels[known], stratify=labels[known], test_size=0.4, random_state=0
    )
    patches = photo_patches(600)
    rng = np.random.RandomState(0)
    unknown = {
        "digits 8, 9": images[~known],
        "photo patches": patches[300:],
        "noise": rng.rand(300, SIDE, SIDE),
        "rotated": np.rot90(X_test, axes=(1, 2)),
        "inverted": 1 - X_test,
    }
    net, _ = timed(NetClassifier(max_epochs=40, random_state=0).fit, X, y)
    frozen = FrozenEstimator(net)
    outliers = np.concatenate([X, patches[:300]]), np.concatenate([y, np.full(300, -1)])
    fits = {
        "* OrthLoss, with 300 patches": (OrthLossOODDetector(random_state=0), outliers),
        "* diffusion disparity": (DiffusionOODDetector(frozen, random_state=0), (X, y)),
        "largest probability": (MSPOODDetector(frozen, random_state=0), (X, y)),
        "energy": (EnergyOODDetector(frozen, random_state=0), (X, y)),
        "nearest neighbors": (KNNOODDetector(frozen, random_state=0), (X, y)),
    }
    rows, errors = [], {}
    for name, (detector, data) in fits.items():
        _, seconds = timed(detector.fit, *data)
        scores = {key: detector.score_samples(Z) for key, Z in unknown.items()}
        report = ood_report(detector.score_samples(X_test), scores)
        errors[name] = [report.scores[key]["fpr_id_positive"] for key in unknown]
        near = report.scores["digits 8, 9"]["auroc"]
        rows.append((name, report.average["auroc"], near, float(np.mean(errors[name])), seconds))
    show(
        "Digits 0 to 7 are known, five kinds of inputs are not. FPR95: unknown inputs accepted",
        ["", "mean AUROC", "AUROC of 8, 9", "mean FPR95", "fit seconds"],
        rows,
    )
    ax = figure.subplots()
    for name, values in errors.items():
        ours = name.startswith("*")
        ax.plot(
            list(unknown), values, marker="*" if ours else "o", ms=10 if ours else 5, label=name
        )
    ax.set(title="Unknown inputs accepted when 95 % of the known ones are", ylabel="FPR95")
    ax.legend(frameon=False, fontsize="small")


def photo_patches(n_patches):
    """Return gray patches of two photographs, scaled to [0, 1]."""
    gray = [image.mean(axis=2) / 255 for image in load_sample_images().images]
    rng = np.random.RandomState(0)
    corners = [rng.randint(0, size - SIDE, n_patches) for size in gray[0].shape]
    return np.stack(
        [
            gray[k % 2][i : i + SIDE, j : j + SIDE]
            for k, (i, j) in enumerate(zip(*corners, strict=True))
        ]
    )
