import numpy as np
import pytest

from sklearn_ext.kernel_regression._adam import Adam
from sklearn_ext.kernel_regression._lab_data import TrainingRows
from sklearn_ext.kernel_regression._lab_engine import make_engine
from sklearn_ext.kernel_regression._lab_training import (
    MEDIAN_EXPONENT,
    LABTrainer,
    Stage,
    TrainingOptions,
    median_theta,
    plan_stages,
)


def trainer(X, y, *, seed=0, alpha=1e-3, engine="numba", **changes):
    options = {
        "kernel": "exponential",
        "pull": 0.0,
        "support_dropout": 0.0,
        "learn_targets": True,
        "learn_alpha": False,
        "growth": "random",
        "batch_size": 32,
        "learning_rate": 1e-2,
        "target_learning_rate": 1e-2,
        "beta_2": 0.99,
    }
    rows, weights = np.arange(len(X)), np.ones(len(X))
    data = TrainingRows(
        X, y.reshape(len(y), -1), rows, weights, standardize=True, scale_targets=True
    )
    return LABTrainer(
        make_engine(engine, None),
        data,
        TrainingOptions(**{**options, **changes}),
        theta=np.full((1, X.shape[1]), 0.7),
        alpha=alpha,
        rng=np.random.RandomState(seed),
    )


@pytest.fixture
def wave():
    rng = np.random.default_rng(0)
    X = rng.uniform(-2, 2, size=(150, 3))
    return X, np.sin(4 * X[:, 0]) + X[:, 1] ** 2


def test_plan_counts_steps_and_ends_at_the_wanted_size():
    stages = plan_stages(
        100, growth="random", n_warmup=7, n_growth_stages=5, growth_iter=3, max_iter=11
    )
    assert sum(stage.n_iter for stage in stages) == 7 + 5 * 3 + 11
    sizes = [stage.n_support for stage in stages]
    assert sizes == sorted(sizes)
    assert sizes[0] == 34
    assert sizes[-1] == 100
    assert stages[0].shared
    assert not any(stage.shared for stage in stages[1:])


def test_no_growth_begins_with_all_support_points():
    stages = plan_stages(
        100, growth=None, n_warmup=7, n_growth_stages=5, growth_iter=3, max_iter=11
    )
    assert [stage.n_support for stage in stages] == [100, 100]


def test_rate_decays_to_one_percent_along_a_cosine():
    stage = Stage(1000, 10, decay=True)
    assert stage.rate(0) == 1.0
    assert stage.rate(500) == pytest.approx(0.505)
    assert stage.rate(1000) == pytest.approx(0.01)
    assert Stage(1000, 10).rate(999) == 1.0


@pytest.mark.parametrize("kernel", ["exponential", "laplacian", "rbf"])
@pytest.mark.parametrize("n_features", [1, 8, 300])
def test_first_bandwidth_fixes_the_median_exponent(kernel, n_features):
    X = np.random.default_rng(0).normal(size=(1000, n_features))
    theta = np.full((1000, n_features), median_theta(X, kernel))
    K, _ = make_engine("numba", None).kernel(kernel, X[::2], X[1::2], theta[1::2])
    assert np.median(-np.log(np.diag(K))) == pytest.approx(MEDIAN_EXPONENT)


def test_adam_takes_the_textbook_steps():
    adam = Adam(betas=(0.9, 0.999))
    first = adam.direction(np.array([[2.0, -5.0]]))
    np.testing.assert_allclose(first, [[1.0, -1.0]], rtol=1e-8)
    second = adam.direction(np.array([[0.0, -5.0]]))
    mean = 0.1 * 0.9 * 2.0 / (1 - 0.9**2)
    square = 0.001 * 0.999 * 4.0 / (1 - 0.999**2)
    np.testing.assert_allclose(second, [[mean / np.sqrt(square), -1.0]], rtol=1e-7)


def test_support_points_are_distinct_rows_even_when_rows_repeat(wave):
    X, y = wave
    X = np.repeat(X[:40], 4, axis=0)
    y = np.random.default_rng(0).normal(size=len(X))  # equal features, different targets
    machine = trainer(X, y)
    for _ in machine.run([Stage(1, 10), Stage(1, 40), Stage(1, 60)]):
        pass
    assert len(np.unique(machine.vectors, axis=0)) == len(machine.vectors) == 40


@pytest.mark.parametrize("growth", ["error", "error_sampled"])
def test_growth_by_error_prefers_rows_that_are_fitted_badly(wave, growth):
    X, y = wave
    y = y.copy()
    y[:15] += 50.0
    machine = trainer(X, y, growth=growth)
    for _ in machine.run([Stage(0, 20), Stage(0, 30)]):
        pass
    outliers = np.isin(machine.rows[20:], np.arange(15))
    assert outliers.mean() > 0.3  # they are a tenth of the rows


def test_tied_bandwidths_stay_equal_and_free_ones_do_not(wave):
    stages = [Stage(20, 20, shared=True), Stage(30, 30), Stage(30, 30, decay=True)]
    spread = {}
    for pull in (0.0, 50.0, np.inf):
        machine = trainer(*wave, pull=pull)
        for _ in machine.run(stages):
            pass
        spread[pull] = machine.theta.std(axis=0).max()
    assert spread[np.inf] < 1e-14 < spread[50.0] < spread[0.0]


def test_learning_lowers_the_loss_and_moves_only_what_it_may(wave):
    X, y = wave
    machine = trainer(X, y, learn_targets=False)
    losses = list(machine.run([Stage(300, 30, decay=True)]))
    assert np.mean(losses[-50:]) < 0.5 * np.mean(losses[:50])
    np.testing.assert_allclose(machine.targets, machine.data.Y[machine.rows])
    assert machine.alpha == pytest.approx(1e-3, rel=1e-14)

    machine = trainer(X, y, learn_alpha=True)
    list(machine.run([Stage(50, 30)]))
    assert machine.alpha != pytest.approx(1e-3)


@pytest.mark.parametrize("kernel", ["exponential", "laplacian", "rbf"])
def test_engines_walk_the_same_path(wave, kernel):
    stages = [Stage(10, 15, shared=True), Stage(20, 30, decay=True)]
    thetas = []
    for engine in ("numba", "torch"):
        machine = trainer(*wave, kernel=kernel, engine=engine, support_dropout=0.2)
        list(machine.run(stages))
        thetas.append(machine.engine.to_numpy(machine.theta))
    np.testing.assert_allclose(*thetas, rtol=1e-5, atol=1e-8)


def test_batches_visit_every_row_once_an_epoch(wave):
    X, y = wave
    data = trainer(X, y).data
    batches = data.batches(50, np.random.RandomState(0))
    epoch = np.concatenate([next(batches) for _ in range(3)])
    np.testing.assert_array_equal(np.sort(epoch), np.arange(150))
