"""Estimators as the common tests build them, and suitable data."""

from collections.abc import Callable
from functools import cache

import numpy as np
from sklearn.base import BaseEstimator, is_classifier, is_outlier_detector, is_regressor
from sklearn.datasets import load_diabetes, load_iris
from sklearn.utils import get_tags

from sklearn_ext.neural import MLP, seeded
from sklearn_ext.utils import all_estimators


def with_adapters(Estimator):
    """Return a net with adapters in the middle, whose first layer and head are trained."""
    with seeded(0):
        module = MLP(4, 3, hidden_sizes=(16, 16))
    return Estimator(
        MLP,
        module__hidden_sizes=(16, 16),
        pretrained={name: tensor.numpy() for name, tensor in module.state_dict().items()},
        modules_to_save=["1", "5"],
        r=2,
        lr=1e-2,
        max_epochs=10,
    )


def of_a_quickly_trained_model(Estimator):
    """Return a class forgetter for a small diffusion model that is trained for a few steps."""
    from sklearn_ext import ConditionalDDPM

    return Estimator(ConditionalDDPM(max_iter=20, width=16))


def on_quickly_learned_bandwidths(Estimator):
    """Return a transformer on a kernel model that is trained for a few steps."""
    from sklearn_ext import LABRidgelessRegressor

    lab = LABRidgelessRegressor(n_support=10, n_warmup=5, growth=None, max_iter=5, random_state=0)
    return Estimator(lab, n_centers=20)


# How to build estimators with required arguments: {class name: function of the class}. All others
# are built without arguments.
BUILDERS: dict[str, Callable[[type[BaseEstimator]], BaseEstimator]] = {
    "FlatLoRAClassifier": with_adapters,
    "FlatLoRARegressor": with_adapters,
    "LearnedKernelFeatures": on_quickly_learned_bandwidths,
    "SFRonClassForgetter": of_a_quickly_trained_model,
}

RESPONSES = ("predict", "predict_proba", "decision_function", "score_samples", "transform")


def instance(Estimator):
    """Return an instance of an estimator class, with a fixed seed if the class takes one."""
    build = BUILDERS.get(Estimator.__name__, lambda cls: cls())
    estimator = build(Estimator)
    if "random_state" in estimator.get_params(deep=False):
        estimator.set_params(random_state=0)
    return estimator


def instances():
    """Return an instance of every public estimator."""
    return [instance(Estimator) for _, Estimator in all_estimators()]


def sample(estimator, n_samples=90):
    """Return X and y of a real data set that suits the type of the estimator."""
    rows = np.random.RandomState(0).permutation(150)[:n_samples]
    if is_regressor(estimator):
        X, y = load_diabetes(return_X_y=True)
        return X[rows, :4], y[rows]
    X, y = load_iris(return_X_y=True)
    needs_y = is_classifier(estimator) or is_outlier_detector(estimator)
    return X[rows], y[rows] if needs_y or get_tags(estimator).target_tags.required else None


def responses(estimator, X):
    """Return the outputs of a fitted estimator on X, by method."""
    return {name: getattr(estimator, name)(X) for name in RESPONSES if hasattr(estimator, name)}


@cache
def fitted(Estimator):
    """Return an instance fitted to its sample, and its responses there; tests share both."""
    estimator = instance(Estimator)
    X, y = sample(estimator)
    estimator.fit(X, y)
    return estimator, responses(estimator, X)
