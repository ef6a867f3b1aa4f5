import math

import numpy as np
import pytest
import torch
from joblib import Parallel, delayed
from torch import nn

from sklearn_ext.neural import (
    MLP,
    LazyTensors,
    SmallCNN,
    cosine_decay,
    default_module,
    draw_seed,
    head_of,
    load_tensors,
    minibatches,
    n_minibatches,
    outputs_and_features,
    parameter_dict,
    parameter_vector,
    resolve_device,
    save_tensors,
    seeded,
    set_parameter_vector,
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


def test_a_seed_is_drawn_from_the_given_state_only():
    state = np.random.get_state()[1].copy()  # noqa: NPY002 the global state is what is tested
    assert draw_seed(3) == draw_seed(3)
    assert draw_seed(None) != draw_seed(None)
    rng = np.random.RandomState(0)
    assert draw_seed(rng) != draw_seed(rng)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


@pytest.mark.parametrize(("n", "size"), [(10, 3), (10, 10), (11, 5), (1, 4), (9, 1), (7, 20)])
def test_minibatches_are_a_partition_without_a_lonely_row(n, size):
    batches = list(minibatches(n, size, torch_generator(0)))
    assert len(batches) == n_minibatches(n, size)
    assert torch.cat(batches).sort().values.tolist() == list(range(n))
    if size > 1 and n > 1:
        assert min(map(len, batches)) > 1


def test_cosine_decay_rises_then_falls_to_its_floor():
    factors = [cosine_decay(t, 10, warmup=4, floor=0.1) for t in range(11)]
    np.testing.assert_allclose(factors[:4], [0.25, 0.5, 0.75, 1])
    assert factors[4] == 1
    np.testing.assert_allclose(factors[7], 0.1 + 0.9 * (1 + math.cos(math.pi / 2)) / 2)
    np.testing.assert_allclose(factors[10], 0.1)


def test_the_head_is_the_last_linear_layer_or_the_named_one():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    assert head_of(net) is net[2]
    assert head_of(net, "0") is net[0]
    with pytest.raises(ValueError, match=r"its linear layers are \['0', '2'\]"):
        head_of(net, "1")
    with pytest.raises(ValueError, match=r"no torch.nn.Linear"):
        head_of(nn.Conv1d(1, 1, 1))


def test_features_come_with_gradients_and_the_hook_goes():
    net = MLP(3, 2, hidden_sizes=(5,))
    outputs, features = outputs_and_features(net, torch.ones(4, 3), head_of(net))
    torch.testing.assert_close(net[-1](features), outputs)
    features.sum().backward()
    assert net[1].weight.grad is not None
    assert len(net[-1]._forward_pre_hooks) == 0
    with pytest.raises(ValueError, match="does not call"):
        outputs_and_features(net, torch.ones(4, 3), nn.Linear(1, 1))


def test_a_parameter_vector_goes_there_and_back():
    net, other = MLP(3, 2), MLP(3, 2)
    set_parameter_vector(other, parameter_vector(net))
    for name, tensor in parameter_dict(net).items():
        assert torch.equal(tensor, parameter_dict(other)[name])
    with pytest.raises(ValueError, match="one entry per parameter"):
        set_parameter_vector(net, torch.zeros(3))


def test_default_modules_suit_their_input():
    assert isinstance(default_module((5,), 2), MLP)
    for shape in ((8, 8), (3, 7, 9)):
        module = default_module(shape, 4, widths=(2, 3))
        assert isinstance(module, SmallCNN)
        assert module(torch.zeros(2, *shape)).shape == (2, 4)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_tensors_go_to_a_file_and_back(tmp_path, name):
    tensors = {"a": torch.randn(3, 2).T, "b.c": torch.arange(4)}
    path = tmp_path / name
    if path.suffix == ".pt":
        torch.save(tensors, path)
    else:
        save_tensors(path, tensors, {"made": "here"})
    assert [p.name for p in tmp_path.iterdir()] == [name]
    for key, tensor in load_tensors(path).items():
        assert torch.equal(tensor, tensors[key])
    lazy = LazyTensors(path)
    assert list(lazy) == list(lazy.keys())
    assert set(lazy) == set(tensors)
    with pytest.raises(KeyError):
        lazy["d"]


class Malicious:
    def __reduce__(self):
        return (pytest.fail, ("executed",))


def test_bad_files_are_refused_and_nothing_in_them_runs(tmp_path):
    with pytest.raises(ValueError, match=r"end with '.safetensors'"):
        save_tensors(tmp_path / "w.npz", {})
    with pytest.raises(ValueError, match="end with one of"):
        load_tensors(tmp_path / "w.npz")
    with pytest.raises(FileNotFoundError, match="no file"):
        load_tensors(tmp_path / "w.pt")
    torch.save({"a": Malicious()}, tmp_path / "malicious.pt")
    torch.save([torch.ones(1)], tmp_path / "list.pt")
    save_tensors(tmp_path / "whole.safetensors", {"a": torch.ones(100)})
    whole = (tmp_path / "whole.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-50])
    (tmp_path / "noise.pt").write_bytes(whole)
    for name in ("malicious.pt", "list.pt", "cut.safetensors", "noise.pt"):
        with pytest.raises(ValueError, match="not a readable file of named tensors"):
            load_tensors(tmp_path / name)


def test_features_are_those_of_the_calling_thread():
    net = MLP(3, 2)
    batches = [torch.randn(n, 3) for n in range(2, 34)]
    expected = [outputs_and_features(net, X, head_of(net))[1] for X in batches]
    features = Parallel(n_jobs=4, backend="threading")(
        delayed(outputs_and_features)(net, X, head_of(net)) for X in batches
    )
    for (_, actual), wanted in zip(features, expected, strict=True):
        torch.testing.assert_close(actual, wanted)


def test_devices_that_are_not_there_are_refused(monkeypatch):
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
