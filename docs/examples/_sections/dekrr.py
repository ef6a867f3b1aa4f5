"""DeKRR: kernel regression at nodes that keep their samples."""

import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.preprocessing import scale

from sklearn_ext import DecentralizedRFKRR

from .shared import show, timed

N_CLINICS = 10


def run(figure):
    """Fit models at ten clinics with 30 patients each, and test them on new patients."""
    X, y = load_diabetes(return_X_y=True)
    X, X_test, y, y_test = train_test_split(scale(X), scale(y), test_size=142, random_state=0)
    clinic = np.arange(len(X)) % N_CLINICS
    rows, scores = [], {}
    for name, weight in (("* DeKRR", "cv"), ("each clinic alone", 0)):
        model = DecentralizedRFKRR(consensus_weight=weight, alpha=1e-2, random_state=0)
        model, seconds = timed(model.fit, X, y, node=clinic)
        scores[name] = [
            r2_score(y_test, model.predict(X_test, node=np.full(len(X_test), k)))
            for k in model.nodes_
        ]
        rows.append((name, *summary(scores[name]), seconds))
    grid = {"gamma": [0.001, 0.01, 0.1], "alpha": [0.1, 1, 10]}
    central, seconds = timed(GridSearchCV(KernelRidge(kernel="rbf"), grid).fit, X, y)
    pooled = central.score(X_test, y_test)
    rows.append(("KernelRidge, all samples in one place", pooled, pooled, seconds))
    title = "Diabetes: ten clinics of 30 patients, no sample leaves its clinic"
    show(title, ["", "mean R2", "worst clinic", "fit seconds"], rows)

    ax = figure.subplots()
    for name, values in scores.items():
        ours = name.startswith("*")
        ax.plot(values, marker="*" if ours else "o", ms=10 if ours else 5, label=name)
    ax.axhline(pooled, ls=":", color="k", label="all samples in one place")
    ax.set(title="DeKRR", xlabel="clinic", ylabel="R2 on new patients")
    ax.legend(frameon=False)


def summary(values):
    return float(np.mean(values)), float(np.min(values))
