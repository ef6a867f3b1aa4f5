"""The network of a detector whose user gives none."""

import math

from torch import nn

from ...neural import SmallCNN

# Features need directions that the head does not see, and a network that ends in a ReLU needs
# many: with three a class there are some for all but certain.
_FEATURES_PER_CLASS = 3
_FEWEST_FEATURES = 128


class NormalizedMLP(nn.Sequential):
    """A multi-layer perceptron with batch normalisation before each ReLU but the last.

    Normalisation lets inputs of any scale be trained on with plain gradient steps. Right before the
    features it would have each of them active on a share of the rows in every batch, whereas those
    of outliers are to be elsewhere than those of the classes.

    Parameters
    ----------
    n_features : int
    n_outputs : int
    hidden_sizes : sequence of int, default=(256, 128)

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.ood.orthloss._pretraining import NormalizedMLP
    >>> NormalizedMLP(8, 3)(torch.randn(5, 8)).shape
    torch.Size([5, 3])
    """

    def __init__(self, n_features, n_outputs, hidden_sizes=(256, 128)):
        layers = []
        for k, width in enumerate(hidden_sizes, start=1):
            layers.append(nn.Linear(n_features, width))
            if k < len(hidden_sizes):
                layers.append(nn.BatchNorm1d(width))
            layers.append(nn.ReLU())
            n_features = width
        super().__init__(nn.Flatten(), *layers, nn.Linear(n_features, n_outputs))


def roomy_module(input_shape, n_classes):
    """Build a small network with more features than classes.

    Parameters
    ----------
    input_shape : sequence of int
        Shape of one row of X: (features,), (height, width) or (channels, height, width).
    n_classes : int

    Returns
    -------
    NormalizedMLP or SmallCNN
    """
    width = max(_FEWEST_FEATURES, _FEATURES_PER_CLASS * n_classes)
    if len(input_shape) == 1:
        return NormalizedMLP(input_shape[0], n_classes, hidden_sizes=(256, width))
    return SmallCNN(math.prod(input_shape[:-2]), n_classes, widths=(16, 32, width))
