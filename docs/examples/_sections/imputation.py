"""Supervised kernel imputation."""

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.metrics import root_mean_squared_error
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from sklearn_ext import SupervisedKernelImputer

from .shared import show, timed

MISSING = (0.2, 0.5, 0.8)


def run(figure):
    """Impute missing values of tumor data by several imputers, then classify the samples."""
    X, y = load_breast_cancer(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    imputers = {
        "* joint Gaussian": SupervisedKernelImputer(random_state=0),
        "column means": SimpleImputer(),
        "5 nearest neighbors": KNNImputer(),
        "iterative, Bayesian ridge": IterativeImputer(random_state=0),
    }
    errors = {}
    for fraction in MISSING:
        missing = np.random.RandomState(0).rand(*X.shape) < fraction
        incomplete = np.where(missing, np.nan, X)
        rows = []
        for name, imputer in imputers.items():
            imputed, seconds = timed(imputer.fit_transform, incomplete, y)
            error = root_mean_squared_error(X[missing], imputed[missing])
            accuracy = cross_val_score(make_pipeline(imputer, SVC()), incomplete, y).mean()
            errors.setdefault(name, []).append(error)
            rows.append((name, error, accuracy, seconds))
        title = f"Tumors: 569 samples of 30 features, {fraction:.0%} of all entries missing"
        show(title, ["", "error / std. deviation", "SVM accuracy, 5 folds", "fit seconds"], rows)
    ax = figure.subplots()
    for name, values in errors.items():
        ours = name.startswith("*")
        ax.plot(MISSING, values, marker="*" if ours else "o", ms=10 if ours else 5, label=name)
    ax.set(
        xlabel="fraction of missing entries", ylabel="error / standard deviation", ylim=(0, None)
    )
    ax.legend(frameon=False)
