import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.svm import SVR

from sklearn_ext import SupervisedKernelImputer
from sklearn_ext.impute import PooledEstimates, pool_estimates

IMPUTER = SupervisedKernelImputer(shrinkage=0.0, residual_smoothing=False)


def problem(seed, n=150):
    """Return a regression on two columns, one of which is missing more often for large targets."""
    rng = np.random.RandomState(seed)
    X = rng.randn(n, 2) @ np.array([[1.0, 0.6], [0.0, 0.8]])
    y = X @ [1.0, -1.0] + rng.randn(n)
    X[rng.rand(n) < np.where(y > 0, 0.6, 0.2), 1] = np.nan
    return X, y


def test_rubins_rules_combine_both_variances():
    pooled = PooledEstimates(
        names=["a", "b"],
        estimate=np.array([2.0, 0.0]),
        within=np.array([0.25, 1.0]),
        between=np.array([0.5, 0.0]),
        n_draws=4,
        models=[],
        imputers=[],
    )
    np.testing.assert_allclose(pooled.std_error, np.sqrt([0.875, 1.0]))
    np.testing.assert_allclose(pooled.fraction_missing, [0.625 / 0.875, 0.0])
    np.testing.assert_allclose(pooled.degrees_of_freedom, [3 * (1 + 0.25 / 0.625) ** 2, np.inf])
    np.testing.assert_allclose(pooled.interval(0.95)[1], [-1.959964, 1.959964], rtol=1e-6)
    assert pooled.to_frame().loc["a", "std_error"] == pooled.std_error[0]
    assert "fraction_missing" in repr(pooled)


def test_pooled_estimates_are_unbiased_where_deletion_is_not():
    pooled, deleted = [], []
    for seed in range(12):
        X, y = problem(seed, n=400)
        result = pool_estimates(
            LinearRegression(), IMPUTER, X, y, n_draws=3, n_resamples=2, random_state=seed
        )
        pooled.append(result.estimate)
        complete = ~np.isnan(X[:, 1])
        model = LinearRegression().fit(X[complete], y[complete])
        deleted.append([*model.coef_, model.intercept_])
    truth = np.array([1.0, -1.0, 0.0])
    np.testing.assert_allclose(np.mean(pooled, axis=0), truth, atol=0.07)
    assert np.abs(np.mean(deleted, axis=0) - truth).max() > 0.12


@pytest.mark.slow
def test_intervals_cover_the_truth():
    covered = []
    for seed in range(150):
        X, y = problem(seed)
        result = pool_estimates(LinearRegression(), IMPUTER, X, y, n_draws=10, random_state=seed)
        low, high = result.interval(0.9).T
        truth = np.array([1.0, -1.0, 0.0])
        covered.append((low <= truth) & (truth <= high))
    np.testing.assert_allclose(np.mean(covered, axis=0), 0.9, atol=0.07)


def test_without_missing_values_draws_do_not_vary():
    X, y = problem(0)
    X = np.nan_to_num(X)
    pooled = pool_estimates(LinearRegression(), IMPUTER, X, y, n_draws=3, random_state=0)
    np.testing.assert_allclose(pooled.between, 0.0, atol=1e-20)
    np.testing.assert_allclose(pooled.estimate[:2], LinearRegression().fit(X, y).coef_)
    residual = y - LinearRegression().fit(X, y).predict(X)
    expected = np.sqrt(np.diag(np.linalg.inv(X.T @ X)) * residual.var(ddof=3))
    np.testing.assert_allclose(pooled.std_error[:2], expected, rtol=0.3)


def test_classifiers_pipelines_and_predictions():
    X, y = problem(0)
    frame = pd.DataFrame(X, columns=["a", "b"]).assign(kind=np.where(y > 0.5, "u", "v"))
    frame.loc[::4, "kind"] = None
    encoder = make_column_transformer(
        (OneHotEncoder(drop="first"), ["kind"]), remainder="passthrough"
    )
    model = make_pipeline(encoder, LogisticRegression())
    pooled = pool_estimates(model, IMPUTER, frame, y > 0, n_draws=4, n_resamples=5, random_state=0)
    assert len(pooled.estimate) == 4
    P, std = pooled.predict(frame, return_std=True)
    np.testing.assert_allclose(P.sum(axis=1), 1.0)
    assert ((P[:, 1] > 0.5) == (y > 0)).mean() > 0.8
    complete = frame.notna().all(axis=1).to_numpy()
    assert std[~complete].mean() > 2 * std[complete].mean()
    again = pool_estimates(model, IMPUTER, frame, y > 0, n_draws=4, n_resamples=5, random_state=0)
    np.testing.assert_array_equal(again.std_error, pooled.std_error)
    theirs = pool_estimates(
        LinearRegression(), IterativeImputer(), X, y, n_draws=2, n_resamples=2, random_state=0
    )
    assert theirs.names == ["x0", "x1", "intercept"]


@pytest.mark.parametrize(
    ("estimator", "imputer", "message"),
    [
        (LinearRegression(), KNNImputer(), "sample_posterior and random_state, got KNNImputer"),
        (SVR(), IMPUTER, "linear model with coef_, got SVR"),
    ],
)
def test_unsuitable_estimators_are_refused(estimator, imputer, message):
    X, y = problem(0)
    with pytest.raises(ValueError, match=message):
        pool_estimates(estimator, imputer, X, y)
    with pytest.raises(ValueError, match="one label per sample, got 3 for 150"):
        pool_estimates(LinearRegression(), IMPUTER, X, y[:3])


def test_labeled_samples_are_imputed_without_a_fit():
    X, y = problem(0)
    labels = np.where(y > 0, "up", "down").astype(object)
    imputer = SupervisedKernelImputer(random_state=0)
    fitted = imputer.fit_transform(X, labels)
    np.testing.assert_array_equal(imputer.impute_labeled(X, labels), fitted)
    np.testing.assert_array_equal(imputer.impute_labeled(X, None), imputer.transform(X))
    np.testing.assert_allclose(
        imputer.impute_labeled(X, np.full(150, "other", dtype=object)), imputer.transform(X)
    )
    np.testing.assert_array_equal(imputer.impute_labeled(X[:9], labels[:9]), fitted[:9])
