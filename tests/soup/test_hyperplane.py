"""The maths of soups against autograd, recomposition and limits."""

import numpy as np
import pytest
import torch

from sklearn_ext.soup._combination import CHUNK, weighted_sum_
from sklearn_ext.soup._groups import parameter_groups
from sklearn_ext.soup._hyperplane import (
    HyperplaneCoordinates,
    SimplexCoordinates,
    direction_scales,
    recombine,
    sum_by_group,
)
from sklearn_ext.soup._span import StoredSpan, StreamedSpan

SHAPES = [(4, 3), (4,), (2, 4), (2,)]
GROUP_OF = torch.tensor([0, 0, 1, 2])
N_GROUPS = 3


def streamed_about_the_mean(parameters, points):
    """No copy of the origin: it is a known combination of the points."""
    return StreamedSpan(parameters, points, torch.full((4, 5), 0.2, dtype=torch.float64))


def tensors(generator):
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]


@pytest.fixture
def points():
    generator = torch.Generator().manual_seed(0)
    return [tensors(generator) for _ in range(5)]


@pytest.fixture
def origin(points):
    return [torch.stack(versions).mean(dim=0) for versions in zip(*points, strict=True)]


def loss_of(w, rows):
    """A loss that is neither convex nor separable in the tensors."""
    hidden = torch.tanh(rows @ w[0].T + w[1])
    return ((hidden @ w[2].T + w[3]) ** 2).sin().mean()


def coordinates():
    generator = torch.Generator().manual_seed(1)
    scales = torch.rand((N_GROUPS, 5), generator=generator, dtype=torch.float64)
    return [HyperplaneCoordinates(scales), SimplexCoordinates((N_GROUPS, 5))]


@pytest.mark.parametrize("coordinate", coordinates(), ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("Span", [StreamedSpan, streamed_about_the_mean, StoredSpan])
def test_the_projected_gradient_is_that_of_autograd(points, origin, coordinate, Span):
    generator = torch.Generator().manual_seed(2)
    rows = torch.randn((7, 3), generator=generator, dtype=torch.float64)
    z = torch.randn((N_GROUPS, 5), generator=generator, dtype=torch.float64, requires_grad=True)

    y = coordinate.step(z)
    directions = [[w - c for w, c in zip(p, origin, strict=True)] for p in points]
    w = [
        c + sum(y[GROUP_OF[t], i] * d[t] for i, d in enumerate(directions))
        for t, c in enumerate(origin)
    ]
    (expected,) = torch.autograd.grad(loss_of(w, rows), z)

    network = [c.clone() for c in origin]
    span = Span(network, points)
    span.move_(y.detach()[GROUP_OF])
    for actual, wanted in zip(network, w, strict=True):
        torch.testing.assert_close(actual, wanted.detach(), rtol=0, atol=1e-12)
    live = [tensor.clone().requires_grad_() for tensor in network]
    gradients = torch.autograd.grad(loss_of(live, rows), live)
    h = sum_by_group(span.project(gradients), GROUP_OF, N_GROUPS)
    actual = coordinate.pull_back(z.detach(), h)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


def test_about_the_mean_the_gradient_is_projected_on_sums_of_zero(points, origin):
    generator = torch.Generator().manual_seed(3)
    q = tensors(generator)
    span = StreamedSpan([c.clone() for c in origin], points)
    plain = torch.stack(
        [torch.stack([(q[t] * p[t]).sum() for p in points]) for t in range(len(SHAPES))]
    )
    expected = plain - plain.mean(dim=1, keepdim=True)
    torch.testing.assert_close(span.project(q), expected, rtol=0, atol=1e-12)


def test_coefficients_recompose_the_soup_after_many_blocks(points, origin):
    rng = np.random.RandomState(0)
    network = [c.clone() for c in origin]
    coef = torch.full((N_GROUPS, 5), 0.2, dtype=torch.float64)
    for _ in range(6):
        block = rng.permutation(5)[: rng.randint(1, 5)].tolist()
        y = torch.as_tensor(rng.normal(size=(N_GROUPS, len(block))))
        StreamedSpan(network, [points[i] for i in block]).move_(y[GROUP_OF])
        coef = recombine(coef, block, y)
    np.testing.assert_allclose(coef.sum(dim=1), 1.0, rtol=0, atol=1e-12)
    for t, actual in enumerate(network):
        expected = sum(coef[GROUP_OF[t], i] * p[t] for i, p in enumerate(points))
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


def test_a_step_does_not_change_the_coefficients_that_it_starts_from():
    coef = torch.full((1, 3), 1 / 3, dtype=torch.float64)
    recombine(coef, [0], torch.ones((1, 1), dtype=torch.float64))
    assert coef.tolist() == [[1 / 3] * 3]


@pytest.mark.parametrize("Span", [StreamedSpan, streamed_about_the_mean, StoredSpan])
def test_norms_are_those_of_the_directions(points, origin, Span):
    actual = Span([c.clone() for c in origin], points).squared_norms()
    expected = torch.stack(
        [torch.stack([((p[t] - c) ** 2).sum() for p in points]) for t, c in enumerate(origin)]
    )
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize(
    ("scale", "expected"),
    [("raw", [1.0, 1.0, 0.0]), ("unit", [0.5, 0.25, 0.0]), ("mean", [1.0, 0.5, 0.0])],
)
def test_directions_of_no_length_are_not_used(scale, expected):
    norms = torch.tensor([[2.0, 4.0, 0.0]])
    assert direction_scales(norms, scale).tolist() == [expected]


def test_all_directions_of_no_length():
    for scale in ("raw", "unit", "mean"):
        assert direction_scales(torch.zeros(2, 3), scale).tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_weighted_sums_are_exact_to_the_dtype(dtype):
    generator = torch.Generator().manual_seed(0)
    size = CHUNK + 3
    parts = [torch.randn(size, generator=generator).to(dtype) for _ in range(3)]
    weights = [0.5, -0.7, 1.2]
    out = torch.empty(size, dtype=dtype)
    assert weighted_sum_(out, parts, weights) is out
    exact = sum(b * part.double() for b, part in zip(weights, parts, strict=True))
    torch.testing.assert_close(out, exact.to(dtype), rtol=2 * torch.finfo(dtype).eps, atol=1e-6)


def test_half_precision_is_summed_in_float32():
    out = torch.empty(1, dtype=torch.float16)
    many = [torch.ones(1, dtype=torch.float16)] * 4096
    weighted_sum_(out, many, [1 / 4096] * 4096)
    assert out.item() == 1.0


def test_groups():
    names = ["a.weight", "a.bias", "scale"]
    assert parameter_groups(names, False) == {"all": names}
    assert parameter_groups(names, True) == {name: [name] for name in names}
    assert parameter_groups(names, "module") == {"a": names[:2], "scale": ["scale"]}
    by_end = parameter_groups(names, lambda name: "bias" if name.endswith("bias") else "rest")
    assert by_end == {"rest": ["a.weight", "scale"], "bias": ["a.bias"]}
