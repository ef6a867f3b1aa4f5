import numpy as np
import pytest
from scipy.linalg import sqrtm
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from sklearn_ext.metrics import frechet_distance, generation_report
from sklearn_ext.metrics._generation import classifier_features


class Resampling:
    """A generator that draws real samples, optionally of another class or with added noise."""

    def __init__(self, X, y, instead=None, noise=0.0):
        self.X, self.y, self.instead, self.noise = X, y, instead or {}, noise

    def sample(self, n_samples, y, *, n_steps, guidance, allow_forgotten, random_state):
        assert allow_forgotten
        rng = np.random.default_rng(random_state)
        rows = [rng.choice(self.X[self.y == self.instead.get(label, label)]) for label in y]
        return np.array(rows) + self.noise * rng.normal(size=np.shape(rows)), y

    def score_samples(self, X, y):
        return -np.isin(y, list(self.instead)).astype(float)


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(n_class=4, return_X_y=True)
    X = X / 16
    return X, y, LogisticRegression(max_iter=300).fit(X, y)


def test_the_frechet_distance_matches_its_formula():
    rng = np.random.default_rng(0)
    A, B = rng.normal(size=(40, 3)), rng.normal(size=(30, 3)) @ rng.normal(size=(3, 3)) + 1
    cov_a, cov_b = np.cov(A, rowvar=False), np.cov(B, rowvar=False)
    expected = np.square(A.mean(axis=0) - B.mean(axis=0)).sum()
    expected += np.trace(cov_a + cov_b - 2 * sqrtm(cov_a @ cov_b).real)
    assert frechet_distance(A, B) == pytest.approx(expected)
    assert frechet_distance(B, A) == pytest.approx(expected)
    assert frechet_distance(A, A) == pytest.approx(0, abs=1e-10)
    assert frechet_distance(A[:, :1], A[:, :1] + 2) == pytest.approx(4)


def test_fewer_samples_than_features_are_allowed():
    rng = np.random.default_rng(0)
    A, B = rng.normal(size=(5, 20)), rng.normal(size=(4, 20))
    assert 0 < frechet_distance(A, B) < np.inf
    assert frechet_distance(A, A) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("A", "B", "message"),
    [
        ([[1.0, 2.0]], [[1.0, 2.0], [2.0, 3.0]], "minimum of 2"),
        ([[1.0], [2.0]], [[1.0, 2.0], [2.0, 3.0]], "same number of features, got 1 and 2"),
        ([[1.0], [np.nan]], [[1.0], [2.0]], "NaN"),
    ],
)
def test_the_frechet_distance_refuses_unsuitable_sets(A, B, message):
    with pytest.raises(ValueError, match=message):
        frechet_distance(A, B)


def test_the_report_tells_kept_from_spoiled_classes(digits):
    X, y, classifier = digits
    models = {
        "kept": Resampling(X, y),
        "redirected": Resampling(X, y, {2: 3}),
        "spoiled": Resampling(X, y, noise=2.0),
    }
    report = generation_report(models, classifier, X, y, 2, random_state=0)
    kept, redirected, spoiled = report.scores.values()
    assert kept["forget_accuracy"] > 0.98
    assert kept["valid_forget_accuracy"] > 0.97
    assert redirected["forget_accuracy"] < 0.02
    assert redirected["other_accuracy"] == kept["other_accuracy"] > 0.98
    assert redirected["other_frechet_distance"] == kept["other_frechet_distance"]
    assert (redirected["forget_loss"], redirected["other_loss"]) == (1, 0)
    assert spoiled["forget_accuracy"] > 0.3
    assert spoiled["valid_forget_accuracy"] == 0
    assert spoiled["other_frechet_distance"] > 10 * kept["other_frechet_distance"]
    assert "redirected  " in str(report)
    assert report.to_frame().loc["kept", "forget_accuracy"] == kept["forget_accuracy"]


def test_a_seed_repeats_the_report_and_features_can_be_given(digits):
    X, y, classifier = digits
    options = {"forgotten": [1, 2], "n_samples": 20, "random_state": 3}
    (first,) = generation_report(Resampling(X, y), classifier, X, y, **options).scores.values()
    (second,) = generation_report(Resampling(X, y), classifier, X, y, **options).scores.values()
    assert first == second
    (third,) = generation_report(
        Resampling(X, y), classifier, X, y, features=lambda rows: rows[:, :2] * 0, **options
    ).scores.values()
    assert third["other_frechet_distance"] == 0


@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
def test_features_of_an_mlp_are_inputs_of_its_last_layer(digits, activation):
    X, y, _ = digits
    mlp = MLPClassifier((7, 5), activation=activation, max_iter=20, random_state=0)
    with pytest.warns(match="Maximum iterations"):
        mlp.fit(X, y)
    logits = classifier_features(mlp, X) @ mlp.coefs_[-1] + mlp.intercepts_[-1]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, mlp.predict_proba(X))


@pytest.mark.parametrize("forgotten", [9, [0, 9], [], [0, 1, 2, 3]])
def test_some_but_not_all_classes_must_be_forgotten(digits, forgotten):
    X, y, classifier = digits
    with pytest.raises(ValueError, match="some, but not all"):
        generation_report(Resampling(X, y), classifier, X, y, forgotten)


@pytest.mark.parametrize("n_rows", [(1, 5), (5, 1)])
def test_each_side_needs_two_real_samples(digits, n_rows):
    X, y, classifier = digits
    rows = np.concatenate([np.flatnonzero(y == k)[:n] for k, n in enumerate(n_rows)])
    with pytest.raises(ValueError, match="two samples of each forgotten class"):
        generation_report(Resampling(X, y), classifier, X[rows], y[rows], 0)
