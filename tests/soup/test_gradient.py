"""The mathematics of learned coefficients, against autograd and recombined weights."""

import numpy as np
import pytest
import torch

from sklearn_ext.soup import StoredDirections, StreamedDirections, coefficient_gradient
from sklearn_ext.soup.recipes import (
    coefficients_after_step,
    direction_scales,
    hyperplane_gradient,
    n_directions_that_fit,
    softmax_gradient,
)

SHAPES = [(4, 3), (4,), (2, 4), (2,)]
GROUP_OF = torch.tensor([0, 0, 1, 2])
N_GROUPS = 3


def streamed_about_the_mean(parameters, points):
    """Stream without a copy of the origin, which is a known combination of the points."""
    return StreamedDirections(parameters, points, torch.full((4, 5), 0.2, dtype=torch.float64))


ENGINES = [StreamedDirections, streamed_about_the_mean, StoredDirections]


def tensors(generator):
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]


@pytest.fixture
def points():
    generator = torch.Generator().manual_seed(0)
    return [tensors(generator) for _ in range(5)]


@pytest.fixture
def origin(points):
    return [torch.stack(versions).mean(dim=0) for versions in zip(*points, strict=True)]


def loss_of(w, inputs):
    """Return a loss that is neither convex nor separable in the tensors."""
    hidden = torch.tanh(inputs @ w[0].T + w[1])
    return ((hidden @ w[2].T + w[3]) ** 2).sin().mean()


def scaled():
    """Return y and the gradient with respect to z, for a hyperplane learned soup."""
    generator = torch.Generator().manual_seed(1)
    scales = torch.rand((N_GROUPS, 5), generator=generator, dtype=torch.float64)
    return lambda z: scales * z, lambda y, gradient: hyperplane_gradient(scales, gradient)


def on_simplex():
    """Return y and the gradient with respect to z, for a learned soup."""
    return lambda z: z.softmax(dim=1), softmax_gradient


@pytest.mark.parametrize("recipe", [scaled, on_simplex])
@pytest.mark.parametrize("Directions", ENGINES)
def test_coefficient_gradient_equals_autograd(points, origin, recipe, Directions):
    step_of, gradient_of_z = recipe()
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn((7, 3), generator=generator, dtype=torch.float64)
    z = torch.randn((N_GROUPS, 5), generator=generator, dtype=torch.float64, requires_grad=True)

    y = step_of(z)
    differences = [[w - c for w, c in zip(p, origin, strict=True)] for p in points]
    w = [
        c + sum(y[GROUP_OF[t], i] * d[t] for i, d in enumerate(differences))
        for t, c in enumerate(origin)
    ]
    (expected,) = torch.autograd.grad(loss_of(w, inputs), z)

    network = [c.clone() for c in origin]
    directions = Directions(network, points)
    directions.move_(y.detach()[GROUP_OF])
    for actual, wanted in zip(network, w, strict=True):
        torch.testing.assert_close(actual, wanted.detach(), rtol=0, atol=1e-12)
    live = [tensor.clone().requires_grad_() for tensor in network]
    gradients = torch.autograd.grad(loss_of(live, inputs), live)
    gradient = coefficient_gradient(gradients, directions, GROUP_OF, N_GROUPS)
    actual = gradient_of_z(y.detach(), gradient)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("clip_norm", [0.5, 100.0])
def test_clip_norm_shortens_only_longer_gradients(points, origin, clip_norm):
    q = tensors(torch.Generator().manual_seed(4))
    directions = StoredDirections([c.clone() for c in origin], points)
    norm = torch.cat([tensor.ravel() for tensor in q]).norm()
    expected = coefficient_gradient(q, directions, GROUP_OF, N_GROUPS) * min(1, clip_norm / norm)
    actual = coefficient_gradient(q, directions, GROUP_OF, N_GROUPS, clip_norm=clip_norm)
    torch.testing.assert_close(actual, expected)


def test_gradient_about_the_mean_sums_to_zero(points, origin):
    generator = torch.Generator().manual_seed(3)
    q = tensors(generator)
    directions = StreamedDirections([c.clone() for c in origin], points)
    plain = torch.stack(
        [torch.stack([(q[t] * p[t]).sum() for p in points]) for t in range(len(SHAPES))]
    )
    expected = plain - plain.mean(dim=1, keepdim=True)
    torch.testing.assert_close(directions.inner_products(q), expected, rtol=0, atol=1e-12)


def test_coefficients_rebuild_weights_after_many_blocks(points, origin):
    rng = np.random.RandomState(0)
    network = [c.clone() for c in origin]
    coef = torch.full((N_GROUPS, 5), 0.2, dtype=torch.float64)
    for _ in range(6):
        block = rng.permutation(5)[: rng.randint(1, 5)].tolist()
        y = torch.as_tensor(rng.normal(size=(N_GROUPS, len(block))))
        StreamedDirections(network, [points[i] for i in block]).move_(y[GROUP_OF])
        coef = coefficients_after_step(coef, block, y)
    np.testing.assert_allclose(coef.sum(dim=1), 1.0, rtol=0, atol=1e-12)
    for t, actual in enumerate(network):
        expected = sum(coef[GROUP_OF[t], i] * p[t] for i, p in enumerate(points))
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


def test_coefficients_after_step_leaves_its_input_unchanged():
    coef = torch.full((1, 3), 1 / 3, dtype=torch.float64)
    coefficients_after_step(coef, [0], torch.ones((1, 1), dtype=torch.float64))
    assert coef.tolist() == [[1 / 3] * 3]


@pytest.mark.parametrize("Directions", ENGINES)
def test_squared_norms_are_those_of_the_directions(points, origin, Directions):
    actual = Directions([c.clone() for c in origin], points).squared_norms()
    expected = torch.stack(
        [torch.stack([((p[t] - c) ** 2).sum() for p in points]) for t, c in enumerate(origin)]
    )
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize(
    ("scale", "expected"),
    [("raw", [1.0, 1.0, 0.0]), ("unit", [0.5, 0.25, 0.0]), ("mean", [1.0, 0.5, 0.0])],
)
def test_zero_length_directions_get_scale_zero(scale, expected):
    norms = torch.tensor([[2.0, 4.0, 0.0]])
    assert direction_scales(norms, scale).tolist() == [expected]


def test_scales_are_zero_if_all_directions_have_zero_length():
    for scale in ("raw", "unit", "mean"):
        assert direction_scales(torch.zeros(2, 3), scale).tolist() == [[0.0] * 3] * 2


def test_stored_directions_fit_into_half_of_the_free_memory():
    parameters = [torch.zeros(250), torch.zeros(250, dtype=torch.float64)]  # 3,000 bytes
    assert n_directions_that_fit(parameters, free_memory=60_000) == 9  # and the origin
    assert n_directions_that_fit(parameters, free_memory=100) == 1
    assert n_directions_that_fit([torch.zeros(0)], free_memory=8) == 3
