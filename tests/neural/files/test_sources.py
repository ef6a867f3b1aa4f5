"""Weights in the forms that people have: folders, shards, training checkpoints, other names."""

import argparse
import json
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_ext.neural import LazyTensors, load_tensors, save_tensors
from sklearn_ext.neural.files import (
    is_checkpoint_folder,
    is_source,
    matched_tensors,
    names_of_tensors,
)

TENSORS = {
    "embed.weight": torch.arange(6.0).reshape(3, 2),
    "head.weight": torch.ones(2, dtype=torch.bfloat16),
    "head.bias": torch.zeros(2, dtype=torch.float16),
}


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def write(path, tensors):
    if path.suffix == ".safetensors":
        save_tensors(path, tensors)
    else:
        torch.save(tensors, path)


def write_shards(folder, stem, suffix):
    """Write the tensors in two files with an index, as the Hugging Face libraries do."""
    names = list(TENSORS)
    weight_map = {}
    for k, part in enumerate((names[:1], names[1:]), start=1):
        file = f"{stem}-0000{k}-of-00002{suffix}"
        write(folder / file, {name: TENSORS[name] for name in part})
        weight_map |= dict.fromkeys(part, file)
    index = folder / f"{stem}{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 32}, "weight_map": weight_map}))
    return index


@pytest.mark.parametrize(
    ("stem", "suffix"), [("model", ".safetensors"), ("pytorch_model", ".bin"), ("other", ".bin")]
)
def test_shards_with_an_index_are_read(tmp_path, stem, suffix):
    index = write_shards(tmp_path, stem, suffix)
    assert equal(load_tensors(index), TENSORS)
    assert equal(load_tensors(tmp_path), TENSORS)
    (tmp_path / f"{stem}-00002-of-00002{suffix}").unlink()
    with pytest.raises(FileNotFoundError, match=r"00002-of-00002.*does not exist"):
        load_tensors(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "any.pth", "last.ckpt"])
def test_a_folder_with_other_files_is_read(tmp_path, name):
    write(tmp_path / name, TENSORS)
    (tmp_path / "config.json").write_text("{}")
    if name == "model.safetensors":
        torch.save({"step": 3}, tmp_path / "optimizer.pt")
    assert equal(load_tensors(tmp_path), TENSORS)


def test_a_folder_without_a_clear_choice_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must contain one file of weights.* got none"):
        load_tensors(tmp_path)
    for k in range(7):
        write(tmp_path / f"{k}.pt", TENSORS)
    with pytest.raises(ValueError, match=r"got 7 files, 0\.pt, .*4\.pt and 2 more"):
        load_tensors(tmp_path)


@pytest.mark.parametrize(
    "file", ["../secret.safetensors", "/etc/secret.safetensors", "a/b.safetensors", "x.txt", ".."]
)
def test_an_index_cannot_leave_its_folder(tmp_path, file):
    folder = tmp_path / "model"
    folder.mkdir()
    save_tensors(tmp_path / "secret.safetensors", TENSORS)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict.fromkeys(TENSORS, file)}))
    with pytest.raises(ValueError, match="must name files of weights in its own folder"):
        load_tensors(folder)


@pytest.mark.parametrize(
    "content", ["", "[" * 100_000, "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 3}}']
)
def test_a_damaged_index_is_refused(tmp_path, content):
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ValueError, match=r"index\.json"):
        load_tensors(tmp_path)


def test_an_index_that_does_not_fit_its_files_is_refused(tmp_path):
    index = write_shards(tmp_path, "model", ".safetensors")
    stored = json.loads(index.read_text())
    stored["weight_map"]["more"] = stored["weight_map"]["embed.weight"]
    index.write_text(json.dumps(stored))
    with pytest.raises(ValueError, match=r"00001-of-00002\.safetensors' lacks 'more'"):
        load_tensors(tmp_path)


@pytest.mark.parametrize("entry", ["model", "state_dict", "model_state_dict", "module", "ema"])
def test_training_checkpoints_are_read(tmp_path, entry):
    path = tmp_path / "last.pt"
    checkpoint = {
        "epoch": 3,
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]},
        "args": argparse.Namespace(lr=0.1, name="run"),
        "best": np.float64(0.5),
        "losses": np.arange(3.0),
        entry: OrderedDict(TENSORS),
    }
    torch.save(checkpoint, path)
    assert equal(load_tensors(path), TENSORS)
    assert equal(load_tensors(path, key=entry), TENSORS)
    torch.save({"nested": checkpoint}, path)
    assert equal(load_tensors(path, key=f"nested.{entry}"), TENSORS)
    with pytest.raises(ValueError, match=r"entries 'nested' .dict.*as key"):
        load_tensors(path)
    with pytest.raises(ValueError, match="lacks the entry key='other'; its entries are nested"):
        load_tensors(path, key="other")


def test_tensors_are_read_on_access(tmp_path):
    write_shards(tmp_path, "model", ".safetensors")
    lazy = LazyTensors(tmp_path)
    assert list(lazy) == list(TENSORS)
    assert lazy["head.weight"].dtype == torch.bfloat16
    with pytest.raises(KeyError):
        lazy["nothing"]
    with pytest.raises(ValueError, match="key must be None, got 'model'"):
        LazyTensors(tmp_path / "model-00001-of-00002.safetensors", key="model")


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(10, 4), nn.Linear(4, 10, bias=False)
        self.body = nn.Linear(4, 4)
        self.head.weight = self.embed.weight
        self.register_buffer("scratch", torch.zeros(1), persistent=False)


def fit(module, tensors, **options):
    names = names_of_tensors(module)
    own = {name: module.state_dict()[name] for name in names}
    return matched_tensors(tensors, own, "The file", aliases=names, **options)


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "_orig_mod.module.model."]
)
def test_prefixes_of_wrappers_are_removed(prefix):
    module = Tied()
    state = {f"{prefix}{name}": tensor for name, tensor in module.state_dict().items()}
    assert fit(module, state)["body.bias"] is state[f"{prefix}body.bias"]
    state["n_averaged"] = torch.ones(())
    assert fit(module, state).keys() == {"embed.weight", "body.weight", "body.bias"}
    wrapped = nn.ModuleDict({"module": module})
    assert len(fit(wrapped, module.state_dict())) == 3
    compiled = {name.replace("body.", "body._orig_mod."): t for name, t in state.items()}
    assert len(fit(module, compiled)) == 3


@pytest.mark.parametrize("missing", ["embed.weight", "head.weight"])
def test_tied_tensors_may_have_any_of_their_names(missing):
    module = Tied()
    state = dict(module.state_dict())
    expected = state.pop(missing)
    assert torch.equal(fit(module, state)["embed.weight"], expected)


@pytest.mark.parametrize("kind", [dict, "callable"])
def test_key_map_renames_and_drops_tensors(kind):
    module = Tied()
    state = {name.replace("body", "inner"): t for name, t in module.state_dict().items()}
    state["loss.weight"] = torch.ones(1)
    names = {"inner.weight": "body.weight", "inner.bias": "body.bias", "loss.weight": None}
    key_map = names if kind is dict else lambda name: names.get(name, name)
    assert fit(module, state, key_map=key_map)["body.bias"] is state["inner.bias"]
    with pytest.raises(ValueError, match="key_map must give a name or None, got 3"):
        fit(module, state, key_map=lambda name: 3)
    with pytest.raises(ValueError, match="different names to the tensors of The file"):
        fit(module, state, key_map=lambda name: "body.weight")


def test_errors_name_up_to_five_tensors_and_the_nearest_match():
    module = nn.ModuleList(nn.Linear(2, 2) for _ in range(9))
    state = {name.replace("weight", "weights"): t for name, t in module.state_dict().items()}
    state["0.bias"] = torch.zeros(3)
    state["1.bias"] = torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError) as error:
        fit(module, state)
    assert str(error.value) == (
        "The file does not fit the network. It lacks the tensors '0.weight', '1.weight', "
        "'2.weight', '3.weight', '4.weight' and 4 more. It has the tensors '0.weights', "
        "'1.weights', '2.weights', '3.weights', '4.weights' and 4 more, which the network lacks. "
        "The nearest match of '0.weight' is '0.weights'. The tensor '0.bias' has shape (3,), but "
        "the network's has shape (2,). The tensor '1.bias' has type torch.int64, unlike the "
        "network's."
    )


@pytest.mark.parametrize(
    ("names", "is_one"),
    [
        (["model.safetensors", "config.json"], True),
        (["pytorch_model.bin", "config.json", "optimizer.pt"], True),
        (["model.safetensors.index.json"], True),
        (["model.safetensors"], False),  # perhaps one of several ingredients
        (["other.safetensors", "config.json"], False),
        (["config.json"], False),
    ],
)
def test_one_checkpoint_is_told_from_several_in_a_folder(tmp_path, names, is_one):
    for name in names:
        (tmp_path / name).touch()
    assert is_checkpoint_folder(str(tmp_path)) == is_one
    assert is_source(str(tmp_path)) == (names != ["config.json"])
    assert is_source(str(tmp_path / "a.pt"))
    assert not is_source(str(tmp_path / "a.txt"))
