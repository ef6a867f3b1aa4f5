"""Exchange of adapters with peft."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_ext import FlatLoRACallback, FlatLoRAClassifier, NetClassifier
from sklearn_ext.lora import inject_lora, load_adapter, lora_layers, lora_state_dict, save_adapter
from sklearn_ext.lora._noise import WeightNoise
from sklearn_ext.lora._training_loops import noisy_layers
from tests.lora.layers import SmallNet, randomize_updates, scale_of

peft = pytest.importorskip("peft", reason="peft is not installed")
TARGETS = ["second", "body"]
PARAMS = {"r": 2, "lora_alpha": 3, "target_modules": TARGETS, "modules_to_save": ["head"]}


@pytest.fixture
def plain():
    torch.manual_seed(0)
    return SmallNet().eval()


@pytest.fixture
def pair(plain):
    """The same adapter in both libraries."""
    ours = inject_lora(copy.deepcopy(plain), random_state=0, **PARAMS)
    theirs = peft.get_peft_model(copy.deepcopy(plain), peft.LoraConfig(**PARAMS))
    state = {name: tensor.clone() for name, tensor in lora_state_dict(ours).items()}
    peft.set_peft_model_state_dict(theirs, state)
    return ours.eval(), theirs.eval()


X = torch.randn(6, 8, 8, generator=torch.Generator().manual_seed(0))


def test_peft_reads_our_adapters(plain, tmp_path):
    module = randomize_updates(inject_lora(copy.deepcopy(plain), random_state=0, **PARAMS)).eval()
    nn.init.normal_(module.head.weight)
    save_adapter(module, tmp_path)
    loaded = peft.PeftModel.from_pretrained(copy.deepcopy(plain), str(tmp_path)).eval()
    torch.testing.assert_close(loaded(X), module(X), rtol=0, atol=1e-6)
    assert (module(X) - plain(X)).abs().max() > 0.1


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"use_rslora": True, "rank_pattern": {"body": 5}, "alpha_pattern": {"body": 7}},
        {"bias": "all"},
        {"bias": "lora_only"},
    ],
)
def test_adapters_of_peft_can_be_loaded(plain, tmp_path, extra):
    theirs = peft.get_peft_model(copy.deepcopy(plain), peft.LoraConfig(**PARAMS, **extra))
    randomize_updates(theirs)
    for name, parameter in theirs.named_parameters():
        if parameter.requires_grad and "bias" in name:
            nn.init.normal_(parameter)
    theirs.save_pretrained(tmp_path)
    loaded = load_adapter(copy.deepcopy(plain), tmp_path).eval()
    torch.testing.assert_close(loaded(X), theirs.eval()(X), rtol=0, atol=1e-6)


@pytest.mark.parametrize("train_bias", ["all", "lora_only"])
def test_peft_reads_trained_biases(plain, tmp_path, train_bias):
    module = inject_lora(copy.deepcopy(plain), random_state=0, train_bias=train_bias, **PARAMS)
    nn.init.normal_(randomize_updates(module).body.base_layer.bias)
    save_adapter(module, tmp_path)
    loaded = peft.PeftModel.from_pretrained(copy.deepcopy(plain), str(tmp_path)).eval()
    torch.testing.assert_close(loaded(X), module.eval()(X), rtol=0, atol=1e-6)


def test_outputs_and_gradients_match_peft_without_noise(pair):
    for module in pair:
        randomize_updates(module)
        module(X).square().mean().backward()
    ours, theirs = pair
    torch.testing.assert_close(ours(X), theirs(X), rtol=0, atol=1e-6)
    gradients = {name: p.grad for name, p in theirs.named_parameters() if p.grad is not None}
    own = {name: p.grad for name, p in ours.named_parameters() if p.grad is not None}
    assert len(own) == len(gradients) == 6
    for name, gradient in own.items():
        part, _, rest = name.partition(".lora_")
        key = f"base_model.model.{part}.lora_{rest}".replace(".weight", ".default.weight")
        if not rest:
            key = f"base_model.model.head.modules_to_save.default.{name.split('.')[-1]}"
        torch.testing.assert_close(gradient, gradients[key], rtol=0, atol=1e-6)


def test_twenty_updates_match_peft_without_noise(pair):
    outputs = []
    y = torch.arange(6) % 4
    before = pair[0](X).detach()
    for module in pair:
        trained = [p for p in module.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-2)
        for _ in range(20):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(X), y).backward()
            optimizer.step()
        outputs.append(module(X).detach())
    torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=1e-6)
    assert (outputs[0] - before).abs().max() > 0.5


def test_the_noise_is_the_same_on_layers_of_peft(pair):
    noisy = []
    for module in pair:
        randomize_updates(module).train()
        layers = noisy_layers(module)
        for k, layer in enumerate(layers):
            layer.noise = WeightNoise(scale_of(layer, 0.3), k)
        noisy.append(module(X))
        for layer in layers:
            layer.noise = None
        assert (module(X) - noisy[-1]).abs().max() > 1e-2
    torch.testing.assert_close(*noisy, rtol=0, atol=1e-5)


def test_the_callback_trains_a_network_of_peft(pair):
    _, theirs = pair
    frozen = {n: p.detach().clone() for n, p in theirs.named_parameters() if not p.requires_grad}
    y = np.arange(6) % 4
    net = NetClassifier(
        theirs, callbacks=[FlatLoRACallback(0.2, random_state=0)], max_epochs=8, random_state=0
    )
    net.fit(X.numpy(), y)
    after = dict(net.module_.named_parameters())
    assert all(torch.equal(after[name], weight) for name, weight in frozen.items())
    assert net.history_[0, "sigma"] == 0
    assert 0.1 < net.history_[-1, "sigma"] < 0.2
    assert all(layer.noise is None for layer in noisy_layers(net.module_))


def test_a_warning_names_layers_without_noise(plain):
    module = nn.Sequential(nn.Embedding(9, 6), nn.Linear(6, 4))
    config = peft.LoraConfig(r=2, target_modules=["0", "1"])
    with pytest.warns(UserWarning, match=r"no noise: \['base_model.model.0'\]"):
        assert len(noisy_layers(peft.get_peft_model(module, config))) == 2


def test_layers_of_dora_get_no_noise(plain):
    theirs = peft.get_peft_model(plain, peft.LoraConfig(**PARAMS, use_dora=True))
    with (
        pytest.warns(UserWarning, match=r"no noise: \['base_model.model.second'"),
        pytest.raises(ValueError, match="no adapted layer that takes noise"),
    ):
        noisy_layers(theirs)


def test_lora_config_accepts_a_configuration_of_peft(plain):
    config = peft.LoraConfig(**PARAMS, rank_pattern={"body": 3})
    net = FlatLoRAClassifier(plain, lora_config=config, max_epochs=1, random_state=0)
    net.fit(X.numpy(), np.arange(6) % 4)
    assert {name: entry["r"] for name, entry in net.lora_layers_.items()} == {
        "second": 2,
        "body": 3,
    }
    assert lora_layers(net.module_)["body"].scaling == 1
