"""On any data, an estimator returns finite numbers or raises a clear error."""

import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from sklearn.base import clone, is_classifier, is_outlier_detector, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from tests.instances import instances, responses

SCALES = (1e-300, 1e-30, 1.0, 1e30, 1e300)


@st.composite
def tables(draw):
    """Samples with one or several defects, numerical targets, and a few labels."""
    n, d = draw(st.integers(1, 30)), draw(st.integers(1, 6))
    rng = np.random.RandomState(draw(st.integers(0, 10_000)))
    X = rng.standard_normal((n, d))
    if draw(st.booleans()):
        X[:, rng.randint(d)] = draw(st.sampled_from((0.0, -7.0)))
    if draw(st.booleans()):
        X[rng.randint(n, size=n // 2)] = X[0]
    if draw(st.booleans()):
        X[:, rng.randint(d)] = X[:, 0]
    if draw(st.booleans()):
        X[:, rng.randint(d)] *= draw(st.sampled_from(SCALES))
    dtype = draw(st.sampled_from((np.float64, np.float32, np.int64)))
    with warnings.catch_warnings(action="ignore"):
        X = np.nan_to_num(X.clip(-1e18, 1e18) if dtype is np.int64 else X.astype(dtype))
    X = X.astype(dtype)
    n_labels = draw(st.integers(1, 4))
    labels = rng.randint(n_labels, size=n)
    numbers = rng.standard_normal(n) * draw(st.sampled_from((0.0, *SCALES)))
    return X, labels, numbers


def target(estimator, labels, numbers):
    if is_regressor(estimator):
        return numbers
    return labels if is_classifier(estimator) or is_outlier_detector(estimator) else None


def refusal(estimator, X, y):
    """Fit, and return the error if the estimator refuses the data."""
    try:
        estimator.fit(X, y)
    except (ValueError, TypeError) as error:
        return error
    return None


def check(estimator, table):
    X, labels, numbers = table
    estimator = clone(estimator)
    with warnings.catch_warnings():
        # Warnings for the user are fine, but a RuntimeWarning would mean faulty arithmetic.
        warnings.simplefilter("ignore", UserWarning)
        error = refusal(estimator, X, target(estimator, labels, numbers))
        if error is not None:
            assert len(str(error)) > 15
            with pytest.raises(NotFittedError):
                check_is_fitted(estimator)
            return
        for name, answer in responses(estimator, X).items():
            if np.asarray(answer).dtype.kind == "f":
                assert np.isfinite(answer).all(), name


every_estimator = pytest.mark.parametrize(
    "estimator", [pytest.param(est, id=type(est).__name__) for est in instances()]
)
repeatable = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@every_estimator
@settings(repeatable, max_examples=8)
@given(table=tables())
def test_a_few_degenerate_tables(estimator, table):
    check(estimator, table)


@pytest.mark.slow
@every_estimator
@settings(repeatable, max_examples=150)
@given(table=tables())
def test_many_degenerate_tables(estimator, table):
    check(estimator, table)
