"""Gradients of the losses in closed form, and what neural collapse predicts."""

import math

import pytest
import torch

from sklearn_ext.ood import (
    clustering_loss,
    energy_score,
    fine_tuning_loss,
    msp_score,
    outlier_exposure_loss,
    row_space_score,
    separation_loss,
)
from sklearn_ext.ood.orthloss._feature_geometry import cosines, row_space_basis
from sklearn_ext.ood.orthloss._separation_losses import energy_margin_loss


def gradient(function, X):
    X = X.clone().requires_grad_()
    function(X).backward()
    return X.grad


def simplex(n_classes, dimension, draw):
    """Rows of a simplex equiangular tight frame in a random subspace."""
    frame = torch.eye(n_classes, dtype=torch.float64) - 1.0 / n_classes
    frame = frame * math.sqrt(n_classes / (n_classes - 1.0))
    basis, _ = torch.linalg.qr(draw(dimension, n_classes))
    return frame @ basis.T


def assert_close(actual, expected, tolerance=1e-12):
    torch.testing.assert_close(actual, expected, rtol=0.0, atol=tolerance)


def test_gradient_of_outlier_exposure(draw):
    logits = 3.0 * draw(6, 4)
    expected = (torch.softmax(logits, 1) - 0.25) / 6
    assert_close(gradient(outlier_exposure_loss, logits), expected)


def test_outlier_exposure_is_a_divergence_from_uniform(draw):
    logits = draw(6, 4)
    log_p = torch.log_softmax(logits, 1)
    divergence = (0.25 * (math.log(0.25) - log_p)).sum(1).mean()
    assert_close(outlier_exposure_loss(logits), divergence + math.log(4))


def test_gradient_of_energy_margins(draw):
    logits, outlier_logits = 4.0 * draw(50, 5), 4.0 * draw(40, 5)
    m_in, m_out = -5.0, -3.0

    def slope(excess, gradient_of_energy):
        return 2.0 * torch.relu(excess)[:, None] * gradient_of_energy

    E, E_out = -torch.logsumexp(logits, 1), -torch.logsumexp(outlier_logits, 1)
    expected = slope(E - m_in, -torch.softmax(logits, 1)) / 50
    expected_out = slope(m_out - E_out, torch.softmax(outlier_logits, 1)) / 40
    assert (expected != 0).any()
    assert (expected_out != 0).any()
    actual = gradient(lambda L: energy_margin_loss(L, outlier_logits, m_in, m_out), logits)
    assert_close(actual, expected)
    actual = gradient(lambda L: energy_margin_loss(logits, L, m_in, m_out), outlier_logits)
    assert_close(actual, expected_out)


@pytest.mark.parametrize(("reduction", "scale"), [("sum", 1.0), ("mean", 1.0 / 5)])
def test_gradient_of_separation(draw, reduction, scale):
    Z, W = draw(7, 9), draw(5, 9)
    norms = Z.norm(dim=1, keepdim=True)
    U, V = Z / norms, W / W.norm(dim=1, keepdim=True)
    pull = torch.sign(U @ V.T) @ V
    expected = scale / (7 * norms) * (pull - (U * pull).sum(1, keepdim=True) * U)
    actual = gradient(lambda Z: separation_loss(Z, W, reduction), Z)
    assert_close(actual, expected)
    assert_close((Z * actual).sum(1), torch.zeros(7, dtype=Z.dtype))


def test_gradient_of_clustering(draw):
    Z, W = draw(7, 9), draw(5, 9)
    codes = torch.tensor([0, 1, 2, 3, 4, 0, 1])
    norms = Z.norm(dim=1, keepdim=True)
    U, own = Z / norms, (W / W.norm(dim=1, keepdim=True))[codes]
    expected = -(own - (U * own).sum(1, keepdim=True) * U) / (7 * norms)
    actual = gradient(lambda Z: clustering_loss(Z, codes, W), Z)
    assert_close(actual, expected)
    assert_close((Z * actual).sum(1), torch.zeros(7, dtype=Z.dtype))


def test_feature_terms_send_no_gradient_into_the_head(draw):
    W = draw(5, 9).requires_grad_()
    Z = draw(7, 9).requires_grad_()
    loss = separation_loss(Z, W) + clustering_loss(Z, torch.zeros(7, dtype=int), W)
    loss.backward()
    assert W.grad is None
    assert Z.grad is not None


def test_feature_of_length_zero_has_no_gradient(draw):
    Z, W = draw(3, 9), draw(5, 9)
    Z[1] = 0.0
    grad = gradient(lambda Z: separation_loss(Z, W), Z)
    assert torch.isfinite(grad).all()
    assert_close(grad[1], torch.zeros(9, dtype=Z.dtype))
    assert_close(cosines(Z, W)[1], torch.zeros(5, dtype=Z.dtype))


def test_cosine_of_zero_has_no_gradient(draw):
    W = torch.eye(4, dtype=torch.float64)[:2]
    Z = torch.tensor([[0.0, 0.0, 1.0, 2.0]], dtype=torch.float64)
    assert_close(gradient(lambda Z: separation_loss(Z, W), Z), torch.zeros_like(Z))


def test_objective_is_the_weighted_sum_of_terms(draw):
    Z, Z_out, W, b = draw(6, 9), draw(8, 9), draw(5, 9), draw(5)
    codes = torch.tensor([0, 1, 2, 3, 4, 0])
    args = (Z @ W.T + b, Z, codes, Z_out @ W.T + b, Z_out, W)
    plain = torch.nn.functional.cross_entropy(args[0], codes)

    def objective(oe=0.0, clu=0.0, sep_=0.0, **kwargs):
        return fine_tuning_loss(*args, oe_weight=oe, clu_weight=clu, sep_weight=sep_, **kwargs)

    assert objective() == plain
    assert_close(objective(oe=0.5) - plain, 0.5 * outlier_exposure_loss(args[3]))
    assert_close(objective(clu=2.0) - plain, 2.0 * clustering_loss(Z, codes, W))
    assert_close(objective(sep_=3.0) - plain, 3.0 * separation_loss(Z_out, W))
    margins = energy_margin_loss(args[0], args[3], -3.0, -1.0)
    assert_close(objective(oe=0.1, energy_margins=(-3.0, -1.0)) - plain, 0.1 * margins)
    assert objective(oe=0.5, sep_=0.7, reduction="sum").item() == pytest.approx(
        objective(oe=0.5, sep_=0.7 * 5, reduction="mean").item(), rel=1e-14
    )


def test_orthogonal_features_give_uniform_predictions(draw):
    W, b = draw(5, 9), draw(5)
    basis = row_space_basis(W)
    Z = draw(7, 9)
    Z = Z - Z @ basis @ basis.T
    logits = Z @ W.T + b
    assert_close(logits, b.expand(7, 5))
    assert_close(separation_loss(Z, W), torch.zeros((), dtype=Z.dtype))
    assert_close(row_space_score(Z, basis), torch.zeros(7, dtype=Z.dtype))
    assert_close(msp_score(logits), torch.softmax(b, 0).max().expand(7))
    uniform = torch.zeros(7, 5, dtype=Z.dtype)
    assert_close(energy_score(uniform), torch.full((7,), math.log(5), dtype=Z.dtype))
    assert_close(outlier_exposure_loss(uniform), torch.tensor(math.log(5), dtype=Z.dtype))


@pytest.mark.parametrize("n_classes", [3, 8, 10])
def test_absolute_cosines_of_a_simplex_vertex_sum_to_two(draw, n_classes):
    V = simplex(n_classes, 32, draw)
    between = cosines(V, V)
    expected = torch.full_like(between, -1.0 / (n_classes - 1)).fill_diagonal_(1.0)
    assert_close(between, expected)
    assert_close(between.abs().sum(1), torch.full((n_classes,), 2.0, dtype=V.dtype))
    assert_close(separation_loss(V, V), torch.tensor(2.0 / n_classes, dtype=V.dtype))


@pytest.mark.parametrize(("n_classes", "expected"), [(8, 2.62), (10, 2.67), (100, 2.81)])
def test_absolute_cosines_between_classes_sum_to_more(draw, n_classes, expected):
    V = simplex(n_classes, 128, draw)
    total = cosines((V[:1] + V[1:2]) / 2, V).abs().sum()
    assert float(total) == pytest.approx(expected, abs=5e-3)
