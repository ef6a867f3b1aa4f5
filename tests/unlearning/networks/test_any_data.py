"""The unlearners take tensors, dicts and datasets, and copy modules that cannot be pickled."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from sklearn_ext import (
    MUSOUnlearner,
    NatMUUnlearner,
    NetClassifier,
    SFRonUnlearner,
    SSDUnlearner,
    all_estimators,
    unlearning_report,
)
from sklearn_ext.unlearning import ForgetRequest
from sklearn_ext.unlearning.networks import NetData

UNLEARNERS = [cls for name, cls in all_estimators() if name.endswith("Unlearner")]
every_unlearner = pytest.mark.parametrize("Unlearner", UNLEARNERS)
pytestmark = [
    pytest.mark.filterwarnings("ignore:label_model returned the true label of every sample"),
    pytest.mark.filterwarnings("ignore:The accuracy on the samples to forget never exceeded"),
]
FORGET = np.arange(0, 300, 15)


class Images(Dataset):
    """A map-style dataset that makes its samples when they are asked for."""

    def __init__(self, X, y):
        self.pixels = X
        self.labels = y
        self.n_reads = 0

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, k):
        self.n_reads += 1
        return torch.as_tensor(self.pixels[k]), int(self.labels[k])


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return (X[:300] / 16).astype(np.float32), y[:300]


@pytest.fixture(scope="module")
def net(digits):
    return NetClassifier(module__hidden_sizes=(16,), max_epochs=5, random_state=0).fit(*digits)


def brief(Unlearner, net):
    lengths = {SFRonUnlearner: {"max_iter": 2}, SSDUnlearner: {}}
    length = lengths.get(Unlearner, {"max_epochs": 1})
    return Unlearner(FrozenEstimator(net), random_state=0, **length)


def assert_same_weights(first, second):
    pairs = zip(first.module_.parameters(), second.module_.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@every_unlearner
def test_all_forms_of_data_give_the_same_bits(Unlearner, net, digits):
    X, y = digits
    expected = brief(Unlearner, net).fit(X, y, forget=FORGET)
    X_tensor, y_tensor = torch.as_tensor(X), torch.as_tensor(y)
    for data in (
        (X_tensor, y_tensor),
        (TensorDataset(X_tensor, y_tensor),),
        (Images(X, y),),
        (Images(X, y), y),
    ):
        unlearner = brief(Unlearner, net).fit(*data, forget=FORGET)
        assert_same_weights(unlearner.estimator_, expected.estimator_)
        np.testing.assert_array_equal(unlearner.predict(data[0]), expected.predict(X))
        np.testing.assert_array_equal(unlearner.predict_proba(data[0]), expected.predict_proba(X))


def test_a_dataset_is_audited_like_arrays(net, digits):
    X, y = digits
    models = {"original": net, "unlearned": brief(MUSOUnlearner, net).fit(X, y, forget=FORGET)}
    data, test = Images(X[:250], y[:250]), Images(X[250:], y[250:])
    found = unlearning_report(
        models, data, None, FORGET[FORGET < 250], X_test=test, y_test=None, random_state=0
    )
    expected = unlearning_report(
        models, X[:250], y[:250], FORGET[FORGET < 250],
        X_test=X[250:], y_test=y[250:], random_state=0)  # fmt: skip
    assert found.scores == expected.scores


def test_validation_data_may_be_a_dataset(net, digits):
    X, y = digits
    unlearner = brief(SFRonUnlearner, net)
    plain = unlearner.fit(X, y, forget=FORGET, X_val=X[:50], y_val=y[:50]).stop_forget_score_
    held_out = {"X_val": Images(X[:50], y[:50]), "y_val": y[:50]}
    assert unlearner.fit(X, y, forget=FORGET, **held_out).stop_forget_score_ == plain


@every_unlearner
def test_samples_are_read_batch_by_batch(Unlearner):
    largest = 0

    class Watched(nn.Sequential):
        def forward(self, inputs):
            nonlocal largest
            largest = max(largest, len(inputs))
            return super().forward(inputs)

    X = np.random.RandomState(0).randn(1500, 4).astype(np.float32)
    y = (X[:, 0] > 0).astype(int)
    net = NetClassifier(Watched(nn.Linear(4, 2)), max_epochs=1, random_state=0).fit(X, y)
    largest = 0
    brief(Unlearner, net).fit(Images(X, y), forget=np.arange(1200))
    assert 0 < largest <= 1024


def test_large_samples_are_evaluated_in_small_batches():
    sizes = []

    class Watched(nn.Sequential):
        def forward(self, inputs):
            sizes.append(len(inputs))
            return super().forward(inputs)

    X, codes = torch.zeros(150, 2**16), torch.arange(150) % 2  # 256 KiB for each sample
    request = ForgetRequest.from_user([0], n_samples=150)
    data = NetData(Watched(nn.Linear(2**16, 2)), X, codes, request)
    assert data.outputs(torch.arange(150)).shape == (150, 2)
    assert sizes[-2:] == [128, 22]


class Tokens(nn.Module):
    """A classifier of sequences of token ids."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(20, 8), nn.Linear(8, 2)

    def forward(self, ids, scale=None):
        features = self.embedding(ids).mean(dim=1)
        return self.head(features if scale is None else scale * features)


@pytest.fixture(scope="module")
def sentences():
    rng = np.random.RandomState(0)
    y = rng.randint(2, size=80)
    return rng.randint(10, size=(80, 6)) + 10 * (y * (rng.rand(80) < 0.9))[:, None], y


@pytest.mark.parametrize("as_dict", [False, True])
@every_unlearner
def test_token_ids_and_dicts_are_taken(Unlearner, sentences, as_dict):
    ids, y = sentences
    X = {"ids": ids, "scale": np.ones((80, 1), dtype=np.float32)} if as_dict else ids
    net = NetClassifier(Tokens(), max_epochs=3, random_state=0).fit(X, y)
    unlearner = brief(Unlearner, net)
    if Unlearner is NatMUUnlearner:
        with pytest.raises(TypeError, match=r"NatMU blends samples, .* real numbers"):
            unlearner.fit(X, y, forget=[0, 1])
        return
    proba = unlearner.fit(X, y, forget=[0, 1]).predict_proba(X)
    assert proba.shape == (80, 2)
    assert np.isfinite(proba).all()
    assert not np.array_equal(proba, net.predict_proba(X)) or Unlearner is SFRonUnlearner


@every_unlearner
def test_loaders_are_refused(Unlearner, net, digits):
    with pytest.raises(TypeError, match="X must not be a DataLoader"):
        brief(Unlearner, net).fit(DataLoader(Images(*digits)), forget=[0])


@every_unlearner
def test_modules_that_cannot_be_pickled_are_copied(Unlearner, digits):
    class Local(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(64, 16), nn.Linear(16, 10)
            self.activation = lambda values: values.relu()

        def forward(self, inputs):
            return self.last(self.activation(self.first(inputs)))

    net = NetClassifier(Local, max_epochs=2, random_state=0).fit(*digits)
    before = [weight.clone() for weight in net.module_.parameters()]
    unlearner = brief(Unlearner, net).fit(*digits, forget=FORGET)
    assert all(torch.equal(a, b) for a, b in zip(before, net.module_.parameters(), strict=True))
    assert unlearner.estimator_.module_ is not net.module_
