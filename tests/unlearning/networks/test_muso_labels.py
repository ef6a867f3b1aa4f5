import pytest
import torch

from sklearn_ext.unlearning.networks import projected_scores
from sklearn_ext.unlearning.networks.labels._muso_labels import (
    best_class,
    leave_out_head,
    projected_head,
    row_space_projection,
    stacked_head,
    with_ones,
)
from sklearn_ext.unlearning.steps import FineTuneConfig, fine_tune


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def normal(generator, *shape):
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("eps", [1e-6, 1e-2, 1.0])
@pytest.mark.parametrize("shape", [(200, 20), (20, 200)])
def test_the_projection_equals_that_of_the_large_system(generator, shape, eps):
    Z = normal(generator, *shape)
    system = Z @ Z.T + eps * torch.eye(shape[0], dtype=Z.dtype)
    expected = Z.T @ torch.linalg.solve(system, Z)
    torch.testing.assert_close(row_space_projection(Z, eps), expected, rtol=0, atol=1e-6)


def test_full_rank_features_give_the_original_predictions(generator):
    Z_r, Z_u = normal(generator, 100, 8), normal(generator, 30, 8)
    W_0, W_p = normal(generator, 8, 4), normal(generator, 8, 4)
    R = projected_head(Z_r, W_0, W_p, eps=0.0)
    torch.testing.assert_close(R, W_p)
    scores = projected_scores(Z_u, Z_u, R, W_p)
    present = torch.ones(4, dtype=torch.bool)
    assert torch.equal(best_class(scores, present), (Z_u @ W_p).argmax(dim=1))


def test_directions_outside_the_retained_span_keep_the_head(generator):
    Z_r = normal(generator, 3, 8)
    W_0, W_p = normal(generator, 8, 4), normal(generator, 8, 4)
    R = projected_head(Z_r, W_0, W_p, eps=0.0)
    orthogonal = torch.linalg.svd(Z_r).Vh[3:]
    torch.testing.assert_close(orthogonal @ R, orthogonal @ W_0)
    torch.testing.assert_close(Z_r @ R, Z_r @ W_p)


def test_feature_drift_is_weighted_by_the_original_head(generator):
    Z_u, drift = normal(generator, 5, 8), normal(generator, 5, 8)
    R, W_p = normal(generator, 8, 4), normal(generator, 8, 4)
    torch.testing.assert_close(
        projected_scores(Z_u + drift, Z_u, R, W_p), (Z_u + drift) @ R + drift @ W_p
    )


def test_the_leave_out_head_minimizes_its_ridge_loss(generator):
    Z, T, W_0 = normal(generator, 50, 8), normal(generator, 50, 3), normal(generator, 8, 3)
    A = leave_out_head(Z, T, W_0, eps=0.1).requires_grad_()
    ridge = 0.1 * (Z**2).sum() / 8
    loss = ((Z @ A - T) ** 2).sum() + ridge * ((A - W_0) ** 2).sum()
    (gradient,) = torch.autograd.grad(loss, A)
    assert gradient.abs().max() < 1e-10


def test_absent_classes_are_never_chosen():
    scores = torch.tensor([[5.0, 1.0, 2.0], [0.0, 1.0, 3.0]])
    assert best_class(scores, torch.tensor([False, True, True])).tolist() == [2, 2]


def test_a_stacked_head_computes_its_linear_layer(generator):
    layer = torch.nn.Linear(5, 3).double()
    features = normal(generator, 7, 5)
    W = stacked_head(layer.weight.detach(), layer.bias.detach())
    torch.testing.assert_close(with_ones(features) @ W, layer(features).detach())


def test_optimal_labels_lead_to_the_retrained_weights(generator):
    """The theorem behind the method, with the training loop of the networks."""
    X, Y = normal(generator, 20, 200), normal(generator, 20, 2)
    n_retained = 15
    W_0 = normal(generator, 200, 2)

    def trained(start, rows, targets, n_epochs=150):
        module = torch.nn.Linear(200, 2, bias=False).double()
        module.weight.data.copy_(start.T)
        fine_tune(
            module,
            len(rows),
            lambda index: (rows[index], targets[index]),
            lambda outputs, labels: ((outputs - labels) ** 2).sum() / 2,
            FineTuneConfig(4e-3, n_epochs, len(rows), optimizer=torch.optim.SGD, cosine=False),
            torch.Generator().manual_seed(0),
        )
        return module.weight.detach().T

    original = trained(W_0, X, Y)
    retrained = trained(W_0, X[:n_retained], Y[:n_retained])
    Z_r = X[:n_retained]
    closed_form = W_0 + torch.linalg.pinv(Z_r) @ (Y[:n_retained] - Z_r @ W_0)
    torch.testing.assert_close(retrained, closed_form, rtol=0, atol=1e-6)
    labels = X[n_retained:] @ closed_form
    unlearned = trained(original, X, torch.cat([Y[:n_retained], labels]))
    torch.testing.assert_close(unlearned, retrained, rtol=0, atol=1e-6)
    assert (original - retrained).abs().max() > 0.05
