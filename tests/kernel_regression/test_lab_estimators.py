"""The behavior of the estimators: limits, units, robustness, errors, callbacks."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.ensemble import BaggingRegressor
from sklearn.exceptions import NotFittedError
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import RidgeCV
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from threadpoolctl import threadpool_limits

from sklearn_ext import LABRidgelessClassifier, LABRidgelessRegressor

KERNELS = ["exponential", "laplacian", "rbf"]
QUICK = {"n_warmup": 30, "growth_iter": 10, "max_iter": 100, "random_state": 0}
SETTLED = {"kernel": "laplacian", "alpha": 0.01}  # with QUICK, no parameter is chosen
UNTRAINED = {"n_warmup": 0, "growth": None, "max_iter": 0, "random_state": 0}


@pytest.fixture(scope="module")
def wave():
    rng = np.random.default_rng(0)
    X = rng.uniform(-2, 2, size=(300, 4))
    return X, np.sin(3 * X[:, 0]) + X[:, 1] ** 2 + 10


@pytest.fixture(scope="module")
def wave_model(wave):
    return LABRidgelessRegressor(n_support=60, max_iter=600, random_state=0).fit(*wave)


@pytest.fixture(scope="module")
def quick_model(wave):
    return LABRidgelessRegressor(**QUICK).fit(*wave)


# Limits


@pytest.mark.parametrize("kernel", ["laplacian", "rbf"])
def test_untrained_with_all_samples_is_kernel_ridge(wave, kernel):
    X, y = wave
    X = X[:80]
    model = LABRidgelessRegressor(
        n_support=80, kernel=kernel, gamma=0.4, alpha=0.05, standardize=False, **UNTRAINED
    ).fit(X, y[:80])
    ridge = KernelRidge(kernel=kernel, gamma=0.4, alpha=0.05).fit(X, y[:80] - y[:80].mean())
    grid = wave[0][80:]
    np.testing.assert_allclose(model.predict(grid), ridge.predict(grid) + y[:80].mean(), rtol=1e-8)


@pytest.mark.parametrize("kernel", KERNELS)
def test_residual_on_the_support_is_alpha_times_coefficients(wave, kernel):
    model = LABRidgelessRegressor(kernel=kernel, alpha=0.01, **QUICK).fit(*wave)
    residual = model.support_targets_ - model.predict(model.support_vectors_)
    np.testing.assert_allclose(residual, 0.01 * model.dual_coef_, atol=1e-9)


def test_without_ridge_the_support_is_interpolated(wave):
    X, y = wave
    model = LABRidgelessRegressor(alpha=0.0, learn_targets=False, **QUICK).fit(X, y)
    np.testing.assert_allclose(model.predict(X[model.support_]), y[model.support_], rtol=1e-7)


def test_locality_zero_shares_one_row_of_bandwidths(wave):
    X, y = wave
    shared = LABRidgelessRegressor(locality=0.0, **QUICK).fit(X, y)
    near = LABRidgelessRegressor(locality=1e-6, **QUICK).fit(X, y)
    assert np.ptp(shared.bandwidths_, axis=0).max() < 1e-12
    assert np.ptp(near.bandwidths_, axis=0).max() < 1e-8
    assert near.score(X, y) == pytest.approx(shared.score(X, y), abs=0.02)


# Units and invariances


def test_noise_features_get_the_smallest_bandwidths(wave_model):
    mean = wave_model.bandwidths_.mean(axis=0)
    assert set(np.argsort(mean)[:2]) == {2, 3}
    importances = wave_model.feature_importances_
    assert importances.sum() == pytest.approx(1.0)
    assert set(np.argsort(importances)[:2]) == {2, 3}


@pytest.mark.parametrize("kernel", KERNELS)
def test_units_of_features_do_not_matter(wave, kernel):
    X, y = wave
    units = np.array([1000.0, 1.0, 1e-3, 1.0])
    a = LABRidgelessRegressor(kernel=kernel, **QUICK).fit(X, y)
    b = LABRidgelessRegressor(kernel=kernel, **QUICK).fit(X * units, y)
    np.testing.assert_allclose(b.predict(X * units), a.predict(X), rtol=1e-5)
    power = 1 if kernel == "laplacian" else 2
    np.testing.assert_allclose(b.bandwidths_ * units**power, a.bandwidths_, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("unit", [1e-300, 1e-30])
def test_tiny_units_are_fitted_in_double_precision(wave, unit):
    X = wave[0][:, :1]
    model = LABRidgelessRegressor(standardize=False, alpha=0.1, **QUICK)
    assert model.fit(X * unit, np.sin(X[:, 0])).score(X * unit, np.sin(X[:, 0])) > 0.9


def test_permuting_features_permutes_bandwidths(wave, quick_model):
    X, y = wave
    order = [2, 0, 3, 1]
    permuted = LABRidgelessRegressor(**QUICK).fit(X[:, order], y).bandwidths_
    expected = quick_model.bandwidths_[:, order]
    np.testing.assert_allclose(permuted, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_huge_and_tiny_targets_give_the_same_model(wave, quick_model, scale):
    X, y = wave
    scaled = LABRidgelessRegressor(**QUICK).fit(X, y * scale)
    np.testing.assert_allclose(scaled.predict(X), quick_model.predict(X) * scale, rtol=1e-5)


def test_weights_equal_copies_and_order_does_not_matter(wave):
    X, y = wave
    weights = np.random.default_rng(1).integers(0, 4, size=len(X))
    order = np.random.default_rng(2).permutation(len(X))
    a = LABRidgelessRegressor(**QUICK).fit(X, y, sample_weight=weights)
    b = LABRidgelessRegressor(**QUICK).fit(np.repeat(X, weights, axis=0), np.repeat(y, weights))
    c = LABRidgelessRegressor(**QUICK).fit(X[order], y[order], sample_weight=weights[order])
    np.testing.assert_array_equal(a.predict(X), b.predict(X))
    np.testing.assert_array_equal(a.predict(X), c.predict(X))


def test_a_seed_gives_one_model_on_any_number_of_threads(wave):
    X, y = wave
    predictions = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            predictions.append(LABRidgelessRegressor(**QUICK).fit(X, y).predict(X))
    np.testing.assert_array_equal(*predictions)


def test_fit_leaves_the_global_generator_alone(wave):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    LABRidgelessRegressor(n_warmup=5, max_iter=5).fit(*wave)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_float32_is_close_to_float64_and_stays_float32(wave):
    X, y = wave
    X = X.astype(np.float32)
    single = LABRidgelessRegressor(**QUICK).fit(X, y).predict(X)
    double = LABRidgelessRegressor(**QUICK).fit(X.astype(np.float64), y).predict(X)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, double, rtol=1e-3)


@pytest.mark.parametrize("kernel", KERNELS)
def test_engines_give_the_same_model(wave, kernel):
    X, y = wave
    a, b = (
        LABRidgelessRegressor(kernel=kernel, alpha=0.1, engine=engine, **QUICK).fit(X, y)
        for engine in ("numba", "torch")
    )
    np.testing.assert_allclose(b.predict(X), a.predict(X), rtol=1e-5)


# Repeated samples and weights


@pytest.fixture(scope="module")
def levels():
    """Samples in 27 cells, with the probabilities of their cells and binary labels."""
    rng = np.random.default_rng(0)
    X = rng.integers(3, size=(3000, 3)) * 1.0
    proba = 1 / (1 + np.exp(1 - 2 * np.sin(2 * X[:, 0]) - 1.5 * (X[:, 1] > X[:, 2])))
    return X, proba, (rng.random(len(X)) < proba) * 1.0


def grouped(X, y):
    table, counts = np.unique(np.column_stack((X, y)), axis=0, return_counts=True)
    return table[:, :-1], table[:, -1], counts * 1.0


@pytest.mark.parametrize("form", ["samples", "counts", "scaled counts"])
def test_classes_and_means_of_repeated_samples_are_learned(levels, form):
    X, proba, y = levels
    A, b, weights = (X, y, None) if form == "samples" else grouped(X, y)
    if form == "scaled counts":
        weights = weights / weights.mean()
    params = {**QUICK, "max_iter": 300}
    classifier = LABRidgelessClassifier(**params).fit(A, b, sample_weight=weights)
    assert classifier.score(X, y) > np.mean((proba > 0.5) == y) - 0.01
    assert np.abs(classifier.predict_proba(X)[:, 1] - proba).mean() < 0.05
    regressor = LABRidgelessRegressor(**params).fit(A, b, sample_weight=weights)
    assert regressor.n_support_ == 27
    assert regressor.score(X, proba) > 0.95  # the cell means reach 0.976


def test_weights_of_distinct_samples_are_not_counts(wave):
    X, y = wave
    weights = np.random.default_rng(0).integers(1000, 3000, size=len(X)) * 1.0
    model = LABRidgelessClassifier(n_support=300, **SETTLED, **QUICK)
    model.fit(X, y > 11, sample_weight=weights)
    held_out = len(X) - model.n_support_  # no support point is on both sides
    assert held_out == sum(round(0.2 * n) for n in np.bincount(y > 11))


@pytest.mark.parametrize("Estimator", [LABRidgelessRegressor, LABRidgelessClassifier])
def test_only_ratios_of_weights_matter(wave, Estimator):
    X, y = wave
    target = y if Estimator is LABRidgelessRegressor else y > 11
    weights = np.linspace(1, 2, len(X))
    expected, *features = (
        Estimator(**QUICK).fit(X, target, sample_weight=scale * weights).transform(X)
        for scale in (1.0, 1e-14, 1e14)
    )
    for transformed in features:
        np.testing.assert_allclose(transformed, expected, rtol=1e-5, atol=1e-8)


# Unusual data


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    "shape",
    [(1, 1), (2, 3), (5, 1), (12, 1000), (60, 1)],
    ids=lambda shape: "x".join(map(str, shape)),
)
def test_data_of_any_shape_are_fitted(kernel, shape):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=shape), rng.normal(size=shape[0])
    model = LABRidgelessRegressor(kernel=kernel, **QUICK).fit(X, y)
    assert np.isfinite(model.predict(X)).all()
    assert model.n_support_ <= shape[0]


def test_constant_features_change_nothing(wave):
    X, y = wave
    padded = np.column_stack((X, np.full(len(X), 7.0)))
    fixed = {**QUICK, "gamma": 0.3, "support_dropout": 0.1, "n_support": 60}
    model = LABRidgelessRegressor(**fixed).fit(padded, y)
    plain = LABRidgelessRegressor(**fixed).fit(X, y)
    np.testing.assert_allclose(model.predict(padded), plain.predict(X), rtol=1e-8)
    assert model.feature_importances_[-1] == 0.0


@pytest.mark.parametrize("X", [np.zeros((30, 2)), np.ones((30, 1))])
def test_constant_features_predict_the_mean(X):
    y = np.arange(30.0)
    model = LABRidgelessRegressor(**QUICK).fit(X, y)
    np.testing.assert_allclose(model.predict(X), y.mean(), rtol=1e-6)


def test_constant_targets_are_predicted(wave):
    X, _ = wave
    model = LABRidgelessRegressor(**QUICK).fit(X, np.full(len(X), 3.0))
    np.testing.assert_allclose(model.predict(X), 3.0)


def test_several_outputs_share_one_kernel(wave):
    X, y = wave
    Y = np.column_stack((y, 1e6 * X[:, 0], X[:, 1]))
    model = LABRidgelessRegressor(n_support=60, max_iter=400, random_state=0).fit(X, Y)
    assert model.predict(X).shape == Y.shape
    assert model.dual_coef_.shape == (60, 3)
    assert model.intercept_.shape == (3,)
    assert model.score(X, Y) > 0.95


def test_far_from_the_support_the_mean_is_predicted(wave, wave_model):
    _, y = wave
    assert wave_model.predict([[1e12] * 4]) == pytest.approx(y.mean(), rel=1e-12)


# Parameters


def test_auto_support_is_one_fifth_between_50_and_200():
    rng = np.random.default_rng(0)
    quick = {**QUICK, "max_iter": 1, "growth_iter": 1, "n_warmup": 1, "locality": 1.0}
    for n, expected in ((10, 10), (100, 50), (300, 60), (1500, 200)):
        X = rng.normal(size=(n, 2))
        assert LABRidgelessRegressor(**quick).fit(X, X[:, 0]).n_support_ == expected
    assert LABRidgelessRegressor(n_support=0.5, **quick).fit(X, X[:, 0]).n_support_ == 750


@pytest.mark.parametrize(
    "params",
    [
        {"n_support": 0},
        {"n_support": 1.5},
        {"kernel": "cosine"},
        {"gamma": 0.0},
        {"locality": 1.1},
        {"support_dropout": 1.0},
        {"alpha": -1.0},
        {"growth": "greedy"},
        {"max_iter": -1},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"engine": "jax"},
    ],
    ids=lambda params: next(iter(params)),
)
def test_errors_name_the_bad_parameter(wave, params):
    with pytest.raises(ValueError, match=next(iter(params))):
        LABRidgelessRegressor(**params).fit(*wave)


def test_errors_name_the_bad_device(wave):
    with pytest.raises(ValueError, match="engine='numba' computes on the CPU only"):
        LABRidgelessRegressor(engine="numba", device="cuda").fit(*wave)
    with pytest.raises(ValueError, match="device must be"):
        LABRidgelessRegressor(device="abacus").fit(*wave)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_failed_fit_leaves_nothing_that_predicts(wave, bad):
    X, y = wave
    y = y.copy()
    y[3] = bad
    model = LABRidgelessRegressor(**QUICK)
    with pytest.raises(ValueError, match="Input y contains"):
        model.fit(X, y)
    with pytest.raises(NotFittedError):
        model.predict(X)


def test_divergence_raises_an_error_that_names_parameters(wave):
    model = LABRidgelessRegressor(learning_rate=1e200, random_state=0)
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="learning_rate"):
        model.fit(*wave)
    with pytest.raises(NotFittedError):
        model.predict(wave[0])


def test_a_failed_fit_of_a_fitted_model_changes_nothing(wave):
    X, y = wave
    model = LABRidgelessRegressor(**QUICK).fit(X, y)
    before = model.predict(X)
    with pytest.raises(ValueError, match="NaN"):
        model.fit(np.full((20, 2), np.nan), np.arange(20.0))
    assert model.n_features_in_ == X.shape[1]
    np.testing.assert_array_equal(model.predict(X), before)


def test_warm_start_continues_from_the_fitted_model(wave):
    X, y = wave
    model = LABRidgelessRegressor(n_support=40, warm_start=True, **QUICK).fit(X, y)
    first = model.score(X, y)
    support = model.support_.copy()
    model.set_params(max_iter=400, n_support=50).fit(X, y)
    assert model.n_iter_ == 400
    assert model.n_support_ == 50
    np.testing.assert_array_equal(model.support_[:40], support)
    np.testing.assert_array_equal(X[model.support_], model.support_vectors_)
    assert model.score(X, y) > first


def test_warm_start_needs_the_same_features_and_outputs(wave):
    X, y = wave
    model = LABRidgelessRegressor(warm_start=True, **QUICK).fit(X, y)
    with pytest.raises(ValueError, match=r"needs the 4 features and 1 outputs.*got 3 and 1"):
        model.fit(X[:, :3], y)
    with pytest.raises(ValueError, match="got 4 and 2"):
        model.fit(X, np.column_stack((y, y)))
    assert model.predict(X).shape == y.shape


def test_warm_start_on_other_samples_keeps_indices_right(wave):
    X, y = wave
    model = LABRidgelessRegressor(n_support=40, warm_start=True, **QUICK).fit(X, y)
    model.set_params(n_support=50).fit(X[100:], y[100:])
    known = model.support_ >= 0
    assert 0 < known.sum() < 50
    np.testing.assert_array_equal(X[100:][model.support_[known]], model.support_vectors_[known])
    rows = set(map(tuple, X[100:]))
    assert not any(tuple(row) in rows for row in model.support_vectors_[~known])


def test_warm_start_needs_the_same_classes(wave):
    X, y = wave
    model = LABRidgelessClassifier(warm_start=True, **QUICK).fit(X, np.where(y > 11, "b", "a"))
    before = model.predict(X)
    with pytest.raises(ValueError, match=r"classes of the previous call, \['a', 'b'\].*'z'\]"):
        model.fit(X, np.where(y > 11, "b", "z"))
    np.testing.assert_array_equal(model.predict(X), before)


@pytest.mark.parametrize("y", [["1", "2"] * 10, np.arange(20).astype("datetime64[D]")])
def test_targets_must_be_numbers(y):
    with pytest.raises(ValueError, match="y must contain numbers, got"):
        LABRidgelessRegressor(**QUICK).fit(np.arange(20.0)[:, None], y)


def test_verbose_prints_the_loss(wave, capsys):
    LABRidgelessRegressor(verbose=1, **QUICK).fit(*wave)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("[LABRidgelessRegressor] iteration 180/180, 60 support points")


# Classifier


@pytest.mark.parametrize("load", [load_breast_cancer, load_wine])
def test_classifier_is_accurate_and_calibrated(load):
    X, y = load(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.3, random_state=0, stratify=y)
    model = LABRidgelessClassifier(max_iter=500, random_state=0).fit(X, y)
    proba = model.predict_proba(X_test)
    assert model.score(X_test, y_test) > 0.93
    np.testing.assert_allclose(proba.sum(axis=1), 1.0)
    np.testing.assert_array_equal(model.classes_[proba.argmax(axis=1)], model.predict(X_test))
    assert log_loss(y_test, proba) < 0.25


def test_classifier_accepts_any_labels():
    X, y = load_breast_cancer(return_X_y=True)
    names = np.array(["malignant", "benign"])[y]
    model = LABRidgelessClassifier(**QUICK).fit(X, names)
    scores = model.decision_function(X)
    assert scores.shape == (len(X),)
    np.testing.assert_array_equal(model.predict(X), model.classes_[(scores > 0).astype(int)])


def test_temperature_is_not_fitted_on_support_points():
    X, y = load_wine(return_X_y=True)
    model = LABRidgelessClassifier(n_support=170, **SETTLED, **QUICK).fit(X, y)
    held_out = len(X) - model.n_support_
    assert held_out == sum(round(0.2 * n) for n in np.bincount(y))
    without = clone(model).set_params(validation_fraction=0.0).fit(X, y)
    assert without.temperature_ == 1.0
    assert model.temperature_ != 1.0


# Many support points


@pytest.fixture(scope="module")
def rough():
    """A rough function of two coordinates."""
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, size=(7000, 2))
    y = np.sin(12 * X[:, 0]) * np.cos(12 * X[:, 1])
    return X, y


MANY = {"kernel": "exponential", "n_warmup": 50, "growth_iter": 10, "max_iter": 100}


def test_many_support_points_share_the_mean_bandwidths(rough):
    X, y = rough
    model = LABRidgelessRegressor(n_support=1100, random_state=0, **MANY).fit(X[:6000], y[:6000])
    assert model.n_support_ == 1100
    theta = np.sqrt(model.bandwidths_)
    assert len(np.unique(theta[:200], axis=0)) == 200
    expected = np.broadcast_to(theta[:200].mean(axis=0), (900, 2))
    np.testing.assert_allclose(theta[200:], expected, rtol=1e-6)
    np.testing.assert_array_equal(X[model.support_], model.support_vectors_)
    residual = model.support_targets_ - model.predict(model.support_vectors_)
    np.testing.assert_allclose(residual, model.alpha_ * model.dual_coef_, atol=1e-7)
    few = LABRidgelessRegressor(n_support=200, random_state=0, **MANY).fit(X[:6000], y[:6000])
    unexplained = 1 - few.score(X[6000:], y[6000:])
    assert 1 - model.score(X[6000:], y[6000:]) < 0.2 * unexplained


@pytest.mark.slow
def test_auto_takes_many_support_points_only_where_they_pay(rough):
    X, y = rough
    noise = np.random.default_rng(1).normal(size=len(X))
    model = LABRidgelessRegressor(random_state=0, **MANY)
    assert model.fit(X[:5000], y[:5000]).n_support_ == 2000
    assert model.fit(X[:4000], y[:4000]).n_support_ == 200  # too few samples to judge
    assert model.fit(X[:5000], noise[:5000]).n_support_ == 200


def test_a_warm_start_learns_the_first_of_many_support_points(rough):
    X, y = rough
    model = LABRidgelessRegressor(n_support=1100, warm_start=True, random_state=0, **MANY)
    first = model.fit(X, y).support_[:200]
    model.fit(X, y)
    np.testing.assert_array_equal(model.support_[:200], first)
    assert model.n_support_ == 1100
    assert model.n_iter_ == 100


# Learned features


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("engine", ["numba", "torch"])
def test_features_times_coefficients_are_the_predictions(wave, kernel, engine):
    X, y = wave
    Y = np.column_stack((y, X[:, 0]))
    model = LABRidgelessRegressor(kernel=kernel, engine=engine, **QUICK).fit(X, Y)
    features = model.transform(X)
    assert features.shape == (len(X), model.n_support_)
    # Predictions near zero are differences of large terms.
    np.testing.assert_allclose(
        features @ model.dual_coef_ + model.intercept_, model.predict(X), rtol=1e-10, atol=1e-11
    )
    np.testing.assert_allclose(np.diag(model.transform(model.support_vectors_)), 1.0)


def test_a_classifier_transforms_too_and_float32_stays_float32():
    X, y = load_wine(return_X_y=True)
    X = X.astype(np.float32)
    model = LABRidgelessClassifier(**QUICK).fit(X, y)
    features = model.transform(X)
    assert features.dtype == np.float32
    scores = features @ model.dual_coef_ + model.intercept_
    np.testing.assert_allclose(scores, model.decision_function(X), atol=2e-4)


def test_features_carry_names_into_frames_and_linear_heads(wave):
    X, y = wave
    frame = pd.DataFrame(X, columns=list("abcd"), index=np.arange(len(X)) + 7)
    model = LABRidgelessRegressor(n_support=20, **QUICK).set_output(transform="pandas")
    features = model.fit_transform(frame, y)
    names = [f"labridgelessregressor{i}" for i in range(20)]
    assert list(features.columns) == names == list(model.get_feature_names_out())
    assert (features.index == frame.index).all()
    head = make_pipeline(clone(model), RidgeCV(np.logspace(-6, 1, 8))).fit(frame, y)
    assert head.score(frame, y) > model.score(frame, y) - 0.01


def test_an_unfitted_model_has_no_features(wave):
    with pytest.raises(NotFittedError):
        LABRidgelessRegressor().transform(wave[0])


# Together with scikit-learn


def test_pipelines_searches_and_bagging_work(wave):
    X, y = wave
    pipeline = make_pipeline(MinMaxScaler(), LABRidgelessRegressor(**QUICK))
    search = GridSearchCV(
        pipeline,
        {
            "labridgelessregressor__kernel": ["exponential", "rbf"],
            "labridgelessregressor__locality": [0.5, 1.0],
        },
        cv=2,
    ).fit(X, y)
    assert search.best_score_ > 0.5
    bag = BaggingRegressor(LABRidgelessRegressor(**QUICK), n_estimators=3, bootstrap=False)
    assert bag.fit(X, y).score(X, y) > 0.8


def test_a_progress_bar_follows_the_fit_to_its_end(wave, capsys):
    model = LABRidgelessRegressor(**QUICK).set_callbacks(ProgressBar())
    model.fit(*wave)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("LABRidgelessRegressor - fit")
    assert "100%" in line


def test_progress_bar_inside_pipeline_and_grid_search(wave, capsys):
    X, y = wave
    tiny = {**QUICK, "max_iter": 5, "n_warmup": 5, "growth_iter": 1}
    pipeline = make_pipeline(StandardScaler(), LABRidgelessRegressor(**tiny))
    pipeline.set_callbacks(ProgressBar()).fit(X, y)
    search = GridSearchCV(LABRidgelessRegressor(**tiny), {"alpha": [1e-3, 1e-2]}, cv=2)
    search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(X, y)
    assert capsys.readouterr().out.count("LABRidgelessRegressor") >= 2


def test_scoring_monitor_ends_at_the_score_of_the_model(wave):
    X, y = wave
    monitor = ScoringMonitor(scoring="r2")
    model = LABRidgelessRegressor(n_support=60, **QUICK).set_callbacks(monitor).fit(X, y)
    log = [row for row in monitor.get_logs().data if row["task_name"] == "iteration"]
    curve = np.array([row["r2"] for row in sorted(log, key=lambda row: row["task_id"])])
    assert len(curve) == model.n_iter_
    assert curve[-1] == pytest.approx(model.score(X, y))
    assert curve[-1] > curve[0]


class StopAfter:
    """A callback that ends the fit after some iterations."""

    def __init__(self, n_iter):
        self.n_iter = n_iter

    def setup(self, estimator, context): ...

    def teardown(self, estimator, context): ...

    def on_fit_task_begin(self, estimator, context): ...

    def on_fit_task_end(self, estimator, context):
        return context.task_name == "iteration" and context.task_id + 1 == self.n_iter


def test_a_callback_can_stop_the_fit(wave):
    model = LABRidgelessRegressor(**QUICK).set_callbacks(StopAfter(25)).fit(*wave)
    assert model.n_iter_ == len(model.loss_curve_) == 25
    assert np.isfinite(model.predict(wave[0])).all()


def test_from_paper_keeps_targets_and_takes_parameters(wave):
    X, y = wave
    model = LABRidgelessRegressor.from_paper(
        n_support=30, n_growth_stages=2, growth_iter=5, max_iter=20, random_state=0
    ).fit(MinMaxScaler((-1, 1)).fit_transform(X), y)
    np.testing.assert_allclose(model.support_targets_, y[model.support_], rtol=1e-12)
    assert model.alpha_ == pytest.approx(1e-3)
    assert model.n_iter_ == 2 * 5 + 20
