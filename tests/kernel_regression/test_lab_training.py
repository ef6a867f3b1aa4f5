import numpy as np
import pytest

from sklearn_ext.kernel_regression import LABConfig, make_engine
from sklearn_ext.kernel_regression._lab_config import Stage, plan_stages
from sklearn_ext.kernel_regression._lab_data import TrainingSet
from sklearn_ext.kernel_regression._lab_steps import Adam, LABTrainer


def trainer(X, y, *, learn_alpha=False, engine="numba", ridge=1e-3, **changes):
    options = {
        "kernel": "exponential",
        "alpha": "learn" if learn_alpha else 1e-3,
        "locality": 1.0,
        "support_dropout": 0.0,
        "batch_size": 32,
        "target_learning_rate": 1e-2,
        "beta_2": 0.99,
    }
    config = LABConfig(**{**options, **changes})
    data = TrainingSet(X, y.reshape(len(y), -1), np.arange(len(X)), np.ones(len(X)), config)
    return LABTrainer(
        make_engine(engine),
        data,
        config,
        theta=np.full((1, X.shape[1]), 0.7),
        alpha=ridge,
        rng=np.random.RandomState(0),
    )


def run(machine, stages):
    losses = []
    for stage in stages:
        machine.grow(stage.n_support)
        losses += [machine.step(stage.rate(t), shared=stage.shared) for t in range(stage.n_iter)]
    return losses


@pytest.fixture
def wave():
    rng = np.random.default_rng(0)
    X = rng.uniform(-2, 2, size=(150, 3))
    return X, np.sin(4 * X[:, 0]) + X[:, 1] ** 2


def test_stages_end_at_the_requested_number_of_centers():
    config = LABConfig(n_warmup=7, n_growth_stages=5, growth_iter=3, max_iter=11)
    stages = plan_stages(config, 100)
    assert sum(stage.n_iter for stage in stages) == 7 + 5 * 3 + 11 == config.n_iterations()
    sizes = [stage.n_support for stage in stages]
    assert sizes == sorted(sizes)
    assert sizes[0] == 34
    assert sizes[-1] == 100
    assert stages[0].shared
    assert not any(stage.shared for stage in stages[1:])


def test_without_growth_all_centers_are_there_from_the_start():
    stages = plan_stages(LABConfig(growth=None, n_warmup=7, max_iter=11), 100)
    assert [stage.n_support for stage in stages] == [100, 100]


def test_rate_decays_to_one_percent_along_a_cosine():
    stage = Stage(1000, 10, decay=True)
    assert stage.rate(0) == 1.0
    assert stage.rate(500) == pytest.approx(0.505)
    assert stage.rate(1000) == pytest.approx(0.01)
    assert Stage(1000, 10).rate(999) == 1.0


def test_adam_makes_the_textbook_steps():
    adam = Adam(betas=(0.9, 0.999))
    first = adam.direction(np.array([[2.0, -5.0]]))
    np.testing.assert_allclose(first, [[1.0, -1.0]], rtol=1e-8)
    second = adam.direction(np.array([[0.0, -5.0]]))
    mean = 0.1 * 0.9 * 2.0 / (1 - 0.9**2)
    square = 0.001 * 0.999 * 4.0 / (1 - 0.999**2)
    np.testing.assert_allclose(second, [[mean / np.sqrt(square), -1.0]], rtol=1e-7)


def test_support_points_are_distinct_when_samples_repeat(wave):
    X, y = wave
    X = np.repeat(X[:40], 4, axis=0)
    y = np.random.default_rng(0).normal(size=len(X))  # equal features, different targets
    machine = trainer(X, y)
    run(machine, [Stage(1, 10), Stage(1, 40), Stage(1, 60)])
    assert len(np.unique(machine.vectors, axis=0)) == len(machine.vectors) == 40


@pytest.mark.parametrize("growth", ["error", "error_sampled"])
def test_growth_by_error_prefers_samples_with_large_errors(wave, growth):
    X, y = wave
    y = y.copy()
    y[:15] += 50.0
    machine = trainer(X, y, growth=growth)
    run(machine, [Stage(0, 20), Stage(0, 30)])
    outliers = np.isin(machine.support[20:], np.arange(15))
    assert outliers.mean() > 0.3  # one tenth of the samples are outliers


def test_locality_sets_the_spread_of_the_bandwidths(wave):
    stages = [Stage(20, 20, shared=True), Stage(30, 30), Stage(30, 30, decay=True)]
    spread = {}
    for locality in (1.0, 0.02, 0.0):
        machine = trainer(*wave, locality=locality)
        run(machine, stages)
        spread[locality] = machine.theta.std(axis=0).max()
    assert spread[0.0] < 1e-14 < spread[0.02] < spread[1.0]


@pytest.mark.parametrize("locality", [1.0, 0.25])
def test_a_step_of_adam_is_followed_by_the_pull_to_the_mean(wave, locality):
    """The first direction of Adam has entries of size 1, whatever the gradient."""
    machine = trainer(*wave, locality=locality, learning_rate=0.02)
    machine.grow(30)
    machine.step(0.5, shared=False)
    expected = 0.01 * (1.0 - 0.01 * (1.0 / locality - 1.0))
    assert abs(machine.deviations).max() == pytest.approx(expected, rel=1e-5)


def test_training_lowers_the_loss_and_moves_what_is_learned(wave):
    X, y = wave
    machine = trainer(X, y, learn_targets=False)
    losses = run(machine, [Stage(300, 30, decay=True)])
    assert np.mean(losses[-50:]) < 0.5 * np.mean(losses[:50])
    np.testing.assert_allclose(machine.targets, machine.data.Y[machine.support])
    assert machine.alpha == pytest.approx(1e-3, rel=1e-14)

    machine = trainer(X, y, learn_alpha=True)
    run(machine, [Stage(50, 30)])
    assert machine.alpha != pytest.approx(1e-3)


@pytest.mark.parametrize("kernel", ["exponential", "laplacian", "rbf"])
def test_engines_take_the_same_steps(wave, kernel):
    stages = [Stage(10, 15, shared=True), Stage(20, 30, decay=True)]
    thetas = []
    for engine in ("numba", "torch"):
        machine = trainer(*wave, kernel=kernel, engine=engine, support_dropout=0.2)
        run(machine, stages)
        thetas.append(machine.engine.to_numpy(machine.theta))
    np.testing.assert_allclose(*thetas, rtol=1e-5, atol=1e-8)


def test_small_and_learned_ridges_train_in_double_precision(wave):
    assert trainer(*wave)._step_engine.dtype == np.float32
    assert trainer(*wave, learn_alpha=True)._step_engine.dtype == np.float64
    machine = trainer(*wave, ridge=1e-5)
    assert machine._step_engine.dtype == np.float64
    run(machine, [Stage(1, 20)])
    assert machine.theta.dtype == machine.coefficients().dtype == np.float64


def test_batches_visit_every_sample_once_per_epoch(wave):
    X, y = wave
    data = trainer(X, y).data
    batches = data.batches(50, np.random.RandomState(0))
    epoch = np.concatenate([next(batches) for _ in range(3)])
    np.testing.assert_array_equal(np.sort(epoch), np.arange(150))
