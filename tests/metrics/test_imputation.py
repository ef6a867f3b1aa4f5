import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.impute import KNNImputer, SimpleImputer

from sklearn_ext import SupervisedKernelImputer
from sklearn_ext.metrics import imputation_report, imputation_score
from sklearn_ext.utils._random import hide_entries


@pytest.fixture
def table():
    rng = np.random.RandomState(0)
    X = rng.randn(150, 3) @ rng.randn(3, 5) + 0.1 * rng.randn(150, 5)
    X[rng.rand(150, 5) < 0.2] = np.nan
    return X


def test_the_score_is_the_normalized_error_of_each_column(table):
    hidden = hide_entries(table, 0.3, np.random.RandomState(7))
    filled = KNNImputer().fit_transform(np.where(hidden, np.nan, table))
    expected = [
        np.sqrt(np.mean((filled - table)[hidden[:, p], p] ** 2)) / np.nanstd(table[:, p])
        for p in range(5)
    ]
    scores = imputation_score(KNNImputer(), table, missing_fraction=0.3, random_state=7)
    np.testing.assert_allclose(scores, expected)


def test_column_means_score_about_one_and_a_model_less(table):
    mean = imputation_score(SimpleImputer(), table, random_state=0)
    np.testing.assert_allclose(mean, 1.0, atol=0.3)
    model = imputation_score(SupervisedKernelImputer(random_state=0), table, random_state=0)
    assert (model < 0.9 * mean).all()


def test_labels_are_passed_to_the_imputer(table):
    y = np.nan_to_num(table).sum(axis=1)
    imputer = SupervisedKernelImputer(random_state=0)
    with_labels = imputation_score(imputer, table, y, random_state=0)
    assert not np.allclose(with_labels, imputation_score(imputer, table, random_state=0))
    assert not hasattr(imputer, "n_iter_")


@pytest.mark.parametrize("constant", [4.0, 0.1])
def test_constant_and_nearly_empty_columns_have_no_score(table, constant):
    table[:, 0] = constant
    table[2:, 1] = np.nan
    table[:2, 1] = 1.0, 2.0
    scores = imputation_score(SimpleImputer(), table, random_state=0)
    np.testing.assert_array_equal(np.isnan(scores), [True, True, False, False, False])


def test_errors_name_the_wrong_argument(table):
    with pytest.raises(ValueError, match="missing_fraction"):
        imputation_score(SimpleImputer(), table, missing_fraction=1.5)
    with pytest.raises(ValueError, match=r"imputer must return the features of X.*\(150, 10\)"):
        imputation_score(SimpleImputer(add_indicator=True), table)


def test_the_report_holds_the_scores_of_each_imputer(table):
    frame = pd.DataFrame(table, columns=list("abcde"))
    imputers = {"mean": SimpleImputer(), "neighbors": KNNImputer()}
    report = imputation_report(imputers, frame, random_state=0)
    assert list(report.scores["mean"]) == ["a", "b", "c", "d", "e", "mean"]
    assert report.to_frame().loc["neighbors"].mean() == pytest.approx(
        report.scores["neighbors"]["mean"]
    )
    assert report.scores["neighbors"]["mean"] < report.scores["mean"]["mean"]
    (alone,) = imputation_report(KNNImputer(), frame, random_state=0).scores.values()
    assert alone == report.scores["neighbors"]
    with pytest.raises(ValueError, match="at least one imputer"):
        imputation_report({}, frame)


def test_frames_keep_their_names_and_types(table):
    frame = pd.DataFrame(np.nan_to_num(table), columns=list("abcde"))
    frame["kind"] = np.where(frame["a"] > 0, "up", "down")
    imputer = SupervisedKernelImputer(categorical_features=["kind"], random_state=0)
    scores = imputation_score(imputer, frame, random_state=0)
    assert scores.shape == (6,)
    assert scores[5] < 0.6
    most_frequent = SimpleImputer(strategy="most_frequent")
    assert imputation_score(most_frequent, frame, random_state=0)[5] == pytest.approx(1.0, abs=0.2)
    report = imputation_report(
        {"ours": imputer}, pl.DataFrame({c: frame[c].tolist() for c in frame}), random_state=0
    )
    assert list(report.scores["ours"])[5] == "kind"
    codes = pd.DataFrame({"age": table[:, 0], "sex": np.arange(150) % 3})
    by_name = SupervisedKernelImputer(categorical_features=["sex"], random_state=0)
    assert np.isfinite(imputation_score(by_name, codes, random_state=0)).all()
