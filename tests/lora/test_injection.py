"""The choice of layers, what is trained, and merging back to plain layers."""

import copy

import pytest
import torch
from torch import nn

from sklearn_ext.lora import (
    initialize_from_gradients,
    inject_lora,
    load_adapter,
    lora_layers,
    lora_plus_groups,
    merge_lora,
    save_adapter,
)
from tests.lora.layers import SmallNet, randomize_updates


@pytest.fixture
def net():
    torch.manual_seed(0)
    return SmallNet()


def trained(module):
    return {name for name, p in module.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, ["first", "second", "body"]),
        ({"target_modules": "all-linear"}, ["body", "head"]),
        ({"target_modules": "all"}, ["first", "second", "body", "head"]),
        ({"target_modules": ["body"]}, ["body"]),
        ({"target_modules": r"(first|second)"}, ["first", "second"]),
        ({"target_modules": "all", "exclude_modules": ["second"]}, ["first", "body", "head"]),
        ({"target_modules": "all", "exclude_modules": "s.*|head"}, ["first", "body"]),
        ({"target_modules": "all", "modules_to_save": ["head"]}, ["first", "second", "body"]),
    ],
)
def test_target_modules_choose_the_layers(net, params, expected):
    module = inject_lora(net, r=2, random_state=0, **params)
    assert module is net
    assert list(lora_layers(module)) == expected


def test_suffixes_match_whole_parts_of_names():
    module = nn.Sequential()
    module.add_module("a", nn.ModuleDict({"fc": nn.Linear(9, 9), "xfc": nn.Linear(9, 9)}))
    inject_lora(module, target_modules=["fc"], random_state=0)
    assert list(lora_layers(module)) == ["a.fc"]


def test_no_match_lists_the_candidates(net):
    for targets in (["nope"], ["body", "nope"]):
        with pytest.raises(
            ValueError, match=r"\['nope'\].*candidates are.*'first', 'second', 'body'"
        ):
            inject_lora(net, target_modules=targets)
    assert lora_layers(net) == {}
    with pytest.raises(ValueError, match=r"'tail'.*does not match any of the modules"):
        inject_lora(net, modules_to_save=["tail"])


@pytest.mark.parametrize(
    "params",
    [{"exclude_modules": ["hat"]}, {"rank_pattern": {"hat": 2}}, {"alpha_pattern": {"hat": 2}}],
)
def test_a_warning_names_entries_that_match_nothing(net, params):
    (field,) = params
    with pytest.warns(UserWarning, match=rf"{field} contains \['hat'\], which match no"):
        inject_lora(net, r=2, random_state=0, **params)


@pytest.mark.parametrize("mode", [True, False])
def test_adapters_take_the_mode_of_their_layers(net, mode, tmp_path):
    net.train(mode)
    net.body.train(not mode)
    plain = copy.deepcopy(net)
    inject_lora(net, r=2, lora_dropout=0.5, random_state=0)
    save_adapter(net, tmp_path)
    for module in (net, load_adapter(plain, tmp_path)):
        assert module.training is mode
        assert module.body.training is module.body.lora_dropout.training is not mode
        assert module.second.training is module.second.lora_dropout.training is mode


def test_embeddings_are_adapted_if_they_are_named():
    module = nn.Sequential(nn.Embedding(9, 5), nn.Linear(5, 5), nn.Linear(5, 2))
    for targets in ("auto", "all", "all-linear"):
        assert "0" not in lora_layers(
            inject_lora(copy.deepcopy(module), r=2, target_modules=targets)
        )
    ids = torch.arange(9)
    expected = module(ids)
    inject_lora(module, r=2, target_modules=["0", "1"], random_state=0)
    assert torch.equal(module(ids), expected)
    assert not module[0].takes_noise
    nn.init.normal_(module[0].lora_A.weight)
    changed = module(ids)
    assert (changed - expected).abs().max() > 0.1
    torch.testing.assert_close(merge_lora(module)(ids), changed)
    with pytest.raises(ValueError, match=r"use_dora must be False .* \['0'\]"):
        inject_lora(nn.Sequential(nn.Embedding(9, 5)), target_modules=["0"], use_dora=True)


@pytest.mark.parametrize("method", [True, "gaussian", "pissa", "olora", "lora_ga"])
@pytest.mark.parametrize("use_dora", [False, True])
def test_every_initialization_keeps_the_outputs(net, method, use_dora):
    x = torch.randn(5, 8, 8)
    expected = net.eval()(x)
    inject_lora(net, r=2, init_lora_weights=method, use_dora=use_dora, random_state=0)
    torch.testing.assert_close(net(x), expected, rtol=0, atol=2e-6)
    if method in ("pissa", "olora"):
        assert all(layer.lora_B.weight.abs().max() > 0.01 for layer in lora_layers(net).values())


def test_a_random_factor_b_changes_the_outputs(net):
    x = torch.randn(5, 8, 8)
    expected = net.eval()(x)
    inject_lora(net, r=2, init_lora_weights=False, random_state=0)
    assert (net(x) - expected).abs().max() > 0.05


def test_pissa_begins_with_the_largest_part_of_the_weight(net):
    W = net.body.weight.detach().clone()
    inject_lora(net, r=3, target_modules=["body"], init_lora_weights="pissa", random_state=0)
    layer = net.body
    product = layer.scaling * layer.lora_B.weight @ layer.lora_A.weight
    values = torch.linalg.svdvals(W)
    torch.testing.assert_close(torch.linalg.svdvals(product)[:3], values[:3])
    torch.testing.assert_close((W - product).norm(), values[3:].norm())


def test_the_first_update_of_lora_ga_follows_the_gradient(net):
    x, y = torch.randn(30, 8, 8), torch.arange(30) % 4

    plain = copy.deepcopy(net)
    nn.functional.cross_entropy(plain(x), y).backward()
    gradient = plain.body.weight.grad
    updates = {}
    for method in (True, "lora_ga"):
        module = inject_lora(
            copy.deepcopy(plain), r=3, target_modules=["body"], init_lora_weights=method
        )
        before = [p.grad for p in module.parameters()]
        if method == "lora_ga":
            initialize_from_gradients(
                module, lambda m=module: nn.functional.cross_entropy(m(x), y).backward()
            )
        assert not module.body.base_layer.weight.requires_grad
        assert [p.grad is None for p in module.parameters()] == [g is None for g in before]
        trained = [p for p in module.parameters() if p.requires_grad]
        start = module.body.delta()
        nn.functional.cross_entropy(module(x), y).backward()
        torch.optim.SGD(trained, lr=1e-4).step()
        updates[method] = (start - module.body.delta()).flatten()
    cosines = {
        method: nn.functional.cosine_similarity(update, gradient.flatten(), dim=0).item()
        for method, update in updates.items()
    }
    assert cosines["lora_ga"] > 0.8 > 0.6 > cosines[True]


def test_gradients_are_required_for_their_initialization(net):
    with pytest.raises(ValueError, match="SmallNet has no adapters that could be initialized"):
        initialize_from_gradients(net, lambda: None)
    inject_lora(net, r=2, random_state=0)
    with pytest.raises(ValueError, match="backward must give the layer 'first' a gradient"):
        initialize_from_gradients(net, lambda: None)
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    inject_lora(module, target_modules="all", r=2, init_lora_weights="lora_ga", random_state=0)
    with pytest.raises(ValueError, match="backward must give the layer '1' a gradient"):
        initialize_from_gradients(module, lambda: module[0](torch.eye(4)).sum().backward())
    assert module[0].initial_a is None


def test_factors_b_learn_faster_in_lora_plus(net):
    inject_lora(net, r=2, modules_to_save=["head"], random_state=0)
    slow, fast = lora_plus_groups(net, lr=1e-3, lr_ratio=8)
    assert (slow["lr"], fast["lr"]) == (1e-3, 8e-3)
    assert {id(p) for p in fast["params"]} == {
        id(layer.lora_B.weight) for layer in lora_layers(net).values()
    }
    assert len(slow["params"]) == len(trained(net)) - 3
    with pytest.raises(ValueError, match="lr_ratio must be a positive number, got 0"):
        lora_plus_groups(net, lr=1e-3, lr_ratio=0)
    with pytest.raises(ValueError, match="SmallNet has no trainable factors B"):
        lora_plus_groups(SmallNet(), lr=1e-3)


def test_parameters_out_of_range_are_rejected(net):
    for params in ({"r": 0}, {"lora_alpha": 0}, {"lora_dropout": 1.0}, {"train_bias": "some"}):
        (name,) = params
        with pytest.raises(ValueError, match=name):
            inject_lora(net, **params)


def test_only_the_factors_are_trained_by_default(net):
    inject_lora(net, r=2, random_state=0)
    assert trained(net) == {
        f"{layer}.{factor}.weight"
        for layer in ("first", "second", "body")
        for factor in ("lora_A", "lora_B")
    }


def test_saved_modules_and_biases_are_trained_on_request(net):
    inject_lora(net, r=2, target_modules=["body"], modules_to_save=["head"], random_state=0)
    factors = {"body.lora_A.weight", "body.lora_B.weight"}
    assert trained(net) == factors | {"head.weight", "head.bias"}
    net = inject_lora(SmallNet(), r=2, target_modules=["body"], train_bias="lora_only")
    assert trained(net) == factors | {"body.base_layer.bias"}
    net = inject_lora(SmallNet(), r=2, target_modules=["body"], train_bias="all")
    biases = {"first.bias", "norm.bias", "second.bias", "body.base_layer.bias", "head.bias"}
    assert trained(net) == factors | biases


def test_norms_are_frozen_unless_train_norm_is_set(net):
    frozen = inject_lora(copy.deepcopy(net), r=2)
    assert frozen.lora_config.modules_to_save == ()
    assert not {"norm.weight", "norm.bias"} & trained(frozen)
    inject_lora(net, r=2, train_norm=True)
    assert net.lora_config.modules_to_save == ("norm",)
    assert {"norm.weight", "norm.bias"} <= trained(net)


def test_injection_does_not_change_the_outputs(net):
    x = torch.randn(5, 8, 8)
    expected = net.eval()(x)
    assert torch.equal(inject_lora(net, r=2, random_state=0)(x), expected)


def test_the_factors_depend_on_the_seed_alone(net):
    before = torch.get_rng_state()
    states = [
        inject_lora(copy.deepcopy(net), r=2, random_state=seed).state_dict() for seed in (0, 0, 1)
    ]
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    name = "body.lora_A.weight"
    assert not torch.equal(states[0][name], states[2][name])


def test_patterns_set_ranks_and_alphas(net):
    inject_lora(
        net, r=2, lora_alpha=4, rank_pattern={"body": 5, "se.*": 3}, alpha_pattern={"first": 1}
    )
    layers = lora_layers(net)
    assert {name: layer.r for name, layer in layers.items()} == {"first": 2, "second": 3, "body": 5}
    assert [layer.scaling for layer in layers.values()] == [0.5, 4 / 3, 4 / 5]


def test_a_rank_beyond_the_weight_is_reduced_with_a_warning(net):
    with pytest.warns(UserWarning, match=r"reduced .* in \['first'\]") as record:
        inject_lora(net, r=8)
    assert record[0].filename == __file__
    assert lora_layers(net)["first"].r == 6


def test_merging_gives_plain_layers_and_the_same_outputs(net):
    x = torch.randn(5, 8, 8)
    module = randomize_updates(inject_lora(net, r=2, random_state=0)).eval()
    expected = module(x)
    plain = merge_lora(module)
    assert plain is module
    assert lora_layers(plain) == {}
    assert type(plain.second) is nn.Conv2d
    torch.testing.assert_close(plain(x), expected, rtol=1e-5, atol=1e-5)
    assert plain.state_dict().keys() == SmallNet().state_dict().keys()
    assert len(trained(plain)) == len(list(plain.parameters()))


def test_merging_does_not_write_shared_weights(net):
    other = copy.deepcopy(net)
    other.body.weight = net.body.weight
    before = net.body.weight.detach().clone()
    merge_lora(randomize_updates(inject_lora(other, r=2, random_state=0)))
    assert torch.equal(net.body.weight, before)


def test_a_second_injection_is_rejected(net):
    inject_lora(net, r=2)
    with pytest.raises(ValueError, match="already has adapters"):
        inject_lora(net, r=2)


def test_a_layer_registered_twice_stays_one_layer():
    layer = nn.Linear(9, 9)
    module = inject_lora(nn.Sequential(layer, nn.ReLU(), layer, nn.Linear(9, 2)), r=2)
    assert module[0] is module[2]
    assert list(lora_layers(module)) == ["0"]


def test_a_tied_weight_gets_no_noise():
    module = nn.ModuleDict({"embed": nn.Embedding(9, 5), "out": nn.Linear(5, 9, bias=False)})
    module["out"].weight = module["embed"].weight
    with pytest.warns(UserWarning, match=r"'out' is tied.*\['embed', 'out'\]"):
        inject_lora(module, r=2, target_modules=["out"])
    assert not lora_layers(module)["out"].takes_noise


def test_integer_weights_are_rejected(net):
    net.body.weight = nn.Parameter(torch.ones(16, 72, dtype=torch.int8), requires_grad=False)
    with pytest.raises(TypeError, match=r"'body' is of type torch\.int8"):
        inject_lora(net, r=2)


def test_a_parametrized_weight_is_rejected(net):
    net.body = nn.utils.parametrizations.weight_norm(net.body)
    with pytest.raises(TypeError, match="'body' is computed by a parametrization"):
        inject_lora(net, r=2)
    assert trained(net) > {"first.weight", "second.weight"}
    inject_lora(net, r=2, exclude_modules=["body"])


@pytest.mark.parametrize("mode", ["train", "eval", "no_grad"])
def test_updates_reach_the_fused_paths_of_a_transformer(mode):
    torch.manual_seed(0)
    encoder = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
    plain = copy.deepcopy(encoder)
    targets = ["linear1", "linear2", "out_proj"]
    module = randomize_updates(inject_lora(encoder, r=2, target_modules=targets, random_state=0))
    x = torch.randn(3, 5, 16)
    module.train(mode == "train")
    with torch.set_grad_enabled(mode != "no_grad"):
        output = module(x)
        merged = merge_lora(copy.deepcopy(module))
        expected = merged(x)
        # Dozens of successive sums are rounded.
        tolerance = 64 * torch.finfo(output.dtype).eps * float(expected.abs().max())
        torch.testing.assert_close(output, expected, rtol=0, atol=tolerance)
        assert (output - plain.train(mode == "train")(x)).abs().max() > 0.1
    if mode != "no_grad":
        output.square().sum().backward()
        for layer in lora_layers(module).values():
            assert layer.lora_A.weight.grad.abs().sum() > 0


def test_a_warning_names_fused_attention_projections():
    encoder = nn.TransformerEncoderLayer(16, 2, 32)
    with pytest.warns(UserWarning, match=r"one bare parameter.*\['self_attn'\]"):
        inject_lora(encoder, r=2, target_modules="all")
