"""Small problems for soups: fine-tuned networks, and linear models with a known optimum."""

import copy

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from sklearn_ext.neural import MLP, NetClassifier, minibatches, seeded

# Parameters of a learned soup that is mixed in a few steps.
QUICK = {"min_iter": 5, "max_epochs": 1, "layerwise": False, "random_state": 0}


def digits_parts():
    """Return the training, mixing and test samples of the digits."""
    X, y = load_digits(return_X_y=True)
    X = (X / 16.0).astype(np.float32)
    order = np.random.RandomState(0).permutation(len(X))
    return [(X[part], y[part]) for part in (order[:300], order[300:600], order[600:1100])]


def train(module, X, y, *, seed, n_epochs=12, lr=3e-3, loss=nn.functional.cross_entropy):
    """Train a module in place, in plain torch."""
    X, y = torch.as_tensor(X), torch.as_tensor(y)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(module.parameters(), lr=lr)
    module.train()
    for _ in range(n_epochs):
        for index in minibatches(len(X), 32, generator):
            optimizer.zero_grad()
            loss(module(X[index]), y[index]).backward()
            optimizer.step()
    return module.eval()


def ingredients(make_module, n, *, shared_start=True, n_epochs=12, lrs=(2e-3, 5e-3)):
    """Train n modules on the digits, from one start or each from its own."""
    (X, y), _, _ = digits_parts()
    trained = []
    for k in range(n):
        with seeded(0 if shared_start else k):
            module = make_module()
        trained.append(train(module, X, y, seed=k, n_epochs=n_epochs, lr=lrs[k % len(lrs)]))
    return trained


def fitted_net(module, X, y):
    """Return a fitted net with the weights of a trained module."""
    net = NetClassifier(copy.deepcopy(module), max_epochs=0).fit(X, y)
    assert torch.equal(net.module_[-1].weight, module[-1].weight)
    return net


def accuracy(module, X, y):
    with torch.no_grad():
        return np.mean(module(torch.as_tensor(X)).argmax(dim=1).numpy() == y)


def small_mlp():
    return MLP(64, 10, hidden_sizes=(24,))


def linear_problem():
    """Return samples and six linear models whose best combination has a closed form."""
    rng = np.random.default_rng(0)
    X, w = rng.normal(size=(200, 12)), rng.normal(size=12)
    y = X @ w + 0.5 * rng.normal(size=200)
    W = w + 0.6 * rng.normal(size=(6, 12))
    return X, y, W


class BatchNormNet(nn.Module):
    """A small network with batch normalization, a counter and a head."""

    def __init__(self, n_features=64, n_outputs=10):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(n_features, 24), nn.BatchNorm1d(24), nn.ReLU())
        self.head = nn.Linear(24, n_outputs)

    def forward(self, X):
        return self.head(self.body(X))


class TiedNet(nn.Module):
    """A network of two layers that share their weights, and a head."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(64, 64)
        self.second = nn.Linear(64, 64)
        self.second.weight = self.first.weight
        self.head = nn.Linear(64, 10)

    def forward(self, X):
        return self.head(torch.relu(self.second(torch.relu(self.first(X)))))


class SmallViT(nn.Module):
    """A transformer on patches of 2 x 2 pixels, with a head on the mean token."""

    def __init__(self, width=16, n_outputs=10):
        super().__init__()
        self.embed = nn.Conv2d(1, width, 2, stride=2)
        self.position = nn.Parameter(0.02 * torch.randn(16, width))
        layer = nn.TransformerEncoderLayer(width, 2, 32, dropout=0.0, batch_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, n_outputs)

    def forward(self, X):
        tokens = self.embed(X.reshape(-1, 1, 8, 8)).flatten(2).transpose(1, 2)
        return self.head(self.blocks(tokens + self.position).mean(dim=1))
