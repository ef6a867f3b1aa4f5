"""Weighted sums of tensors in chunks, exact to their dtype."""

import pytest
import torch

from sklearn_ext.soup.ingredients import CHUNK, weighted_sum_


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_weighted_sum_is_exact_to_the_dtype(dtype):
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
