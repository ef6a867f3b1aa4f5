import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.impute import SimpleImputer
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from sklearn_ext import SupervisedKernelImputer
from tests.impute.tables import nrmse, scaled, with_missing

# Mean errors over four masks, by data set and fraction of missing values: column means, KNNImputer
# and IterativeImputer of scikit-learn, then the Gaussian model without labels, with all labels, and
# with half of the labels.
REFERENCE = {
    ("iris", 0.2): (1.012, 0.559, 0.417, 0.437, 0.345, 0.397),
    ("iris", 0.5): (1.024, 0.726, 0.662, 0.638, 0.395, 0.551),
    ("iris", 0.8): (1.028, 1.004, 0.975, 0.944, 0.474, 0.749),
    ("wine", 0.2): (0.960, 0.709, 0.709, 0.685, 0.645, 0.670),
    ("wine", 0.5): (0.948, 0.839, 0.814, 0.757, 0.674, 0.724),
    ("wine", 0.8): (0.952, 0.951, 0.951, 0.877, 0.707, 0.800),
    ("breast_cancer", 0.2): (0.833, 0.438, 0.297, 0.273, 0.274, 0.273),
    ("breast_cancer", 0.5): (0.835, 0.575, 0.423, 0.359, 0.359, 0.360),
    ("breast_cancer", 0.8): (0.837, 0.771, 0.758, 0.532, 0.521, 0.527),
    ("diabetes", 0.2): (0.956, 0.871, 0.758, 0.761, 0.747, 0.753),
    ("diabetes", 0.5): (0.958, 0.981, 0.893, 0.835, 0.814, 0.822),
    ("diabetes", 0.8): (0.967, 0.997, 0.963, 0.910, 0.893, 0.903),
}
SLOW = {"breast_cancer", "diabetes"}
CELLS = [
    pytest.param(*cell, marks=pytest.mark.slow if cell[0] in SLOW else ()) for cell in REFERENCE
]
FIXED = {"shrinkage": 0.2, "residual_smoothing": False}


@pytest.fixture
def wine():
    X, y = load_wine(return_X_y=True)
    X, missing = with_missing(X, 0.4, 0)
    return X, y, missing


def half_known(y, seed):
    y = y.astype(float)
    y[np.random.RandomState(100 + seed).rand(len(y)) < 0.5] = np.nan
    return y


@pytest.mark.parametrize(("name", "ratio"), CELLS)
def test_errors_are_as_expected_and_below_scikit_learn(name, ratio):
    X, y = scaled(name)
    errors = []
    for seed in range(4):
        samples, missing = with_missing(X, ratio, seed)
        errors.append(
            [
                nrmse(SupervisedKernelImputer(random_state=0).fit_transform(samples, t), X, missing)
                for t in (None, y, half_known(y, seed))
            ]
        )
    *theirs, free, labeled, half = REFERENCE[name, ratio]
    ours = np.mean(errors, axis=0)
    assert (ours <= np.array([free, labeled, half]) + 0.03).all()
    if ratio >= 0.5:
        assert ours[1] < min(theirs)


def test_observed_entries_stay_bit_identical(wine):
    X, y, missing = wine
    X[0, np.flatnonzero(~missing[0])[0]] = -0.0
    for dtype in (np.float64, np.float32):
        samples = X.astype(dtype)
        imputed = SupervisedKernelImputer(random_state=0).fit_transform(samples, y)
        assert imputed.dtype == dtype
        assert imputed[~missing].tobytes() == samples[~missing].tobytes()
        assert np.isfinite(imputed).all()


def test_labels_are_used_for_training_samples_only(wine):
    X, y, _ = wine
    imputer = SupervisedKernelImputer(random_state=0)
    with_labels = imputer.fit_transform(X, y)
    without = imputer.transform(X)
    assert np.abs(with_labels - without).max() > 0.1
    same = SupervisedKernelImputer(random_state=0, condition_on_y=False)
    np.testing.assert_array_equal(same.fit_transform(X, y), without)
    np.testing.assert_array_equal(
        SupervisedKernelImputer(random_state=0).fit_transform(X), imputer.fit(X).transform(X)
    )


def test_labels_of_a_test_fold_do_not_leak(wine):
    X, y, _ = wine
    train, test = np.arange(0, 178, 2), np.arange(1, 178, 2)
    outputs = []
    for seed in (0, 1):
        shuffled = y.copy()
        shuffled[test] = np.random.RandomState(seed).permutation(y[test])
        pipeline = make_pipeline(SupervisedKernelImputer(random_state=0), StandardScaler(), SVC())
        pipeline.fit(X[train], shuffled[train])
        outputs.append((pipeline[:-1].transform(X[test]), pipeline.decision_function(X[test])))
    for a, b in zip(*outputs, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_sample_alone_is_imputed_as_in_a_batch(wine):
    X, y, _ = wine
    imputer = SupervisedKernelImputer(random_state=0).fit(X[:100], y[:100])
    batch = imputer.transform(X[100:])
    alone = np.vstack([imputer.transform(x[None]) for x in X[100:]])
    np.testing.assert_allclose(alone, batch, rtol=1e-10)


def test_order_and_units_do_not_matter(wine):
    X, y, _ = wine
    rng = np.random.RandomState(0)
    rows, columns = rng.permutation(len(X)), rng.permutation(X.shape[1])
    scale = 10.0 ** rng.uniform(-3, 3, X.shape[1])
    imputed = SupervisedKernelImputer(**FIXED).fit_transform(X, y)
    moved = SupervisedKernelImputer(**FIXED).fit_transform(X[rows][:, columns], y[rows])
    np.testing.assert_allclose(moved, imputed[rows][:, columns], rtol=1e-8)
    scaled = SupervisedKernelImputer(**FIXED).fit_transform(X * scale, y)
    np.testing.assert_allclose(scaled, imputed * scale, rtol=1e-8)


@pytest.mark.parametrize(
    "options",
    [{}, {"sample_posterior": True}, {"residual_smoothing": False, "shrinkage": 0.5}],
)
def test_engines_and_threads_agree(wine, options):
    X, y, _ = wine
    expected = SupervisedKernelImputer(random_state=0, **options).fit_transform(X, y)
    for more in ({"engine": "torch"}, {"device": "cpu"}, {"n_jobs": 2}):
        other = SupervisedKernelImputer(random_state=0, **options, **more).fit_transform(X, y)
        np.testing.assert_allclose(other, expected, rtol=1e-8)


def test_labels_may_be_strings_missing_or_several_targets(wine):
    X, y, missing = wine
    complete = load_wine().data
    names = np.array(["red", "white", "rosé"], dtype=object)[y]
    by_name = SupervisedKernelImputer(random_state=0).fit(X, names)
    assert by_name.classes_.tolist() == ["red", "rosé", "white"]
    names[::2] = None
    partly = SupervisedKernelImputer(random_state=0)
    imputed = partly.fit_transform(X, names)
    assert partly.classes_.tolist() == ["red", "rosé", "white"]
    scale = complete.std(axis=0)
    plain = SupervisedKernelImputer(random_state=0).fit_transform(X)
    assert nrmse(imputed / scale, complete / scale, missing) < nrmse(
        plain / scale, complete / scale, missing
    )
    targets = np.column_stack((complete[:, 0], complete[:, 1] * 2.5 + 0.1))
    two = SupervisedKernelImputer(random_state=0)
    labeled = two.fit_transform(X, targets)
    assert two.classes_ is None
    assert two.location_.shape == (15,)
    assert nrmse(labeled[:, :1], complete[:, :1], missing[:, :1]) < 0.5
    pd_labels = pd.Series(y).astype("Int64")
    pd_labels[::2] = pd.NA
    np.testing.assert_allclose(
        SupervisedKernelImputer(random_state=0).fit_transform(X, pd_labels),
        SupervisedKernelImputer(random_state=0).fit_transform(
            X, np.where(np.arange(178) % 2, y, np.nan)
        ),
    )


def test_constant_and_missing_labels_are_ignored(wine):
    X, _, _ = wine
    plain = SupervisedKernelImputer(random_state=0).fit_transform(X)
    for y in (np.zeros(178), ["a"] * 178, np.full(178, np.nan), np.full(178, 2.5)):
        imputed = SupervisedKernelImputer(random_state=0).fit_transform(X, y)
        np.testing.assert_array_equal(imputed, plain)


@pytest.mark.parametrize(
    ("target_type", "n_columns"), [("auto", 1), ("continuous", 1), ("multiclass", 44)]
)
def test_whole_numbers_with_many_values_are_targets(target_type, n_columns):
    X, y = np.random.RandomState(0).randn(90, 2), np.arange(90) // 2
    imputer = SupervisedKernelImputer(target_type=target_type).fit(X, y)
    assert len(imputer.location_) == 2 + n_columns


def test_whole_numbers_with_few_values_are_classes():
    rng = np.random.RandomState(0)
    X, price = rng.randn(3000, 2), rng.randint(100, 300, size=3000)
    for y, n_columns in ((price % 20, 19), (price, 1), (price.astype(float), 1)):
        assert len(SupervisedKernelImputer().fit(X, y).location_) == 2 + n_columns
    names = np.array([f"s{k}" for k in range(1500)]).repeat(2)
    many = SupervisedKernelImputer(random_state=0).fit(X, names)
    assert len(many.location_) == 102
    assert len(many.classes_) == 1500


def test_moments_are_in_the_units_of_the_data():
    rng = np.random.RandomState(0)
    X = rng.randn(2000, 3) @ rng.randn(3, 3) * [1, 100, 0.01] + [0, 50, 3]
    X = np.insert(X, 1, 7.0, axis=1)
    imputer = SupervisedKernelImputer(shrinkage=0.0).fit(X)
    np.testing.assert_allclose(imputer.location_, X.mean(axis=0))
    np.testing.assert_allclose(imputer.covariance_, np.cov(X.T, bias=True), rtol=1e-5, atol=1e-12)
    assert imputer.shrinkage_ == 0.0


def test_standard_deviations_match_the_errors():
    rng = np.random.RandomState(0)
    X = rng.randn(3000, 5) @ rng.randn(5, 5)
    samples, missing = with_missing(X, 0.4, 1)
    imputer = SupervisedKernelImputer(random_state=0).fit(samples[:2000])
    imputed, std = imputer.transform(samples[2000:], return_std=True)
    missing, truth = missing[2000:], X[2000:]
    np.testing.assert_array_equal(std[~missing], 0.0)
    z = (imputed - truth)[missing] / std[missing]
    assert np.sqrt(np.mean(z**2)) == pytest.approx(1.0, abs=0.05)
    assert np.mean(np.abs(z) < 1.96) == pytest.approx(0.95, abs=0.02)


def test_standard_deviations_follow_the_errors_of_columns():
    X, _ = scaled("breast_cancer")
    samples, missing = with_missing(X, 0.3, 1)
    imputer = SupervisedKernelImputer(random_state=0)
    imputed, std = imputer.fit(samples).transform(samples, return_std=True)
    inside = np.abs(imputed - X) < 1.645 * std
    coverage = [inside[at, p].mean() for p, at in enumerate(missing.T)]
    assert np.mean(coverage) == pytest.approx(0.9, abs=0.03)
    assert min(coverage) > 0.83
    assert max(coverage) < 0.98
    z = (imputed - X) / np.where(missing, std, 1.0)
    errors = [np.sqrt(np.mean(z[at, p] ** 2)) for p, at in enumerate(missing.T)]
    # Without a scale for each column, this spread is 0.22.
    assert np.std(np.log(errors)) < 0.18


def test_the_score_exceeds_that_of_column_means(wine):
    X, y, _ = wine

    def score(shrinkage):
        imputer = SupervisedKernelImputer(shrinkage=shrinkage, residual_smoothing=False)
        return imputer.fit(X[::2], y[::2]).score(X[1::2])

    assert score(0.2) > 0.2
    assert abs(score(1.0 - 1e-9)) < 0.1


def test_draws_are_reproducible_with_the_posterior_spread(wine):
    X, y, missing = wine
    imputer = SupervisedKernelImputer(
        sample_posterior=True, residual_smoothing=False, clip=False, random_state=0
    ).fit(X, y)
    np.testing.assert_array_equal(imputer.transform(X), imputer.transform(X))
    draws = np.array([imputer.set_params(random_state=k).transform(X) for k in range(200)])
    imputer.set_params(sample_posterior=False)
    mean, std = imputer.transform(X, return_std=True)
    np.testing.assert_array_equal(draws[:, ~missing], np.tile(X[~missing], (200, 1)))
    errors = (draws.mean(axis=0) - mean)[missing] / std[missing]
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(1 / np.sqrt(200), rel=0.1)
    np.testing.assert_allclose(draws.std(axis=0)[missing], std[missing], rtol=0.25)


def test_imputed_categories_are_known_categories():
    rng = np.random.RandomState(0)
    kind = rng.randint(3, size=400)
    codes = np.array([2.0, 5.0, 11.0])[kind]
    X = np.column_stack((codes, kind + 0.2 * rng.randn(400), (kind == 1) + 0.2 * rng.randn(400)))
    samples, missing = with_missing(X, 0.3, 0)
    frame = pd.DataFrame(samples, columns=["kind", "a", "b"])
    given = (["kind"], [0], [True, False, False], [-3])
    results = []
    for features in given:
        imputer = SupervisedKernelImputer(categorical_features=features, random_state=0)
        imputed, std = imputer.fit(frame).transform(frame, return_std=True)
        results.append(imputed)
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])
    at = missing[:, 0]
    assert set(results[0][at, 0]) <= {2.0, 5.0, 11.0}
    seen = at & ~missing[:, 1] & ~missing[:, 2]
    assert np.mean(results[0][seen, 0] == codes[seen]) > 0.9
    assert (std[at, 0] <= 0.5).all()
    assert imputer.location_.shape == (4,)
    unknown = imputer.transform(frame.iloc[:1].assign(kind=3.0, a=np.nan)).copy()
    assert unknown[0, 0] == 3.0
    assert np.isfinite(unknown).all()


@pytest.mark.parametrize("features", [["c"], [2], [-3], [1.5], [True]])
def test_unknown_categorical_features_are_refused(features):
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, np.nan]})
    with pytest.raises(ValueError, match="categorical_features"):
        SupervisedKernelImputer(categorical_features=features).fit(frame)


def test_imputed_values_are_clipped_to_limits():
    rng = np.random.RandomState(0)
    x = rng.randn(200)
    X = np.column_stack((x, x + 0.01 * rng.randn(200)))
    row = [[np.nan, 50.0]]

    def imputed(clip):
        imputer = SupervisedKernelImputer(clip=clip, residual_smoothing=False, random_state=0)
        return imputer.fit(X).transform(row)[0, 0]

    assert imputed(True) == x.max()
    assert imputed(False) == pytest.approx(50.0, rel=0.05)
    assert imputed((-1.0, 10.0)) == 10.0
    assert imputed(([-1.0, -1.0], [20.0, 1.0])) == 20.0


@pytest.mark.parametrize("clip", [(0.0,), (1.0, 0.0), ([0.0, 0.0, 0.0], 1.0)])
def test_invalid_limits_are_refused(clip):
    with pytest.raises(ValueError, match="clip must"):
        SupervisedKernelImputer(clip=clip).fit(np.random.RandomState(0).randn(5, 2))


@pytest.mark.filterwarnings("ignore:Skipping features")
def test_empty_features_are_dropped_or_set_to_zero():
    X = pd.DataFrame({"a": [1.0, np.nan, 3.0], "b": [np.nan] * 3, "c": [2.0, 1.0, np.nan]})
    dropped = SupervisedKernelImputer(random_state=0).fit(X)
    assert dropped.get_feature_names_out().tolist() == ["a", "c"]
    kept = SupervisedKernelImputer(keep_empty_features=True, random_state=0).fit(X)
    out = kept.transform(X)
    np.testing.assert_array_equal(out[:, 1], 0.0)
    np.testing.assert_array_equal(out[:, [0, 2]], dropped.transform(X))
    seen = X.fillna(5.0)
    np.testing.assert_array_equal(kept.transform(seen)[:, 1], 5.0)
    assert dropped.transform(seen).shape == (3, 2)


def test_indicators_are_appended(wine):
    X, y, missing = wine
    imputer = SupervisedKernelImputer(add_indicator=True, random_state=0).fit(X, y)
    imputed, std = imputer.transform(X, return_std=True)
    np.testing.assert_array_equal(imputed[:, 13:], missing)
    assert imputed.shape == std.shape
    names = imputer.get_feature_names_out()
    assert names[13:].tolist() == [f"missingindicator_x{k}" for k in range(13)]


def test_missing_values_may_be_marked_by_a_number():
    X = np.array([[1.0, -1.0], [2.0, 3.0], [-1.0, 4.0], [4.0, 5.0]])
    marked = SupervisedKernelImputer(missing_values=-1, random_state=0)
    plain = SupervisedKernelImputer(random_state=0)
    expected = plain.fit_transform(np.where(X == -1, np.nan, X))
    np.testing.assert_array_equal(marked.fit_transform(X), expected)
    with pytest.raises(ValueError, match="NaN"):
        marked.fit([[1.0, np.nan]])


@pytest.mark.parametrize("marker", [np.nan, pd.NA])
def test_data_frames_may_contain_pandas_na(marker):
    frame = pd.DataFrame({"a": [1, 2, pd.NA, 4], "b": [2, pd.NA, 6, 8]}, dtype="Int64")
    imputer = SupervisedKernelImputer(missing_values=marker, random_state=0)
    out = imputer.set_output(transform="pandas").fit_transform(frame)
    assert out.columns.tolist() == ["a", "b"]
    assert out.notna().all(axis=None)
    out = imputer.set_output(transform="polars").transform(frame)
    assert isinstance(out, pl.DataFrame)


@pytest.mark.parametrize(
    "options", [{}, {"engine": "torch"}, {"solver": "two_stage", "center": "base"}], ids=str
)
@pytest.mark.parametrize(
    "X",
    [
        [[1.0, 2.0]],
        [[np.nan, 2.0]],
        [[1.0], [np.nan], [3.0]],
        [[3.0, 1.0], [3.0, np.nan], [np.nan, 1.0]],
        np.where(np.random.RandomState(0).rand(6, 30) < 0.3, np.nan, np.arange(30.0)),
        np.where(np.eye(6, 30) == 1, np.nan, np.random.RandomState(0).randn(6, 30)),
        [[np.nan, np.nan], [1.0, 2.0], [2.0, 4.0], [3.0, 7.0]],
    ],
    ids=[
        "one sample",
        "one missing value",
        "one column",
        "constant",
        "constants",
        "wide",
        "empty sample",
    ],
)
def test_degenerate_tables_are_imputed(X, options):
    X = np.asarray(X)
    for y in (None, np.arange(len(X)) % 2):
        imputer = SupervisedKernelImputer(random_state=0, keep_empty_features=True, **options)
        imputed = imputer.fit_transform(X, y)
        assert np.isfinite(imputed).all()
        np.testing.assert_array_equal(imputed[~np.isnan(X)], X[~np.isnan(X)])
        assert np.isfinite(imputer.transform(np.full((1, X.shape[1]), np.nan))).all()
    for p, column in enumerate(X.T):
        values = np.unique(column[~np.isnan(column)])
        if len(values) == 1:
            np.testing.assert_array_equal(imputed[:, p], values[0])


def test_an_empty_sample_gets_the_mean_of_its_class(wine):
    X, y, _ = wine
    X[0] = np.nan
    imputer = SupervisedKernelImputer(random_state=0, **FIXED)
    labeled = imputer.fit_transform(X, y)[0]
    np.testing.assert_allclose(imputer.transform(X[:1])[0], imputer.location_[:13])
    means = np.array([np.nanmean(X[y == c], axis=0) for c in range(3)])
    distances = np.linalg.norm((means - labeled) / np.nanstd(X, axis=0), axis=1)
    assert distances.argmin() == y[0]


def test_kernels_are_between_landmarks(wine):
    X, y, _ = wine
    imputer = SupervisedKernelImputer(max_landmarks=60, random_state=0).fit(X, y)
    assert imputer.kernel_.shape == (60, 60)
    assert np.linalg.eigvalsh(imputer.kernel_).min() > -1e-10
    np.testing.assert_allclose(imputer.kernel_, imputer.kernel_initial_ * imputer.kernel_factor_)
    frequencies = np.bincount(y[imputer.landmark_indices_]) / 60
    np.testing.assert_allclose(frequencies, np.bincount(y) / 178, atol=0.02)
    assert imputer.dual_coef_.shape == (60, 3)
    assert SupervisedKernelImputer(random_state=0).fit(X).dual_coef_.shape == (178, 0)
    targets = SupervisedKernelImputer(random_state=0).fit(X, np.linspace(0, 0.7, 178))
    assert targets.dual_coef_.shape == (178, 1)


def test_large_data_are_fitted_on_random_subsets(monkeypatch, wine):
    X, y, missing = wine
    monkeypatch.setattr("sklearn_ext.impute.gaussian._gaussian_imputer._FIT_SAMPLES", 120)
    monkeypatch.setattr("sklearn_ext.impute.gaussian._gaussian_imputer._CHOICE_SAMPLES", 90)
    imputer = SupervisedKernelImputer(max_landmarks=50, random_state=0)
    imputed = imputer.fit_transform(X, y)
    scale, complete = np.nanstd(X, axis=0), load_wine().data
    assert nrmse(imputed / scale, complete / scale, missing) < 0.2


@pytest.mark.parametrize("load", [load_wine, load_breast_cancer])
def test_a_pipeline_is_as_accurate_as_with_column_means(load):
    X, y = load(return_X_y=True)
    X, _ = with_missing(X, 0.5, 0)

    def accuracy(imputer):
        return cross_val_score(make_pipeline(imputer, StandardScaler(), SVC()), X, y).mean()

    ours = accuracy(SupervisedKernelImputer(random_state=0))
    assert ours >= accuracy(SimpleImputer()) - 0.01


def test_labels_of_another_length_are_refused():
    with pytest.raises(ValueError, match="X with 5 samples and y with 4"):
        SupervisedKernelImputer().fit(np.random.RandomState(0).randn(5, 2), [0, 1, 0, 1])


def test_numba_requires_the_cpu():
    with pytest.raises(ValueError, match="engine='numba' computes on the CPU only"):
        SupervisedKernelImputer(engine="numba", device="cuda").fit([[1.0], [2.0]])


def test_verbose_prints_the_number_of_iterations(capsys, wine):
    X, y, _ = wine
    SupervisedKernelImputer(verbose=1, random_state=0).fit(X, y)
    assert "entries missing" in capsys.readouterr().out
