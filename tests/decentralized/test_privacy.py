"""The release of noisy sums: calibration, sensitivity, accuracy, and a failed reconstruction."""

import numpy as np
import pytest
from scipy.optimize import least_squares, linear_sum_assignment
from scipy.spatial.distance import cdist
from sklearn.datasets import make_friedman1

from sklearn_ext import DecentralizedRFClassifier, DecentralizedRFKRR, InProcessNetwork
from sklearn_ext.decentralized import GaussianRelease, gaussian_noise_scale
from sklearn_ext.decentralized.math import gaussian_delta, release_sums, shared_map
from sklearn_ext.decentralized.math._privacy import SENSITIVITY, positive_part

X, Y = make_friedman1(1200, noise=0.5, random_state=0)
NODE = np.arange(1200) % 30
TRAIN, TEST = slice(0, 600), slice(600, None)


def features(z, X):
    return np.sqrt(2.0 / z.n_components) * np.cos(X @ z.frequencies + z.phases)


def released(Z, targets):
    gram = Z.T @ Z
    upper = np.triu_indices(len(gram), 1)
    return np.concatenate((np.diagonal(gram), 2.0**0.5 * gram[upper], Z.T @ targets))


@pytest.mark.parametrize("epsilon", [0.01, 0.5, 1.0, 3.0, 50.0])
@pytest.mark.parametrize("delta", [1e-2, 1e-5, 1e-12])
def test_noise_is_the_least_that_satisfies_the_guarantee(epsilon, delta):
    scale = gaussian_noise_scale(epsilon, delta)
    assert gaussian_delta(scale, epsilon) == pytest.approx(delta, rel=1e-6)
    assert gaussian_delta(0.99 * scale, epsilon) > delta
    assert gaussian_noise_scale(epsilon, delta, 2.0) == pytest.approx(2.0 * scale)
    if epsilon <= 1:
        assert scale < np.sqrt(2.0 * np.log(1.25 / delta)) / epsilon  # the classical bound


def test_delta_is_the_largest_excess_probability():
    """Integrate the definition numerically for two outputs that are one unit apart."""
    scale, epsilon = 1.3, 0.8
    x = np.linspace(-15.0, 15.0, 400_001)
    densities = [np.exp(-0.5 * ((x - shift) / scale) ** 2) for shift in (1.0, 0.0)]
    p, q = (density / (scale * np.sqrt(2.0 * np.pi)) for density in densities)
    excess = np.maximum(p - np.exp(epsilon) * q, 0.0).sum() * (x[1] - x[0])
    assert gaussian_delta(scale, epsilon) == pytest.approx(excess, rel=1e-6)


@pytest.mark.parametrize("n_components", [3, 20, 101])
def test_one_sample_moves_the_release_by_the_sensitivity_at_most(n_components):
    rng = np.random.default_rng(0)
    z = shared_map(4, n_components, 0.5, rng)
    Z = features(z, 10.0 * rng.normal(size=(200, 4)))
    np.testing.assert_allclose((Z**2).sum(axis=1), 1.0)
    targets = rng.uniform(-1.0, 1.0, 200)
    targets[0] = 1.0
    moves = [np.linalg.norm(released(Z[[i]], targets[[i]])) for i in range(200)]
    assert max(moves) <= SENSITIVITY * (1.0 + 1e-12)
    assert moves[0] == pytest.approx(SENSITIVITY)


def test_noise_has_the_given_scale_on_every_entry():
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(2000):
        gram, moment = release_sums(np.zeros((3, 3)), np.zeros(3), 2.0, rng)
        np.testing.assert_array_equal(gram, gram.T)
        draws.append([*np.diagonal(gram), *(2.0**0.5 * gram[np.triu_indices(3, 1)]), *moment])
    covariance = np.cov(np.array(draws).T)
    np.testing.assert_allclose(covariance, 4.0 * np.eye(9), atol=0.5)
    matrix = np.diag([3.0, -2.0])
    np.testing.assert_allclose(positive_part(matrix), np.diag([3.0, 0.0]), atol=1e-15)


def make(epsilon, **parameters):
    release = GaussianRelease(epsilon, target_range=(0.0, 30.0), random_state=0)
    defaults = {"n_components": 31, "gamma": 0.3, "graph": "ring", "random_state": 0}
    return DecentralizedRFKRR(privacy=release, **defaults | parameters)


def score(krr):
    return krr.fit(X[TRAIN], Y[TRAIN], node=NODE[TRAIN]).score(X[TEST], Y[TEST], node=NODE[TEST])


def test_small_sites_benefit_at_epsilon_3():
    """At thirty sites of twenty samples, noise ends the benefit only if epsilon is small."""
    alone = score(make(1e-3))
    scores = [score(make(epsilon)) for epsilon in (3.0, 1e6)]
    assert alone < scores[0] < scores[1]
    assert scores[0] > alone + 0.02
    without = DecentralizedRFKRR(n_components=31, n_nodes=1, gamma=0.3, random_state=0)
    pooled = without.fit(X[TRAIN], Y[TRAIN]).score(X[TEST], Y[TEST])
    assert scores[1] == pytest.approx(pooled, abs=0.1)


def test_network_carries_the_release_once():
    local, talking = make(3.0), make(3.0, network=InProcessNetwork())
    assert score(talking) == score(local)
    assert talking.n_floats_sent_["total"] == local.n_floats_sent_["total"]
    # On a ring of 30 nodes, an edge carries the 31 * 32 / 2 + 31 numbers and the index of 15 nodes.
    assert local.n_floats_sent_["setup_by_edge"][0, 1] == 15 * (31 * 16 + 31 + 1)
    assert talking.communication_cost_["total"] > 8 * talking.n_floats_sent_["total"]
    with pytest.raises(ValueError, match="privacy must be None for partial_fit"):
        local.partial_fit(X, Y, node=NODE)


def test_noise_is_fresh_unless_it_is_seeded():
    def coefs(seed):
        release = GaussianRelease(3.0, target_range=(0.0, 30.0), random_state=seed)
        krr = make(3.0).set_params(privacy=release)
        return np.array(krr.fit(X[:300], Y[:300], node=NODE[:300]).node_coef_)

    np.testing.assert_array_equal(coefs(0), coefs(0))
    assert (coefs(None) != coefs(None)).any()


def test_classifier_takes_two_classes():
    labels = np.where(np.median(Y) < Y, "high", "low")
    parameters = {"n_components": 31, "gamma": 0.3, "graph": "ring", "random_state": 0}
    release = GaussianRelease(epsilon=3.0, random_state=0)
    classifier = DecentralizedRFClassifier(privacy=release, **parameters)
    classifier.fit(X[TRAIN], labels[TRAIN], node=NODE[TRAIN])
    assert classifier.score(X[TEST], labels[TEST], node=NODE[TEST]) > 0.7
    with pytest.raises(ValueError, match="y must have one output with privacy, got 3"):
        classifier.fit(X, np.digitize(Y, [10, 15]), node=NODE)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"gamma": "median"}, "gamma must be a number with privacy, got 'median'"),
        ({"n_components": [10] * 29 + [11]}, "n_components must be one number of at least 3"),
        ({"n_components": 2}, "n_components must be one number of at least 3"),
    ],
)
def test_parameters_that_reveal_samples_are_rejected(parameters, message):
    with pytest.raises(ValueError, match=message):
        make(1.0, **parameters).fit(X, Y, node=NODE)


def test_weights_and_invalid_budgets_are_rejected():
    with pytest.raises(ValueError, match="sample_weight must be None with privacy"):
        make(1.0).fit(X, Y, node=NODE, sample_weight=np.full(1200, 2.0))
    for parameters, name in [
        ({"epsilon": 0.0}, "epsilon"),
        ({"epsilon": 1.0, "delta": 1.0}, "delta"),
        ({"epsilon": 1.0, "target_range": (1.0, 1.0)}, "target_range"),
    ]:
        with pytest.raises(ValueError, match=f"{name} must be"):
            GaussianRelease(**parameters)


def test_reconstruction_fails_on_the_release():
    """Least squares finds the samples of a node from its exact block, not from the release."""
    rng = np.random.default_rng(0)
    z = shared_map(3, 21, 0.5, rng)
    secret = rng.uniform(size=(10, 3))
    Z = features(z, secret)
    upper = np.triu_indices(21)

    def error_of_attack(block):
        def misfit(samples):
            Z = features(z, samples.reshape(-1, 3))
            return (Z.T @ Z - block)[upper]

        starts = [rng.uniform(size=30) for _ in range(6)]
        found = min((least_squares(misfit, x, max_nfev=100) for x in starts), key=lambda f: f.cost)
        distances = cdist(secret, found.x.reshape(-1, 3))
        return np.median(distances[linear_sum_assignment(distances)])

    noisy, _ = release_sums(Z.T @ Z, np.zeros(21), GaussianRelease(3.0).noise_scale, rng)
    guess = cdist(secret, rng.uniform(size=(10, 3)))
    by_chance = np.median(guess[linear_sum_assignment(guess)])
    assert error_of_attack(Z.T @ Z) < 1e-4
    assert error_of_attack(noisy) > 0.8 * by_chance
