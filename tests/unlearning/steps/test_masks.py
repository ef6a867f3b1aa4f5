import pytest
import torch
from torch import nn

from sklearn_ext.unlearning.steps import (
    balanced_mask,
    density,
    squared_batch_gradients,
    squared_sample_gradients,
    summed_gradients,
    top_fraction_mask,
)


@pytest.fixture
def problem():
    generator = torch.Generator().manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    X = torch.randn(20, 4, generator=generator, dtype=torch.float64)
    y = torch.randint(3, (20,), generator=generator)
    return module, dict(module.named_parameters()), X, y


def mean_loss(problem):
    module, _, X, y = problem
    return lambda rows: nn.functional.cross_entropy(module(X[rows]), y[rows])


def sample_loss(module):
    def loss(weights, x, target):
        outputs = torch.func.functional_call(module, weights, (x[None],))
        return nn.functional.cross_entropy(outputs, target[None])

    return loss


def batches(*sizes):
    return torch.arange(sum(sizes)).split(sizes)


def test_sample_gradients_equal_a_loop_over_samples(problem):
    module, parameters, X, y = problem
    pieces = [(X[rows], y[rows]) for rows in batches(8, 8, 4)]
    squares = squared_sample_gradients(sample_loss(module), parameters, pieces)
    loop = squared_batch_gradients(mean_loss(problem), parameters, batches(*[1] * 20))
    for name in parameters:
        torch.testing.assert_close(squares[name], loop[name], rtol=1e-5, atol=0)


def test_gradients_of_batches_add_up(problem):
    _, parameters, _, _ = problem
    total = summed_gradients(mean_loss(problem), parameters, batches(10, 10))
    whole = summed_gradients(mean_loss(problem), parameters, batches(20))
    for name in parameters:
        torch.testing.assert_close(total[name], 2 * whole[name])


def test_unused_weights_have_no_gradient(problem):
    _, parameters, _, _ = problem
    aside = {**parameters, "aside": nn.Parameter(torch.ones(2))}
    total = squared_batch_gradients(mean_loss(problem), aside, batches(20))
    assert total["aside"].tolist() == [0, 0]


def test_swapped_sets_give_complementary_masks(problem):
    _, parameters, _, _ = problem
    loss = mean_loss(problem)
    one = squared_batch_gradients(loss, parameters, batches(10)[:1])
    other = squared_batch_gradients(loss, parameters, [torch.arange(10, 20)])
    there, back = balanced_mask(one, other, 1.0), balanced_mask(other, one, 1.0)
    for name in parameters:
        assert torch.equal(there[name], ~back[name])
    assert density(there) == pytest.approx(1 - density(back))


def test_equal_sets_give_a_full_mask(problem):
    _, parameters, _, _ = problem
    fisher = squared_batch_gradients(mean_loss(problem), parameters, batches(10, 10))
    assert density(balanced_mask(fisher, fisher, 1.0)) == 1
    assert density(balanced_mask(fisher, fisher, 0.0)) == 1
    assert density(balanced_mask(fisher, fisher, float("inf"))) == 0


def test_the_top_fraction_is_taken_over_all_weights():
    saliency = {"a": torch.tensor([-5.0, 1.0]), "b": torch.tensor([[2.0, -4.0]])}
    mask = top_fraction_mask(saliency, 0.5)
    assert mask["a"].tolist() == [True, False]
    assert mask["b"].tolist() == [[False, True]]
    assert density(top_fraction_mask(saliency, 0.0)) == 0
    assert density(top_fraction_mask(saliency, 1.0)) == 1
