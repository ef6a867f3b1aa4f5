"""Frames with categories, missing values and dates, through scikit-learn's and skrub's tools."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import is_classifier
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder
from skrub import tabular_pipeline

from sklearn_ext import LABRidgelessClassifier, LABRidgelessRegressor

QUICK = {"n_warmup": 30, "growth_iter": 10, "max_iter": 80, "random_state": 0}


@pytest.fixture(scope="module")
def rentals():
    """A frame whose target depends on a category, a number with gaps, and the month."""
    rng = np.random.default_rng(0)
    n = 400
    days = pd.to_datetime("2024-01-01") + pd.to_timedelta(rng.integers(0, 366, n), unit="D")
    frame = pd.DataFrame(
        {
            "city": rng.choice(["Bonn", "Graz", "Lyon"], n),
            "area": rng.uniform(20, 100, n),
            "day": days,
        }
    )
    y = 0.1 * frame["area"] + frame["city"].map({"Bonn": 0.0, "Graz": 2.0, "Lyon": -2.0})
    y = y + 2.0 * np.cos(2 * np.pi * frame["day"].dt.day_of_year / 366)
    frame.loc[rng.random(n) < 0.1, "area"] = np.nan
    frame.loc[rng.random(n) < 0.1, "city"] = None
    return frame, y.to_numpy()


def by_columns(model):
    month = FunctionTransformer(lambda days: np.column_stack([days["day"].dt.month]))
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["city"]),
        (SimpleImputer(add_indicator=True), ["area"]),
        (month, ["day"]),
    )
    return make_pipeline(columns, model)


@pytest.mark.parametrize("make", [tabular_pipeline, by_columns], ids=["skrub", "columns"])
@pytest.mark.parametrize(
    "model", [LABRidgelessRegressor(**QUICK), LABRidgelessClassifier(**QUICK)], ids=["reg", "clf"]
)
def test_frames_with_gaps_and_dates_are_learned(rentals, make, model):
    frame, y = rentals
    target = np.where(y > np.median(y), "high", "low") if is_classifier(model) else y
    pipeline = make(model).fit(frame[:300], target[:300])
    assert pipeline.score(frame[300:], target[300:]) > 0.75
    values = pipeline.predict(frame[300:])
    pipeline.fit(frame[:300], target[:300])
    np.testing.assert_array_equal(pipeline.predict(frame[300:]), values)
