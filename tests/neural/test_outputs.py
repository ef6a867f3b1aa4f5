"""The outputs of a network, its head, and the features that the head receives."""

import numpy as np
import pytest
import torch
from joblib import Parallel, delayed
from torch import nn

from sklearn_ext.lora import inject_lora, lora_layers
from sklearn_ext.neural import (
    MLP,
    Head,
    NetClassifier,
    checked_head,
    head_of,
    head_parameters,
    log_probabilities,
    main_output,
    outputs_and_features,
    penultimate,
    raw_outputs,
)


def test_the_head_is_the_last_or_the_named_linear_layer():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    assert head_of(net) is net[2]
    assert head_of(net, "0") is net[0]
    with pytest.raises(ValueError, match=r"its linear layers are \['0', '2'\]"):
        head_of(net, "1")
    with pytest.raises(ValueError, match=r"no torch.nn.Linear"):
        head_of(nn.Conv1d(1, 1, 1))


def test_features_keep_gradients_and_the_hook_is_removed():
    net = MLP(3, 2, hidden_sizes=(5,))
    outputs, features = outputs_and_features(net, torch.ones(4, 3), head_of(net))
    torch.testing.assert_close(net[-1](features), outputs)
    features.sum().backward()
    assert net[1].weight.grad is not None
    assert len(net[-1]._forward_pre_hooks) == 0
    with pytest.raises(ValueError, match="does not call"):
        outputs_and_features(net, torch.ones(4, 3), nn.Linear(1, 1))


def test_threads_get_their_own_features():
    net = MLP(3, 2)
    batches = [torch.randn(n, 3) for n in range(2, 34)]
    expected = [outputs_and_features(net, X, head_of(net))[1] for X in batches]
    features = Parallel(n_jobs=4, backend="threading")(
        delayed(outputs_and_features)(net, X, head_of(net)) for X in batches
    )
    for (_, actual), wanted in zip(features, expected, strict=True):
        torch.testing.assert_close(actual, wanted)


class Changed(nn.Module):
    """A network that changes the outputs of its head."""

    def __init__(self, change):
        super().__init__()
        self.body, self.head, self.change = MLP(4, 6), nn.Linear(6, 3), change
        self.unused = nn.Linear(6, 3)

    def forward(self, X):
        return self.change(self.head(self.body(X).relu()))


def net_around(module, **params):
    X = np.random.RandomState(0).randn(80, 4).astype(np.float32)
    return NetClassifier(module, max_epochs=2, random_state=0, **params).fit(
        X, np.arange(80) % 3
    ), X


NLL = {"criterion": nn.NLLLoss}
CHANGES = {
    "plain": (lambda z: z, {}),
    "tuple": (lambda z: (z, z + 1), {}),
    "dict": (lambda z: {"loss": None, "logits": z}, {}),
    "temperature": (lambda z: z / 0.07, {}),
    "normalized": (lambda z: 5 * nn.functional.normalize(z, dim=1), {}),
    "log-probabilities": (lambda z: z.log_softmax(dim=1), NLL),
    "log-probabilities of logits": (lambda z: z.log_softmax(dim=1), {}),
    "probabilities": (lambda z: z.softmax(dim=1), NLL),
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_logits_of_a_checked_head_are_those_of_the_net(name):
    change, params = CHANGES[name]
    net, X = net_around(Changed(change), **params)
    head = checked_head(net, X)
    assert head.name == "head"  # not the last linear layer, which is unused
    logits = head.logits(penultimate(net, X, head=head.name).double())
    np.testing.assert_allclose(logits.softmax(dim=1), net.predict_proba(X), atol=1e-5)
    np.testing.assert_allclose(
        log_probabilities(net, raw_outputs(net, X)).exp(), net.predict_proba(X), atol=1e-6
    )
    np.testing.assert_array_equal(net.predict(X), net.predict_proba(X).argmax(axis=1))
    assert (head.norm is None) == (name != "normalized")


def test_outputs_of_no_linear_layer_are_refused_by_name():
    net, X = net_around(Changed(lambda z: z.tanh() ** 2))
    with pytest.raises(ValueError, match=r"head of Changed .* Name another layer .*'head'"):
        checked_head(net, X)
    net, X = net_around(Changed(lambda z: z))
    with pytest.raises(ValueError, match="forward pass does not call 'unused'"):
        checked_head(net, X, "unused")
    with pytest.raises(ValueError, match=r"'body.1' maps .* to 128 values"):
        checked_head(net, X, "body.1")
    with pytest.raises(ValueError, match="logits must have the name"):
        main_output({"scores": torch.zeros(2, 3)})


def test_an_adapter_is_part_of_the_head():
    module = inject_lora(MLP(4, 3), r=2, target_modules="all-linear", random_state=0)
    for layer in lora_layers(module).values():
        nn.init.normal_(layer.lora_B.weight)
    net, X = net_around(module, lr=1e-3)
    head = checked_head(net, X)
    layer = head_of(net.module_, head.name)
    np.testing.assert_allclose(head.weight, layer.weight.detach(), atol=1e-5)
    features = penultimate(net, X, head=head.name).double()
    np.testing.assert_allclose(head.logits(features), raw_outputs(net, X), atol=1e-4)


def test_features_of_a_compiled_module_are_found():
    module = MLP(4, 3)
    net, X = net_around(module, compile=True, compile__backend="eager", batch_size=80)
    expected, _ = net_around(module, batch_size=80)
    np.testing.assert_allclose(net.predict_proba(X), expected.predict_proba(X), atol=1e-6)
    assert checked_head(net, X).name == "5"
    assert penultimate(net, X).shape == (80, 128)


def test_a_head_without_bias_has_zero_bias():
    weight, bias = head_parameters(nn.Linear(4, 3, bias=False))
    assert weight.shape == (3, 4)
    assert weight.dtype == bias.dtype == torch.float64
    assert bias.tolist() == [0.0, 0.0, 0.0]


def test_normalized_logits_have_the_norm_of_the_head():
    rng = np.random.RandomState(0)
    head = Head("1", weight=rng.randn(3, 4), bias=rng.randn(3), norm=2.0)
    features = torch.from_numpy(rng.randn(5, 6, 4))
    logits = head.logits(features)
    torch.testing.assert_close(logits.norm(dim=-1), torch.full((5, 6), 2.0, dtype=torch.float64))
    plain = features @ torch.from_numpy(head.weight).T + torch.from_numpy(head.bias)
    torch.testing.assert_close(torch.cosine_similarity(logits, plain, dim=-1).min().item(), 1.0)
