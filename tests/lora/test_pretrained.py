"""Pretrained weights from files, mappings, modules and nets."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_ext import FlatLoRAClassifier, NetClassifier
from sklearn_ext.lora import inject_lora, merge_lora
from sklearn_ext.lora._pretrained import load_pretrained, pretrained_state
from sklearn_ext.neural import save_tensors
from tests.lora.layers import SmallNet, randomize_updates


@pytest.fixture
def source():
    torch.manual_seed(0)
    return SmallNet()


def assert_same(module, source, *, but=()):
    expected = source.state_dict()
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, expected[name]) != name.startswith(tuple(but)), name


@pytest.mark.parametrize("kind", ["safetensors", "pt", "dict", "arrays", "module", "net"])
def test_every_kind_of_source_is_loaded(source, tmp_path, kind):
    state = source.state_dict()
    if kind == "safetensors":
        pretrained = tmp_path / "weights.safetensors"
        save_tensors(pretrained, state)
    elif kind == "pt":
        pretrained = str(tmp_path / "weights.pt")
        torch.save(state, pretrained)
    elif kind == "net":
        pretrained = NetClassifier(source, max_epochs=0).fit(np.zeros((4, 8, 8)), [0, 1, 2, 3])
    else:
        arrays = {name: tensor.numpy() for name, tensor in state.items()}
        pretrained = {"dict": state, "arrays": arrays, "module": source}[kind]
    module = SmallNet()
    load_pretrained(module, pretrained_state(pretrained), ())
    assert_same(module, source)
    assert all(p.requires_grad for p in module.parameters())


def test_weights_in_a_file_are_used_in_place(source, tmp_path):
    torch.save(source.state_dict(), tmp_path / "weights.pt")
    tensors = pretrained_state(tmp_path / "weights.pt")
    module = SmallNet()
    load_pretrained(module, tensors, ("head",))
    assert module.body.weight.data_ptr() == tensors["body.weight"].data_ptr()
    assert module.head.weight.data_ptr() != tensors["head.weight"].data_ptr()
    half = SmallNet().to(torch.bfloat16)
    load_pretrained(half, tensors, ())
    assert half.body.weight.dtype == torch.bfloat16


def test_weights_in_memory_are_copied(source):
    module = SmallNet()
    load_pretrained(module, pretrained_state(source.state_dict()), ())
    with torch.no_grad():
        module.body.weight.zero_()
    assert source.body.weight.any()


def test_adapters_of_a_source_are_merged(source):
    source = randomize_updates(inject_lora(source, r=2, random_state=0))
    module = SmallNet()
    load_pretrained(module, pretrained_state(source), ())
    assert_same(module, merge_lora(copy.deepcopy(source)))


def test_only_replaceable_parts_may_differ(source):
    new_head = SmallNet(n_outputs=7)
    with pytest.raises(ValueError, match=r"'head\.weight' has shape \(4, 16\).*\(7, 16\)"):
        load_pretrained(new_head, pretrained_state(source), ())
    load_pretrained(new_head, pretrained_state(source), ("head",))
    assert torch.equal(new_head.body.weight, source.body.weight)
    state = source.state_dict()
    del state["head.weight"], state["body.bias"]
    with pytest.raises(ValueError, match=r"lacks the tensors 'body.bias'.*modules_to_save"):
        load_pretrained(SmallNet(), state, ("head",))
    with pytest.raises(ValueError, match=r"tensors 'tail', which the network lacks"):
        load_pretrained(SmallNet(), source.state_dict() | {"tail": torch.ones(2)}, ())


def test_other_sources_are_rejected():
    with pytest.raises(TypeError, match="pretrained must be None, a path"):
        pretrained_state(3)
    with pytest.raises(ValueError, match="not fitted"):
        pretrained_state(NetClassifier())
    with pytest.raises(FileNotFoundError):
        pretrained_state("nothing.pt")


def test_a_missing_batch_counter_is_accepted(source):
    state = source.state_dict()
    del state["norm.num_batches_tracked"]
    module = SmallNet()
    load_pretrained(module, state, ())
    assert isinstance(module.norm, nn.BatchNorm2d)
    assert torch.equal(module.norm.weight, source.norm.weight)


class TiedModel(nn.Module):
    """A language model whose output layer shares the weights of its embedding."""

    def __init__(self):
        super().__init__()
        self.embed, self.body = nn.Embedding(10, 4), nn.Linear(32, 4)
        self.decode, self.head = nn.Linear(4, 10, bias=False), nn.Linear(10, 3)
        self.decode.weight = self.embed.weight

    def forward(self, X):
        return self.head(self.decode(self.body(self.embed(X.long()).flatten(1)).relu()))


@pytest.mark.filterwarnings("ignore:The weight of 'decode' is tied")
@pytest.mark.parametrize("missing", [None, "decode.weight", "embed.weight"])
def test_tied_weights_stay_tied_after_loading(tmp_path, missing):
    rng, path = np.random.RandomState(0), tmp_path / "model.safetensors"
    X, y = rng.randint(10, size=(30, 8)), np.arange(30) % 3
    state = {name: tensor.clone() for name, tensor in TiedModel().state_dict().items()}
    save_tensors(path, {f"model.{n}": t for n, t in state.items() if n != missing})
    for source in (state, path):
        params = {"pretrained": source, "max_epochs": 1, "r": 2, "random_state": 0}
        module = FlatLoRAClassifier(TiedModel, **params).fit(X, y).module_
        assert module.decode.base_layer.weight is module.embed.weight
        assert torch.equal(module.embed.weight, state["embed.weight"])
