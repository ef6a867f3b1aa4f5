"""Cross-validation of the consensus weight equals refitting on every fold."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import make_friedman1
from sklearn.model_selection import KFold

from sklearn_ext import DecentralizedRFKRR
from sklearn_ext.decentralized import consensus_system
from sklearn_ext.decentralized.math import cross_validate, solve_direct
from tests.decentralized.problems import make_problem

GRID = (0.0, 0.3, 2.0)


def test_subtracting_folds_equals_refitting():
    problem = make_problem(n_outputs=2)
    rng = np.random.default_rng(0)
    folds = [rng.permutation(len(X)) % 3 for X in problem.X]

    def part(selected):
        return replace(
            problem,
            **{
                key: [a[keep] for a, keep in zip(getattr(problem, key), selected, strict=True)]
                for key in ("X", "Y", "weights")
            },
        )

    def assemble(statistics, mean):
        return consensus_system(
            statistics, problem.adjacency, mean=mean, ridge=0.0, consensus_weight=0.0
        )

    held_out = [part([fold == k for fold in folds]) for k in range(3)]
    pairs = [(alpha, c) for alpha in (1e-4, 1e-2) for c in GRID]
    errors = cross_validate(
        [samples.statistics() for samples in held_out], assemble, pairs, fit_intercept=True
    )
    for k, test in enumerate(held_out):
        training = part([fold != k for fold in folds])
        mean = np.vstack(training.Y).mean(axis=0)
        total = ((np.vstack(test.Y) - np.vstack(test.Y).mean(axis=0)) ** 2).sum()
        for (alpha, c), error in zip(pairs, errors[:, k], strict=True):
            ridge = alpha * np.mean([weights.sum() for weights in training.weights])
            shifted = replace(training, Y=[Y - mean for Y in training.Y], c=c, ridge=ridge)
            thetas = solve_direct(shifted.system()).coefs
            squares = sum(
                ((test.features(j, X) @ thetas[j] + mean - Y) ** 2).sum()
                for j, (X, Y) in enumerate(zip(test.X, test.Y, strict=True))
            )
            assert error == pytest.approx(squares / total, rel=1e-9)


X, Y = make_friedman1(600, noise=0.5, random_state=0)
NODE = np.arange(600) % 4


def fit(**parameters):
    krr = DecentralizedRFKRR(
        n_components=20, consensus_weight="cv", graph="ring", alpha=1e-4, random_state=0
    )
    return krr.set_params(**parameters).fit(X, Y, node=NODE)


def test_best_candidate_is_fitted_to_all_samples():
    krr = fit(consensus_weight_grid=GRID)
    assert krr.consensus_weight_scores_.shape == (3, 5)
    assert krr.consensus_weight_ == GRID[krr.consensus_weight_scores_.mean(axis=1).argmin()]
    chosen = fit(consensus_weight=krr.consensus_weight_)
    np.testing.assert_allclose(krr.predict(X), chosen.predict(X), rtol=1e-7)
    assert chosen.consensus_weight_scores_ is None


def test_positive_weight_is_chosen_for_few_samples():
    assert fit().consensus_weight_ > 0.0


def test_width_ridge_and_weight_are_chosen_together():
    krr = fit(
        gamma="cv",
        gamma_grid=[1.0, 0.1],
        alpha="cv",
        alpha_grid=[1e-5, 1e-3],
        consensus_weight_grid=GRID,
    )
    found = krr.cv_results_
    # Two selections of "auto" with two widths and ridges each, and then the consensus weights.
    assert found["errors"].shape == (8 + 3, 5)
    np.testing.assert_allclose(found["mean_error"], found["errors"].mean(axis=1))
    first, last = found["mean_error"][:8].argmin(), 8 + found["mean_error"][8:].argmin()
    for name in ("gamma", "alpha", "feature_selection"):
        assert getattr(krr, f"{name}_") == found[name][first] == found[name][last]
    assert krr.consensus_weight_ == found["consensus_weight"][last]
    np.testing.assert_array_equal(found["consensus_weight"][:8], 0.5)
    np.testing.assert_array_equal(krr.consensus_weight_scores_, found["errors"][8:])
    median = fit(consensus_weight=0.5).gamma_
    np.testing.assert_allclose(found["gamma"][:4], np.repeat([median, 0.1 * median], 2))


def test_ridge_is_chosen_for_given_features():
    krr = fit(alpha="cv", alpha_grid=[1e-9, 1e-4, 10.0], consensus_weight=0.5)
    assert krr.alpha_ == 1e-4
    chosen = fit(alpha=1e-4, consensus_weight=0.5)
    np.testing.assert_allclose(krr.predict(X), chosen.predict(X), rtol=1e-7)
    assert krr.consensus_weight_scores_ is None
    assert chosen.cv_results_ is None


def test_width_of_heavy_tails_is_found():
    rng = np.random.default_rng(0)
    table = rng.standard_t(1.5, size=(600, 4))
    table /= np.abs(table).max(axis=0)
    targets = table[:, 0] + 0.5 * table[:, 1]
    narrow, chosen = (
        DecentralizedRFKRR(n_components=20, graph="ring", gamma=gamma, random_state=0).fit(
            table[:300], targets[:300], node=NODE[:300]
        )
        for gamma in (fit(consensus_weight=0.5).gamma_ * 100.0, "cv")
    )
    scores = [krr.score(table[300:], targets[300:], node=NODE[300:]) for krr in (narrow, chosen)]
    assert scores[0] < 0.9 < scores[1]


def test_partial_fit_keeps_the_chosen_parameters():
    krr = fit(gamma="cv", alpha="cv", consensus_weight=0.5)
    before = krr.gamma_, krr.alpha_, krr.feature_selection_, krr.cv_results_
    krr.partial_fit(X[:50], Y[:50], node=NODE[:50])
    assert (krr.gamma_, krr.alpha_, krr.feature_selection_, krr.cv_results_) == before


def test_splitter_gets_node_samples_in_table_order():
    folds = [np.flatnonzero((np.arange(600) // 120) == k) for k in range(5)]
    splits = [(np.setdiff1d(np.arange(600), test), test) for test in folds]
    np.testing.assert_allclose(
        fit(cv=KFold(5)).consensus_weight_scores_,
        fit(cv=splits).consensus_weight_scores_,
        rtol=1e-9,
    )


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"cv": 200}, "number of distinct samples of each node, got cv=200 for a node with 150"),
        (
            {"cv": [(np.arange(10), np.arange(10, 600))]},
            "exactly once, got 147 held-out samples, 147 of",
        ),
        ({"consensus_weight_grid": [-1.0]}, "sequence of finite, non-negative numbers"),
        ({"consensus_weight_grid": []}, "sequence of finite, non-negative numbers"),
        ({"alpha": "cv", "alpha_grid": [0.0]}, "alpha_grid .* finite, positive numbers"),
        ({"gamma": "cv", "gamma_grid": [-1.0]}, "gamma_grid .* finite, positive numbers"),
    ],
)
def test_invalid_folds_and_candidates_are_rejected(parameters, message):
    with pytest.raises(ValueError, match=message):
        fit(**parameters)
