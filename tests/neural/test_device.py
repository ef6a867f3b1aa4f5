"""Devices and private random generators."""

import numpy as np
import pytest
import torch

from sklearn_ext.neural import (
    draw_seed,
    resolve_device,
    seeded,
    torch_generator,
)


def test_seeded_restores_the_global_generator():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with seeded(0):
        first = torch.rand(3)
    with seeded(0):
        assert torch.equal(torch.rand(3), first)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(torch.rand(3, generator=torch_generator(0)), first)


def test_draw_seed_never_uses_the_global_state():
    state = np.random.get_state()[1].copy()  # noqa: NPY002 the global state is what is tested
    assert draw_seed(3) == draw_seed(3)
    assert draw_seed(None) != draw_seed(None)
    rng = np.random.RandomState(0)
    assert draw_seed(rng) != draw_seed(rng)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_unavailable_devices_are_rejected(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for device in ("cpu", "cuda", "cuda:1", torch.device("cuda", 0)):
        assert resolve_device(device) == torch.device(device)
    with pytest.raises(ValueError, match=r"device='cuda:2' is not available.*'cuda:0', 'cuda:1'"):
        resolve_device("cuda:2")
    with pytest.raises(ValueError, match="'meta' is not available"):
        resolve_device("meta")
    with pytest.raises(ValueError, match=r"known to torch .* got 'gpu'"):
        resolve_device("gpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match="device='cuda' is not available"):
        resolve_device("cuda")
