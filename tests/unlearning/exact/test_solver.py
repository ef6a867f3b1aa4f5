"""The algorithm on arrays, without an estimator."""

import numpy as np
import pytest

from sklearn_ext.unlearning.exact import (
    FeatureMap,
    RandomFeatureConfig,
    Request,
    RidgeScipyEngine,
    TrainingSamples,
    fit_ridge,
    forget_samples,
    learn_samples,
    request_by_index,
    rescale_features,
)


@pytest.fixture
def samples():
    rng = np.random.default_rng(0)
    return TrainingSamples(rng.normal(size=(30, 12)), rng.normal(size=(30, 2)), np.ones(30))


@pytest.fixture
def features():
    engine = RidgeScipyEngine()
    return FeatureMap(engine, engine.asarray, n_columns=12, is_identity=True)


@pytest.mark.parametrize("refresh_fraction", [0.0, 0.5])
@pytest.mark.parametrize("solver", ["dual", "primal"])
def test_forgetting_and_learning_equal_new_fits(samples, features, solver, refresh_fraction):
    config = RandomFeatureConfig(alpha=0.1, solver=solver, refresh_fraction=refresh_fraction)
    solution = fit_ridge(features, samples, config)
    before = solution.coef.copy()
    request = request_by_index([4, 1], np.ones(30, dtype=bool), samples)
    rest = samples.without(np.array([1, 4]))
    forgotten = forget_samples(solution, features, request, config, stored=samples)
    expected = fit_ridge(features, rest, config).coef
    np.testing.assert_allclose(forgotten.coef, expected, rtol=1e-10)
    np.testing.assert_array_equal(solution.coef, before)
    learned = learn_samples(forgotten, features, request.samples, config, stored=rest)
    np.testing.assert_allclose(learned.coef, before, rtol=1e-10)


@pytest.mark.parametrize("refresh_fraction", [0.0, 0.5])
def test_dual_solution_asks_for_the_stored_samples(samples, features, refresh_fraction):
    config = RandomFeatureConfig(solver="dual", refresh_fraction=refresh_fraction)
    solution = fit_ridge(features, samples, config)
    request = request_by_index([4], np.ones(30, dtype=bool), samples)
    with pytest.raises(ValueError, match="stored must be given for a dual solution, got None"):
        forget_samples(solution, features, request, config)
    with pytest.raises(ValueError, match="stored must be given for a dual solution, got None"):
        learn_samples(solution, features, request.samples, config)


@pytest.mark.parametrize("alpha", [0.1, (0.01, 0.1)])
def test_rescaled_sums_are_those_of_the_changed_features(alpha):
    rng = np.random.default_rng(0)
    size = 2.0 ** rng.uniform(-1, 9, size=(120, 1))  # some samples change their level
    Z = np.hstack((rng.normal(size=(120, 5)) * size, np.ones((120, 1))))
    Y, weights = rng.normal(size=(120, 2)), rng.uniform(0.5, 2.0, size=120)
    scale, shift = rng.uniform(1.1, 1.6, size=6), rng.uniform(-0.9, 0.9, size=6)
    scale[-1], shift[-1] = 1.0, 0.0
    features = FeatureMap(RidgeScipyEngine(), np.asarray, n_columns=6, is_identity=True)
    before, after = (TrainingSamples(X, Y, weights) for X in (Z, scale * Z + shift))
    config = RandomFeatureConfig(alpha=alpha)
    solution = fit_ridge(features, before, config)
    rescaled = rescale_features(solution, features, before, after, scale, shift, config)
    expected = fit_ridge(features, after, config)
    assert abs(rescaled.coef - expected.coef).max() < 1e-12 * abs(expected.coef).max()
    assert rescaled.ridge == expected.ridge
    first, second = (getattr(s, "candidates", [s])[0] for s in (rescaled, expected))
    assert first.sums.n_rows == second.sums.n_rows
    assert first.sums.n_rows != getattr(solution, "candidates", [solution])[0].sums.n_rows
    assert first.n_rescaled == 1
    gone = np.arange(30)
    request = Request(after[gone])
    ours, theirs = (forget_samples(s, features, request, config) for s in (rescaled, expected))
    assert abs(ours.coef - theirs.coef).max() < 1e-11 * abs(theirs.coef).max()


def test_sums_that_would_lose_precision_are_not_rescaled():
    rng = np.random.default_rng(0)
    Z = np.hstack((rng.normal(size=(50, 3)), np.ones((50, 1))))
    features = FeatureMap(RidgeScipyEngine(), np.asarray, n_columns=4, is_identity=True)
    samples = TrainingSamples(Z, rng.normal(size=(50, 1)), np.ones(50))
    config = RandomFeatureConfig(alpha=0.1)
    solution = fit_ridge(features, samples, config)
    one, zero = np.ones(4), np.zeros(4)
    assert rescale_features(solution, features, samples, samples, one, zero, config) is not None
    for scale, shift in ((3.0 * one, zero), (one, 2.0 * one)):
        changed = TrainingSamples(scale * Z + shift, samples.Y, samples.weights)
        given = features, samples, changed, scale, shift, config
        assert rescale_features(solution, *given) is None
    dual = RandomFeatureConfig(alpha=0.1, solver="dual")
    other = fit_ridge(features, samples, dual)
    assert rescale_features(other, features, samples, samples, one, zero, dual) is None
