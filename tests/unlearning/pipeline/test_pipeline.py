"""A pipeline after requests equals one that was never given the samples."""

import copy
import json
import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.kernel_approximation import Nystroem, RBFSampler
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    Normalizer,
    PolynomialFeatures,
    QuantileTransformer,
)
from sklearn.random_projection import GaussianRandomProjection

from sklearn_ext import (
    ForgettingImputer,
    ForgettingOneHotEncoder,
    ForgettingPipeline,
    ForgettingScaler,
    LABRidgelessRegressor,
    LearnedKernelFeatures,
    RandomFeatureClassifier,
    RandomFeatureRegressor,
    make_forgetting_pipeline,
)
from sklearn_ext.unlearning.exact import IllConditionedError, _base
from sklearn_ext.unlearning.pipeline import leave_one_out, local_kernel

GONE = np.array([3, 50, 7, 120, 121])


def data(n=200):
    X, y = load_diabetes(return_X_y=True)
    return X[:n] * 20 + 5, y[:n]


def table(n=150):
    """A frame with numbers, missing values and categories, and two classes."""
    rng = np.random.RandomState(0)
    frame = pd.DataFrame(
        {
            "age": rng.normal(40, 10, n),
            "income": np.where(rng.rand(n) < 0.1, np.nan, rng.lognormal(10, 1, n)),
            "city": rng.choice(["Bonn", "Lyon", "Oslo"], n),
        }
    )
    frame.loc[7, "city"] = "Ulm"  # which disappears with this sample
    y = np.where(frame.age + 10 * (frame.city == "Oslo") + rng.normal(0, 5, n) > 43, "yes", "no")
    return frame, y


def regressor(**parameters):
    return RandomFeatureRegressor(**{"alpha": 0.1, "random_state": 0, "gamma": 0.05} | parameters)


def mixed_columns(numbers):
    return make_column_transformer(
        (numbers, ["age", "income"]), (ForgettingOneHotEncoder(), ["city"])
    )


NUMBERS = {
    "updated": (ForgettingScaler(), ForgettingImputer()),
    "fitted again to 145 samples": (
        make_pipeline(ForgettingImputer(), ForgettingScaler()),
        "passthrough",
    ),
}


def outputs(pipeline, X):
    return getattr(pipeline, "decision_function", pipeline.predict)(X)


def assert_same(pipeline, expected, X):
    ours, theirs = outputs(pipeline, X), outputs(expected, X)
    assert abs(ours - theirs).max() < 1e-9 * abs(theirs).max()
    np.testing.assert_array_equal(pipeline.sample_id_, expected.sample_id_)


def refit(pipeline, X, y, ids, **given):
    rows = np.flatnonzero(np.isin(ids, pipeline.sample_id_))
    given = {name: np.asarray(value)[rows] for name, value in given.items()}
    X = X.iloc[rows] if hasattr(X, "iloc") else X[rows]
    fresh = clone(pipeline)
    return fresh.fit(X, y[rows], sample_id=ids[rows], pinned=pipeline.pinned_, **given)


REGRESSORS = {
    "scaler, dual": lambda: make_forgetting_pipeline(ForgettingScaler(), regressor()),
    "scaler, primal": lambda: make_forgetting_pipeline(
        ForgettingScaler(), regressor(n_components=40)
    ),
    "scaler, linear": lambda: make_forgetting_pipeline(
        ForgettingScaler(), regressor(feature_map="identity")
    ),
    "imputer and scaler": lambda: make_forgetting_pipeline(
        ForgettingImputer(), ForgettingScaler(), regressor(n_components=40)
    ),
    "pinned scaler": lambda: make_forgetting_pipeline(
        ForgettingScaler(), regressor(), pin="preprocessing", pinned_fraction=0.3, random_state=0
    ),
    "learned features": lambda: make_forgetting_pipeline(
        ForgettingScaler(),
        Nystroem(n_components=20, random_state=0),
        regressor(feature_map="identity"),
        pinned_fraction=0.3,
        random_state=0,
    ),
    "LAB": lambda: make_forgetting_pipeline(
        ForgettingScaler(),
        LABRidgelessRegressor(n_support=10, n_warmup=5, growth=None, max_iter=5, random_state=0),
        regressor(feature_map="identity"),
        pinned_fraction=0.3,
        random_state=0,
    ),
    "scaled learned features": lambda: make_forgetting_pipeline(
        Nystroem(n_components=20, gamma=0.01, random_state=0),
        ForgettingScaler(),
        regressor(feature_map="identity"),
        pinned_fraction=0.3,
        random_state=0,
    ),
    "frozen and fixed": lambda: make_forgetting_pipeline(
        Normalizer(),
        FrozenEstimator(
            Nystroem(n_components=15, random_state=0).fit(Normalizer().transform(data()[0]))
        ),
        "passthrough",
        regressor(feature_map="identity"),
    ),
}


@pytest.mark.parametrize("name", REGRESSORS)
def test_forgetting_equals_a_fit_without_the_samples(name):
    X, y = data()
    if name == "imputer and scaler":
        X = np.where(np.random.RandomState(0).rand(*X.shape) < 0.1, np.nan, X)
    ids = np.array([f"customer {k}" for k in range(len(y))], dtype=object)
    pipeline = REGRESSORS[name]().fit(X, y, sample_id=ids)
    gone = np.setdiff1d(ids[GONE], pipeline.pinned_)
    before = pipeline.predict(X)
    for one in gone[:2]:
        pipeline.forget([one])
    pipeline.forget(gone[2:])
    assert pipeline.n_retained_ == len(y) - len(gone)
    assert abs(pipeline.predict(X) - before).max() > 1e-3
    assert_same(pipeline, refit(pipeline, X, y, ids), X)
    assert_same(pipeline, pipeline.refitted(), X)
    pipeline.learn(X[:2], y[:2] + 9, sample_id=["new 1", "new 2"])
    assert_same(pipeline, pipeline.refitted(), X)
    pipeline.forget(["new 1", "new 2"])
    assert_same(pipeline, refit(pipeline, X, y, ids), X)


@pytest.mark.parametrize("work", NUMBERS)
@pytest.mark.parametrize("n_components", [10, 300])
def test_a_table_with_categories_is_forgotten(n_components, work):
    frame, y = table()
    numbers, then = NUMBERS[work]
    ids = np.arange(len(y))
    pipeline = make_forgetting_pipeline(
        mixed_columns(numbers),
        then,
        RandomFeatureClassifier(n_components, alpha=0.1, random_state=0),
    )
    pipeline.fit(frame, y)
    assert pipeline.named_steps["columntransformer"].transform(frame).shape[1] == 6
    pipeline.forget(GONE)
    assert pipeline.requests_[0]["work"][0] == f"columntransformer: {work}"
    assert pipeline.named_steps["columntransformer"].transform(frame).shape[1] == 5
    assert_same(pipeline, refit(pipeline, frame, y, ids), frame)
    assert pipeline.score(frame, y) > 0.75
    assert pipeline.predict_proba(frame).shape == (150, 2)
    assert pipeline.classes_.tolist() == ["no", "yes"]
    with (
        pytest.warns(UserWarning, match="valid feature names"),
        pytest.raises(TypeError, match="X must be a data frame, as in fit"),
    ):
        pipeline.learn(frame.iloc[GONE].to_numpy(), y[GONE])
    pipeline.learn(frame.iloc[GONE], y[GONE], sample_id=GONE)
    order = np.concatenate((np.setdiff1d(ids, GONE), GONE))
    expected = clone(pipeline).fit(frame.iloc[order], y[order], sample_id=order)
    assert_same(pipeline, expected, frame)


@pytest.mark.parametrize("name", ["scaler, dual", "scaler, primal", "pinned scaler"])
def test_weights_and_several_outputs_are_kept(name):
    X, y = data()
    Y, s = np.column_stack((y, X[:, 0])), np.random.RandomState(0).uniform(0.5, 3, len(y))
    s[10] = 0.0
    ids = np.arange(len(y))
    pipeline = REGRESSORS[name]().fit(X, Y, sample_weight=s)
    assert 10 not in pipeline.sample_id_
    pipeline.forget(np.setdiff1d(GONE, pipeline.pinned_))
    expected = refit(pipeline, X, Y, ids, sample_weight=s)
    assert_same(pipeline, expected, X)
    lower, upper = pipeline.predict_interval(X)
    assert lower.shape == upper.shape == Y.shape
    np.testing.assert_allclose((lower, upper), expected.predict_interval(X), rtol=1e-7)
    assert ((lower <= Y) & (upper >= Y)).mean(axis=0).min() > 0.8


def test_a_last_step_without_a_seed_keeps_its_features():
    X, y = data()
    pipeline = make_forgetting_pipeline(ForgettingScaler(), RandomFeatureRegressor(50)).fit(X, y)
    frequencies = pipeline.steps_[-1][1].random_weights_
    assert_same(pipeline.forget(GONE), pipeline.refitted(), X)
    np.testing.assert_array_equal(pipeline.steps_[-1][1].random_weights_, frequencies)
    other = clone(pipeline).fit(X, y)
    assert abs(other.steps_[-1][1].random_weights_ - frequencies).max() > 0.01


@pytest.mark.parametrize(
    ("head", "step"),
    [
        (regressor(feature_map="identity"), ForgettingScaler()),
        (regressor(feature_map="identity", alpha=[0.1, 1.0]), "columns"),
        (RandomFeatureClassifier(feature_map="identity"), ForgettingScaler()),
    ],
    ids=["regressor", "several ridges and columns", "classifier"],
)
def test_a_linear_last_step_is_fitted_from_sums(head, step):
    X, y = data()
    X[:, 1] = X[:, 1] > 5
    y = y > 140 if hasattr(head, "predict_proba") else np.column_stack((y, X[:, 0]))
    if step == "columns":
        step = make_column_transformer(
            (ForgettingScaler(), [0, 2, 3]), (ForgettingOneHotEncoder(), [1])
        )
    X[9, 2] = 1e7  # the outlier hides the digits of the others
    s, ids = np.random.RandomState(0).uniform(0.5, 2.0, len(y)), np.arange(len(y))
    pipeline = make_forgetting_pipeline(step, head).fit(X, y, sample_weight=s)
    name = pipeline.steps[-1][0]
    pipeline.forget([9])
    why = "because its input has changed"
    assert pipeline.requests_[-1]["work"][-1] == f"{name}: fitted again to 199 samples, {why}"
    assert_same(pipeline, refit(pipeline, X, y, ids, sample_weight=s), X)
    for gone in GONE:
        pipeline.forget([gone])
        assert pipeline.requests_[-1]["work"][-1] == f"{name}: fitted again from sums, {why}"
    assert_same(pipeline, refit(pipeline, X, y, ids, sample_weight=s), X)
    pipeline.learn(X[GONE], y[GONE], sample_weight=s[GONE])
    assert pipeline.requests_[-1]["work"][-1] == f"{name}: fitted again from sums, {why}"
    assert_same(pipeline, pipeline.refitted(), X)


@pytest.mark.parametrize("alpha", [1e-8, [1e-8, 1e-7]])
def test_a_small_ridge_is_exact(alpha, tmp_path):
    X, y = data()
    pipeline = make_forgetting_pipeline(
        ForgettingScaler(),
        Nystroem(n_components=50, gamma=1e-3, random_state=0),
        regressor(feature_map="identity", alpha=alpha),
        pinned_fraction=0.3,
        random_state=0,
    ).fit(X, y)
    head = pipeline.steps_[-1][1]
    assert head.retained_ is None
    assert head._needs_refinement()
    pipeline.save(tmp_path)
    gone = np.setdiff1d(pipeline.sample_id_, pipeline.pinned_)
    pipeline.forget(gone[:5]).learn(X[gone[:2]], y[gone[:2]]).forget(gone[5:9])
    pipeline.close()
    for each in (pipeline, ForgettingPipeline.load(tmp_path)):
        assert_same(each, pipeline.refitted(), X)


def test_an_inverse_that_is_too_inexact_is_fitted_again(monkeypatch):
    X, y = data(130)
    pipeline = make_forgetting_pipeline(regressor(n_components=30, gamma=1e-4, alpha=1e-8))
    pipeline.fit(X, y)
    assert pipeline.steps_[-1][1].solver_ == "primal"

    def fail(*args):
        raise IllConditionedError

    with monkeypatch.context() as patch:
        patch.setattr(_base, "refine", fail)
        pipeline.forget(np.arange(40, 125))
    assert pipeline.steps_[-1][1].solver_ == "dual"  # as a new fit to 45 samples
    pipeline.forget([127])
    assert_same(pipeline, pipeline.refitted(), X)


def test_requests_by_mask_and_in_any_order():
    X, y = data()
    pipeline = REGRESSORS["scaler, linear"]().fit(X, y)
    other = copy.deepcopy(pipeline)
    pipeline.forget(GONE[:2]).forget(np.isin(pipeline.sample_id_, GONE[2:]))
    other.forget(GONE[::-1])
    for attribute in ("mean_", "scale_"):  # bit for bit
        ours, theirs = (getattr(p.steps_[0][1], attribute) for p in (pipeline, other))
        np.testing.assert_array_equal(ours, theirs)
    ours, theirs = pipeline.predict(X), other.predict(X)
    assert abs(ours - theirs).max() < 1e-12 * abs(theirs).max()
    assert pipeline.forget([]) is pipeline
    assert len(pipeline.requests_) == 2


def test_invalid_requests_change_nothing():
    X, y = data()
    pipeline = REGRESSORS["pinned scaler"]().fit(X, y)
    before, pinned = pipeline.predict(X), pipeline.pinned_[0]
    for request, message in (
        ([500], "500, which is not the id of a sample"),
        ([4, 4], "4 more than once"),
        (np.ones(3, dtype=bool), "one entry for each of the 200 samples"),
        ([pinned], f"The sample {pinned} is pinned"),
        (pipeline.sample_id_, "at least one must be retained"),
        ([[1]], "one dimension"),
    ):
        with pytest.raises(ValueError, match=message):
            pipeline.forget(request)
    for request in (None, {4, 5}):
        with pytest.raises(TypeError, match="must be an array-like of ids, or a mask, got "):
            pipeline.forget(request)
    with pytest.raises(ValueError, match="already in the model"):
        pipeline.learn(X[:1], y[:1], sample_id=[5])
    with pytest.raises(ValueError, match="9 more than once"):
        pipeline.learn(X[:2], y[:2], sample_id=[9, 9])
    np.testing.assert_array_equal(pipeline.predict(X), before)
    assert pipeline.requests_ == []
    with pytest.raises(NotFittedError):
        clone(pipeline).forget([1])
    free = np.setdiff1d(pipeline.sample_id_, pipeline.pinned_)[:1]
    pipeline.forget(free)
    with pytest.raises(ValueError, match="already been forgotten"):
        pipeline.forget(free)


def test_learned_steps_need_pinned_samples():
    X, y = data()
    for step, reason in (
        (Nystroem(), "it learns from samples and has no method"),
        (QuantileTransformer(n_quantiles=10), "its quantiles are not functions of sums"),
        (
            make_column_transformer((ForgettingScaler(), [1]), (QuantileTransformer(), [0])),
            "contains a QuantileTransformer, which cannot forget: its quantiles",
        ),
        (
            make_pipeline(ForgettingScaler(), QuantileTransformer(n_quantiles=9)),
            "contains a QuantileTransformer, which cannot forget: its quantiles",
        ),
    ):
        pipeline = make_forgetting_pipeline(step, regressor())
        with pytest.raises(ValueError, match=reason):
            pipeline.fit(X, y)
        mask = np.arange(len(y)) < 60
        np.testing.assert_array_equal(pipeline.fit(X, y, pinned=mask).pinned_, np.arange(60))
    with pytest.raises(ValueError, match="needs pinned samples"):
        make_forgetting_pipeline(ForgettingScaler(), regressor(), pin="preprocessing").fit(X, y)
    with pytest.raises(TypeError, match="The last step must be a RandomFeature"):
        make_forgetting_pipeline(ForgettingScaler(), Nystroem()).fit(X, y)


def test_pinned_samples_can_be_learned_again():
    X, y = data()
    pipeline = make_forgetting_pipeline(
        ForgettingScaler(),
        Nystroem(n_components=20, random_state=0),
        regressor(feature_map="identity"),
        on_pinned="relearn",
    )
    pipeline.fit(X, y, pinned=np.arange(40)).forget([3, 90])
    assert pipeline.requests_[-1]["work"] == [
        "forgettingscaler: fitted again to 39 pinned samples",
        "nystroem: fitted again to 39 pinned samples",
        "randomfeatureregressor: fitted again to 198 samples",
    ]
    assert pipeline.certificate().seconds > 0
    assert 3 not in pipeline.pinned_
    assert_same(pipeline, refit(pipeline, X, y, np.arange(200)), X)
    pipeline.forget([95])
    assert pipeline.requests_[-1]["work"] == ["randomfeatureregressor: updated"]
    assert_same(pipeline, refit(pipeline, X, y, np.arange(200)), X)
    with pytest.raises(ValueError, match="all pinned samples"):
        pipeline.forget(pipeline.pinned_)


def test_hashed_texts_and_a_frozen_network_are_forgotten():
    rng = np.random.RandomState(0)
    words = np.array(["red", "green", "blue", "small", "large", "old", "new"])
    texts = np.array([[" ".join(words[rng.randint(7, size=5)])] for _ in range(80)], dtype=object)
    images, y = rng.rand(80, 64), np.array(["red" in text for (text,) in texts])
    network = FrozenEstimator(SmallNetwork())
    head = RandomFeatureClassifier(feature_map="identity", alpha=[0.01, 0.1, 1.0])
    hashing = FunctionTransformer(np.ravel), HashingVectorizer(n_features=256)
    for steps, X in ((hashing, texts), ((network,), images)):
        pipeline = make_forgetting_pipeline(*steps, head).fit(X, y)
        n_pickled = SmallNetwork.n_pickled
        pipeline.forget([3, 4]).forget([70])
        assert SmallNetwork.n_pickled - n_pickled <= 1  # to hash it, once for all requests
        assert pipeline.requests_[0]["work"] == ["randomfeatureclassifier: updated"]
        assert_same(pipeline, refit(pipeline, X, y, np.arange(80)), X)


class SmallNetwork(TransformerMixin, BaseEstimator):
    """Features of images of 8 x 8 pixels from a convolution that was trained elsewhere."""

    n_pickled = 0

    def __getstate__(self):
        SmallNetwork.n_pickled += 1
        return super().__getstate__()

    def fit(self, X, y=None):
        raise AssertionError("A frozen network is not fitted.")

    def transform(self, X):
        import torch

        kernel = torch.linspace(-1, 1, 9 * 12, dtype=torch.float64).reshape(12, 1, 3, 3)
        maps = torch.nn.functional.conv2d(torch.from_numpy(X).reshape(-1, 1, 8, 8), kernel)
        return maps.relu().mean(dim=(2, 3)).numpy()


def test_requests_follow_the_parameters_of_fit():
    X, y = data()
    scaler = ForgettingScaler()
    pipeline = make_forgetting_pipeline(
        scaler,
        Nystroem(n_components=20, random_state=0),
        regressor(),
        pinned_fraction=0.3,
        random_state=0,
    )
    same = clone(pipeline).fit(X, y)
    pipeline.fit(X, y).set_params(on_pinned="relearn", forgettingscaler__with_mean=False)
    with pytest.raises(ValueError, match="Fit with on_pinned='relearn'"):
        pipeline.forget(pipeline.pinned_[:1])
    free = np.setdiff1d(pipeline.sample_id_, pipeline.pinned_)[:3]
    assert_same(pipeline.forget(free), same.forget(free), X)


def test_pinned_samples_come_from_every_class():
    X, y = load_iris(return_X_y=True)
    pipeline = make_forgetting_pipeline(
        Nystroem(n_components=9, random_state=0),
        RandomFeatureClassifier(feature_map="identity"),
        pinned_fraction=0.2,
        random_state=0,
    ).fit(X, y)
    np.testing.assert_array_equal(np.bincount(y[pipeline.pinned_]), [10, 10, 10])
    with pytest.raises(AttributeError):
        pipeline.predict_interval(X)


def test_learned_kernel_features_follow_the_formula():
    X, y = data()
    lab = LABRidgelessRegressor(n_support=10, n_warmup=5, growth=None, max_iter=5, random_state=0)
    for kernel in ("laplacian", "rbf", "exponential"):
        features = LearnedKernelFeatures(
            clone(lab).set_params(kernel=kernel), n_centers=30, random_state=0
        )
        Z = features.fit(X, y).transform(X)
        centers = np.vstack((features.estimator_.support_vectors_, features.centers_))
        bandwidths = np.vstack(
            (features.estimator_.bandwidths_, np.tile(features.bandwidth_, (30, 1)))
        )
        expected = local_kernel(X, centers, bandwidths, kernel=kernel)
        np.testing.assert_allclose(Z, expected, rtol=1e-6, atol=1e-12)
        # The model itself predicts with the first features.
        model = features.estimator_
        np.testing.assert_allclose(
            Z[:, :10] @ model.dual_coef_ + model.intercept_, model.predict(X), rtol=1e-6
        )
    with pytest.raises(ValueError, match="estimator must have the fitted attributes"):
        LearnedKernelFeatures(RandomFeatureRegressor(5)).fit(X, y)


@pytest.mark.parametrize("name", ["scaler, dual", "scaler, primal"])
def test_leave_one_out_models_are_those_of_new_fits(name):
    X, y = data(60)
    s = np.random.RandomState(0).uniform(0.5, 2, 60)
    head = REGRESSORS[name]().steps[-1][1].set_params(n_components=40 if "dual" in name else 8)
    head = clone(head).fit(X, y, s)
    features = head._features()
    Z = features.matrix(X)
    residuals, directions = leave_one_out(head._solution, Z, y[:, None], s)
    for i in (0, 13):
        kept = np.arange(60) != i
        expected = clone(head).fit(X[kept], y[kept], s[kept])
        assert residuals[i, 0] == pytest.approx(y[i] - expected.predict(X[[i]])[0], rel=1e-7)
        ours = head.predict(X) - (Z @ directions)[:, i] * residuals[i, 0]
        np.testing.assert_allclose(ours, expected.predict(X), rtol=1e-8)


def test_intervals_cover_before_and_after_requests():
    rng = np.random.RandomState(0)
    X = rng.uniform(-1, 1, size=(2600, 2))
    y = np.sin(4 * X[:, 0]) + 0.3 * rng.standard_t(4, size=2600)
    train, test = slice(600), slice(600, None)
    pipeline = make_forgetting_pipeline(
        ForgettingScaler(),
        Nystroem(n_components=50, random_state=0),
        regressor(feature_map="identity", alpha=1e-2),
        pinned_fraction=0.25,
        random_state=0,
    ).fit(X[train], y[train])
    for _ in range(2):
        for alpha in (0.1, 0.4):
            lower, upper = pipeline.predict_interval(X[test], alpha)
            assert np.mean((lower <= y[test]) & (y[test] <= upper)) == pytest.approx(
                1 - alpha, abs=0.04
            )
        pipeline.forget(np.setdiff1d(pipeline.sample_id_, pipeline.pinned_)[:60])
    expected = pipeline.refitted().predict_interval(X[test])
    np.testing.assert_allclose(pipeline.predict_interval(X[test]), expected, rtol=1e-8)
    assert np.isinf(pipeline.predict_interval(X[:2], alpha=1e-4)).all()
    with pytest.raises(ValueError, match="alpha must be between 0 and 1, got 2"):
        pipeline.predict_interval(X[:2], alpha=2)


def test_certificate_names_what_was_done_and_what_was_not():
    X, y = data()
    pipeline = REGRESSORS["learned features"]().fit(X, y)
    with pytest.raises(ValueError, match="nothing to certify before the first call to forget"):
        pipeline.certificate()
    gone = np.setdiff1d(GONE, pipeline.pinned_)
    pipeline.forget(gone).learn(X[:1], y[:1])
    with pytest.raises(ValueError, match="got -1, which is a call to learn"):
        pipeline.certificate()
    with pytest.raises(ValueError, match="index of one of 2 requests, got 2"):
        pipeline.certificate(2)
    certificate = pipeline.certificate(0, audit=True)
    content = json.loads(certificate.to_json())
    assert content["ids"] == gone.tolist()
    assert content["request"] == 1
    assert content["model_before"] != content["model_after"]
    assert content["audit"]["difference"] < 1e-9
    assert not content["durable"]
    assert "60 pinned samples" in content["not_claimed"][0]
    assert "nystroem" in content["not_claimed"][0]
    assert content["model_after"] in certificate._repr_html_()
    assert "Deletion certificate" in str(certificate)


def test_equal_models_have_equal_hashes():
    X, y = data()
    first, second = (REGRESSORS["scaler, linear"]().fit(X, y) for _ in range(2))
    first.forget([3])
    second.forget([3])
    assert first.requests_[0]["model_after"] == second.requests_[0]["model_after"]
    second.forget([4])
    assert second.requests_[1]["model_after"] != first.requests_[0]["model_after"]


def test_searches_and_pickle_work():
    X, y = data()
    pipeline = make_forgetting_pipeline(ForgettingScaler(), regressor(n_components=30))
    search = GridSearchCV(pipeline, {"randomfeatureregressor__alpha": [1e-2, 1e3]}, cv=3).fit(X, y)
    assert search.best_estimator_.forget([5]).n_retained_ == 199
    scores = cross_validate(pipeline, X, y, cv=3)["test_score"]
    assert scores.shape == (3,)
    loaded = pickle.loads(pickle.dumps(search.best_estimator_))
    np.testing.assert_array_equal(loaded.predict(X), search.predict(X))
    assert_same(loaded.forget([6]), loaded.refitted(), X)


def test_default_ids_are_never_used_twice():
    X, y = data(20)
    pipeline = ForgettingPipeline().fit(X, y).forget([19, 3])
    pipeline.learn(X[:2], y[:2])
    assert pipeline.sample_id_.tolist()[-2:] == [20, 21]
    named = ForgettingPipeline().fit(X, y, sample_id=[f"n{k}" for k in range(20)])
    with pytest.raises(ValueError, match="sample_id must be given"):
        named.learn(X[:2], y[:2])
    with pytest.raises(ValueError, match="integers, or strings, got 1 in an array"):
        named.learn(X[:2], y[:2], sample_id=["n20", 1])


def test_deleted_samples_are_not_in_memory():
    X, y = data()
    X[5] = 777.125
    pipeline = REGRESSORS["scaler, primal"]().fit(X, y).forget([5])
    assert np.float64(777.125).tobytes() not in pickle.dumps(pipeline)


def test_functions_of_a_sample_need_no_pinned_ones():
    X, y = data()
    for step in (
        FunctionTransformer(np.cbrt),
        FunctionTransformer(lambda X: X + 1),
        PolynomialFeatures(),
        RBFSampler(gamma=0.01),
    ):
        pipeline = make_forgetting_pipeline(
            step, make_pipeline(Normalizer(), "passthrough"), regressor()
        ).fit(X, y)
        assert_same(pipeline.forget(GONE), pipeline.refitted(), X)
        assert pipeline.requests_[0]["work"] == ["randomfeatureregressor: updated"]
    for step in (RBFSampler(gamma="scale"), GaussianRandomProjection()):  # ask for samples
        with pytest.raises(ValueError, match="cannot forget: it learns from samples"):
            make_forgetting_pipeline(step, regressor()).fit(X, y)
