"""Forgetting samples exactly, compared with a new fit: seconds and differences of coefficients.

A data set is named ``data@fraction``: the fraction of 4,000 samples is forgotten. There are 3,000
random frequencies, which give 6,000 features, and a constant feature. ``digits`` are 8 x 8 images,
drawn with replacement and with noise added; ``fashion`` are images of 28 x 28 pixels. The timing
covers the request, not the fit of the model that forgets. All ratios are in the column
``fit/ours``:

- ``forget``: the default, which erases the samples at once, and stores features here;
- ``forget, lazy``: the next request updates the inverse matrix;
- ``forget, rows kept``: stores samples, and computes their features again in every request, which
  takes less memory;
- ``forget again``: a second request after a lazy one, which includes the postponed update;
- ``fit anew``: our own estimator fitted to the retained samples, ready to forget more;
- ``Ridge``: scikit-learn's estimator on the same features, which cannot forget.
"""

from functools import partial

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge

from ._contract import Benchmark, Task
from ._data import load

N_ROWS = 4000
N_COMPONENTS = 3000
ALPHA = 1e-2


def load_task(name, split):
    data, fraction = name.split("@")
    rng = np.random.RandomState(split)
    if data == "digits":
        arrays = load("digits")
        rows = rng.randint(len(arrays["X"]), size=N_ROWS + 500)
        X, y = arrays["X"][rows] / 16 + 0.3 * rng.randn(N_ROWS + 500, 64), arrays["y"][rows]
    else:
        arrays = load("fashion_mnist")
        rows = rng.permutation(len(arrays["X_train"]))[: N_ROWS + 500]
        X = arrays["X_train"][rows].reshape(len(rows), -1) / 255.0
        y = arrays["y_train"][rows].astype(np.int64)
    forget = np.zeros(N_ROWS, dtype=bool)
    forget[rng.permutation(N_ROWS)[: round(float(fraction.rstrip("%")) / 100 * N_ROWS)]] = True
    given = {"fit_params": {"forget": forget}, "extra": {"forget": forget}}
    return Task(name, split, X[:N_ROWS], y[:N_ROWS], X[N_ROWS:], y[N_ROWS:], **given)


def model(seed, **parameters):
    from sklearn_ext import RandomFeatureClassifier

    return RandomFeatureClassifier(
        N_COMPONENTS, gamma=0.02, alpha=ALPHA, random_state=seed, **parameters
    )


class Forgetting(BaseEstimator):
    """A fitted model whose `fit` is a request to forget, which you can make once."""

    def __init__(self, fitted, lazy=False):
        self.fitted = fitted
        self.lazy = lazy

    def fit(self, X, y, forget):
        self.model_ = self.fitted.estimator.forget(forget, lazy=self.lazy)
        return self

    def predict(self, X):
        return self.model_.predict(X)


class FittingAnew(BaseEstimator):
    """The model of the retained samples."""

    def __init__(self, estimator):
        self.estimator = estimator

    def fit(self, X, y, forget):
        self.model_ = clone(self.estimator).fit(X[~forget], y[~forget])
        return self

    def predict(self, X):
        return self.model_.predict(X)


class RidgeOnFeatures(BaseEstimator):
    """Ridge regression from scikit-learn on the same features."""

    def __init__(self, features):
        self.features = features

    def fit(self, X, y, forget):
        self.classes_ = np.unique(y)
        self.model_ = Ridge(ALPHA, fit_intercept=False, solver="cholesky")
        Y = np.where(y[~forget, None] == self.classes_, 1.0, -1.0)
        self.model_.fit(self._transform(X[~forget]), Y)
        return self

    def predict(self, X):
        return self.classes_[self.model_.predict(self._transform(X)).argmax(axis=1)]

    def _transform(self, X):
        return np.hstack((self.features.estimator.transform(X), np.ones((len(X), 1))))


def forgetting(task, seed, n_threads, *, lazy=False, first=None, **parameters):
    fitted = model(seed, **parameters).fit(task.X_train, task.y_train)
    if first is not None:
        # Part of the request is made before, lazily; the timed rest includes the postponed update.
        done = np.flatnonzero(task.extra["forget"])[:first]
        fitted.forget(done, lazy=True)
        return Rest(FrozenEstimator(fitted))
    return Forgetting(FrozenEstimator(fitted), lazy)


class Rest(Forgetting):
    """A model that has already forgotten some of the samples."""

    def fit(self, X, y, forget):
        left = forget & self.fitted.estimator.retained_
        self.model_ = self.fitted.estimator.forget(left)
        return self


def anew(task, seed, n_threads):
    return FittingAnew(model(seed))


def ridge(task, seed, n_threads):
    few = model(seed).fit(task.X_train[:20], task.y_train[:20])
    return RidgeOnFeatures(FrozenEstimator(few))


def warm_up(contender, task):
    """Compile and start threads on few samples, without changing the contender."""
    few = model(0).set_params(n_components=50).fit(task.X_train[:100], task.y_train[:100])
    few.forget([1, 2]).predict(task.X_test[:10])
    Ridge(solver="cholesky").fit(task.X_train[:20], task.y_train[:20])


def metrics(contender, output, task):
    """Return the digits to which coefficients agree with a new fit, and the accuracy."""
    kept, fitted = ~task.extra["forget"], contender.model_
    reference = fitted if not isinstance(fitted, Ridge) else contender.features.estimator
    expected = clone(reference).fit(task.X_train[kept], task.y_train[kept]).feature_coef_
    coef = fitted.coef_ if isinstance(fitted, Ridge) else fitted.feature_coef_
    error = abs(coef[:, : expected.shape[1]] - expected).max() / abs(expected).max()
    return {
        "digits": -np.log10(max(error, 1e-16)),
        "accuracy": float(np.mean(output == task.y_test)),
    }


BENCHMARK = Benchmark(
    datasets=("digits@1%", "digits@10%", "fashion@1%", "fashion@10%"),
    quick=("digits@1%",),
    load=load_task,
    splits=(0, 1, 2),
    ours={
        "forget": forgetting,
        "forget, lazy": partial(forgetting, lazy=True),
        "forget, rows kept": partial(forgetting, store=True),
        "forget again": partial(forgetting, first=20),
    },
    peers={"fit anew": anew, "Ridge": ridge},
    metrics=metrics,
    warm_up=warm_up,
    notes=(
        f"{N_ROWS} samples, {2 * N_COMPONENTS + 1} features, 10 classes, alpha={ALPHA}",
        "digits: -log10 of the largest difference between a coefficient and that of a new fit, "
        "divided by the largest coefficient; the new fit itself has 16",
    ),
)
