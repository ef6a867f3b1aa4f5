import copy

import pytest
import torch

from sklearn_ext.generative import MLPDenoiser, UNetDenoiser
from sklearn_ext.generative._denoisers import time_embedding

SHAPES = [(MLPDenoiser, (5,)), (MLPDenoiser, (4, 3)), (UNetDenoiser, (8, 8)),
          (UNetDenoiser, (3, 7, 9)), (UNetDenoiser, (2, 17, 18))]  # fmt: skip


@pytest.fixture(params=SHAPES, ids=lambda p: f"{p[0].__name__}{p[1]}")
def case(request):
    Denoiser, shape = request.param
    torch.manual_seed(0)
    module = Denoiser(shape, 3, width=16)
    return module, torch.randn(4, *shape), torch.rand(4), torch.tensor([0, 1, 2, 3])


def test_the_mlp_has_the_published_number_of_weights():
    weights = sum(p.numel() for p in MLPDenoiser((64,), 10).parameters())
    assert weights == 300_352


def test_an_untrained_denoiser_estimates_zero_noise(case):
    module, x, t, c = case
    out = module(x, t, c)
    assert out.shape == x.shape
    assert (out == 0).all()


def test_a_trained_denoiser_uses_every_weight_and_condition(case):
    module, x, t, c = case
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        (module(x, t, c) - x).square().sum().backward()
        optimizer.step()
    assert [n for n, p in module.named_parameters() if not p.grad.abs().sum() > 0] == []
    out = module(x, t, c)
    assert not torch.allclose(out, module(x, t.flip(0), c))
    assert not torch.allclose(out, module(x, t, c.flip(0)))


def test_samples_do_not_depend_on_each_other(case):
    module, x, t, c = case
    with torch.no_grad():
        module.outer.weight.normal_()
    torch.testing.assert_close(module(x, t, c)[1:2], module(x[1:2], t[1:2], c[1:2]))


def test_a_copy_computes_the_same_and_is_independent(case):
    module, x, t, c = case
    with torch.no_grad():
        module.outer.weight.normal_()
    twin = copy.deepcopy(module.eval())
    assert not twin.training
    assert torch.equal(twin(x, t, c), module(x, t, c))
    twin.outer.weight.data.zero_()
    assert not torch.equal(twin(x, t, c), module(x, t, c))


def test_the_embeddings_of_all_times_differ():
    embedded = time_embedding(torch.arange(1000) / 1000)
    distances = torch.cdist(embedded, embedded) + 10 * torch.eye(1000)
    assert distances.min() > 0.1


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [((5,), {}, "images of shape"), ((8, 8), {"width": 12}, "multiple of 8, got 12")],
)
def test_a_u_net_refuses_unsuitable_shapes_and_widths(shape, options, message):
    with pytest.raises(ValueError, match=message):
        UNetDenoiser(shape, 2, **options)
