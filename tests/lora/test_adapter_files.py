"""Saving adapters to folders and loading them."""

import contextlib
import copy
import json
import os
from itertools import count

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from sklearn_ext.lora import (
    inject_lora,
    load_adapter,
    lora_layers,
    lora_state_dict,
    merge_adapters,
    save_adapter,
)
from tests.files import damaged, killed_at
from tests.lora.layers import SmallNet, randomize_updates


@pytest.fixture
def plain():
    torch.manual_seed(0)
    return SmallNet()


def adapted(plain, **params):
    module = inject_lora(copy.deepcopy(plain), **{"r": 2, "random_state": 0} | params)
    return randomize_updates(module).eval()


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"use_rslora": True, "lora_alpha": 5},
        {"modules_to_save": ["head"], "train_bias": "all"},
        {"train_norm": True, "train_bias": "lora_only"},
        {"rank_pattern": {"body": 6}, "alpha_pattern": {"first": 3.0}},
        {"use_dora": True},
        {"init_lora_weights": False},
    ],
)
def test_adapters_round_trip_bit_for_bit(plain, tmp_path, params):
    module = adapted(plain, **params)
    for name, parameter in module.named_parameters():
        if parameter.requires_grad and "lora" not in name:
            nn.init.normal_(parameter)
    save_adapter(module, tmp_path / "new" / "folder")
    loaded = load_adapter(copy.deepcopy(plain), tmp_path / "new" / "folder").eval()
    x = torch.randn(5, 8, 8)
    assert torch.equal(loaded(x), module(x))
    state, expected = loaded.state_dict(), module.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in state)


def test_files_have_the_format_of_peft(plain, tmp_path):
    module = adapted(plain, target_modules=["second", "body"], modules_to_save=["head"])
    save_adapter(module, tmp_path)
    shapes = {
        name: tuple(tensor.shape)
        for name, tensor in load_file(tmp_path / "adapter_model.safetensors").items()
    }
    assert shapes == {
        "base_model.model.second.lora_A.weight": (2, 6, 3, 3),
        "base_model.model.second.lora_B.weight": (8, 2, 1, 1),
        "base_model.model.body.lora_A.weight": (2, 72),
        "base_model.model.body.lora_B.weight": (16, 2),
        "base_model.model.head.weight": (4, 16),
        "base_model.model.head.bias": (4,),
    }
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["peft_type"] == "LORA"
    assert (config["r"], config["lora_alpha"]) == (2, 16)
    assert config["target_modules"] == ["second", "body"]
    assert config["modules_to_save"] == ["head"]


def test_an_ambiguous_name_is_saved_as_a_regular_expression(tmp_path):
    module = nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), nn.Linear(4, 4))
    inject_lora(module, r=2, target_modules="1", random_state=0)
    save_adapter(module, tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["target_modules"] == "1"


def test_the_state_dict_contains_the_trained_tensors(plain):
    with pytest.raises(ValueError, match="SmallNet has no adapters"):
        lora_state_dict(plain)
    module = adapted(plain, target_modules=["body"])
    tensors = lora_state_dict(module)
    assert len(tensors) == 2
    weight = module.body.lora_B.weight
    assert tensors["base_model.model.body.lora_B.weight"].data_ptr() == weight.data_ptr()


def test_errors_name_what_does_not_fit(plain, tmp_path):
    save_adapter(adapted(plain, target_modules=["body"]), tmp_path)
    other = copy.deepcopy(plain)
    other.body = nn.Linear(71, 16)
    with pytest.raises(
        ValueError, match=r"body\.lora_A\.weight has shape \(2, 72\), not \(2, 71\)"
    ):
        load_adapter(other, tmp_path)
    with pytest.raises(ValueError, match="matches no layer"):
        load_adapter(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), tmp_path)


def written_by_peft(folder):
    """Remove what peft does not write from the header of the weights."""
    path = folder / "adapter_model.safetensors"
    save_file(load_file(path), path, metadata={"format": "pt"})
    return folder


def changed_config(folder, **changes):
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_a_folder_of_peft_needs_both_files(plain, tmp_path):
    save_adapter(adapted(plain, target_modules=["body"]), tmp_path)
    written_by_peft(tmp_path)
    load_adapter(copy.deepcopy(plain), tmp_path)
    changed_config(tmp_path, modules_to_save=["head"])
    with pytest.raises(ValueError, match=r"lacks \['base_model.model.head.bias'"):
        load_adapter(copy.deepcopy(plain), tmp_path)
    (tmp_path / "adapter_config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"adapter_config\.json"):
        load_adapter(plain, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"r": -1}, "r must be a positive integer, got -1"),
        ({"r": "8"}, "r must be a positive integer, got '8'"),
        ({"r": True}, "r must be a positive integer, got True"),
        ({"lora_alpha": float("nan")}, "lora_alpha must be a positive number, got nan"),
        ({"lora_dropout": [0]}, r"lora_dropout must be in \[0, 1\)"),
        ({"use_rslora": "no"}, "use_rslora must be a bool, got 'no'"),
        ({"target_modules": 5}, "target_modules must be a string or a list"),
        ({"target_modules": [["body"]]}, "target_modules must be a string or a list"),
        ({"target_modules": "("}, "'\\(' must be a regular expression"),
        ({"target_modules": "(.+)+!"}, "matches no layer"),
        ({"modules_to_save": "head"}, "modules_to_save must be a list of strings"),
        ({"rank_pattern": [4]}, "rank_pattern must be a mapping"),
        ({"rank_pattern": {"(a|a)*(.+)+!": 2}}, "does not fit|lora_A"),
        ({"alpha_pattern": {"body": "x"}}, r"alpha_pattern\['body'\] must be a positive number"),
        ({"bias": ["none"]}, "train_bias must be one of"),
        ({"predict": 1}, r"not supported: \['predict'\]"),
        ({"peft_type": ["LORA"]}, "peft_type must be 'LORA'"),
    ],
)
def test_errors_name_the_field_of_a_configuration(plain, tmp_path, changes, message):
    # The default rank is below that of the pattern, so the shapes tell which one was used.
    save_adapter(adapted(plain, target_modules=["body"], rank_pattern={"body": 6}), tmp_path)
    changed_config(written_by_peft(tmp_path), **changes)
    module = copy.deepcopy(plain)
    with pytest.raises(ValueError, match=message):
        load_adapter(module, tmp_path)
    assert str(module) == str(plain)
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_files_of_two_adapters_are_refused(plain, tmp_path):
    save_adapter(adapted(plain, target_modules=["body"]), tmp_path)
    changed_config(tmp_path, lora_alpha=99)
    with pytest.raises(ValueError, match=r"must belong to one adapter.*\['lora_alpha'\]"):
        load_adapter(copy.deepcopy(plain), tmp_path)
    changed_config(tmp_path, lora_alpha=16, base_model_name_or_path="anything")
    load_adapter(copy.deepcopy(plain), tmp_path)


def test_adapters_that_are_not_finite_are_refused(plain, tmp_path):
    module = adapted(plain, target_modules=["body"])
    with torch.no_grad():
        module.body.lora_B.weight[0, 0] = float("inf")
    save_adapter(module, tmp_path)
    with pytest.raises(ValueError, match=r"body\.lora_B\.weight.*finite numbers"):
        load_adapter(copy.deepcopy(plain), tmp_path)


@pytest.mark.parametrize("moment", ["flock", "fsync", "unlink", "replace"])
@pytest.mark.parametrize("writer", ["ours", "peft"])
def test_a_killed_save_leaves_one_of_the_adapters(plain, tmp_path, writer, moment):
    first = adapted(plain, target_modules=["body"])
    second = adapted(plain, target_modules=["body", "second"], r=1)
    x = torch.randn(5, 8, 8)
    for n_calls in count():
        save_adapter(first, tmp_path)
        if writer == "peft":
            written_by_peft(tmp_path)
        if not killed_at(moment, lambda: save_adapter(second, tmp_path), n_calls=n_calls):
            break
        outputs = load_adapter(copy.deepcopy(plain), tmp_path).eval()(x)
        assert torch.equal(outputs, first(x)) or torch.equal(outputs, second(x))
    assert n_calls >= 2
    save_adapter(second, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    assert torch.equal(load_adapter(copy.deepcopy(plain), tmp_path).eval()(x), second(x))


def test_a_failed_save_leaves_the_earlier_adapter(plain, tmp_path, monkeypatch):
    save_adapter(adapted(plain, target_modules=["body"]), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(*args):
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="full"):
        save_adapter(adapted(plain, target_modules=["second"]), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_damaged_adapters_raise_or_have_the_right_content(plain, tmp_path):
    module, rng = adapted(plain), np.random.default_rng(0)
    save_adapter(module, tmp_path)
    x = torch.randn(5, 8, 8)
    for k in range(100):
        path = tmp_path / ("adapter_model.safetensors", "adapter_config.json")[k % 2]
        whole = path.read_bytes()
        path.write_bytes(damaged(whole, rng))
        with contextlib.suppress(ValueError):
            assert torch.equal(load_adapter(copy.deepcopy(plain), tmp_path).eval()(x), module(x))
        path.write_bytes(whole)


def adapted_weights(module):
    """Return the sum of the frozen weight and the update of each adapted layer."""
    return {name: layer.weight.detach() for name, layer in lora_layers(module).items()}


def stored_adapters(plain, folder):
    """Store adapters of different layers, ranks and scalings; return them and their folders."""
    kinds = [
        {"target_modules": ["body", "second"]},
        {"target_modules": ["body"], "r": 3, "lora_alpha": 7},
        {"target_modules": ["second"], "use_rslora": True},
    ]
    modules = [adapted(plain, modules_to_save=["head"], **kind) for kind in kinds]
    for k, module in enumerate(modules):
        nn.init.normal_(module.head.weight)
        save_adapter(module, folder / str(k))
    return modules, [folder / str(k) for k in range(3)]


def test_adapters_are_merged_through_their_products(plain, tmp_path):
    modules, paths = stored_adapters(plain, tmp_path)
    weights = [0.5, 1.5, -0.7]
    merged = copy.deepcopy(plain)
    errors = merge_adapters(merged, paths, weights=weights)
    assert {name: layer.r for name, layer in lora_layers(merged).items()} == {
        "second": 4,
        "body": 5,
    }
    assert max(errors.values()) < 1e-6
    for name, weight in adapted_weights(merged).items():
        base = plain.get_submodule(name).weight.detach()
        expected = base.clone()
        for module, factor in zip(modules, weights, strict=True):
            expected += factor * (adapted_weights(module).get(name, base) - base)
        torch.testing.assert_close(weight, expected, rtol=1e-4, atol=1e-5)
    head = sum(w * m.head.weight for w, m in zip(weights, modules, strict=True)) / sum(weights)
    torch.testing.assert_close(merged.head.weight, head)
    save_adapter(merged, tmp_path / "merged")
    again = load_adapter(copy.deepcopy(plain), tmp_path / "merged").eval()
    x = torch.randn(5, 8, 8)
    assert torch.equal(again(x), merged.eval()(x))


def test_a_given_rank_is_the_best_approximation(plain, tmp_path):
    _, paths = stored_adapters(plain, tmp_path)
    exact, cut = copy.deepcopy(plain), copy.deepcopy(plain)
    merge_adapters(exact, paths)
    errors = merge_adapters(cut, paths, r=2)
    for name, layer in lora_layers(cut).items():
        base = plain.get_submodule(name).weight.detach()
        whole = (adapted_weights(exact)[name] - base).flatten(1).double()
        part = (layer.weight.detach() - base).flatten(1).double()
        values = torch.linalg.svdvals(whole)
        assert layer.r == 2
        cut_off = float(values[2:].norm() / values.norm())
        assert errors[name] == pytest.approx(cut_off, rel=1e-3, abs=1e-6)
        distance = float((whole - part).norm() / whole.norm())
        assert distance == pytest.approx(errors[name], rel=1e-3, abs=1e-6)
    assert max(errors.values()) > 0.01


def test_merged_adapters_must_fit_together(plain, tmp_path):
    _, paths = stored_adapters(plain, tmp_path)
    module = copy.deepcopy(plain)
    for params, message in [
        ({"weights": [1.0]}, "weights must be 3 finite numbers"),
        ({"weights": [1.0, -1.0, 0.0]}, "weights must not sum to 0"),
        ({"r": 0}, "r must be a positive integer or None, got 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            merge_adapters(module, paths, **params)
    with pytest.raises(ValueError, match="paths must name at least one adapter"):
        merge_adapters(module, [])
    save_adapter(adapted(plain, target_modules=["body"]), tmp_path / "other")
    with pytest.raises(ValueError, match="must have the same modules_to_save"):
        merge_adapters(module, [*paths, tmp_path / "other"])
    assert str(module) == str(plain)


@pytest.mark.parametrize("params", [{}, {"modules_to_save": ["head"]}, {"train_bias": "all"}])
def test_running_statistics_are_stored_if_they_changed(plain, tmp_path, params):
    module = adapted(plain, **params)
    save_adapter(module, tmp_path / "before")
    assert not any("norm" in name for name in lora_state_dict(module) if "bias" not in name)
    x = torch.randn(5, 8, 8)
    with torch.no_grad():
        module.train()(x + 3)
    save_adapter(module.eval(), tmp_path / "after")
    loaded = load_adapter(copy.deepcopy(plain).eval(), tmp_path / "after")
    assert torch.equal(loaded(x), module(x))
    assert loaded.lora_config.modules_to_save[-1] == "norm"
    assert not torch.equal(load_adapter(plain.eval(), tmp_path / "before")(x), module(x))


class Wrapper(nn.Module):
    """A network inside another module, whose layers have a prefix in their names."""

    def __init__(self, network):
        super().__init__()
        self.inner = nn.ModuleDict({"network": network})

    def forward(self, x):
        return self.inner["network"](x)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"modules_to_save": ["head"], "rank_pattern": {"body": 5}, "alpha_pattern": {"first": 3}},
        {"target_modules": ["body"], "use_dora": True},
    ],
)
def test_adapters_of_a_wrapped_network_fit_the_bare_one(plain, tmp_path, params):
    module = adapted(Wrapper(plain), **params)
    save_adapter(module, tmp_path)
    bare = load_adapter(copy.deepcopy(plain).eval(), tmp_path)
    x = torch.randn(5, 8, 8)
    assert torch.equal(bare(x), module(x))
    assert (bare(x) - plain.eval()(x)).abs().max() > 1e-3
    layers = lora_layers(bare)
    expected = {name.removeprefix("inner.network."): z.r for name, z in lora_layers(module).items()}
    assert {name: layer.r for name, layer in layers.items()} == expected


def test_an_adapter_with_a_part_of_its_wrapper_is_refused(plain, tmp_path):
    wrapper = Wrapper(plain)
    wrapper.scale = nn.Linear(3, 3)
    save_adapter(adapted(wrapper, modules_to_save=["scale"]), tmp_path)
    with pytest.raises(ValueError, match="'scale', which does not match any of the modules"):
        load_adapter(copy.deepcopy(plain), tmp_path)
    assert lora_layers(plain) == {}
