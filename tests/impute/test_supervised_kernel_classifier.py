import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_breast_cancer, load_iris, load_wine
from sklearn.metrics import accuracy_score
from sklearn.svm import SVC

from sklearn_ext import SupervisedKernelClassifier
from tests.impute.tables import with_missing


def split(load, ratio, seed=0):
    X, y = load(return_X_y=True)
    X, _ = with_missing(X, ratio, seed)
    order = np.random.RandomState(seed).permutation(len(X))
    train, test = order[::2], order[1::2]
    return X[train], y[train], X[test], y[test]


@pytest.mark.parametrize("load", [load_wine, load_breast_cancer])
@pytest.mark.parametrize(("ratio", "least"), [(0.0, 0.94), (0.5, 0.85)])
def test_it_classifies_samples_with_missing_values(load, ratio, least):
    X, y, X_test, y_test = split(load, ratio)
    classifier = SupervisedKernelClassifier(random_state=0).fit(X, y)
    assert classifier.score(X_test, y_test) >= least
    scores = classifier.decision_function(X_test)
    assert scores.shape == ((len(X_test),) if load is load_breast_cancer else (len(X_test), 3))


def test_without_missing_values_and_correction_it_is_svc():
    X, y = load_breast_cancer(return_X_y=True)
    scaled = (X - X.min(axis=0)) / np.ptp(X, axis=0)
    ours = SupervisedKernelClassifier(kappa=0.0, gamma=1.0, random_state=0).fit(X, y)
    theirs = SVC(gamma=1.0).fit(scaled, y)
    np.testing.assert_allclose(
        ours.decision_function(X), theirs.decision_function(scaled), atol=1e-4
    )


def test_class_weights_are_those_of_svc():
    X, y = load_breast_cancer(return_X_y=True)
    scaled = (X - X.min(axis=0)) / np.ptp(X, axis=0)
    for class_weight in ("balanced", {0: 5.0}):
        ours = SupervisedKernelClassifier(
            kappa=0.0, gamma=1.0, class_weight=class_weight, random_state=0
        )
        theirs = SVC(gamma=1.0, class_weight=class_weight).fit(scaled, y)
        np.testing.assert_allclose(
            ours.fit(X, y).decision_function(X), theirs.decision_function(scaled), atol=1e-4
        )


@pytest.mark.parametrize("max_landmarks", [1000, 60])
def test_class_weights_find_more_of_a_rare_class(max_landmarks):
    X, y, X_test, y_test = split(load_breast_cancer, 0.5)
    kept = (y == 1) | (np.arange(len(y)) % 5 == 0)
    names = np.array(["malignant", "benign"])
    recalls = [
        np.mean(
            SupervisedKernelClassifier(
                class_weight=class_weight, max_landmarks=max_landmarks, random_state=0
            )
            .fit(X[kept], names[y[kept]])
            .predict(X_test[y_test == 0])
            == "malignant"
        )
        for class_weight in (None, "balanced")
    ]
    assert recalls[0] + 0.05 < recalls[1]


@pytest.mark.parametrize(
    ("class_weight", "message"),
    [
        ({2: 1.0}, r"name classes of y, which are \[0, 1\], got 2"),
        ({1: 0.0}, r"positive and finite weights, got 0.0 for class 1"),
    ],
)
def test_invalid_class_weights_are_refused(class_weight, message):
    classifier = SupervisedKernelClassifier(class_weight=class_weight)
    with pytest.raises(ValueError, match=message):
        classifier.fit([[1.0], [2.0], [3.0]], [0, 1, 1])


def test_classes_may_be_strings_and_samples_data_frames():
    X, y, X_test, _ = split(load_wine, 0.3)
    names = np.array(["a", "b", "c"])[y]
    frame = pd.DataFrame(X).add_prefix("x")
    classifier = SupervisedKernelClassifier(random_state=0).fit(frame, names)
    assert set(classifier.predict(pd.DataFrame(X_test).add_prefix("x"))) <= {"a", "b", "c"}


def test_a_sample_alone_is_scored_as_in_a_batch():
    X, y, X_test, _ = split(load_wine, 0.4)
    classifier = SupervisedKernelClassifier(random_state=0).fit(X, y)
    batch = classifier.decision_function(X_test)
    alone = np.vstack([classifier.decision_function(x[None]) for x in X_test])
    np.testing.assert_allclose(alone, batch, atol=1e-10)


def test_engines_agree():
    X, y, X_test, _ = split(load_wine, 0.4)
    scores = [
        SupervisedKernelClassifier(random_state=0, engine=engine)
        .fit(X, y)
        .decision_function(X_test)
        for engine in ("numba", "torch")
    ]
    np.testing.assert_allclose(*scores, atol=1e-8)


def test_the_correction_changes_the_dual_coefficients():
    X, y, _, _ = split(load_breast_cancer, 0.4)
    coefs = [
        SupervisedKernelClassifier(kappa=kappa, random_state=0).fit(X, y).dual_coef_
        for kappa in (0.0, 0.5)
    ]
    assert np.abs(coefs[0] - coefs[1]).max() > 0.01


def test_large_data_are_classified_on_landmarks():
    X, y, X_test, y_test = split(load_breast_cancer, 0.3)
    exact = SupervisedKernelClassifier(random_state=0).fit(X, y)
    few = SupervisedKernelClassifier(max_landmarks=100, C=10.0, random_state=0).fit(X, y)
    assert few.dual_coef_.shape == (100, 1)
    assert few.landmarks_.shape == few.landmark_variances_.shape == (100, 30)
    assert few.score(X_test, y_test) >= exact.score(X_test, y_test) - 0.02


def test_calibration_gives_probabilities():
    X, y, X_test, y_test = split(load_wine, 0.3)
    calibrated = CalibratedClassifierCV(SupervisedKernelClassifier(random_state=0), cv=3)
    P = calibrated.fit(X, y).predict_proba(X_test)
    np.testing.assert_allclose(P.sum(axis=1), 1.0)
    assert accuracy_score(y_test, P.argmax(axis=1)) > 0.9


def test_one_class_is_refused():
    with pytest.raises(ValueError, match=r"at least 2 classes, got one class"):
        SupervisedKernelClassifier().fit([[1.0], [2.0]], [1, 1])


@pytest.mark.parametrize("max_landmarks", [1000, 200])
def test_many_classes_share_a_factorization(max_landmarks):
    rng = np.random.RandomState(0)
    centers = 2.0 * rng.randn(40, 10)
    y = np.arange(800) % 40
    X, _ = with_missing(centers[y] + rng.randn(800, 10), 0.1, 0)
    classifier = SupervisedKernelClassifier(
        max_landmarks=max_landmarks, C=10.0, random_state=0
    ).fit(X[:400], y[:400])
    assert classifier.dual_coef_.shape == (min(max_landmarks, 400), 40)
    assert classifier.score(X[400:], y[400:]) > 0.8


def test_a_feature_without_values_is_reported():
    X, y = load_iris(return_X_y=True)
    X[:, 1] = np.nan
    with pytest.warns(UserWarning, match=r"without any observed values: \['x1'\]"):
        model = SupervisedKernelClassifier(random_state=0).fit(X, y)
    rest = SupervisedKernelClassifier(random_state=0).fit(X[:, [0, 2, 3]], y)
    np.testing.assert_array_equal(model.predict(X), rest.predict(X[:, [0, 2, 3]]))
