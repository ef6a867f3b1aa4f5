"""The two-stage method, compared with figures of the authors' program."""

import numpy as np
import pytest
from sklearn.metrics.pairwise import rbf_kernel

from sklearn_ext import SupervisedKernelImputer
from sklearn_ext.impute import (
    GaussianImputerConfig,
    TwoStageConfig,
    fit_gaussian_imputer,
    fit_two_stage_imputer,
)
from sklearn_ext.impute.published import fit_centered_two_stage_imputer
from sklearn_ext.impute.published._incomplete_kernel import (
    common_sqdist,
    gaussian_kernel,
    published_lower_bound,
)
from sklearn_ext.impute.published._s_stress import fit_by_adam, fit_by_lbfgs, target_sqdist
from sklearn_ext.impute.published._stage_one import run_stage_one
from tests.impute.heart import load_cell
from tests.impute.tables import nrmse, with_missing

ETA, RADIUS = 8.72128046567919, 12.96


def stage_one(cell, n_iter):
    observed = ~np.isnan(cell.X)
    common = gaussian_kernel(common_sqdist(cell.X, observed), 1.0)
    lower = published_lower_bound(observed, 1.0)
    return run_stage_one(common, lower, cell.y, C=1.0, eta=ETA, radius=RADIUS, max_iter=n_iter)


@pytest.mark.parametrize(
    ("n_iter", "kernel_norm", "alpha_norm", "published_intercept", "intercept"),
    [
        (1, 52.979192, 8.71350, -0.06215, -0.24366),
        (5, 50.944100, 9.07931, 0.16208, -0.13282),
        (10, 51.360842, 9.27740, 0.24666, -0.08245),
        (50, 51.561598, 9.46713, 0.32853, 0.02170),
    ],
)
def test_stage_one_matches_the_program(
    n_iter, kernel_norm, alpha_norm, published_intercept, intercept
):
    stage = stage_one(load_cell(0.6), n_iter)
    assert np.linalg.norm(stage.kernel) == pytest.approx(kernel_norm, abs=1e-5)
    assert np.linalg.norm(stage.dual_coef) == pytest.approx(alpha_norm, abs=1e-4)
    assert stage.published_intercept == pytest.approx(published_intercept, abs=1e-5)
    assert stage.intercept == pytest.approx(intercept, abs=1e-5)


@pytest.mark.parametrize(
    ("n_iter", "n_sweeps", "root_stress", "error"),
    [(10, 109, 37.5476, 0.91236), (50, 106, 40.2482, 0.91486)],
)
def test_stage_two_matches_the_program(n_iter, n_sweeps, root_stress, error):
    cell = load_cell(0.6)
    missing = np.isnan(cell.X)
    T = target_sqdist(stage_one(cell, n_iter).kernel, 1.0)
    samples, sweeps, root = fit_by_adam(cell.X, missing, T)
    assert sweeps - 1 == n_sweeps  # the program does not count the last sweep
    assert root == pytest.approx(root_stress, abs=1e-3)
    assert nrmse(samples, cell.complete, missing) == pytest.approx(error, abs=1e-3)


@pytest.mark.slow
def test_both_stages_match_the_program_after_300_iterations():
    cell = load_cell(0.6)
    config = TwoStageConfig(gamma=1.0, eta=ETA, max_iter=300)
    model = fit_two_stage_imputer(cell.X, cell.y, config)
    assert nrmse(model.completed, cell.complete, np.isnan(cell.X)) == pytest.approx(
        0.9129, abs=1e-3
    )
    scores = rbf_kernel(cell.X_test, model.completed, gamma=1.0) @ model.kernel.dual_coef
    predicted = np.sign(scores + model.kernel.intercept)[:, 0]
    assert np.mean(predicted == cell.y_test) == pytest.approx(0.8395, abs=0.013)


def test_stage_two_recovers_samples_from_their_true_kernel():
    cell = load_cell(0.2)
    missing = np.isnan(cell.X)
    T = target_sqdist(rbf_kernel(cell.complete, gamma=1.0), 1.0)
    W = 1.0 - np.eye(len(T))
    samples = fit_by_lbfgs(np.where(missing, 0.5, cell.X), missing, T, W)
    assert nrmse(samples, cell.complete, missing) < 0.01


@pytest.mark.parametrize(("with_labels", "error"), [(False, 0.8534), (True, 0.8281)])
def test_the_gaussian_model_on_the_same_samples(with_labels, error):
    cell = load_cell(0.5)
    mean, scale = np.nanmean(cell.X, axis=0), np.nanstd(cell.X, axis=0)
    X, labels = (cell.X - mean) / scale, cell.y[:, None] if with_labels else None
    config = GaussianImputerConfig(
        shrinkage=0.2 / 1.2, residual_smoothing=False, max_iter=500, tol=1e-6
    )
    imputation = fit_gaussian_imputer(X, labels, config, np.random.RandomState(0))
    Z, _ = imputation.transform(X, labels)
    assert nrmse(Z * scale + mean, cell.complete, np.isnan(cell.X)) == pytest.approx(
        error, abs=3e-3
    )


@pytest.fixture(scope="module")
def cell():
    return load_cell(0.5)


@pytest.mark.parametrize("options", [{}, {"bounds": "exact"}, {"center": "base"}])
def test_imputed_values_stay_within_the_features_ranges(cell, options):
    imputer = SupervisedKernelImputer(
        solver="two_stage", perturbation=0.2, max_iter=5, random_state=0, **options
    )
    imputed = imputer.fit_transform(cell.X, cell.y)
    missing = np.isnan(cell.X)
    np.testing.assert_array_equal(imputed[~missing], cell.X[~missing])
    low, high = imputer.feature_range_
    assert (imputed >= low).all()
    assert (imputed <= high).all()
    assert imputer.kernel_.shape == (108, 108)
    assert imputer.dual_coef_.shape == (108, 1)


def test_the_centered_variant_stays_near_its_base(cell):
    options = {"random_state": 0, "shrinkage": 0.2 / 1.2, "residual_smoothing": False}
    missing = np.isnan(cell.X)

    def error(**more):
        imputed = SupervisedKernelImputer(**options, **more).fit_transform(cell.X, cell.y)
        return nrmse(imputed, cell.complete, missing)

    base = error()
    assert abs(error(solver="two_stage", center="base", kappa=0.1) - base) < 0.05
    as_published = error(solver="two_stage", perturbation=0.2, max_iter=60)
    assert as_published > error(solver="two_stage", center="base", kappa=0.5)


def test_new_samples_are_completed_by_their_distances():
    t = np.linspace(0.0, 1.0, 40)
    X = np.column_stack((t, 3.0 * t, 1.0 - t, 2.0 * t))  # every feature determines all distances
    imputer = SupervisedKernelImputer(solver="two_stage", max_iter=2).fit(X, t > 0.5)
    samples, missing = with_missing(X, 0.4, 0)
    samples[0] = np.nan
    imputed = imputer.transform(samples)
    np.testing.assert_allclose(imputed[0], X.mean(axis=0))
    some = ~missing.all(axis=1) & (np.arange(40) > 0)
    np.testing.assert_allclose(imputed[some], X[some], atol=0.1)
    np.testing.assert_array_equal(imputer.transform(samples[3:4]), imputed[3:4])


def test_new_samples_are_completed_by_the_base(cell):
    options = {"random_state": 0, "clip": False}
    centered = SupervisedKernelImputer(solver="two_stage", center="base", **options)
    base = SupervisedKernelImputer(**options).fit(cell.X, cell.y)
    samples, _ = with_missing(cell.X_test, 0.3, 0)
    imputed = centered.fit(cell.X, cell.y).transform(samples)
    np.testing.assert_allclose(imputed, base.transform(samples), atol=1e-12)


@pytest.mark.parametrize(
    ("options", "y", "message"),
    [
        ({}, None, "requires labels of 2 classes, got no classes"),
        ({}, np.arange(20) % 3, "requires labels of 2 classes, got 3 classes"),
        ({"sample_posterior": True}, np.arange(20) % 2, "sample_posterior=True requires"),
    ],
)
def test_unusable_labels_and_parameters_are_refused(options, y, message):
    X = np.random.RandomState(0).rand(20, 3)
    with pytest.raises(ValueError, match=message):
        SupervisedKernelImputer(solver="two_stage", **options).fit(X, y)


def test_too_many_samples_are_refused():
    X = np.zeros((5001, 1))
    X[::2] = 1.0
    with pytest.raises(ValueError, match=r"at most 5000.*got 5001.*solver='regression'"):
        SupervisedKernelImputer(solver="two_stage").fit(X, np.arange(5001) % 2)


def test_return_std_and_score_require_the_gaussian_model(cell):
    imputer = SupervisedKernelImputer(solver="two_stage", center="base").fit(cell.X, cell.y)
    with pytest.raises(ValueError, match="return_std=True requires solver='regression'"):
        imputer.transform(cell.X, return_std=True)
    with pytest.raises(ValueError, match="score requires solver='regression'"):
        imputer.score(cell.X)


def test_from_paper_is_the_method_as_published(cell):
    imputer = SupervisedKernelImputer.from_paper(max_iter=5)
    given = {"solver": "two_stage", "perturbation": 0.2, "max_iter": 5}
    assert imputer.get_params() == {**SupervisedKernelImputer().get_params(), **given}
    low, high = np.nanmin(cell.X, axis=0), np.nanmax(cell.X, axis=0)
    imputed = imputer.fit_transform(cell.X, cell.y)
    config = TwoStageConfig(gamma=imputer.gamma_, max_iter=5)
    expected = fit_two_stage_imputer((cell.X - low) / (high - low), cell.y, config).completed
    np.testing.assert_allclose(imputed, expected * (high - low) + low, atol=1e-6)


def test_from_paper_takes_other_values():
    assert SupervisedKernelImputer.from_paper(perturbation=0.0, C=3.0).perturbation == 0.0


def test_a_fit_with_another_solver_leaves_no_old_attributes(cell):
    imputer = SupervisedKernelImputer(random_state=0).fit(cell.X, cell.y)
    refitted = imputer.set_params(solver="two_stage", max_iter=2).fit(cell.X, cell.y)
    fresh = SupervisedKernelImputer.from_paper(perturbation=0.0, max_iter=2, random_state=0)
    assert vars(refitted).keys() == vars(fresh.fit(cell.X, cell.y)).keys()
    assert not hasattr(refitted, "location_")


def test_the_published_form_refuses_hours_of_work():
    rng = np.random.RandomState(0)
    X, y = rng.randn(600, 3), rng.randint(2, size=600)
    with pytest.raises(ValueError, match=r"at most 368 samples, got 600; pass max_iter=2314 or"):
        SupervisedKernelImputer.from_paper().fit(X, y)
    X[::2, 0] = np.nan
    assert SupervisedKernelImputer.from_paper(max_iter=2).fit(X, y).n_iter_ == 2


def test_the_centered_variant_corrects_by_common_features():
    """The correction is diag(a) (C o C) diag(a) / (4 eta) for any kernel of the base."""
    rng = np.random.RandomState(0)
    base = rng.uniform(size=(12, 4))
    X = np.where(rng.uniform(size=base.shape) < 0.3, np.nan, base)
    a = rng.uniform(0.5, 1.0, size=(12, 1))
    config = TwoStageConfig(gamma=1.0, kappa=0.7)
    result = fit_centered_two_stage_imputer(X, base, lambda K: (a, np.zeros(1)), config)
    common = gaussian_kernel(common_sqdist(X, ~np.isnan(X)), 1.0)
    initial = rbf_kernel(base, gamma=1.0)
    np.testing.assert_allclose(result.kernel.initial, initial, rtol=1e-10)
    eta4 = (a @ a.T) * common**2 / (initial * (result.kernel.factor - 1.0))
    np.testing.assert_allclose(eta4, eta4[0, 0], rtol=1e-8)
    assert 0.3 < np.abs(result.kernel.factor - 1.0).max() <= 0.7
