"""The algorithm on arrays, without an estimator."""

import numpy as np
import pytest

from sklearn_ext.unlearning.exact import (
    FeatureMap,
    RandomFeatureConfig,
    RidgeScipyEngine,
    TrainingSamples,
    fit_ridge,
    forget_samples,
    learn_samples,
    request_by_index,
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
