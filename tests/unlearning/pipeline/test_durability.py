"""A saved pipeline loses no request and mixes no states, whenever its process is killed."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes
from sklearn.frozen import FrozenEstimator
from sklearn.kernel_approximation import Nystroem
from sklearn.preprocessing import FunctionTransformer

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
from sklearn_ext.unlearning.pipeline import LockedError, NotStorableError, decode, encode

LAB = LABRidgelessRegressor(n_support=8, n_warmup=5, growth=None, max_iter=5, random_state=0)


def data(n=120):
    X, y = load_diabetes(return_X_y=True)
    return X[:n] * 20, y[:n]


def head(**parameters):
    return RandomFeatureRegressor(**{"alpha": 0.1, "gamma": 0.05, "random_state": 0} | parameters)


PIPELINES = {
    "default": lambda: ForgettingPipeline(),
    "dual": lambda: make_forgetting_pipeline(ForgettingScaler(), head(), pin="preprocessing"),
    "primal": lambda: make_forgetting_pipeline(
        ForgettingScaler(), head(n_components=10), pin="preprocessing"
    ),
    "learned": lambda: make_forgetting_pipeline(
        ForgettingScaler(),
        LearnedKernelFeatures(LAB, n_centers=20, random_state=np.random.RandomState(0)),
        head(feature_map="identity"),
    ),
}


def fitted(name):
    X, y = data()
    pipeline = PIPELINES[name]()
    pinned = None if name == "default" else np.arange(len(y)) < 40
    return pipeline.fit(X, y, sample_id=[f"id {k}" for k in range(len(y))], pinned=pinned)


def assert_equal(pipeline, expected, X):
    ours, theirs = pipeline.predict(X), expected.predict(X)
    assert abs(ours - theirs).max() <= 1e-9 * abs(theirs).max()
    np.testing.assert_array_equal(pipeline.sample_id_, expected.sample_id_)
    np.testing.assert_array_equal(pipeline.pinned_, expected.pinned_)


@pytest.mark.parametrize("name", PIPELINES)
def test_requests_survive_without_another_save(tmp_path, name):
    X, y = data()
    pipeline = fitted(name)
    pipeline.save(tmp_path)
    pipeline.forget(["id 50", "id 60"]).learn(X[:2] + 1, y[:2], sample_id=["new 1", "new 2"])
    pipeline.forget(["new 1", "id 70"])
    pipeline.close()
    loaded = ForgettingPipeline.load(tmp_path)
    np.testing.assert_array_equal(loaded.predict(X), pipeline.predict(X))
    assert_equal(loaded, pipeline, X)
    assert loaded.requests_ == pipeline.requests_
    assert loaded.get_params().keys() == pipeline.get_params().keys()
    assert loaded.certificate(audit=True).audit["difference"] < 1e-9
    assert loaded.certificate().durable
    assert_equal(loaded.forget(["id 90"]), pipeline.forget(["id 90"]), X)
    np.testing.assert_array_equal(
        np.array(loaded.predict_interval(X[:5])), np.array(pipeline.predict_interval(X[:5]))
    )
    loaded.close()
    if name != "learned":
        assert_equal(
            clone(loaded).fit(X, y, pinned=np.arange(40)).forget([55]),
            PIPELINES[name]().fit(X, y, pinned=np.arange(40)).forget([55]),
            X,
        )


def test_a_table_with_strings_is_stored(tmp_path):
    rng = np.random.RandomState(0)
    frame = pd.DataFrame(
        {
            "age": np.where(rng.rand(60) < 0.1, np.nan, rng.normal(size=60)),
            "city": rng.choice(["Bonn", "Lyon", "Oslo"], 60),
            "member": rng.rand(60) < 0.5,
            "plan": pd.Categorical(rng.choice(["S", "L"], 60)),
            "since": pd.date_range("2020-01-01", periods=60),
        }
    )
    frame.loc[4, "city"] = "Zanzibar"
    columns = make_column_transformer(
        (ForgettingScaler(), ["age"]), (ForgettingOneHotEncoder(), ["city", "member", "plan"])
    )
    pipeline = make_forgetting_pipeline(
        columns, ForgettingImputer(), RandomFeatureClassifier(20, random_state=0)
    ).fit(frame, np.where(rng.rand(60) < 0.5, "yes", "no"))
    pipeline.save(tmp_path)
    pipeline.forget([4, 9])
    assert any(b"Zanzibar" in path.read_bytes() for path in tmp_path.iterdir())
    pipeline.compact()
    assert not any(b"Zanzibar" in path.read_bytes() for path in tmp_path.iterdir())
    pipeline.close()
    loaded = ForgettingPipeline.load(tmp_path)
    np.testing.assert_array_equal(loaded.predict(frame), pipeline.predict(frame))
    loaded.learn(frame.iloc[:2], ["no", "yes"])
    assert loaded.sample_id_[-1] == 61
    since = loaded._model.samples.X.since
    np.testing.assert_array_equal(since[-2:], frame.since[:2])
    loaded.close()


def test_fitting_again_draws_the_same_numbers_after_a_crash(tmp_path):
    X, y = data()
    pipeline = make_forgetting_pipeline(
        Nystroem(n_components=10), head(feature_map="identity"), on_pinned="relearn"
    ).fit(X, y, pinned=np.arange(40))
    pipeline.save(tmp_path)
    pipeline.forget([3, 90]).close()  # a pinned sample
    loaded = ForgettingPipeline.load(tmp_path)
    np.testing.assert_array_equal(loaded.predict(X), pipeline.predict(X))
    assert (
        loaded.forget([95]).requests_[-1]["model_before"] == pipeline.requests_[-1]["model_after"]
    )
    loaded.close()
    assert loaded.get_params()["nystroem__random_state"] is None


@pytest.mark.parametrize("name", ["default", "dual", "primal", "learned"])
def test_compacted_files_contain_no_deleted_values(tmp_path, name):
    X, y = data()
    X[70], y[70] = 1234.5678 + np.arange(X.shape[1]), 8765.4321
    pipeline = PIPELINES[name]().fit(X, y, pinned=np.arange(40))
    Z = X[[70]]
    if name != "default":  # samples are stored after the pinned steps
        for _, step in pipeline.steps_[:-1]:
            Z = step.transform(Z)
    needles = [value.tobytes() for value in Z[0] if abs(value) > 1e-300] + [y[70].tobytes()]
    pipeline.save(tmp_path)
    content = (tmp_path / "model.safetensors").read_bytes()
    assert all(needle in content for needle in needles)
    features = [value for value in pipeline._head().transform(Z)[0] if abs(value) > 1e-300]
    needles = [value.tobytes() for value in (*X[70], *features)] + needles
    added = X[:1] + 0.123456789
    pipeline.learn(added, y[:1] + 0.987654321, sample_id=[500])
    assert needles[-1] in (tmp_path / "model.safetensors").read_bytes()
    pipeline.forget([70, 500]).compact()
    needles += [value.tobytes() for value in (*added[0], y[0] + 0.987654321)]
    for path in tmp_path.iterdir():
        content = path.read_bytes()
        assert not any(needle in content for needle in needles)
    assert len(list(tmp_path.glob("requests-*.log"))) == 1
    pipeline.close()
    assert_equal(ForgettingPipeline.load(tmp_path), pipeline, X[:20])


def test_two_pipelines_do_not_share_a_folder(tmp_path):
    pipeline = fitted("primal")
    pipeline.save(tmp_path)
    with pytest.raises(LockedError, match="is in use by another pipeline"):
        ForgettingPipeline.load(tmp_path)
    with pytest.raises(LockedError):
        fitted("dual").save(tmp_path)
    code = (
        "import sys; from sklearn_ext import ForgettingPipeline as P\n"
        "try: P.load(sys.argv[1])\n"
        "except RuntimeError as error: print(type(error).__name__)"
    )
    run = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True)
    assert run.stdout.split() == ["LockedError"]
    with pytest.raises(ValueError, match=r"Call close\(\) before"):
        pipeline.fit(*data())
    pipeline.close()
    pipeline.close()
    loaded = ForgettingPipeline.load(tmp_path)
    with pytest.raises(ValueError, match="call save first"):
        pipeline.compact()
    loaded.close()
    with pytest.raises(FileNotFoundError):
        ForgettingPipeline.load(tmp_path / "absent")


def copied(folder, target):
    target.mkdir()
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def test_a_log_cut_at_any_byte_gives_the_state_before_or_after(tmp_path):
    X, _ = data()
    pipeline = fitted("primal")
    pipeline.save(tmp_path / "a")
    states = [pipeline.predict(X)]
    states += [pipeline.forget([f"id {k}"]).predict(X) for k in (50, 60)]
    (log,) = (tmp_path / "a").glob("requests-*.log")
    content = log.read_bytes()
    ends = np.flatnonzero(np.frombuffer(content, dtype=np.uint8) == ord("\n")) + 1
    for size in (0, 1, ends[0] - 1, ends[0], ends[0] + 1, ends[1] - 1, ends[1]):
        folder = copied(tmp_path / "a", tmp_path / str(size))
        (folder / log.name).write_bytes(content[:size])
        loaded = ForgettingPipeline.load(folder)
        np.testing.assert_array_equal(loaded.predict(X), states[(ends <= size).sum()])
        loaded.forget(["id 90"]).close()  # continues after the cut
        again = ForgettingPipeline.load(folder)
        np.testing.assert_array_equal(again.predict(X), loaded.predict(X))
        again.close()


def test_damaged_files_are_refused(tmp_path):
    pipeline = fitted("learned")
    pipeline.save(tmp_path / "a")
    pipeline.forget(["id 50"]).forget(["id 60"])
    (log,) = (tmp_path / "a").glob("requests-*.log")
    rng, counter = np.random.RandomState(0), itertools.count()
    snapshot = (tmp_path / "a" / "model.safetensors").read_bytes()
    line = log.read_bytes()
    for name, content in (("model.safetensors", snapshot), (log.name, line)):
        for damage in range(12):
            damaged = bytearray(content)
            if damage < 4 and name != log.name:
                damaged = damaged[: rng.randint(len(content))]
            else:
                place = rng.randint(len(content) // 2)  # of the log: the first request
                damaged[place] ^= 1 << rng.randint(8)
            folder = copied(tmp_path / "a", tmp_path / str(next(counter)))
            (folder / name).write_bytes(bytes(damaged))
            with pytest.raises(ValueError, match="damaged"):
                ForgettingPipeline.load(folder)
    folder = copied(tmp_path / "a", tmp_path / "b")
    (folder / log.name).unlink()
    with pytest.raises(ValueError, match="is missing"):
        ForgettingPipeline.load(folder)


class OwnFeatures(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.power_ = 3
        return self

    def transform(self, X):
        return np.hstack((X, X**self.power_))


def test_a_frozen_step_that_cannot_be_stored_is_given_again(tmp_path):
    X, y = data()
    own = OwnFeatures().fit(X)
    pipeline = ForgettingPipeline([("own", FrozenEstimator(own)), ("head", head())]).fit(X, y)
    pipeline.save(tmp_path)
    pipeline.forget([3]).close()
    with pytest.raises(ValueError, match="The step 'own', a frozen OwnFeatures, was not stored"):
        ForgettingPipeline.load(tmp_path)
    loaded = ForgettingPipeline.load(tmp_path, frozen={"own": own})
    np.testing.assert_array_equal(loaded.predict(X), pipeline.predict(X))
    loaded.close()
    learned = ForgettingPipeline([("own", OwnFeatures()), ("head", head())], pinned_fraction=0.5)
    with pytest.raises(NotStorableError, match="neither of scikit-learn nor of sklearn_ext"):
        learned.fit(X, y).save(tmp_path / "b")
    function = FunctionTransformer(np.cbrt)
    fixed = make_forgetting_pipeline(function, head()).fit(X, y)
    with pytest.raises(NotStorableError, match="step 'functiontransformer' cannot be stored"):
        fixed.save(tmp_path / "c")
    fixed = make_forgetting_pipeline(FrozenEstimator(function), head()).fit(X, y)
    fixed.save(tmp_path / "c")
    fixed.close()
    loaded = ForgettingPipeline.load(tmp_path / "c", frozen={"frozenestimator": function})
    np.testing.assert_array_equal(loaded.predict(X), fixed.predict(X))


def test_files_name_only_trusted_classes_and_attributes():
    tensors = {}
    state = encode(ForgettingScaler().fit([[1.0], [2.0]]), tensors, "scaler")
    np.testing.assert_array_equal(decode(state, tensors).transform([[1.5]]), [[0.0]])
    text = json.dumps(state)
    for old, new, message in (
        (
            "sklearn_ext.unlearning.pipeline.preprocessing._scaler.ForgettingScaler",
            "os.system",
            "not trusted",
        ),
        ("ForgettingScaler", "changed_moments", "not a class of the expected kind"),
        ("ForgettingScaler", "Nothing", "does not exist"),
        ('"mean_"', '"transform"', "sets the attribute 'transform'"),
        ('"mean_"', '"__class__"', "sets the attribute '__class__'"),
        ('"array"', '"code"', "an entry of an unknown type"),
        ('"tensor"', '"tensors"', "an invalid entry"),
    ):
        with pytest.raises(ValueError, match=message):
            decode(json.loads(text.replace(old, new)), tensors)
    with pytest.raises(NotStorableError, match="key is a function"):
        encode(data, {}, "key")


@pytest.mark.parametrize(
    "value",
    [
        None,
        2**80,
        float("nan"),
        -0.5,
        (1, [True, "a"], {"b": None, 3: 1.5}),
        np.float32(2.5),
        np.array(["a", None, 3], dtype=object),
        np.array([["x", "yy"]]),
        slice(1, None, 2),
        np.float64,
    ],
)
def test_values_are_restored(value):
    tensors = {}
    restored = decode(json.loads(json.dumps(encode(value, tensors, "v"))), tensors)
    assert type(restored) is type(value)
    np.testing.assert_equal(restored, value)


WORKER = """
import sys
from sklearn_ext import ForgettingPipeline
pipeline = ForgettingPipeline.load(sys.argv[1])
print("ready", flush=True)
for k, key in enumerate(pipeline.sample_id_.tolist()[:-20], 1):
    if key in pipeline.pinned_:
        continue
    pipeline.forget([key])
    print(key, flush=True)
    if k % 5 == 0:
        pipeline.compact()
"""


def killed_requests(tmp_path, n_kills, rng):
    """Kill a process that deletes samples, again and again; return how many requests returned."""
    X, _ = data()
    fitted("primal").save(tmp_path / "a")
    done = 0
    for _ in range(n_kills):
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path / "a")], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0.0, 0.05))
        os.kill(process.pid, signal.SIGKILL)
        returned = process.stdout.read().split("\n")[:-1]
        process.wait()
        pipeline = ForgettingPipeline.load(tmp_path / "a")
        left = set(pipeline.sample_id_.tolist())
        assert not left.intersection(returned)  # nothing that returned is lost
        gone = {f"id {k}" for k in range(120)} - left
        done += len(returned)
        assert len(gone) <= done + 1  # at most one request was on disk and had not returned
        done = len(gone)
        fresh = pipeline.refitted()
        assert_equal(pipeline, fresh, X)
        pipeline.close()
        if len(left) < 50:
            for path in (tmp_path / "a").iterdir():
                path.unlink()
            fitted("primal").save(tmp_path / "a")
            done = 0
    return done


def test_kills_lose_nothing(tmp_path):
    pytest.importorskip("fcntl")
    killed_requests(tmp_path, 2, np.random.RandomState(0))


@pytest.mark.slow
def test_many_kills_lose_nothing(tmp_path):
    pytest.importorskip("fcntl")
    killed_requests(tmp_path, 40, np.random.RandomState(1))


def test_a_request_that_cannot_be_written_is_reported(tmp_path, monkeypatch):
    X, _ = data()
    pipeline = fitted("primal")
    pipeline.save(tmp_path)
    expected = pipeline.predict(X)

    def full(descriptor):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            pipeline.forget(["id 50"])
    assert not pipeline.certificate().durable
    with pytest.raises(ValueError, match="not connected"):
        pipeline.compact()
    pipeline.save(tmp_path)
    assert pipeline.certificate().durable
    pipeline.close()
    loaded = ForgettingPipeline.load(tmp_path)
    assert loaded.certificate().durable
    assert abs(loaded.predict(X) - expected).max() > 1e-6
    loaded.close()


def test_learned_features_of_scikit_learn_are_stored(tmp_path):
    X, y = data()
    pipeline = make_forgetting_pipeline(
        Nystroem(n_components=10, random_state=0), head(feature_map="identity"), pinned_fraction=0.3
    ).fit(X, y)
    pipeline.save(tmp_path)
    pipeline.close()
    loaded = ForgettingPipeline.load(tmp_path)
    np.testing.assert_array_equal(loaded.predict(X), pipeline.predict(X))
