"""Generalized cross-validation chooses one of several penalties, again in every request."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.preprocessing import scale

from sklearn_ext import (
    ForgettingPipeline,
    ForgettingScaler,
    RandomFeatureClassifier,
    RandomFeatureRegressor,
    make_forgetting_pipeline,
)

ALPHAS = 10.0 ** np.arange(-3, 4)
SOLVERS = ("dual", "primal")


def noisy(n=120, n_outliers=12):
    """Noise followed by a sine; without the noise, a smaller penalty is best."""
    rng = np.random.RandomState(0)
    X = rng.uniform(-2, 2, size=(n, 1))
    y = np.sin(3 * X[:, 0]) + 0.01 * rng.standard_normal(n)
    y[:n_outliers] = 20 * rng.standard_normal(n_outliers)
    return X, y


def regressor(**parameters):
    given = {"n_components": 60, "gamma": 1.0, "alpha": ALPHAS, "random_state": 0, "store": True}
    return RandomFeatureRegressor(**given | parameters)


def criterion(Z, Y, weights, alpha):
    root = np.sqrt(weights)[:, None]
    Z, Y = Z * root, Y * root
    H = Z @ np.linalg.solve(Z.T @ Z + alpha * np.eye(Z.shape[1]), Z.T)
    return ((Y - H @ Y) ** 2).sum() / (weights.sum() - np.trace(H)) ** 2


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("is_weighted", [False, True])
def test_the_choice_minimizes_the_criterion(solver, is_weighted):
    X, y = noisy()
    Y = np.column_stack((y, np.cos(X[:, 0])))
    weights = np.random.RandomState(1).randint(1, 4, len(y)) if is_weighted else np.ones(len(y))
    model = regressor(solver=solver).fit(X, Y, sample_weight=weights)
    Z = np.column_stack((model.transform(X), np.ones(len(X))))
    expected = [criterion(Z, Y, weights, alpha) for alpha in ALPHAS]
    assert model.alpha_ == ALPHAS[np.argmin(expected)]
    single = regressor(solver=solver, alpha=model.alpha_).fit(X, Y, sample_weight=weights)
    np.testing.assert_array_equal(model.feature_coef_, single.feature_coef_)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("store", [True, "auto"])
def test_the_choice_after_requests_is_that_of_a_new_fit(solver, store):
    X, y = noisy()
    model = regressor(solver=solver, store=store).fit(X, y)
    first = model.alpha_

    def request(rows):
        if model.retained_ is None:
            return {"X": X[rows], "y": y[rows]}
        return {"indices": rows}

    def assert_refit(rows):
        fresh = regressor(solver=solver).fit(X[rows], y[rows])
        assert model.alpha_ == fresh.alpha_
        assert abs(model.predict(X) - fresh.predict(X)).max() < 1e-9

    for k in range(12):
        rows = np.array([k])
        without = np.arange(k + 1, len(y))
        expected = regressor(solver=solver).fit(X[without], y[without]).predict(X[rows])
        np.testing.assert_allclose(model.relabel(**request(rows)), expected, atol=1e-9)
        model.forget(**request(rows), lazy=k % 2 == 0)
        assert_refit(without)
    assert model.alpha_ < first
    model = pickle.loads(pickle.dumps(model))
    model.learn(X[:12], y[:12])
    assert_refit(np.arange(len(y)))
    assert model.alpha_ == first


def test_many_samples_are_forgotten_at_once():
    X, y = noisy(600)
    model = regressor(solver="primal", refresh_fraction=0.9).fit(X, y)
    model.forget(np.arange(300))
    fresh = regressor(solver="primal").fit(X[300:], y[300:])
    assert model.alpha_ == fresh.alpha_
    assert abs(model.predict(X) - fresh.predict(X)).max() < 1e-9
    sums = [c.sums.gram for c in model._solution.candidates]
    assert len(sums[0]) > 0
    assert not any(sums[1:])


@pytest.mark.parametrize("solver", SOLVERS)
def test_classes_come_and_go(solver):
    X, y = load_iris(return_X_y=True)
    X = scale(X)
    model = RandomFeatureClassifier(
        50, alpha=ALPHAS, gamma=0.5, solver=solver, store=True, random_state=0
    )
    fresh = clone(model).fit(X[:100], y[:100])
    model.fit(X, y).forget(y == 2)
    assert model.alpha_ == fresh.alpha_
    assert abs(model.decision_function(X) - fresh.decision_function(X)).max() < 1e-9
    again = model.learn(X[100:], y[100:])
    assert again.alpha_ == clone(model).fit(X, y).alpha_


@pytest.mark.parametrize("n_components", [30, 300])
def test_a_pipeline_chooses_again_and_is_stored(tmp_path, n_components):
    X, y = load_diabetes(return_X_y=True)
    head = RandomFeatureRegressor(n_components, alpha=ALPHAS, gamma=0.05, random_state=0)
    pipeline = make_forgetting_pipeline(
        ForgettingScaler(), head, pin="preprocessing", pinned_fraction=0.2, random_state=0
    )
    pipeline.fit(X[:200], y[:200]).save(tmp_path)
    free = np.setdiff1d(pipeline.sample_id_, pipeline.pinned_)
    for ids in (free[:1], free[1:9]):
        pipeline.forget(ids)
    pipeline.close()
    loaded = ForgettingPipeline.load(tmp_path)
    retrained = pipeline.refitted()
    for other in (loaded, retrained):
        assert other.steps_[-1][1].alpha_ == pipeline.steps_[-1][1].alpha_
        np.testing.assert_allclose(other.predict(X), pipeline.predict(X), atol=1e-9)
        np.testing.assert_allclose(
            other.predict_interval(X[:9]), pipeline.predict_interval(X[:9]), atol=1e-6
        )


@pytest.mark.parametrize("alpha", [[], [1.0, -1.0], [np.inf], [np.nan]])
def test_penalties_must_be_positive(alpha):
    X, y = noisy(20)
    with pytest.raises(ValueError, match="alpha must be a positive number or an array of them"):
        regressor(alpha=alpha).fit(X, y)
