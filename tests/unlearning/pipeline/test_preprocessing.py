"""Statistics of preprocessing after requests equal those of a fit, bit for bit."""

from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from sklearn.base import clone
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sklearn_ext import ForgettingImputer, ForgettingOneHotEncoder, ForgettingScaler
from sklearn_ext.unlearning.pipeline import (
    changed_moments,
    empty_moments,
    integers,
    mean_and_variance,
)

finite = st.floats(-1e100, 1e100, allow_nan=False)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(values=st.lists(finite, min_size=2, max_size=12), seed=st.integers(0, 99))
def test_sums_are_exact_in_any_order(values, seed):
    X, ones = np.array(values)[:, None], np.ones(len(values))
    digits = changed_moments(empty_moments(1), X, ones, 1)
    unit = Fraction(1, 2**1074)
    assert integers(digits[1])[0] * unit == sum(map(Fraction, values))
    order = np.random.RandomState(seed).permutation(len(values))
    again = changed_moments(empty_moments(1), X[order], ones, 1)
    np.testing.assert_array_equal(again, digits)
    some = order[: len(values) // 2]
    rest = np.setdiff1d(order, some)
    np.testing.assert_array_equal(
        changed_moments(digits, X[some], ones[some], -1),
        changed_moments(empty_moments(1), X[rest], ones[rest], 1),
    )


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(numbers=st.lists(st.integers(-(2**50), 2**50), min_size=1, max_size=12))
def test_mean_and_variance_are_rounded_once(numbers):
    values = [number * 2.0**-30 for number in numbers]
    exact = [Fraction(value) for value in values]
    mean = sum(exact) / len(exact)
    variance = sum((value - mean) ** 2 for value in exact) / len(exact)
    digits = changed_moments(empty_moments(1), np.array(values)[:, None], np.ones(len(values)), 1)
    ours = mean_and_variance(digits)
    assert ours[0][0] == float(mean)
    assert ours[1][0] == pytest.approx(float(variance), rel=1e-15, abs=0.0)


def test_scaler_equals_standard_scaler():
    rng = np.random.default_rng(0)
    X, s = rng.normal(3.0, 2.0, size=(50, 4)), rng.uniform(0.5, 2.0, size=50)
    X[3, 1] = np.nan
    X[:, 2] = 7.0
    for sample_weight in (None, s):
        ours = ForgettingScaler().fit(X, sample_weight=sample_weight)
        theirs = StandardScaler().fit(X, sample_weight=sample_weight)
        np.testing.assert_allclose(ours.mean_, theirs.mean_, rtol=1e-14)
        np.testing.assert_allclose(ours.scale_, theirs.scale_, rtol=1e-14)
        np.testing.assert_allclose(ours.transform(X), theirs.transform(X), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(ours.inverse_transform(ours.transform(X)), X, rtol=1e-14)
    assert ours.scale_[2] == 1.0


def test_a_large_mean_costs_no_precision():
    X = 1e9 + np.array([[0.0], [1.0], [2.0], [3.0]])
    assert ForgettingScaler().fit(X).var_[0] == 1.25


@pytest.mark.parametrize("outlier", [1.0, 1e12, 1e99])
def test_scaler_forgets_bit_for_bit(outlier):
    rng = np.random.default_rng(0)
    X, s = rng.normal(size=(200, 3)), rng.uniform(0.5, 2.0, size=200)
    X[5, 1], s[7] = outlier, outlier / 10
    X[9, 0] = np.nan
    gone = np.array([5, 7, 9, 30])
    rest = np.setdiff1d(rng.permutation(200), gone)
    scaler = ForgettingScaler().fit(X, sample_weight=s)
    for i in gone:
        scaler.forget(X[[i]], s[[i]])
    expected = ForgettingScaler().fit(X[rest], sample_weight=s[rest])
    for name in ("mean_", "var_", "scale_", "_moments", "n_retained_"):
        np.testing.assert_array_equal(getattr(scaler, name), getattr(expected, name), name)
    scaler.learn(X[gone], s[gone])
    np.testing.assert_array_equal(scaler._moments, clone(scaler).fit(X, sample_weight=s)._moments)


def test_scaler_refuses_samples_that_it_never_learned():
    X = np.array([[1.0], [2.0], [3.0]])
    scaler = ForgettingScaler().fit(X)
    with pytest.raises(ValueError, match="cannot have been learned"):
        scaler.forget([[9.0]])
    with pytest.raises(ValueError, match="at least one must be retained"):
        scaler.forget(X)
    assert scaler.n_retained_ == 3
    with pytest.raises(ValueError, match="X must have absolute values below"):
        scaler.learn([[1e101]])


@pytest.mark.parametrize("as_frame", [False, True])
def test_encoder_equals_one_hot_encoder_without_the_samples(as_frame):
    rng = np.random.default_rng(0)
    X = np.array(
        [[["a", "b", None, "d"][i % 4], float(i % 3) if i % 7 else np.nan] for i in range(60)],
        dtype=object,
    )
    X[10, 0] = "rare"
    # A categorical column cannot be combined with numbers in an array.
    letter, number = pd.Categorical(X[:, 0]), X[:, 1].astype(float)
    given = pd.DataFrame({"letter": letter, "number": number}) if as_frame else X
    take = (lambda rows: given.iloc[rows]) if as_frame else (lambda rows: given[rows])
    gone = np.concatenate(([10], rng.permutation(10)[:5]))
    rest = np.setdiff1d(np.arange(60), gone)
    encoder = ForgettingOneHotEncoder().fit(given).forget(take(gone))
    expected = OneHotEncoder(sparse_output=False, handle_unknown="ignore").fit(take(rest))
    np.testing.assert_array_equal(encoder.transform(given), expected.transform(given))
    names = expected.get_feature_names_out()
    np.testing.assert_array_equal(encoder.get_feature_names_out(), names)
    assert "rare" not in encoder.categories_[0].tolist()
    encoder.learn(take(gone))
    everything = ForgettingOneHotEncoder().fit(given)
    for ours, theirs in zip(encoder.counts_, everything.counts_, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(ValueError, match="'rare' more often than it was learned"):
        encoder.forget(take([10, 10]))


def test_encoder_can_refuse_categories_that_are_gone():
    X = np.array([["red"], ["blue"], ["red"]])
    encoder = ForgettingOneHotEncoder(handle_unknown="error").fit(X).forget(X[[1]])
    with pytest.raises(ValueError, match="unknown categories"):
        encoder.transform(X)


@pytest.mark.parametrize("strategy", ["mean", "most_frequent"])
def test_imputer_equals_simple_imputer_without_the_samples(strategy):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 4, size=(60, 3)).astype(float)
    X[rng.random(X.shape) < 0.2] = np.nan
    X[4, 0] = 1e15
    gone, rest = np.arange(20), np.arange(20, 60)
    imputer = ForgettingImputer(strategy=strategy).fit(X).forget(X[gone])
    expected = SimpleImputer(strategy=strategy).fit(X[rest])
    np.testing.assert_allclose(imputer.statistics_, expected.statistics_, rtol=1e-15)
    np.testing.assert_allclose(imputer.transform(X), expected.transform(X), rtol=1e-15)
    counts = rng.integers(0, 3, size=60)
    weighted = ForgettingImputer(strategy=strategy).fit(X, sample_weight=counts)
    copied = ForgettingImputer(strategy=strategy).fit(X.repeat(counts, axis=0))
    np.testing.assert_array_equal(weighted.statistics_, copied.statistics_)


def test_imputer_takes_strings_and_refuses_medians():
    X = np.array([["a"], ["b"], [None], ["b"], ["a"]], dtype=object)
    imputer = ForgettingImputer(strategy="most_frequent").fit(X)
    assert imputer.transform(X)[2, 0] == "a"
    assert imputer.forget(X[[0]]).transform(X)[2, 0] == "b"
    with pytest.raises(ValueError, match="'a' more often than it was learned"):
        imputer.forget(X[[0, 4]])
    columns = {"letter": pd.Categorical(["a", "b", None]), "number": [2, 1, 1]}
    frame = pd.DataFrame(columns).astype({"number": "Int64"})
    filled = imputer.fit(frame).transform(frame)
    assert filled.tolist() == [["a", 2], ["b", 1], ["a", 1]]
    with pytest.raises(ValueError, match="a median cannot be updated from sums"):
        ForgettingImputer(strategy="median").fit([[1.0]])


def test_a_feature_without_values_is_reported():
    X = np.array([[1.0, np.nan], [2.0, np.nan]])
    with pytest.warns(UserWarning, match=r"without any observed values: \['x1'\].*filled with 0"):
        imputer = ForgettingImputer().fit(X)
    np.testing.assert_array_equal(imputer.transform(X), [[1.0, 0.0], [2.0, 0.0]])
