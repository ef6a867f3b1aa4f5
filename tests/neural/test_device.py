"""Devices and private random generators."""

import numpy as np
import pytest
import skorch
import torch
from sklearn.base import clone

import sklearn_ext
from sklearn_ext.neural import (
    MLP,
    NetClassifier,
    draw_seed,
    resolve_device,
    seeded,
    torch_generator,
)
from tests.instances import instances, sample


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


WITH_DEVICE = [
    estimator for estimator in instances() if "device" in estimator.get_params(deep=False)
]


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is available here")
@pytest.mark.filterwarnings("ignore:No sample is labeled", "ignore:node is None")
@pytest.mark.parametrize("estimator", WITH_DEVICE, ids=lambda est: type(est).__name__)
def test_an_absent_device_is_refused_by_every_estimator(estimator):
    with pytest.raises(ValueError, match=r"device='cuda' is not available. Available devices"):
        clone(estimator).set_params(device="cuda").fit(*sample(estimator, 40))


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is available here")
@pytest.mark.parametrize("name", ["KNNOODDetector", "FineTuneUnlearner", "UniformSoup"])
@pytest.mark.parametrize("Net", [NetClassifier, skorch.NeuralNetClassifier])
def test_the_absent_device_of_a_net_is_refused(name, Net):
    X, y = sample(NetClassifier(), 40)
    net = Net(MLP, module__n_features=4, module__n_outputs=3, device="cuda", train_split=None)
    with pytest.raises(ValueError, match=r"device='cuda' is not available. Available devices"):
        getattr(sklearn_ext, name)(net, random_state=0).fit(X, y)
