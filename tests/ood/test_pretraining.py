import pytest
import torch
from torch import nn

from sklearn_ext.neural import head_of
from sklearn_ext.ood.orthloss._fine_tuning import wide_module


@pytest.mark.parametrize("shape", [(5,), (8, 8), (3, 8, 8)])
@pytest.mark.parametrize(("n_classes", "n_features"), [(3, 128), (100, 300)])
def test_default_network_has_three_features_per_class(shape, n_classes, n_features):
    module = wide_module(shape, n_classes)
    assert head_of(module).in_features == n_features
    assert module(torch.randn(4, *shape)).shape == (4, n_classes)


def test_default_perceptron_does_not_normalize_features():
    kinds = [type(layer) for layer in wide_module((5,), 3)]
    assert kinds.count(nn.BatchNorm1d) == 1
    assert kinds[-3:] == [nn.Linear, nn.ReLU, nn.Linear]
