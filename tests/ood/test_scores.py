"""Scores against closed forms and invariances."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.special import logsumexp, softmax

from sklearn_ext.ood.orthloss import _feature_geometry as geometry
from sklearn_ext.ood.post_hoc import _scores as scores


@pytest.fixture
def draw():
    generator = torch.Generator().manual_seed(1)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return normal


def assert_close(actual, expected):
    np.testing.assert_allclose(actual.numpy(), np.asarray(expected), rtol=1e-10, atol=1e-12)


def test_scores_of_logits(draw):
    L = 3.0 * draw(8, 5)
    assert_close(scores.max_probability(L), softmax(L.numpy(), axis=1).max(axis=1))
    assert_close(scores.max_logit(L), L.numpy().max(axis=1))
    assert_close(scores.negative_energy(L), logsumexp(L.numpy(), axis=1))
    assert_close(scores.negative_energy(L, 2.0), 2.0 * logsumexp(L.numpy() / 2.0, axis=1))
    assert (scores.negative_energy(L) > scores.max_logit(L)).all()


def test_row_space_share_depends_on_the_row_space_only(draw):
    W, Z = draw(5, 12), draw(20, 12)
    share = geometry.row_space_share(Z, geometry.row_space_basis(W))
    mixed = geometry.row_space_share(Z, geometry.row_space_basis(draw(5, 5) @ W))
    assert_close(mixed, share)
    assert ((share > 0.0) & (share < 1.0)).all()
    inside = geometry.row_space_share(draw(20, 5) @ W, geometry.row_space_basis(W))
    assert_close(inside, np.ones(20))


def test_row_space_of_a_head_of_lower_rank(draw):
    W = draw(5, 2) @ draw(2, 12)
    basis = geometry.row_space_basis(W)
    assert basis.shape == (12, 2)
    assert_close(basis.T @ basis, np.eye(2))
    assert_close(W @ basis @ basis.T, W)


def test_scores_of_unit_features_ignore_the_length(draw):
    W, Z = draw(5, 12), draw(20, 12)
    basis = geometry.row_space_basis(W)
    assert_close(geometry.cosines(7.0 * Z, W), geometry.cosines(Z, W))
    assert_close(geometry.row_space_share(7.0 * Z, basis), geometry.row_space_share(Z, basis))


def test_clipping_above_every_feature_changes_no_logit(draw):
    W, b, Z = draw(5, 12), draw(5), draw(20, 12)
    plain = Z @ W.T + b
    assert_close(scores.clipped_logits(Z, W, b, float(Z.max())), plain)
    np.testing.assert_allclose(
        scores.clipped_logits(Z, W, b, 0.3), Z.clamp_max(0.3) @ W.T + b, rtol=1e-12
    )


def test_mahalanobis_distance(draw):
    codes = torch.arange(90) % 3
    Z = draw(90, 4) @ draw(4, 4) + 5.0 * draw(3, 4)[codes]
    means = scores.class_means(Z, codes, 3)
    assert_close(means, [Z[codes == c].numpy().mean(axis=0) for c in range(3)])
    residuals = Z - means[codes]
    covariance = residuals.T @ residuals / 90
    for shrinkage in (0.0, 0.3):
        identity = torch.eye(4, dtype=Z.dtype)
        shrunk = (1 - shrinkage) * covariance + shrinkage * torch.trace(covariance) / 4 * identity
        precision = np.linalg.inv(shrunk.numpy())
        root = scores.shrunk_precision_root(residuals, shrinkage)
        np.testing.assert_allclose(root @ root.T, precision, rtol=1e-8)
        expected = -(cdist(Z, means, "mahalanobis", VI=precision).min(axis=1) ** 2)
        np.testing.assert_allclose(scores.negative_mahalanobis(Z, means, root), expected, rtol=1e-8)


def test_a_direction_without_variance_is_ignored_unless_covariance_is_shrunk(draw):
    residuals = draw(50, 3)
    residuals[:, 2] = 0.0
    unseen = torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)
    origin = torch.zeros(1, 3, dtype=torch.float64)
    plain = scores.shrunk_precision_root(residuals, 0.0)
    assert float(scores.negative_mahalanobis(unseen, origin, plain)) == pytest.approx(
        0.0, abs=1e-12
    )
    shrunk = scores.shrunk_precision_root(residuals, 1e-3)
    assert float(scores.negative_mahalanobis(unseen, origin, shrunk)) < -100.0


def test_virtual_logit(draw):
    W, b, Z = draw(5, 12), draw(5), draw(60, 12)
    origin = scores.logit_origin(W, b)
    assert_close(W @ origin + b, np.zeros(5))
    centred = Z - origin
    basis = scores.residual_basis(centred, 9)
    assert basis.shape == (12, 3)
    assert_close(basis.T @ basis, np.eye(3))
    left_out = np.linalg.svd(centred.numpy())[1][9:]
    assert float((centred @ basis).square().sum()) == pytest.approx((left_out**2).sum())

    L = Z @ W.T + b
    residuals = (centred @ basis).norm(dim=1)
    score = scores.virtual_logit_score(L, residuals, 0.7)
    virtual = torch.softmax(torch.cat([0.7 * residuals[:, None], L], dim=1), dim=1)[:, 0]
    assert_close(score, torch.log1p(-virtual) - torch.log(virtual))


@pytest.mark.parametrize(
    ("n_features", "expected"), [(10, 5), (767, 383), (768, 512), (2047, 512), (2048, 1000)]
)
def test_the_principal_space_has_the_published_dimension(n_features, expected):
    assert scores.principal_dimension(n_features) == expected
