"""An interrupted request is complete or has not happened, wherever the interrupt comes."""

import copy
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes

import sklearn_ext
from sklearn_ext import (
    ForgettingOneHotEncoder,
    ForgettingPipeline,
    ForgettingScaler,
    RandomFeatureClassifier,
    RandomFeatureRegressor,
    make_forgetting_pipeline,
)

PACKAGE = str(Path(sklearn_ext.__file__).parent)
N = 60
FEW = 4  # lines that a quick test interrupts


class Interrupt:
    """Raise KeyboardInterrupt before one of the lines of this package that a call executes."""

    def __init__(self, line):
        self.line = line

    def __enter__(self):
        self.n_lines = 0
        self.outer = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *exception):
        sys.settrace(self.outer)

    def _trace(self, frame, event, argument):
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line":
            self.n_lines += 1
            if self.n_lines == self.line:
                raise KeyboardInterrupt
        return self._trace


def data():
    X, y = load_diabetes(return_X_y=True)
    return X[:N] * 20, y[:N]


def regressor(**parameters):
    return RandomFeatureRegressor(**{"random_state": 0, "gamma": 0.05, "alpha": 0.1} | parameters)


def labels(y):
    return np.where(y > 150, "high", "low")


def outputs(model, X):
    return getattr(model, "decision_function", model.predict)(X)


MODELS = {
    "dual": lambda: regressor(n_components=50),
    "primal": lambda: regressor(n_components=8, store=True),
    "several ridges": lambda: regressor(n_components=8, store=True, alpha=[0.1, 1.0]),
    "several ridges, dual": lambda: regressor(n_components=50, alpha=[0.1, 1.0]),
    "refitted": lambda: regressor(n_components=50, refresh_fraction=0.0),
    "classifier": lambda: RandomFeatureClassifier(50, gamma=0.05, random_state=0),
}
MODEL_REQUESTS = {
    "forget": lambda model: model.forget([3, 9]),
    "forget lazily": lambda model: model.forget([3, 9], lazy=True),
    "learn": lambda model: model.learn(data()[0][:2] + 1, targets_of(model)[:2]),
    "relabel": lambda model: model.relabel([3, 9]),
}


def targets_of(model):
    y = data()[1]
    return labels(y) if hasattr(model, "classes_") else y


def lines_to_interrupt(call, n_lines):
    """Return the lines to interrupt: all, or about `n_lines` that include the last ones."""
    with Interrupt(None) as count:
        call()
    assert count.n_lines > 20
    step = 1 if n_lines is None else count.n_lines // n_lines
    return range(count.n_lines, 0, -step)


def interrupt_model(name, request, n_lines):
    X, y = data()
    given = MODELS[name]()
    y = labels(y) if "classifier" in name else y
    given.fit(X, y)

    def model_with_pending_update():
        return copy.deepcopy(given).forget([20], lazy=True)

    expected = model_with_pending_update()
    before = outputs(expected, X)
    MODEL_REQUESTS[request](expected)
    after = outputs(expected, X)
    tolerance = 1e-9 * abs(after).max()
    assert request == "relabel" or abs(after - before).max() > 1e3 * tolerance
    counted = model_with_pending_update()
    for line in lines_to_interrupt(lambda: MODEL_REQUESTS[request](counted), n_lines):
        model = model_with_pending_update()
        with pytest.raises(KeyboardInterrupt), Interrupt(line):
            MODEL_REQUESTS[request](model)
        complete = abs(outputs(model, X) - after).max() < tolerance
        assert complete or abs(outputs(model, X) - before).max() < tolerance
        # All attributes belong to the same state: the next request gives the same model.
        if not complete:
            MODEL_REQUESTS[request](model)
        np.testing.assert_array_equal(model.retained_, expected.retained_)
        assert model.n_retained_ == expected.n_retained_
        ours, theirs = (outputs(copy.deepcopy(m).forget([30]), X) for m in (model, expected))
        assert abs(ours - theirs).max() < tolerance


@pytest.mark.parametrize("request_", MODEL_REQUESTS)
@pytest.mark.parametrize("name", ["primal", "classifier"])
def test_an_interrupted_request_of_a_model_is_all_or_nothing(name, request_):
    interrupt_model(name, request_, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("request_", MODEL_REQUESTS)
@pytest.mark.parametrize("name", MODELS)
def test_a_request_of_a_model_can_be_interrupted_anywhere(name, request_):
    interrupt_model(name, request_, None)


PIPELINES = {
    "updated": lambda: make_forgetting_pipeline(
        ForgettingScaler(), regressor(n_components=8), pin="preprocessing"
    ),
    "updated, dual": lambda: make_forgetting_pipeline(
        ForgettingScaler(), regressor(n_components=50), pin="preprocessing"
    ),
    "fitted again": lambda: make_forgetting_pipeline(
        make_column_transformer((ForgettingScaler(), [0, 2, 3]), (ForgettingOneHotEncoder(), [1])),
        regressor(n_components=8),
    ),
    "learned again": lambda: make_forgetting_pipeline(
        ForgettingScaler(),
        RandomFeatureClassifier(8, gamma=0.05, random_state=0),
        pin="preprocessing",
        on_pinned="relearn",
    ),
}
PIPELINE_REQUESTS = {
    "forget": lambda pipeline: pipeline.forget([3, 30]),
    "learn": lambda pipeline: pipeline.learn(data()[0][:2] + 1, targets_of(pipeline)[:2]),
    "save": lambda pipeline: pipeline.compact(),
}


def fitted(name, folder):
    X, y = data()
    X[:, 1] = X[:, 1] > 0
    y = labels(y) if name == "learned again" else y
    pinned = np.arange(N) < 12
    if name != "learned again":
        pinned[3] = False
    pipeline = PIPELINES[name]().fit(X, y, pinned=pinned).forget([40])
    pipeline.save(folder)
    return pipeline


def state_of(pipeline, X):
    return outputs(pipeline, X), pipeline.sample_id_.tolist(), len(pipeline.requests_)


def is_same(state, other):
    return state[1:] == other[1:] and bool(
        abs(state[0] - other[0]).max() < 1e-9 * abs(other[0]).max()
    )


def interrupt_pipeline(name, request, folder, n_lines):
    X = data()[0]
    X[:, 1] = X[:, 1] > 0
    expected = fitted(name, folder / "expected")
    before = state_of(expected, X)
    PIPELINE_REQUESTS[request](expected)
    after = state_of(expected, X)
    counted = fitted(name, folder / "counted")
    lines = lines_to_interrupt(lambda: PIPELINE_REQUESTS[request](counted), n_lines)
    expected.close()
    counted.close()
    for line in lines:
        pipeline = fitted(name, folder / f"{line}")
        with pytest.raises(KeyboardInterrupt), Interrupt(line):
            PIPELINE_REQUESTS[request](pipeline)
        state = state_of(pipeline, X)
        assert is_same(state, before) or is_same(state, after), line
        assert is_same(state_of(pipeline.refitted(), X)[:2], state[:2])
        is_connected = hasattr(pipeline, "_folder")
        if is_connected:  # the folder follows the pipeline
            pipeline.forget([50])
            state = state_of(pipeline, X)
        pipeline.close()
        loaded = ForgettingPipeline.load(folder / f"{line}")
        allowed = [state] if is_connected else [before, after]
        assert any(is_same(state_of(loaded, X), each) for each in allowed), line
        loaded.close()


@pytest.mark.parametrize("request_", PIPELINE_REQUESTS)
@pytest.mark.parametrize("name", ["updated", "fitted again"])
def test_an_interrupted_pipeline_is_all_or_nothing(tmp_path, name, request_):
    interrupt_pipeline(name, request_, tmp_path, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("request_", PIPELINE_REQUESTS)
@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_can_be_interrupted_anywhere(tmp_path, name, request_):
    interrupt_pipeline(name, request_, tmp_path, None)
