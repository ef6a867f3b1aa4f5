import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.datasets import load_wine
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

from sklearn_ext import SupervisedKernelClassifier, SupervisedKernelImputer
from sklearn_ext.metrics._tables import hide

N = 240


def customers(seed=0, n=N):
    """Return a complete table with a column of every supported type; all share one cause."""
    rng = np.random.RandomState(seed)
    z = rng.randn(n)
    level = np.digitize(z, [-0.6, 0.6])
    return pd.DataFrame(
        {
            "income": 3.0 + 2.0 * z + 0.2 * rng.randn(n),
            "ratio": (z + 0.3 * rng.randn(n)).astype(np.float32),
            "job": np.array(["none", "part", "full"])[level],
            "size": pd.Categorical(
                np.array(["S", "M", "L"])[level], categories=["S", "M", "L", "XL"], ordered=True
            ),
            "visits": pd.array(np.rint(20 + 5 * z).astype(int), dtype="Int64"),
            "small": np.rint(10 + 3 * z + rng.randn(n)).astype(np.int8),
            "member": z + 0.3 * rng.randn(n) > 0,
            "active": pd.array(z + 0.3 * rng.randn(n) > 0, dtype="boolean"),
            "note": np.array([3, "x", True], dtype=object)[level],
        }
    )


def with_holes(frame, seed=1, ratio=0.2):
    hidden = np.random.RandomState(seed).rand(*frame.shape) < ratio
    # NumPy's integers and booleans cannot be missing in pandas.
    if isinstance(frame, pd.DataFrame):
        hidden[:, [frame.columns.get_loc(c) for c in ("small", "member") if c in frame]] = False
    return hide(frame, hidden), hidden


def in_polars(frame):
    return pl.DataFrame({c: frame[c].astype(object).tolist() for c in frame if c != "note"}).cast(
        {
            "ratio": pl.Float32,
            "size": pl.Categorical,
            "job": pl.Enum(["none", "part", "full", "more"]),
            "small": pl.Int8,
        }
    )


def test_pandas_columns_come_back_in_their_types():
    truth = customers()
    frame, hidden = with_holes(truth)
    imputed = SupervisedKernelImputer(random_state=0).fit_transform(frame)
    assert imputed.dtypes.tolist() == truth.dtypes.tolist()
    assert imputed.index.equals(frame.index)
    assert imputed.notna().all(axis=None)
    for p, name in enumerate(truth):
        seen = ~hidden[:, p]
        assert imputed[name][seen].tolist() == truth[name][seen].tolist()
    for name in ("job", "size", "active"):
        at = hidden[:, truth.columns.get_loc(name)]
        assert (imputed[name][at] == truth[name][at]).mean() > 0.8
    at = hidden[:, 4]
    assert (imputed["visits"][at] - truth["visits"][at]).abs().mean() < 2


def test_polars_columns_come_back_in_their_types():
    truth = in_polars(customers())
    frame, hidden = with_holes(truth)
    imputed = SupervisedKernelImputer(random_state=0).fit_transform(frame)
    assert isinstance(imputed, pl.DataFrame)
    assert imputed.schema == truth.schema
    assert sum(imputed.null_count().row(0)) == 0
    for p, name in enumerate(truth.columns):
        seen = pl.Series(~hidden[:, p])
        assert imputed[name].filter(seen).to_list() == truth[name].filter(seen).to_list()
    at = pl.Series(hidden[:, 2])
    assert (imputed["job"].filter(at) == truth["job"].filter(at)).mean() > 0.8


@pytest.mark.parametrize("given", ["pandas", "polars"])
@pytest.mark.parametrize("wanted", ["pandas", "polars"])
def test_set_output_chooses_the_library(given, wanted):
    frame = customers() if given == "pandas" else in_polars(customers())
    frame, _ = with_holes(frame)
    imputer = SupervisedKernelImputer(random_state=0, add_indicator=True)
    imputed = imputer.set_output(transform=wanted).fit_transform(frame)
    assert isinstance(imputed, {"pandas": pd.DataFrame, "polars": pl.DataFrame}[wanted])
    assert list(imputed.columns) == imputer.get_feature_names_out().tolist()
    kinds = {
        name: str(dtype).lower()
        for name, dtype in zip(imputed.columns, imputed.dtypes, strict=True)
    }
    assert kinds["income"] == "float64"
    assert kinds["ratio"] == "float32"
    assert kinds["visits"] == "int64"
    assert kinds["active"].startswith("bool")
    assert kinds["size"].startswith("cat")
    assert kinds["missingindicator_income"].startswith("bool")


def test_arrays_of_objects_and_strings_come_back_as_such():
    truth = customers()[["income", "job", "member"]].to_numpy(dtype=object)
    hidden = np.random.RandomState(1).rand(*truth.shape) < 0.2
    for marker in (None, np.nan, pd.NA):
        samples = truth.copy()
        samples[hidden] = marker
        imputed = SupervisedKernelImputer(random_state=0).fit_transform(samples)
        assert imputed.dtype == object
        np.testing.assert_array_equal(imputed[~hidden], truth[~hidden])
        assert {type(v) for v in imputed[:, 1]} == {str}
        assert {type(v) for v in imputed[:, 2]} == {bool}
        assert np.mean(imputed[hidden[:, 1], 1] == truth[hidden[:, 1], 1]) > 0.7
    strings = np.where(hidden[:, 1:], "?", truth[:, 1:].astype(str))
    imputed = SupervisedKernelImputer(missing_values="?", random_state=0).fit_transform(strings)
    assert imputed.dtype.kind == "U"
    assert "?" not in imputed
    assert isinstance(SupervisedKernelImputer().fit_transform(samples.tolist()), np.ndarray)


def test_a_string_may_mark_missing_values():
    truth = customers()
    frame = truth.assign(job=truth["job"].where(np.arange(N) % 3 > 0, "?"))
    imputed = SupervisedKernelImputer(missing_values="?", random_state=0).fit_transform(frame)
    assert set(imputed["job"]) == {"none", "part", "full"}
    assert (imputed["job"] == truth["job"])[::3].mean() > 0.8
    with pytest.raises(ValueError, match=r"contains NaN, but missing_values='\?'"):
        SupervisedKernelImputer(missing_values="?").fit(with_holes(truth)[0])


def test_types_are_those_of_the_fit():
    truth = customers()
    imputer = SupervisedKernelImputer(random_state=0).fit(truth)
    holes = truth.iloc[:40].astype(object).mask(np.arange(360).reshape(40, 9) // 9 % 4 == 0)
    holes["small"] = truth["small"].astype(float).where(np.arange(N) % 4 > 0)[:40]
    imputed = imputer.transform(holes)
    assert imputed.drop(columns="income").dtypes.tolist() == truth.dtypes.tolist()[1:]
    # A column changes its type if the type cannot hold an observed value.
    half = imputer.transform(holes.assign(small=holes["small"] + 0.5))
    assert half["small"].dtype == float
    assert half["small"].dropna().mod(1).eq(0.5).sum() == 30
    empty = imputer.transform(truth.iloc[:3].assign(job=None, size=None))
    assert empty["job"].dtype == truth["job"].dtype
    assert empty["size"].dtype == truth["size"].dtype


def test_an_unknown_category_is_kept():
    truth = customers()
    imputer = SupervisedKernelImputer(random_state=0).fit(truth)
    new = truth.iloc[:2].assign(job="boss", income=np.nan)
    new["size"] = new["size"].cat.add_categories("XXL").where([False, True], "XXL")
    imputed = imputer.transform(new)
    assert imputed["job"].tolist() == ["boss", "boss"]
    assert imputed["size"].tolist()[0] == "XXL"
    assert imputed["income"].notna().all()
    assert imputer.category_probabilities(new, "job").tolist() == [[0.0] * 3] * 2


def test_integer_features_are_rounded():
    frame = customers()[["income", "ratio", "small"]]
    holes = frame.astype(float).mask(np.eye(N, 3, dtype=bool) | np.eye(N, 3, -3, dtype=bool))
    plain = SupervisedKernelImputer(random_state=0).fit_transform(holes)
    whole = SupervisedKernelImputer(integer_features=["small"], random_state=0)
    at = holes["small"].isna()
    assert (plain[at, 2] % 1 != 0).all()
    np.testing.assert_array_equal(whole.fit_transform(holes)[at, 2], np.rint(plain[at, 2]))
    codes = np.where(at, -99, frame["small"])[:, None] * [1, 1]
    codes[:, 1] = np.rint(10 * frame["income"])
    imputed = SupervisedKernelImputer(missing_values=-99, random_state=0).fit_transform(codes)
    assert imputed.dtype == codes.dtype
    assert (imputed > -99).all()
    with pytest.raises(ValueError, match="integer_features must contain feature names"):
        SupervisedKernelImputer(integer_features=["age"]).fit(frame)


def test_an_integer_stays_within_its_type():
    frame = customers()[["income", "small"]].assign(small=lambda f: f["small"].astype("Int8"))
    imputer = SupervisedKernelImputer(clip=False, residual_smoothing=False).fit(frame)
    extreme = pd.DataFrame({"income": [1e6, -1e6], "small": pd.array([None, None], dtype="Int8")})
    assert imputer.transform(extreme)["small"].tolist() == [127, -128]


def test_a_pipeline_needs_no_encoder_in_front():
    frame, _ = with_holes(customers().drop(columns="note"))
    y = customers()["income"] > 3.0
    pipeline = make_pipeline(
        SupervisedKernelImputer(random_state=0),
        OneHotEncoder(handle_unknown="ignore"),
        LogisticRegression(),
    )
    assert pipeline.fit(frame, y).score(frame, y) > 0.9


def test_the_classifier_takes_mixed_tables():
    y = np.where(customers()["income"] > 3.0, "rich", "poor")
    train, _ = with_holes(customers().drop(columns="income"))
    assert SupervisedKernelClassifier(random_state=0).fit(train, y).score(train, y) > 0.85
    train = in_polars(customers()).drop("income")
    assert SupervisedKernelClassifier(random_state=0).fit(train, y).score(train, y) > 0.85


def test_categories_are_predicted_better_than_by_peers():
    """The table has 1,200 samples and three nominal columns whose codes have no order."""
    rng = np.random.RandomState(0)
    z = rng.randn(1200, 2)
    frame = pd.DataFrame(z, columns=["a", "b"])
    for k in range(3):
        score = z @ rng.randn(2, 5) * 2.0 - np.log(-np.log(rng.rand(1200, 5)))
        frame[f"c{k}"] = np.array(list("vwxyz"))[score.argmax(axis=1)]
    hidden = rng.rand(*frame.shape) < 0.2
    holes = hide(frame, hidden)
    ours = SupervisedKernelImputer(random_state=0).fit_transform(holes)
    names = ["c0", "c1", "c2"]
    encoder = OrdinalEncoder().fit(holes[names])
    codes = np.column_stack((holes[["a", "b"]], encoder.transform(holes[names])))
    filled = np.rint(IterativeImputer(random_state=0).fit_transform(codes)[:, 2:]).clip(0, 4)
    theirs = pd.DataFrame(encoder.inverse_transform(filled), columns=names)
    majority = holes[names].fillna(holes[names].mode().iloc[0])
    at = hidden[:, 2:]

    def accuracy(imputed):
        return np.mean((imputed[names].to_numpy() == frame[names].to_numpy())[at])

    assert accuracy(ours) > accuracy(majority) + 0.1
    assert accuracy(ours) > accuracy(theirs) + 0.1


def test_probabilities_of_categories_are_calibrated():
    truth = customers(n=2000)[["ratio", "job", "member", "small"]]
    imputer = SupervisedKernelImputer(random_state=0).fit(truth[:1000])
    new = truth[1000:].assign(job=None)
    P = imputer.category_probabilities(new, "job")
    np.testing.assert_allclose(P.sum(axis=1), 1.0)
    assert imputer.categories_[1].tolist() == ["full", "none", "part"]
    assert imputer.categories_[0] is None
    np.testing.assert_array_equal(
        imputer.transform(new)["job"], imputer.categories_[1][P.argmax(axis=1)]
    )
    right = imputer.categories_[1][P.argmax(axis=1)] == truth["job"][1000:]
    for low, high in ((0.4, 0.7), (0.7, 0.9), (0.9, 1.0)):
        band = (P.max(axis=1) > low) & (P.max(axis=1) <= high)
        assert right[band].mean() == pytest.approx(P.max(axis=1)[band].mean(), abs=0.08)
    observed = imputer.category_probabilities(truth[:5], 1)
    assert set(observed.ravel()) == {0.0, 1.0}
    with pytest.raises(ValueError, match="feature must be a categorical feature, got 'ratio'"):
        imputer.category_probabilities(new, "ratio")


def test_draws_of_categories_follow_their_probabilities():
    truth = customers(n=1000)[["ratio", "job", "active"]]
    holes = truth.assign(job=None)
    holes["active"] = truth["active"].mask(np.arange(1000) % 2 == 0)
    imputer = SupervisedKernelImputer(random_state=0).fit(truth)
    P = imputer.category_probabilities(holes, "job")
    imputer.set_params(sample_posterior=True)
    draws = [imputer.set_params(random_state=k).transform(holes) for k in range(20)]
    assert draws[0].equals(imputer.set_params(random_state=0).transform(holes))
    frequency = np.mean([draw["job"] == "none" for draw in draws])
    assert frequency == pytest.approx(P[:, 1].mean(), abs=0.02)
    # The categories of a sample are drawn together, so that activity and job stay dependent.
    both = np.mean([(d["active"] & (d["job"] == "full"))[::2].mean() for d in draws])
    assert both == pytest.approx((truth["active"] & (truth["job"] == "full")).mean(), abs=0.04)


def test_draws_keep_mean_and_spread_of_a_skewed_column():
    rng = np.random.RandomState(0)
    X = np.column_stack((rng.randn(4000), rng.rand(4000) < 0.05)).astype(float)
    missing = rng.rand(4000, 2) < 0.4
    samples = np.where(missing, np.nan, X)
    imputer = SupervisedKernelImputer(sample_posterior=True, random_state=0)
    drawn = imputer.fit(samples).transform(samples)[missing[:, 1], 1]
    assert drawn.mean() == pytest.approx(X[:, 1].mean(), abs=0.02)
    assert drawn.std() == pytest.approx(X[:, 1].std(), abs=0.02)
    limited = imputer.set_params(clip=(0.0, 4.0)).fit(samples).transform(samples)[missing]
    assert limited.min() > 0.0
    assert len(np.unique(limited)) == len(limited)  # no mass at a limit


def test_means_of_rare_categories_are_pulled_to_the_overall_mean():
    rng = np.random.RandomState(0)
    frame = pd.DataFrame({"kind": np.repeat(["rare", "often"], [5, 95]), "amount": rng.randn(100)})
    frame.loc[0, "amount"] = 60.0
    imputer = SupervisedKernelImputer(shrinkage=0.0, residual_smoothing=False).fit(frame)
    filled = imputer.transform(frame.assign(amount=np.nan))["amount"]
    mean, means = frame["amount"].mean(), frame.groupby("kind")["amount"].mean()
    # As if ten more samples had the overall mean.
    assert filled[0] == pytest.approx(mean + 5 / 15 * (means["rare"] - mean), rel=1e-4)
    assert filled[99] == pytest.approx(mean + 5 / 15 * (means["often"] - mean), rel=1e-4)


def test_many_categories_share_an_indicator():
    rng = np.random.RandomState(0)
    z = rng.randn(1500)
    towns = np.where(
        rng.rand(1500) < 0.7, np.where(z > 0, "north", "south"), rng.randint(500, size=1500)
    ).astype(str)
    frame = pd.DataFrame({"z": z + 0.1 * rng.randn(1500), "town": towns})
    frame.loc[::5, "town"] = None
    imputer = SupervisedKernelImputer(random_state=0).fit(frame)
    assert imputer.location_.shape == (30,)
    assert len(imputer.categories_[1]) > 200
    filled = imputer.transform(frame)["town"][::5]
    assert (filled == np.where(z > 0, "north", "south")[::5]).mean() > 0.9
    assert imputer.category_probabilities(frame, 1).sum(axis=1) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (
            pd.DataFrame({"when": pd.to_datetime(["2020-01-01"])}),
            "feature 'when' of dtype datetime",
        ),
        (pl.DataFrame({"x": [[1, 2]]}), "feature 'x' of dtype List"),
        (pd.DataFrame({"x": [{}, "a"]}), "got {} of type dict in feature 'x'"),
    ],
)
def test_other_types_are_refused(frame, message):
    with pytest.raises(TypeError, match=message):
        SupervisedKernelImputer().fit(frame)


def test_wrong_values_in_numeric_columns_are_refused():
    frame = customers()
    with pytest.raises(ValueError, match=r"infinity or a value too large.*'income'"):
        SupervisedKernelImputer().fit(frame.assign(income=np.inf))
    imputer = SupervisedKernelImputer(random_state=0).fit(frame)
    with pytest.raises(ValueError, match="Feature 'income' must be numeric, as in fit"):
        imputer.transform(frame.assign(income="much"))
    with pytest.raises(ValueError, match=r"categorical_features=None accepts only numbers.*'job'"):
        SupervisedKernelImputer(categorical_features=None).fit(frame)
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        SupervisedKernelImputer().fit(frame[:0])


def test_empty_columns_warn_as_in_scikit_learn():
    frame = customers()[["income", "job"]].assign(
        nothing=np.nan, none=pd.Series([None] * N, dtype="str")
    )
    imputer = SupervisedKernelImputer(random_state=0).fit(frame)
    match = r"Skipping features without any observed values: \['nothing' 'none'\]"
    with pytest.warns(UserWarning, match=match):
        assert imputer.transform(frame).columns.tolist() == ["income", "job"]
    with pytest.warns(UserWarning, match="Skipping features"):
        SupervisedKernelImputer().fit_transform([[np.nan, 1.0], [np.nan, 2.0]])
    kept = SupervisedKernelImputer(keep_empty_features=True, random_state=0).fit_transform(frame)
    assert kept["nothing"].eq(0.0).all()
    assert kept["none"].eq("missing_value").all()


def test_another_fit_leaves_no_old_attributes():
    X, y = load_wine(return_X_y=True)
    X, y = X[:60], y[:60]
    X[::3, 2] = np.nan
    once = SupervisedKernelImputer.from_paper(max_iter=3).fit(X, y)
    again = SupervisedKernelImputer(random_state=0).fit(X, y)
    again.set_params(**once.get_params()).fit(X, y)
    assert vars(again).keys() == vars(once).keys()
    assert not hasattr(again, "location_")
