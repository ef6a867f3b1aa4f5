"""Conventions that every estimator of the package follows."""

import io
import pickle
import sys

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import skops.io
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_random_state
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_is_fitted

from sklearn_ext.utils import all_estimators, expected_failed_checks
from tests.instances import fitted, instance, instances, responses, sample

every_estimator = pytest.mark.parametrize(
    "estimator", [pytest.param(est, id=type(est).__name__) for est in instances()]
)
every_transformer = pytest.mark.parametrize(
    "estimator",
    [pytest.param(instance(cls), id=name) for name, cls in all_estimators("transformer")],
)


@parametrize_with_checks(instances(), expected_failed_checks=expected_failed_checks)
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


def through_pickle(estimator):
    return pickle.loads(pickle.dumps(estimator))


def through_joblib(estimator):
    file = io.BytesIO()
    joblib.dump(estimator, file)
    file.seek(0)
    return joblib.load(file)


def through_skops(estimator):
    data = skops.io.dumps(estimator)
    types = skops.io.get_untrusted_types(data=data)
    ours = ("sklearn_ext.", "skorch.", "torch.", "builtins.print", "functools.partial")
    assert [name for name in types if not name.startswith(ours)] == []
    return skops.io.loads(data, trusted=types)


@every_estimator
@pytest.mark.parametrize("through", [through_pickle, through_joblib, through_skops])
def test_a_stored_estimator_predicts_as_before(estimator, through):
    original, expected = fitted(type(estimator))
    assert expected
    actual = responses(through(original), sample(estimator)[0])
    assert actual.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(actual[name], expected[name], err_msg=name)


@every_estimator
@pytest.mark.parametrize("make_frame", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"])
def test_a_data_frame_gives_the_same_as_its_array(estimator, make_frame):
    X, y = sample(estimator)
    names = [f"feature {k}" for k in range(X.shape[1])]
    frame = make_frame(dict(zip(names, X.T, strict=True)))
    on_frame = clone(estimator).fit(frame, y)
    assert on_frame.feature_names_in_.tolist() == names
    actual = responses(on_frame, frame)
    for name, expected in fitted(type(estimator))[1].items():
        np.testing.assert_array_equal(actual[name], expected, err_msg=name)


@every_transformer
@pytest.mark.parametrize(
    ("container", "type_"), [("pandas", pd.DataFrame), ("polars", pl.DataFrame)]
)
def test_transformers_follow_set_output(estimator, container, type_):
    X, y = sample(estimator)
    transformer = clone(estimator).set_output(transform=container)
    out = transformer.fit(X, y).transform(X)
    assert isinstance(out, type_)
    assert list(out.columns) == transformer.get_feature_names_out().tolist()
    np.testing.assert_array_equal(out, fitted(type(estimator))[1]["transform"])


def global_random_states():
    torch = sys.modules.get("torch")
    numpy_state = check_random_state(None).get_state(legacy=False)["state"]
    return [numpy_state["key"], numpy_state["pos"], [] if torch is None else torch.get_rng_state()]


@every_estimator
def test_a_seeded_fit_repeats_and_touches_no_global_generator(estimator):
    X, y = sample(estimator)
    first = fitted(type(estimator))[1]
    before = global_random_states()
    second = responses(clone(estimator).fit(X, y), X)
    for state, state_before in zip(global_random_states(), before, strict=True):
        np.testing.assert_array_equal(state, state_before)
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


@every_estimator
def test_a_failed_fit_leaves_an_unfitted_estimator(estimator):
    X, y = sample(estimator)
    unfitted = clone(estimator)
    with pytest.raises(ValueError, match="infinity"):
        unfitted.fit(np.full_like(X, np.inf), y)
    with pytest.raises(NotFittedError):
        check_is_fitted(unfitted)
