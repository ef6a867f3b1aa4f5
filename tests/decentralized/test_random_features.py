"""Cosines, feature maps, and the selection of features."""

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.spatial.distance import pdist
from sklearn.metrics.pairwise import rbf_kernel

from sklearn_ext.decentralized.math import SELECTIONS, evaluate, mean_values, select_map
from sklearn_ext.decentralized.math._engine_torch import DeKRRTorchEngine
from sklearn_ext.decentralized.math._random_features import (
    local_width,
    map_from_message,
    message_shape,
)
from tests.decentralized.problems import ENGINE, random_map

ENGINES = [ENGINE, DeKRRTorchEngine("cpu")]
WIDTHS = ["median", "scale"]
PARAMETERS = {"gamma": 2.0, "n_components": 12, "oversampling": 5, "ridge": 1e-3}


def samples(n=60, n_outputs=1, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, (n, 3))
    return X, np.sin(4.0 * X[:, :1]) @ rng.normal(size=(1, n_outputs)), np.ones(n)


def select(kind, X, Y, weights, *, engine=ENGINE, seed=0, **parameters):
    rng = np.random.default_rng(seed)
    return select_map(X, Y, weights, kind=kind, engine=engine, rng=rng, **PARAMETERS | parameters)


def test_inner_products_estimate_the_kernel():
    X, Y, weights = samples()
    z = select("plain", X, Y, weights, n_components=20_000, oversampling=1)
    Z = ENGINE.features(X, z.frequencies, z.phases)
    np.testing.assert_allclose(Z @ Z.T, rbf_kernel(X, gamma=2.0), atol=0.04)


def test_the_width_is_that_of_its_definition():
    """A width of "scale" gives scikit-learn's gamma="scale", which is 1 / (d Var(X))."""
    X = np.random.default_rng(0).exponential(3.0, (80, 4)) * [0.0, 1.0, 2.0, 9.0]
    for samples_ in (X, sparse.csr_matrix(X)):
        width = {kind: local_width(kind, samples_, np.random.default_rng(0)) for kind in WIDTHS}
        assert 0.5 / width["scale"] ** 2 == pytest.approx(1.0 / (4 * X.var()))
        assert width["median"] == pytest.approx(np.median(pdist(X)))


def test_pairs_give_every_sample_unit_length():
    X, Y, weights = samples()
    z = select("energy_pairs", X, Y, weights)
    Z = ENGINE.features(X, z.frequencies, z.phases)
    np.testing.assert_allclose((Z**2).sum(axis=1), 1.0, atol=1e-12)


@pytest.mark.parametrize("kind", SELECTIONS)
@pytest.mark.parametrize("n_components", [1, 2, 7, 12])
def test_selection_keeps_the_requested_number_of_features(kind, n_components):
    z = select(kind, *samples(), n_components=n_components)
    assert z.frequencies.shape == (3, n_components)
    assert z.n_components == n_components
    message = z.to_message()
    assert message.shape == message_shape(3, n_components, z.paired)
    again = map_from_message(message, n_components, z.paired)
    np.testing.assert_array_equal(again.frequencies, z.frequencies)
    np.testing.assert_array_equal(again.phases, z.phases)


def test_pairs_have_the_largest_energies():
    X, Y, weights = samples(n_outputs=2)
    weights = np.linspace(0.5, 2.0, len(X))
    z = select("energy_pairs", X, Y, weights, seed=3)
    candidates = np.random.default_rng(3).standard_normal((60, 3)).T * 2.0
    energy = np.linalg.norm((weights[:, None] * Y).T @ np.exp(1j * X @ candidates), axis=0)
    best = candidates[:, np.argsort(-energy)[:6]]
    np.testing.assert_allclose(z.frequencies, np.hstack((best, best)))
    np.testing.assert_allclose(z.phases, np.repeat((0.0, -np.pi / 2), 6))


def test_paper_rule_scores_cosines_and_redraws_phases():
    X, Y, weights = samples()
    z = select("energy", X, Y, weights, seed=3)
    rng = np.random.default_rng(3)
    candidates = rng.standard_normal((60, 3)).T * 2.0
    phases = rng.uniform(0, 2 * np.pi, 60)
    score = abs(Y[:, 0] @ np.cos(X @ candidates + phases))
    np.testing.assert_allclose(z.frequencies, candidates[:, np.argsort(-score)[:12]])
    np.testing.assert_allclose(z.phases, rng.uniform(0, 2 * np.pi, 12))


def test_leverage_prefers_independent_features():
    X = np.zeros((50, 1))
    X[0] = 1.0
    parameters = {"n_components": 4, "oversampling": 10, "ridge": 1e-6}
    z = select("leverage", X, X, np.ones(50), **parameters)
    Z = ENGINE.features(X, z.frequencies, z.phases)
    assert np.linalg.matrix_rank(Z) == 2


@pytest.mark.parametrize("kind", SELECTIONS)
def test_engines_select_the_same_features(kind):
    maps = [select(kind, *samples(n_outputs=2), engine=engine) for engine in ENGINES]
    np.testing.assert_array_equal(maps[0].frequencies, maps[1].frequencies)
    np.testing.assert_array_equal(maps[0].phases, maps[1].phases)


@pytest.mark.parametrize(
    ("engine", "tolerance"),
    [(ENGINE, 1e-13), (ENGINES[1], 1e-13), (DeKRRTorchEngine("cpu", torch.float32), 1e-4)],
)
def test_values_match_the_written_out_sum(engine, tolerance):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20_000, 2))
    maps = [random_map(2, D, rng) for D in (3, 8)]
    coefs = [rng.normal(size=(D, 2)) for D in (3, 8)]
    values = evaluate(X, maps, coefs, engine)
    for value, z, theta in zip(values, maps, coefs, strict=True):
        D = len(z.phases)
        expected = np.sqrt(2.0 / D) * np.cos(X @ z.frequencies + z.phases) @ theta
        np.testing.assert_allclose(value, expected, atol=tolerance)
    np.testing.assert_allclose(mean_values(X, maps, coefs, engine), values.mean(0), atol=tolerance)
