"""Outputs of nets and of other classifiers, in the form that all detectors use."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from sklearn_ext import NetClassifier
from sklearn_ext.ood._classifier_outputs import (
    fitted_outputs,
    pad_last_batch,
)


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    return X.astype(np.float32), y


@pytest.fixture
def rng():
    return np.random.RandomState(0)


def test_logits_of_a_net_are_those_of_its_head(iris, rng):
    X, y = iris
    net = NetClassifier(max_epochs=2, random_state=0).fit(X, y)
    outputs = fitted_outputs(net, X, None, head=None, rng=rng)
    assert outputs.has_features
    assert outputs.compute(X).shape == (150, 128)
    logits = outputs.logits(outputs.compute(X))
    with torch.no_grad():
        expected = net.module_(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(outputs.codes(X), expected.argmax(axis=1))


def test_outputs_of_other_classifiers_are_log_probabilities(iris, rng):
    X, y = iris
    outputs = fitted_outputs(LogisticRegression(max_iter=200), X, y, head=None, rng=rng)
    assert not outputs.has_features
    np.testing.assert_allclose(np.exp(outputs.compute(X)).sum(axis=1), 1.0, rtol=1e-6)
    np.testing.assert_array_equal(outputs.codes(X), outputs.classifier.predict(X))


def test_given_classifier_is_copied_or_cloned(iris, rng):
    X, y = iris
    unfitted = LogisticRegression(max_iter=200)
    fitted = LogisticRegression(max_iter=200).fit(X, y)
    outputs = fitted_outputs(FrozenEstimator(fitted), X, None, head=None, rng=rng)
    assert outputs.classifier is not fitted
    np.testing.assert_array_equal(outputs.classifier.coef_, fitted.coef_)
    fitted_outputs(unfitted, X, y, head=None, rng=rng)
    assert not hasattr(unfitted, "coef_")


@pytest.mark.parametrize(
    ("n_samples", "n_padded"), [(1, 16), (15, 16), (16, 16), (40, 40), (1024, 1024), (1030, 1040)]
)
def test_last_batch_is_padded_to_sixteen_samples(n_samples, n_padded):
    X = np.arange(2.0 * n_samples).reshape(-1, 2)
    padded = pad_last_batch(X)
    assert len(padded) == n_padded
    np.testing.assert_array_equal(padded[:n_samples], X)
    assert (padded[n_samples:] == X[-1]).all()
