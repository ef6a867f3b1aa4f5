"""The published method against the figures of the authors' program."""

import numpy as np
import pytest
from sklearn.metrics.pairwise import rbf_kernel

from sklearn_ext import SupervisedKernelImputer
from sklearn_ext.impute._gaussian_em import fit_gaussian, observed_moments
from sklearn_ext.impute._incomplete_kernel import (
    common_sqdist,
    gaussian_kernel,
    published_lower_bound,
)
from sklearn_ext.impute._published_model import fit_published
from sklearn_ext.impute._published_stage_one import run_stage_one
from sklearn_ext.impute._s_stress import fit_as_published, fit_by_lbfgs, target_sqdist
from tests.impute.heart import load_cell
from tests.impute.tables import ENGINES, nrmse, with_holes

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
def test_stage_one_follows_the_program(
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
def test_stage_two_follows_the_program(n_iter, n_sweeps, root_stress, error):
    cell = load_cell(0.6)
    holes = np.isnan(cell.X)
    T = target_sqdist(stage_one(cell, n_iter).kernel, 1.0)
    rows, sweeps, root = fit_as_published(cell.X, holes, T)
    assert sweeps - 1 == n_sweeps  # the program does not count the sweep that changes nothing
    assert root == pytest.approx(root_stress, abs=1e-3)
    assert nrmse(rows, cell.complete, holes) == pytest.approx(error, abs=1e-3)


@pytest.mark.slow
def test_both_stages_after_300_iterations():
    cell = load_cell(0.6)
    model = fit_published(
        cell.X, cell.y, gamma=1.0, C=1.0, eta=ETA, perturbation=0.2, bounds="code",
        max_iter=300, tol=1e-4,
    )  # fmt: skip
    assert nrmse(model.rows, cell.complete, np.isnan(cell.X)) == pytest.approx(0.9129, abs=1e-3)
    scores = rbf_kernel(cell.X_test, model.rows, gamma=1.0) @ model.kernel.dual_coef
    predicted = np.sign(scores + model.kernel.intercept)[:, 0]
    assert np.mean(predicted == cell.y_test) == pytest.approx(0.8395, abs=0.013)


def test_stage_two_recovers_rows_from_their_true_kernel():
    cell = load_cell(0.2)
    holes = np.isnan(cell.X)
    T = target_sqdist(rbf_kernel(cell.complete, gamma=1.0), 1.0)
    W = 1.0 - np.eye(len(T))
    rows = fit_by_lbfgs(np.where(holes, 0.5, cell.X), holes, T, W)
    assert nrmse(rows, cell.complete, holes) < 0.01


@pytest.mark.parametrize(("with_labels", "error"), [(False, 0.8534), (True, 0.8281)])
def test_the_gaussian_model_on_the_same_rows(with_labels, error):
    cell = load_cell(0.5)
    X = np.column_stack((cell.X, cell.y)) if with_labels else cell.X
    mean, variance = observed_moments(X)
    X = (X - mean) / np.sqrt(variance)
    engine = ENGINES[0]
    fit = fit_gaussian(engine, X, 0.2, max_iter=500, tol=1e-6)
    Z, _ = engine.posterior(engine.table(X), fit.mean, fit.cov)
    filled = (Z * np.sqrt(variance) + mean)[:, :13]
    assert nrmse(filled, cell.complete, np.isnan(cell.X)) == pytest.approx(error, abs=3e-3)


@pytest.fixture(scope="module")
def cell():
    return load_cell(0.5)


@pytest.mark.parametrize("options", [{}, {"bounds": "exact"}, {"center": "base"}])
def test_the_solver_fills_every_hole_within_range(cell, options):
    imputer = SupervisedKernelImputer(
        solver="published", perturbation=0.2, max_iter=5, random_state=0, **options
    )
    filled = imputer.fit_transform(cell.X, cell.y)
    holes = np.isnan(cell.X)
    np.testing.assert_array_equal(filled[~holes], cell.X[~holes])
    low, high = imputer.feature_range_
    assert (filled >= low).all()
    assert (filled <= high).all()
    assert imputer.kernel_.shape == (108, 108)
    assert imputer.dual_coef_.shape == (108, 1)


def test_the_centered_mode_stays_near_its_base_and_repairs_the_method(cell):
    options = {"random_state": 0, "shrinkage": 0.2 / 1.2, "residual_smoothing": False}
    holes = np.isnan(cell.X)

    def error(**more):
        filled = SupervisedKernelImputer(**options, **more).fit_transform(cell.X, cell.y)
        return nrmse(filled, cell.complete, holes)

    base = error()
    assert abs(error(solver="published", center="base", kappa=0.1) - base) < 0.05
    published = error(solver="published", perturbation=0.2, max_iter=60)
    assert published > error(solver="published", center="base", kappa=0.5)


def test_new_rows_are_completed_by_their_distances_to_the_training_rows():
    t = np.linspace(0.0, 1.0, 40)
    X = np.column_stack((t, 3.0 * t, 1.0 - t, 2.0 * t))  # every feature tells the distance
    imputer = SupervisedKernelImputer(solver="published", max_iter=2).fit(X, t > 0.5)
    rows, holes = with_holes(X, 0.4, 0)
    rows[0] = np.nan
    filled = imputer.transform(rows)
    np.testing.assert_allclose(filled[0], X.mean(axis=0))
    some = ~holes.all(axis=1) & (np.arange(40) > 0)
    np.testing.assert_allclose(filled[some], X[some], atol=0.1)
    np.testing.assert_array_equal(imputer.transform(rows[3:4]), filled[3:4])


def test_new_rows_are_completed_by_the_base_where_there_is_one(cell):
    options = {"random_state": 0, "clip": False}
    centered = SupervisedKernelImputer(solver="published", center="base", **options)
    base = SupervisedKernelImputer(**options).fit(cell.X, cell.y)
    rows, _ = with_holes(cell.X_test, 0.3, 0)
    filled = centered.fit(cell.X, cell.y).transform(rows)
    np.testing.assert_allclose(filled, base.transform(rows), atol=1e-12)


@pytest.mark.parametrize(
    ("options", "y", "message"),
    [
        ({}, None, "needs labels of 2 classes, got none"),
        ({}, np.arange(20) % 3, "needs labels of 2 classes, got 3 classes"),
        ({"sample_posterior": True}, np.arange(20) % 2, "sample_posterior=True needs"),
    ],
)
def test_what_the_solver_cannot_do_is_said(options, y, message):
    X = np.random.RandomState(0).rand(20, 3)
    with pytest.raises(ValueError, match=message):
        SupervisedKernelImputer(solver="published", **options).fit(X, y)


def test_too_many_rows_are_refused():
    X = np.zeros((5001, 1))
    X[::2] = 1.0
    with pytest.raises(ValueError, match=r"at most 5000.*got 5001.*solver='regression'"):
        SupervisedKernelImputer(solver="published").fit(X, np.arange(5001) % 2)


def test_there_is_no_standard_deviation(cell):
    imputer = SupervisedKernelImputer(solver="published", center="base").fit(cell.X, cell.y)
    with pytest.raises(ValueError, match="return_std=True needs solver='regression'"):
        imputer.transform(cell.X, return_std=True)
    with pytest.raises(ValueError, match="score needs solver='regression'"):
        imputer.score(cell.X)
