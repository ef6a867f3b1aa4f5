"""A model with default parameters on all digits, evaluated by a classifier."""

import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from sklearn_ext import ConditionalDDPM
from sklearn_ext.metrics import frechet_distance
from sklearn_ext.metrics._generation import classifier_features

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    X = X / 8 - 1
    return X, y, MLPClassifier((256, 128), random_state=0).fit(X, y)


@pytest.mark.parametrize("params", [{}, {"n_timesteps": 100, "schedule": "cosine"}])
def test_samples_have_the_right_class_and_variety(digits, params):
    X, y, classifier = digits
    model = ConditionalDDPM(**params, random_state=0).fit(X, y)
    assert model.n_iter_ == 6000
    X_new, y_new = model.sample(1000, random_state=0)
    assert classifier.score(X_new, y_new) >= 0.98

    def distance(first, second):
        return frechet_distance(
            classifier_features(classifier, first), classifier_features(classifier, second)
        )

    halves = train_test_split(X, stratify=y, test_size=0.5, random_state=0)
    assert distance(X, X_new) <= 5
    assert distance(X, X_new) <= 4 * distance(*halves)
