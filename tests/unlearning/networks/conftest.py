"""A network that several test modules share; each has its own fixture `digits`."""

import numpy as np
import pytest
import skorch
import torch
from torch import nn


class SoftmaxNet(nn.Module):
    """A net that returns probabilities, as skorch expects, and uses dropout."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 10)
        )

    def forward(self, X):
        return self.layers(X).softmax(dim=1)


@pytest.fixture(scope="module")
def plain_skorch(digits):
    X, y = digits
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = skorch.NeuralNetClassifier(
            SoftmaxNet, optimizer=torch.optim.Adam, lr=5e-3, max_epochs=15, batch_size=64,
            train_split=None, verbose=0)  # fmt: skip
        return net.fit(X.astype(np.float32), y.astype(np.int64))
