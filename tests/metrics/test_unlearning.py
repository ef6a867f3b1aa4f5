import copy
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from torch.utils.data import TensorDataset

from sklearn_ext import NetClassifier, RandomFeatureClassifier, make_forget_split, unlearning_report
from sklearn_ext.metrics import mean_kl_divergence, membership_inference_score


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X / 16, y, train_size=500, random_state=0)
    return X, y, X_test[:400], y_test[:400]


@pytest.fixture(scope="module")
def original(digits):
    return RandomFeatureClassifier(300, gamma=0.5, random_state=0).fit(*digits[:2])


def report(models, digits, forget, **more):
    X, y, X_test, y_test = digits
    return unlearning_report(
        models, X, y, forget, X_test=X_test, y_test=y_test, random_state=0, **more
    )


def test_the_metrics_are_those_of_the_protocol(digits, original):
    X, y, X_test, y_test = digits
    forget = make_forget_split(y, "random", random_state=0)
    gold = clone(original).fit(X[~forget], y[~forget])
    metrics = report({"original": original}, digits, forget, retrained=gold).scores
    assert list(metrics) == ["retrained", "original"]
    ours = metrics["original"]
    groups = {"f": (X[forget], y[forget]), "r": (X[~forget], y[~forget]), "t": (X_test, y_test)}
    for key, name in (("f", "FA"), ("r", "RA"), ("t", "TA")):
        rows, labels = groups[key]
        assert ours[name] == 100 * accuracy_score(labels, original.predict(rows))
        expected = mean_kl_divergence(gold.predict_proba(rows), original.predict_proba(rows))
        assert ours[f"KL_{key}"] == pytest.approx(expected)
    assert ours["UA"] == 100 - ours["FA"]
    assert np.isnan(ours["FA_t"])
    probas = [original.predict_proba(groups[key][0]) for key in "frt"]
    assert ours["MIA"] == 100 * membership_inference_score(*probas)
    gaps = [abs(ours[name] - metrics["retrained"][name]) for name in ("FA", "RA", "TA", "MIA")]
    assert ours["gap"] == np.mean(gaps)
    assert metrics["retrained"]["gap"] == 0.0


def test_samples_may_be_tensors_or_a_dataset(digits):
    X, y, X_test, y_test = digits
    X, X_test = X.astype(np.float32), X_test.astype(np.float32)
    net = NetClassifier(max_epochs=3, random_state=0).fit(X, y)
    expected = report(net, (X, y, X_test, y_test), np.arange(50)).scores
    tensors = [torch.as_tensor(part) for part in (X, y, X_test, y_test)]
    assert report(net, tensors, np.arange(50)).scores == expected
    train, test = TensorDataset(*tensors[:2]), TensorDataset(*tensors[2:])
    assert report(net, (train, None, test, None), np.arange(50)).scores == expected
    assert report(net, (train, y, test, y_test), np.arange(50)).scores == expected
    with pytest.raises(ValueError, match="y may be None only if the samples are a torch Dataset"):
        report(net, (X, None, X_test, y_test), np.arange(50))


def test_exact_forgetting_has_no_gap(digits, original):
    X, y, *_ = digits
    forget = make_forget_split(y, "random", random_state=1)
    gold = clone(original).fit(X[~forget], y[~forget])
    models = {"before": original, "after": copy.deepcopy(original).forget(forget)}
    metrics = report(models, digits, forget, retrained=gold).scores
    for name, value in metrics["after"].items():
        np.testing.assert_allclose(value, metrics["retrained"][name], atol=1e-9, err_msg=name)
    assert metrics["before"]["gap"] > 1.0
    assert metrics["before"]["KL_f"] > 1e-3


def test_a_forgotten_class_does_not_count_for_the_test_accuracy(digits, original):
    _X, y, X_test, y_test = digits
    forget = np.flatnonzero(y == 3)
    gold = copy.deepcopy(original).forget(forget)
    assert 3 not in gold.classes_
    metrics = report({"original": original}, digits, forget, retrained=gold).scores
    for name, model in (("original", original), ("retrained", gold)):
        right = model.predict(X_test) == y_test
        assert metrics[name]["TA"] == 100 * right[y_test != 3].mean()
        assert metrics[name]["FA_t"] == 100 * right[y_test == 3].mean()
    assert metrics["retrained"]["FA"] == 0.0
    assert metrics["retrained"]["MIA_efficacy"] == 100.0
    given = report(original, digits, forget, forget_test=y_test < 5).scores
    assert given["RandomFeatureClassifier"]["TA"] == pytest.approx(
        100 * original.score(X_test[y_test >= 5], y_test[y_test >= 5])
    )


def test_one_model_without_a_retrained_one_is_enough(digits):
    X, y, *_ = digits
    model = KNeighborsClassifier().fit(X, y)
    result = report(model, digits, np.arange(50))
    assert list(result.scores) == ["KNeighborsClassifier"]
    assert result.names == ["FA", "UA", "RA", "TA", "MIA", "MIA_efficacy"]
    assert "gap" not in str(result)


def test_frames_and_string_labels_are_accepted(digits):
    X, y, X_test, y_test = digits
    names = np.array(list("abcdefghij"))
    frames = [pd.DataFrame(rows, columns=[f"x{k}" for k in range(64)]) for rows in (X, X_test)]
    model = LogisticRegression(max_iter=200).fit(frames[0], names[y])
    given = frames[0], names[y], frames[1], names[y_test]
    plain = LogisticRegression(max_iter=200).fit(X, y)
    first = report({"m": model}, given, np.arange(30)).scores["m"]
    second = report({"m": plain}, digits, np.arange(30)).scores["m"]
    np.testing.assert_allclose(list(first.values()), list(second.values()))


def test_reports_print_and_convert_to_frames(digits, original):
    _X, y, *_ = digits
    result = report({"a": original, "b": original}, digits, y == 1, retrained=original)
    lines = str(result).splitlines()
    assert [line.split()[0] for line in lines] == ["FA", "retrained", "a", "b"]
    assert lines[0].split() == result.names
    assert " -0.0" not in str(result)
    assert result._repr_html_().count("<tr>") == 4
    frame = result.to_frame()
    assert list(frame.columns) == result.names
    assert frame.loc["b", "RA"] == result.scores["b"]["RA"]


def test_pandas_is_needed_for_the_frame_only(digits, original, monkeypatch):
    result = report({"a": original}, digits, np.arange(20))
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert "FA" in str(result)
    with pytest.raises(ImportError):
        result.to_frame()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": {}}, "at least one classifier"),
        ({"models": {"retrained": "same"}, "retrained": "same"}, "the name 'retrained'"),
        ({"forget": []}, "forget selects no sample"),
        ({"forget": None}, "at least one sample, but it selects none"),
        ({"forget_test": [0, 1]}, "forget_test must be a boolean mask of the 400 test samples"),
        ({"forget_test": np.ones(400, dtype=bool)}, "because TA is their accuracy"),
        ({"y_test": np.zeros(3)}, "inconsistent numbers of samples"),
        ({"y": np.zeros(500), "y_test": np.zeros(400)}, "RandomFeatureClassifier, but lack 1"),
    ],
)
def test_inconsistent_arguments_are_refused(digits, original, change, message):
    X, y, X_test, y_test = digits
    change = {
        key: dict.fromkeys(value, original) if isinstance(value, dict) else value
        for key, value in change.items()
    }
    if "retrained" in change:
        change["retrained"] = original
    given = {"models": original, "X": X, "y": y, "forget": np.arange(9), "X_test": X_test}
    with pytest.raises(ValueError, match=message):
        unlearning_report(**given | {"y_test": y_test} | change)
