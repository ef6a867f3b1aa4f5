"""Scores compared with closed forms."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.special import logsumexp, softmax

from sklearn_ext.ood import (
    ash_score,
    energy_score,
    fdbd_score,
    gen_score,
    knn_score,
    mahalanobis_score,
    max_logit_score,
    msp_score,
    nnguide_score,
    react_score,
    scale_score,
    vim_score,
)
from sklearn_ext.ood._scores import (
    class_means,
    logit_origin,
    principal_dimension,
    residual_basis,
    shrunk_precision_root,
)


def assert_close(actual, expected):
    np.testing.assert_allclose(actual.numpy(), np.asarray(expected), rtol=1e-10, atol=1e-12)


def test_scores_of_logits(draw):
    L = 3.0 * draw(8, 5)
    assert_close(msp_score(L), softmax(L.numpy(), axis=1).max(axis=1))
    assert_close(max_logit_score(L), L.numpy().max(axis=1))
    assert_close(energy_score(L), logsumexp(L.numpy(), axis=1))
    assert_close(energy_score(L, 2.0), 2.0 * logsumexp(L.numpy() / 2.0, axis=1))
    assert (energy_score(L) > max_logit_score(L)).all()


def test_clipping_above_every_feature_changes_no_score(draw):
    W, b, Z = draw(5, 12), draw(5), draw(20, 12)
    assert_close(react_score(Z, W, b, float(Z.max())), energy_score(Z @ W.T + b))
    expected = energy_score(Z.clamp_max(0.3) @ W.T + b)
    np.testing.assert_allclose(react_score(Z, W, b, 0.3), expected, rtol=1e-12)


def test_knn_score_is_the_negative_kth_distance(draw):
    Z, U = draw(20, 6), torch.nn.functional.normalize(draw(15, 6))
    distances = np.sort(cdist(torch.nn.functional.normalize(Z), U), axis=1)
    for k in (1, 4, 15):
        assert_close(knn_score(Z, U, k), -distances[:, k - 1])


def test_mahalanobis_distance(draw):
    codes = torch.arange(90) % 3
    Z = draw(90, 4) @ draw(4, 4) + 5.0 * draw(3, 4)[codes]
    means = class_means(Z, codes, 3)
    assert_close(means, [Z[codes == c].numpy().mean(axis=0) for c in range(3)])
    residuals = Z - means[codes]
    covariance = residuals.T @ residuals / 90
    for shrinkage in (0.0, 0.3):
        identity = torch.eye(4, dtype=Z.dtype)
        shrunk = (1 - shrinkage) * covariance + shrinkage * torch.trace(covariance) / 4 * identity
        precision = np.linalg.inv(shrunk.numpy())
        root = shrunk_precision_root(residuals, shrinkage)
        np.testing.assert_allclose(root @ root.T, precision, rtol=1e-8)
        expected = -(cdist(Z, means, "mahalanobis", VI=precision).min(axis=1) ** 2)
        np.testing.assert_allclose(mahalanobis_score(Z, means, root), expected, rtol=1e-8)


def test_generalized_entropy(draw):
    L = draw(8, 5)
    p = np.sort(softmax(L.numpy(), axis=1), axis=1)
    assert_close(gen_score(L, 0.3), -((p * (1 - p)) ** 0.3).sum(axis=1))
    assert_close(gen_score(L, 0.3, n_top=2), -((p * (1 - p)) ** 0.3)[:, -2:].sum(axis=1))


def test_scaled_and_pruned_features(draw):
    W, b, Z = draw(5, 12), draw(5), draw(20, 12).abs()
    kept = np.where(Z.numpy() >= np.sort(Z.numpy(), axis=1)[:, [-3]], Z.numpy(), 0.0)
    factor = np.exp(Z.numpy().sum(axis=1) / kept.sum(axis=1))[:, None]
    expected = logsumexp(Z.numpy() * factor @ W.numpy().T + b.numpy(), axis=1)
    assert_close(scale_score(Z, W, b, 0.75), expected)
    expected = logsumexp(kept * factor @ W.numpy().T + b.numpy(), axis=1)
    assert_close(ash_score(Z, W, b, 0.75), expected)
    zero = torch.zeros(1, 12, dtype=Z.dtype)
    for score in (scale_score, ash_score):
        assert_close(score(zero, W, b, 0.75), energy_score(b[None]))
        assert_close(score(Z, W, b, 0.0), energy_score(np.e * Z @ W.T + b))


def test_guided_energy(draw):
    Z, guides = draw(20, 6), draw(15, 6)
    L = draw(20, 4)
    products = np.sort((Z / Z.norm(dim=1, keepdim=True)).numpy() @ guides.numpy().T, axis=1)
    expected = logsumexp(L.numpy(), axis=1) * products[:, -4:].mean(axis=1)
    assert_close(nnguide_score(Z, L, guides, 4), expected)


def test_distance_to_decision_boundaries(draw):
    W, b, Z, mean = draw(4, 6), draw(4), draw(20, 6), draw(6)
    expected = []
    for z in Z:
        logits = W @ z + b
        k = int(logits.argmax())
        gaps = [(logits[k] - logits[c]) / (W[k] - W[c]).norm() for c in range(4) if c != k]
        expected.append(float(sum(gaps)) / 3 / float((z - mean).norm()))
    assert_close(fdbd_score(Z, W, b, mean), expected)
    # The gap to a boundary is the length of the shortest step onto it.
    z, logits = Z[0], W @ Z[0] + b
    k = int(logits.argmax())
    c = (k + 1) % 4
    step = (W[k] - W[c]) * (logits[k] - logits[c]) / (W[k] - W[c]).square().sum()
    on_boundary = W @ (z - step) + b
    assert float(on_boundary[k] - on_boundary[c]) == pytest.approx(0, abs=1e-12)
    assert float(step.norm()) == pytest.approx(
        float((logits[k] - logits[c]) / (W[k] - W[c]).norm())
    )


def test_only_shrinkage_weights_directions_without_variance(draw):
    residuals = draw(50, 3)
    residuals[:, 2] = 0.0
    unseen = torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)
    origin = torch.zeros(1, 3, dtype=torch.float64)
    plain = shrunk_precision_root(residuals, 0.0)
    assert float(mahalanobis_score(unseen, origin, plain)) == pytest.approx(0.0, abs=1e-12)
    shrunk = shrunk_precision_root(residuals, 1e-3)
    assert float(mahalanobis_score(unseen, origin, shrunk)) < -100.0


def test_virtual_logit(draw):
    W, b, Z = draw(5, 12), draw(5), draw(60, 12)
    origin = logit_origin(W, b)
    assert_close(W @ origin + b, np.zeros(5))
    centered = Z - origin
    basis = residual_basis(centered, 9)
    assert basis.shape == (12, 3)
    assert_close(basis.T @ basis, np.eye(3))
    left_out = np.linalg.svd(centered.numpy())[1][9:]
    assert float((centered @ basis).square().sum()) == pytest.approx((left_out**2).sum())

    L = Z @ W.T + b
    residuals = (centered @ basis).norm(dim=1)
    score = vim_score(L, residuals, 0.7)
    virtual = torch.softmax(torch.cat([0.7 * residuals[:, None], L], dim=1), dim=1)[:, 0]
    assert_close(score, torch.log1p(-virtual) - torch.log(virtual))


@pytest.mark.parametrize(
    ("n_features", "expected"), [(10, 5), (767, 383), (768, 512), (2047, 512), (2048, 1000)]
)
def test_principal_space_has_the_published_dimension(n_features, expected):
    assert principal_dimension(n_features) == expected
