"""The race of kernels and ridges on held-out samples."""

import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge
from sklearn.preprocessing import StandardScaler

from sklearn_ext import LABRidgelessClassifier, LABRidgelessRegressor
from sklearn_ext.kernel_regression import LABConfig, make_engine, select_lab
from sklearn_ext.kernel_regression._lab_refit import (
    ALL_RIDGES,
    SharedKernel,
    choose_shared_kernel,
    normal_equations,
    ridge_coefficients,
    shared_kernel_coefficients,
)
from sklearn_ext.kernel_regression.selection._lab_candidates import Candidate
from sklearn_ext.kernel_regression.selection._lab_race import ALPHAS, _race

QUICK = {"n_support": 40, "n_warmup": 30, "growth_iter": 10, "max_iter": 60, "random_state": 0}


@pytest.fixture(scope="module")
def plane():
    """A plane with much noise."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 5))
    return X, X[:, 0] - X[:, 1], rng.normal(size=400)


def ripples(n_samples=300):
    X = np.random.default_rng(0).uniform(-2, 2, size=(n_samples, 2))
    return X, np.sin(3 * X[:, 0]) * np.cos(2 * X[:, 1])


def test_noise_raises_the_ridge_and_shortens_training(plane):
    X, signal, noise = plane
    clean = LABRidgelessRegressor(random_state=0).fit(X, signal)
    noisy = LABRidgelessRegressor(random_state=0).fit(X, signal + 2.0 * noise)
    assert noisy.alpha_ > 10 * clean.alpha_
    assert noisy.max_iter_ <= clean.max_iter_ == 2000
    assert noisy.score(X, signal) > 0.75
    fixed = LABRidgelessRegressor(kernel="laplacian", alpha=1e-3, max_iter=2000, random_state=0)
    assert noisy.score(X, signal) > fixed.fit(X, signal + 2.0 * noise).score(X, signal) + 0.2


def test_a_smooth_function_gets_the_smooth_kernel():
    X, y = ripples()
    assert LABRidgelessRegressor(**QUICK).fit(X, y).kernel_ == "rbf"
    steps = np.sign(X[:, 0]) + np.sign(X[:, 1])
    assert LABRidgelessRegressor(**QUICK).fit(X, steps).kernel_ == "laplacian"


def test_the_choice_passed_explicitly_gives_the_same_model():
    X, y = ripples()
    chosen = LABRidgelessRegressor(**QUICK).fit(X, y)
    fixed = LABRidgelessRegressor(**{**QUICK, "kernel": chosen.kernel_, "alpha": chosen.alpha_})
    np.testing.assert_array_equal(fixed.fit(X, y).predict(X), chosen.predict(X))
    assert fixed.selection_ is None


@pytest.mark.parametrize(
    "given",
    [{"kernel": "exponential"}, {"alpha": 0.5}, {"kernel": "rbf", "alpha": "learn"}, {}],
    ids=str,
)
def test_given_values_are_never_overruled(given):
    X, y = ripples()
    model = LABRidgelessRegressor(**{**QUICK, **given}).fit(X, y)
    assert model.max_iter_ == 60
    assert model.n_iter_ == 30 + 5 * 10 + 60
    assert model.kernel_ == given.get("kernel", model.kernel_)
    if given.get("alpha") == 0.5:
        assert model.alpha_ == 0.5
        assert set(model.selection_["kernel"]) == {"exponential", "laplacian", "rbf"}
    elif "kernel" in given and "alpha" not in given:
        assert sorted(model.selection_["alpha"]) == list(ALPHAS)


@pytest.mark.parametrize("Estimator", [LABRidgelessRegressor, LABRidgelessClassifier])
def test_the_table_ranks_all_candidates(Estimator):
    X, y = ripples()
    target = y > 0 if Estimator is LABRidgelessClassifier else y
    model = Estimator(**QUICK).fit(X, target)
    table = model.selection_
    assert {len(column) for column in table.values()} == {12}
    assert table["kernel"][0] == model.kernel_
    assert table["alpha"][0] == model.alpha_
    np.testing.assert_array_equal(table["rank"], np.arange(1, 13))
    last = table["max_iter"] == 0  # candidates that left first have comparable losses
    assert last.sum() >= 8
    assert (np.diff(table["loss"][last]) >= 0).all()
    assert (table["seconds"] > 0).all()


def test_threads_and_repetitions_give_the_same_choice():
    X, y = ripples()
    a, b, c = (LABRidgelessRegressor(n_jobs=n, **QUICK).fit(X, y) for n in (None, None, 2))
    np.testing.assert_array_equal(a.selection_["loss"], b.selection_["loss"])
    np.testing.assert_array_equal(a.selection_["loss"], c.selection_["loss"])
    np.testing.assert_array_equal(a.predict(X), c.predict(X))


def test_few_samples_are_not_held_out():
    X, y = ripples(39)
    model = LABRidgelessRegressor(**QUICK).fit(X, y)
    assert model.selection_ is None
    assert model.kernel_ == "laplacian"


def test_a_classifier_trains_on_all_samples_after_the_selection():
    X, y = ripples(100)
    model = LABRidgelessClassifier(**{**QUICK, "n_support": 100}).fit(X, y > 0)
    assert model.n_support_ == 100
    assert model.temperature_ != 1.0


def test_candidates_without_a_finite_loss_lose():
    X, y = ripples()
    Y = y[:, None]

    def loss(values, rows, weights, n_samples):
        return float(((values - Y[rows]) ** 2).mean()) if values.std() < 0.5 else np.inf

    config = LABConfig(kernel="auto", n_support=30, n_warmup=5, growth_iter=2, max_iter=10)
    selection = select_lab(
        X,
        Y,
        config,
        np.random.RandomState(0),
        samples=np.arange(len(X)),
        weights=np.ones(len(X)),
        loss=loss,
        make_engine=make_engine,
    )
    assert np.isfinite(selection.table["loss"][0])
    assert selection.config.alpha == selection.table["alpha"][0]


# The last fit of the coefficients


def test_refit_solves_ridge_regression_on_the_features():
    X, y = ripples()
    model = LABRidgelessRegressor(kernel="rbf", alpha=0.01, refit_alpha=1e-3, **QUICK).fit(X, y)
    K, centered = model.transform(X), y - y.mean()
    coef = np.linalg.solve(K.T @ K / len(X) + 1e-3 * np.eye(40), K.T @ centered / len(X))
    np.testing.assert_allclose(model.dual_coef_, coef, rtol=1e-6, atol=1e-8)
    residual = model.support_targets_ - model.predict(model.support_vectors_)
    np.testing.assert_allclose(residual, 0.01 * model.dual_coef_, atol=1e-9)


def test_refit_weights_samples():
    X, y = ripples(60)
    weights = np.random.default_rng(1).integers(1, 4, size=60) * 1.0
    theta = np.full((20, 2), 0.7)
    chunks = [
        (X[:25], y[:25, None], weights[:25, None]),
        (X[25:], y[25:, None], weights[25:, None]),
    ]
    equations = normal_equations(make_engine(), "rbf", chunks, X[:20], theta, 1)
    coef = ridge_coefficients(*equations, 0.01)
    features = np.exp(-0.49 * ((X[:, None] - X[None, :20]) ** 2).sum(axis=2))
    ridge = KernelRidge(kernel="linear", alpha=0.01 * weights.sum())
    dual = ridge.fit(features, y, sample_weight=weights).dual_coef_
    np.testing.assert_allclose(coef[:, 0], features.T @ dual, rtol=1e-6)


def test_refit_keeps_observed_targets_unless_they_are_learned():
    X, y = ripples()
    model = LABRidgelessClassifier(learn_targets=False, **QUICK).fit(X, y > 0)
    assert model.refit_alpha_ is None
    np.testing.assert_allclose(np.abs(model.support_targets_), 1.0)


# Kernel ridge regression on all samples


@pytest.mark.parametrize("kernel", ["laplacian", "rbf"])
def test_all_samples_give_weighted_kernel_ridge_regression(kernel):
    X, y = ripples(120)
    weights = np.random.default_rng(1).integers(1, 4, size=120) * 1.0
    model = LABRidgelessRegressor(
        kernel=kernel, alpha=0.01, standardize=False, n_warmup=3, growth=None, max_iter=2
    ).set_params(n_support="all", random_state=0)
    model.fit(X, y, sample_weight=weights)
    assert model.n_support_ == 120
    np.testing.assert_array_equal(model.bandwidths_[1:], model.bandwidths_[:-1])
    if kernel == "rbf":
        scaled = X * np.sqrt(model.bandwidths_[0])
        K = np.exp(-((scaled[:, None] - scaled[None]) ** 2).sum(axis=2))
    else:
        K = np.exp(-np.abs((X[:, None] - X[None]) * model.bandwidths_[0]).sum(axis=2))
    centered = y - np.average(y, weights=weights)
    relative = weights / weights.mean()
    coef = np.linalg.solve(K + np.diag(0.01 / relative), centered)
    predicted = K @ coef + np.average(y, weights=weights)
    np.testing.assert_allclose(model.predict(X), predicted, rtol=1e-6, atol=1e-9)
    residual = model.support_targets_ - model.predict(model.support_vectors_)
    np.testing.assert_allclose(residual, 0.01 * model.dual_coef_, atol=1e-9)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_shared_kernel_minimizes_leave_one_out_errors(weighted):
    X, y = ripples(25)
    Y = y[:, None] - y.mean()
    weights = (
        np.random.default_rng(0).uniform(0.5, 2, size=(25, 1)) if weighted else np.ones((25, 1))
    )
    engine, alphas = make_engine(), (1e-3, 1e-1)
    best = choose_shared_kernel(engine, "rbf", X, Y, weights, np.full((1, 2), 1.5), alphas)

    def leave_one_out(theta, alpha):
        errors = []
        for i in range(25):
            rest = np.arange(25) != i
            shared = SharedKernel(theta, alpha, 0.0)
            coef = shared_kernel_coefficients(
                engine, "rbf", X[rest], Y[rest], weights[rest], shared
            )
            k = np.exp(-(((X[rest] - X[i]) * theta) ** 2).sum(axis=1))
            errors.append(weights[i, 0] * (k @ coef[:, 0] - Y[i, 0]) ** 2)
        return sum(errors) / weights.sum()

    np.testing.assert_allclose(best.error, leave_one_out(best.theta, best.alpha), rtol=1e-6)
    scales = [1.5 * 0.5**k for k in range(4)]
    others = [leave_one_out(np.full((1, 2), s), a) for s in scales for a in alphas]
    assert best.error <= min(others) * (1 + 1e-6)


def test_all_samples_choose_their_own_ridge():
    X, y = ripples(200)
    y = y + 0.3 * np.random.default_rng(1).normal(size=200)
    model = LABRidgelessRegressor(
        kernel="rbf", n_support="all", max_iter=0, n_warmup=0, growth=None, random_state=0
    ).fit(X, y)
    Z, Y = StandardScaler().fit_transform(X), StandardScaler().fit_transform(y[:, None])
    theta = np.sqrt(model.bandwidths_[:1]) * X.std(axis=0)
    engine, weights, alphas = make_engine(), np.ones((200, 1)), (*ALL_RIDGES, model.alpha_)
    best = choose_shared_kernel(engine, "rbf", Z, Y, weights, theta, alphas)
    assert best.alpha == pytest.approx(model.alpha_, rel=1e-9)
    np.testing.assert_allclose(best.theta, theta)


def rough(n_samples=300):
    """Return samples and a path of a Gaussian process with the exponential kernel."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_samples, 4))
    gaps = np.sqrt(((X[:, None] - X[None]) ** 2).sum(axis=2))
    return X, np.linalg.cholesky(np.exp(-0.3 * gaps)) @ rng.normal(size=n_samples)


def test_a_rough_function_takes_all_samples():
    X, y = rough()
    model = LABRidgelessRegressor(random_state=0).fit(X[:200], y[:200])
    assert model.n_support_ == 200
    assert model.selection_["bandwidths"][0] in ("mean", "equal")
    few = LABRidgelessRegressor(n_support=50, random_state=0).fit(X[:200], y[:200])
    assert model.score(X[200:], y[200:]) > few.score(X[200:], y[200:]) + 0.02
    assert set(few.selection_["bandwidths"]) == {"own"}


@pytest.mark.parametrize(
    "given", [{"n_support": 0.2}, {"locality": 0.5}, {"learn_targets": False}], ids=str
)
def test_given_values_rule_out_all_samples(given):
    X, y = rough(200)
    options = {"n_warmup": 5, "growth_iter": 5, "max_iter": 10, "random_state": 0, **given}
    assert LABRidgelessRegressor(**options).fit(X, y).n_support_ == (
        40 if "n_support" in given else 50
    )


@pytest.mark.parametrize(("min_gain", "n_support"), [(-9.0, "all"), (0.9, "auto")])
def test_the_margin_decides_for_or_against_all_samples(min_gain, n_support):
    X, y = ripples(100)
    Y = y[:, None]
    selection = select_lab(
        X,
        Y,
        LABConfig(kernel="rbf", alpha=0.1, max_iter=10),
        np.random.RandomState(0),
        samples=np.arange(100),
        weights=np.ones(100),
        loss=lambda values, rows, weights, n_samples: float(((values - Y[rows]) ** 2).mean()),
        make_engine=make_engine,
        min_gain_of_all=min_gain,
    )
    assert selection.config.n_support == n_support
    # Learned bandwidths would have to lower the loss by more than its value.
    assert selection.config.equal_bandwidths == (n_support == "all")


def test_noisy_labels_get_equal_bandwidths(plane):
    X, signal, noise = plane
    model = LABRidgelessClassifier(random_state=0).fit(X, signal + 2.0 * noise > 0)
    assert model.n_support_ == 400
    assert model.selection_["bandwidths"][0] == "equal"
    scores = model.decision_function(X)
    assert np.corrcoef(scores, signal)[0, 1] > 0.85
    one_feature = LABRidgelessClassifier(random_state=0).fit(X, np.sin(4 * X[:, 0]) > 0)
    assert one_feature.selection_["bandwidths"][0] != "equal"


def test_a_given_ridge_is_kept_on_all_samples():
    X, y = rough(200)
    model = LABRidgelessRegressor(alpha=0.05, max_iter=10, random_state=0).fit(X, y)
    assert model.n_support_ == 200
    assert model.alpha_ == pytest.approx(0.05, rel=1e-12)
    assert model.max_iter_ == 10


def test_a_warm_start_keeps_all_samples():
    X, y = rough(200)
    model = LABRidgelessRegressor(max_iter=10, warm_start=True, random_state=0).fit(X, y)
    kernel, alpha = model.kernel_, model.alpha_
    assert model.n_support_ == 200
    model.fit(X[:150], y[:150])
    assert model.n_support_ == 150
    assert (model.kernel_, model.alpha_) == (kernel, pytest.approx(alpha, rel=1e-12))


class Runner:
    """A candidate whose loss at each length of training is known."""

    def __init__(self, name, *losses):
        self.name = name
        self.losses = dict(zip((0, 125, 250, 500, 1000), losses, strict=True))
        self.curve, self.loss = {}, np.inf

    outlook, overfits = Candidate.outlook, Candidate.overfits

    def run(self, length):
        self.loss = self.curve[length] = self.losses[length]


def race(*runners):
    def run(racing, splits, length):
        for runner in racing:
            runner.run(length)
        return sorted(racing, key=lambda runner: runner.loss)

    legs = (125, 250, 500, 1000)
    return _race(list(runners), [None], legs, run)


def test_a_slow_starter_that_falls_steadily_wins_the_race():
    fast = [Runner(str(k), 0.50, 0.40, 0.38, 0.37, 0.365) for k in range(8)]
    steady = Runner("steady", 0.65, 0.45, 0.39, 0.34, 0.30)
    assert race(*fast, steady)[0].name == "steady"
    assert sum(max(runner.curve) == 1000 for runner in (*fast, steady)) == 2


def test_a_race_ends_where_its_leader_overfits():
    noisy = Runner("noisy", 0.50, 0.40, 0.35, 0.36, 0.90)
    worse = Runner("worse", 0.90, 0.80, 0.70, 0.65, 0.60)
    finalists = race(noisy, worse)
    assert [runner.name for runner in finalists] == ["noisy", "worse"]
    assert max(noisy.curve) == 500


def test_the_outlook_of_a_diverging_loss_is_the_loss():
    def outlook(*losses):
        runner = Runner("", *losses, 0, 0, 0)
        runner.run(0)
        runner.run(125)
        return runner.outlook()

    assert outlook(0.4, 0.2) == pytest.approx(0.1)
    assert outlook(0.4, 0.5) == 0.5
    assert outlook(0.4, np.inf) == outlook(np.inf, np.inf) == np.inf
    assert outlook(np.inf, 0.5) == 0.5
    assert outlook(0.0, 0.0) == 0.0
