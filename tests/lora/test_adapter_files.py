"""Saving adapters to folders and loading them."""

import copy
import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from sklearn_ext.lora import inject_lora, load_adapter, lora_state_dict, save_adapter
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
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"modules_to_save": ["head"]}))
    with pytest.raises(ValueError, match=r"lacks \['base_model.model.head.bias'"):
        load_adapter(copy.deepcopy(plain), tmp_path)
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"adapter_config\.json"):
        load_adapter(plain, tmp_path)
