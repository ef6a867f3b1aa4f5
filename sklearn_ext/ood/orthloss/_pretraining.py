"""Plain classification before the fine-tuning, and the default network for it."""

import math
from collections.abc import Sequence

import numpy as np
import skorch
import torch
from torch import nn

from ...neural import CosineDecay, NetClassifier, SmallCNN, draw_seed, resolve_device
from ...utils._typing import Array, FloatArray
from ._fine_tuning import OrthLossConfig

# Separation needs directions that the head ignores. After a ReLU, features are non-negative, and
# such a direction almost certainly exists only with about three features per class.
_FEATURES_PER_CLASS = 3
_FEWEST_FEATURES = 128


class NormalizedMLP(nn.Sequential):
    """A multi-layer perceptron with batch normalization before each ReLU except the last.

    Normalization makes plain gradient steps work for inputs of any scale. Right before the features
    it would activate each feature on a fixed fraction of every batch, which prevents the features
    of outliers from differing from those of the classes.

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

    def __init__(
        self, n_features: int, n_outputs: int, hidden_sizes: Sequence[int] = (256, 128)
    ) -> None:
        layers: list[nn.Module] = []
        for k, width in enumerate(hidden_sizes, start=1):
            layers.append(nn.Linear(n_features, width))
            if k < len(hidden_sizes):
                layers.append(nn.BatchNorm1d(width))
            layers.append(nn.ReLU())
            n_features = width
        super().__init__(nn.Flatten(), *layers, nn.Linear(n_features, n_outputs))


def wide_module(input_shape: Sequence[int], n_classes: int) -> NormalizedMLP | SmallCNN:
    """Build a small network with at least 128 features and three features per class.

    Parameters
    ----------
    input_shape : sequence of int
        Shape of one sample: (features,), (height, width) or (channels, height, width).
    n_classes : int

    Returns
    -------
    NormalizedMLP or SmallCNN
    """
    width = max(_FEWEST_FEATURES, _FEATURES_PER_CLASS * n_classes)
    if len(input_shape) == 1:
        return NormalizedMLP(input_shape[0], n_classes, hidden_sizes=(256, width))
    return SmallCNN(math.prod(input_shape[:-2]), n_classes, widths=(16, 32, width))


def pretrain(
    X: FloatArray,
    y: Array,
    config: OrthLossConfig,
    rng: np.random.RandomState,
    *,
    device: str | torch.device | None = None,
    verbose: int = 0,
) -> skorch.NeuralNetClassifier:
    """Train the default network by plain classification.

    Parameters
    ----------
    X : float32 ndarray of shape (n, ...)
    y : ndarray of shape (n,)
        Class labels.
    config : OrthLossConfig
    rng : RandomState
    device : str, torch.device or None, default=None
        None is the CPU.
    verbose : int, default=0
        Prints losses if positive.

    Returns
    -------
    NetClassifier
        The fitted net.
    """
    net = NetClassifier(
        wide_module,
        module__input_shape=X.shape[1:],
        module__n_classes=len(np.unique(y)),
        lr=config.pretrain_learning_rate,
        max_epochs=config.pretrain_epochs,
        callbacks=[("learning_rate", CosineDecay())],
        device=resolve_device(device),
        random_state=draw_seed(rng),
        verbose=verbose,
        **config.optimizer_params(),
    )
    return net.fit(X, y)
