import numpy as np
import pytest
import torch

from sklearn_ext.ood import row_space_score
from sklearn_ext.ood.orthloss._feature_geometry import (
    cosines,
    row_space_basis,
    separation_diagnostics,
)


def assert_close(actual, expected):
    np.testing.assert_allclose(actual.numpy(), np.asarray(expected), rtol=1e-10, atol=1e-12)


def test_row_space_score_depends_only_on_the_row_space(draw):
    W, Z = draw(5, 12), draw(20, 12)
    score = row_space_score(Z, row_space_basis(W))
    mixed = row_space_score(Z, row_space_basis(draw(5, 5) @ W))
    assert_close(mixed, score)
    assert ((score > 0.0) & (score < 1.0)).all()
    inside = row_space_score(draw(20, 5) @ W, row_space_basis(W))
    assert_close(inside, np.ones(20))


def test_row_space_of_a_head_of_lower_rank(draw):
    W = draw(5, 2) @ draw(2, 12)
    basis = row_space_basis(W)
    assert basis.shape == (12, 2)
    assert_close(basis.T @ basis, np.eye(2))
    assert_close(W @ basis @ basis.T, W)


def test_scores_of_unit_features_ignore_the_length(draw):
    W, Z = draw(5, 12), draw(20, 12)
    basis = row_space_basis(W)
    assert_close(cosines(7.0 * Z, W), cosines(Z, W))
    assert_close(row_space_score(7.0 * Z, basis), row_space_score(Z, basis))


def test_diagnostics_tell_features_inside_from_outside():
    weight = torch.eye(6, dtype=torch.float64)[:3] * torch.tensor([[1.0], [2.0], [30.0]])
    bias = torch.zeros(3, dtype=torch.float64)
    inside = torch.eye(6, dtype=torch.float64)[:3]
    halfway = torch.tensor([[3.0, 0.0, 0.0, 0.0, 4.0, 0.0]], dtype=torch.float64)
    outside = torch.eye(6, dtype=torch.float64)[3:]
    report = separation_diagnostics(inside, outside, weight, bias)
    assert report["id_cosine"] == pytest.approx(1 / 3)
    assert report["id_residual"] == pytest.approx(0.0, abs=1e-7)
    assert report["outlier_cosine"] == 0.0
    assert report["outlier_residual"] == 1.0
    assert report["outliers_like_id"] == 0.0
    report = separation_diagnostics(inside, halfway, weight, bias)
    assert report["outlier_cosine"] == pytest.approx(0.6 / 3)
    assert report["outlier_residual"] == pytest.approx(0.8)
    # Only the row of the third class is both aligned and confident.
    assert separation_diagnostics(inside, inside, weight, bias)[
        "outliers_like_id"
    ] == pytest.approx(1 / 3)
