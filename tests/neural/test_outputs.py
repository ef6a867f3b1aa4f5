"""The head of a network and its input."""

import pytest
import torch
from joblib import Parallel, delayed
from torch import nn

from sklearn_ext.neural import (
    MLP,
    head_of,
    outputs_and_features,
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
