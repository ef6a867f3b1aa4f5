import pytest
import torch
from torch import nn

from sklearn_ext.neural import head_of
from sklearn_ext.ood.orthloss._fine_tuning import OrderedBatchNorm, wide_module


@pytest.mark.parametrize("shape", [(5,), (8, 8), (3, 8, 8)])
@pytest.mark.parametrize(("n_classes", "n_features"), [(3, 128), (100, 300)])
def test_default_network_has_three_features_per_class(shape, n_classes, n_features):
    module = wide_module(shape, n_classes)
    assert head_of(module).in_features == n_features
    assert module(torch.randn(4, *shape)).shape == (4, n_classes)


def test_default_perceptron_does_not_normalize_features():
    layers = list(wide_module((5,), 3))
    assert sum(isinstance(layer, nn.BatchNorm1d) for layer in layers) == 1
    assert [type(layer) for layer in layers[-3:]] == [nn.Linear, nn.ReLU, nn.Linear]


def test_ordered_batch_norm_agrees_with_batch_norm():
    features = torch.randn(20, 3, generator=torch.Generator().manual_seed(0)) * 3 + 1
    ordered, plain = OrderedBatchNorm(3), nn.BatchNorm1d(3)
    for _ in range(2):
        torch.testing.assert_close(ordered(features), plain(features))
        torch.testing.assert_close(ordered.state_dict(), plain.state_dict())
        ordered.eval()
        plain.eval()
