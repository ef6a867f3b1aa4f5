"""Exchange of adapters with peft."""

import copy
import json
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_ext import FlatLoRACallback, FlatLoRAClassifier, NetClassifier
from sklearn_ext.lora import (
    initialize_from_gradients,
    inject_lora,
    load_adapter,
    lora_layers,
    lora_state_dict,
    merge_lora,
    save_adapter,
)
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


def noisy_outputs(module):
    """Return the outputs of a module with noise on its adapted layers."""
    layers = noisy_layers(module)
    for k, layer in enumerate(layers):
        layer.noise = WeightNoise(scale_of(layer, 0.3), k)
    outputs = module(X)
    for layer in layers:
        layer.noise = None
    assert (module(X) - outputs).abs().max() > 1e-2
    return outputs


def test_the_noise_is_the_same_on_layers_of_peft(pair):
    ours, theirs = (noisy_outputs(randomize_updates(module).train()) for module in pair)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


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


def test_layers_of_dora_with_dropout_get_no_noise(plain):
    config = peft.LoraConfig(**PARAMS, use_dora=True, lora_dropout=0.1)
    theirs = peft.get_peft_model(plain, config)
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


class TokenNet(nn.Module):
    """An embedding, a transposed linear layer and a head."""

    def __init__(self):
        super().__init__()
        conv1d = pytest.importorskip("transformers.pytorch_utils").Conv1D
        self.embed = nn.Embedding(11, 6, padding_idx=0)
        self.body = conv1d(5, 6)
        self.second = nn.Conv1d(5, 4, 3, padding=1)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = self.body(self.embed(x)).relu()
        return self.head(self.second(x.transpose(1, 2)).mean(dim=2))


TOKENS = torch.arange(24).reshape(4, 6) % 11
OPTIONS = {
    "gaussian": {"init_lora_weights": "gaussian"},
    "random B": {"init_lora_weights": False},
    "rank above a side": {"r": 9},
    "rank-stabilized": {"use_rslora": True, "r": 3},
    "DoRA": {"use_dora": True},
    "DoRA of a high rank": {"use_dora": True, "use_rslora": True, "r": 8},
    "patterns": {"rank_pattern": {"body": 5}, "alpha_pattern": {"second": 1}},
    "saved head": {"modules_to_save": ["head"]},
}


@pytest.fixture
def token_net():
    torch.manual_seed(0)
    return TokenNet().eval()


def targets_for(options):
    return ["body", "second"] if options.get("use_dora") else ["embed", "body", "second"]


@pytest.mark.filterwarnings("ignore:fan_in_fan_out")
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_both_libraries_read_adapters_of_the_other(token_net, tmp_path, options):
    params = {"r": 2, "lora_alpha": 3, "target_modules": targets_for(options)} | options
    theirs = peft.get_peft_model(copy.deepcopy(token_net), peft.LoraConfig(**params))
    randomize_updates(theirs, seed=3)
    for name, parameter in theirs.named_parameters():
        if parameter.requires_grad and ("magnitude" in name or "head" in name):
            nn.init.normal_(parameter, mean=1.0)
    theirs.save_pretrained(tmp_path / "a")
    ours = load_adapter(copy.deepcopy(token_net), tmp_path / "a")
    expected = theirs.eval()(TOKENS)
    assert (expected - token_net(TOKENS)).abs().max() > 0.01
    torch.testing.assert_close(ours(TOKENS), expected, rtol=0, atol=2e-6)
    save_adapter(ours, tmp_path / "b")
    again = peft.PeftModel.from_pretrained(copy.deepcopy(token_net), str(tmp_path / "b"))
    torch.testing.assert_close(again.eval()(TOKENS), expected, rtol=0, atol=2e-6)
    merged = merge_lora(ours)
    torch.testing.assert_close(merged.eval()(TOKENS), expected, rtol=0, atol=2e-6)


def test_adapters_of_pissa_are_read_as_in_peft(tmp_path):
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 3))
    config = peft.LoraConfig(r=2, lora_alpha=3, target_modules=["0"], init_lora_weights="pissa")
    theirs = peft.get_peft_model(copy.deepcopy(plain), config)
    x = torch.randn(5, 9)
    torch.testing.assert_close(theirs(x), plain(x), rtol=0, atol=1e-5)
    with torch.no_grad():
        theirs.base_model.model[0].lora_A["default"].weight.mul_(1.7)
    theirs.save_pretrained(tmp_path)
    ours = load_adapter(copy.deepcopy(plain), tmp_path)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-5)
    # The file lacks the part of the weight that a randomized decomposition subtracted.
    fields = json.loads((tmp_path / "adapter_config.json").read_text())
    fields["init_lora_weights"] = "pissa_niter_4"
    (tmp_path / "adapter_config.json").write_text(json.dumps(fields))
    with pytest.raises(
        ValueError, match=r"init_lora_weights must be one of .* got 'pissa_niter_4'"
    ):
        load_adapter(copy.deepcopy(plain), tmp_path)


@pytest.mark.parametrize("method", ["pissa", "olora", "lora_ga"])
@pytest.mark.parametrize("use_rslora", [False, True])
def test_peft_reads_updates_whose_start_is_subtracted(plain, tmp_path, method, use_rslora):
    module = inject_lora(
        copy.deepcopy(plain),
        random_state=0,
        init_lora_weights=method,
        use_rslora=use_rslora,
        **PARAMS,
    )
    if method == "lora_ga":
        initialize_from_gradients(module, lambda: module(X).square().mean().backward())
    torch.testing.assert_close(module(X), plain(X), rtol=0, atol=1e-5)
    assert module.body.lora_B.weight.any()
    randomize_updates(module)
    save_adapter(module, tmp_path)
    theirs = peft.PeftModel.from_pretrained(copy.deepcopy(plain), str(tmp_path)).eval()
    ours = load_adapter(copy.deepcopy(plain), tmp_path)
    for loaded in (theirs, ours, merge_lora(copy.deepcopy(module))):
        torch.testing.assert_close(loaded.eval()(X), module(X), rtol=0, atol=1e-5)
    assert (module(X) - plain(X)).abs().max() > 0.05


def test_the_noise_is_the_same_on_layers_of_dora(plain):
    ours = inject_lora(copy.deepcopy(plain), random_state=0, use_dora=True, **PARAMS)
    randomize_updates(ours)
    for name, parameter in ours.named_parameters():
        if "magnitude" in name:
            factors = torch.linspace(0.5, 2, parameter.numel()).view_as(parameter)
            parameter.data.mul_(factors)
    theirs = peft.get_peft_model(plain, peft.LoraConfig(**PARAMS, use_dora=True))
    state = {name: tensor.clone() for name, tensor in lora_state_dict(ours).items()}
    peft.set_peft_model_state_dict(theirs, state)
    for module in (ours.train(), theirs.train()):
        module.apply(lambda part: part.eval() if isinstance(part, nn.BatchNorm2d) else None)
    torch.testing.assert_close(noisy_outputs(ours), noisy_outputs(theirs), rtol=0, atol=1e-5)


def test_statistics_of_normalization_reach_peft(plain, tmp_path):
    module = inject_lora(copy.deepcopy(plain), random_state=0, **PARAMS)
    with torch.no_grad():
        module.train()(X + 3)
    save_adapter(module.eval(), tmp_path)
    loaded = peft.PeftModel.from_pretrained(copy.deepcopy(plain), str(tmp_path)).eval()
    torch.testing.assert_close(loaded(X), module(X), rtol=0, atol=1e-6)
    assert (module(X) - plain(X)).abs().max() > 0.01


def test_a_warning_names_statistics_that_peft_would_lose(plain):
    theirs = peft.get_peft_model(plain, peft.LoraConfig(**PARAMS))
    with pytest.warns(UserWarning, match=r"running statistics of \['base_model.model.norm'\]"):
        noisy_layers(theirs)
    saved = PARAMS | {"modules_to_save": ["head", "norm"]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        noisy_layers(peft.get_peft_model(SmallNet(), peft.LoraConfig(**saved)))
