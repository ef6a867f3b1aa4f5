"""Data in any form: the result is that of arrays, and nothing is copied as a whole."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import skorch
import torch
from sklearn.datasets import load_iris
from sklearn.preprocessing import scale
from skorch.dataset import ValidSplit
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from sklearn_ext.neural import NetClassifier, NetRegressor, NetSamples, validate_input

NAMES = np.array(["setosa", "versicolor", "virginica"])


@pytest.fixture
def iris():
    X, y = load_iris(return_X_y=True)
    return scale(X).astype(np.float32), y


class Pairs(Dataset):
    """Samples in memory that must not be converted to an array as a whole."""

    def __init__(self, X, y):
        self.samples, self.labels = X, y

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, k):
        if not 0 <= k < len(self):
            raise IndexError(k)
        return self.samples[k], self.labels[k]

    def __array__(self, *args, **kwargs):
        raise AssertionError("converted to an array")


class Dropping(nn.Sequential):
    """A network whose training also depends on torch's global generator."""

    def __init__(self):
        super().__init__(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3))


class Named(Dropping):
    def forward(self, first, second):
        return super().forward(torch.cat([first, second], dim=1))


FORMS = {
    "frame": lambda X, y: (pd.DataFrame(X), y),
    "tensor": lambda X, y: (torch.from_numpy(X), torch.from_numpy(y)),
    "double tensor": lambda X, y: (torch.from_numpy(X).double(), y),
    "dataset": lambda X, y: (Pairs(X, y), None),
    "dataset and y": lambda X, y: (Pairs(X, np.zeros(len(X))), y),
    "dataset of tensors": lambda X, y: (Pairs(torch.from_numpy(X), torch.from_numpy(y)), None),
    "TensorDataset": lambda X, y: (TensorDataset(torch.tensor(X), torch.tensor(y)), None),
    "skorch": lambda X, y: (skorch.dataset.Dataset(X, y), None),
    "subset": lambda X, y: (Subset(Pairs(X, y), range(len(X))), None),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_result_of_an_array(name, iris):
    X, y = iris
    net = NetClassifier(Dropping, max_epochs=2, random_state=0)
    expected = net.fit(X, y).predict_proba(X)
    data, targets = FORMS[name](X, y)
    net.fit(data, targets)
    np.testing.assert_array_equal(net.predict_proba(data), expected)
    np.testing.assert_array_equal(net.predict(data), expected.argmax(axis=1))
    assert net.input_shape_ == (4,)
    assert net.classes_.tolist() == [0, 1, 2]


def test_dicts_become_keyword_arguments(iris):
    X, y = iris
    parts = {"first": X[:, :1], "second": torch.from_numpy(X[:, 1:])}
    expected = NetClassifier(Dropping, max_epochs=2, random_state=0).fit(X, y).predict_proba(X)
    net = NetClassifier(Named, max_epochs=2, random_state=0).fit(parts, y)
    np.testing.assert_array_equal(net.predict_proba(parts), expected)
    rows = [{name: part[k] for name, part in parts.items()} for k in range(len(X))]
    np.testing.assert_array_equal(
        NetClassifier(Named, max_epochs=2, random_state=0)
        .fit(Pairs(rows, y), None)
        .predict_proba(Pairs(rows, y)),
        expected,
    )


def test_labels_in_a_dataset_may_be_strings(iris):
    order = np.random.RandomState(0).permutation(150)
    X, y = (part[order] for part in iris)
    net = NetClassifier(max_epochs=20, random_state=0, train_split=ValidSplit(3))
    net.fit(Pairs(X, NAMES[y]))
    assert net.classes_.tolist() == NAMES.tolist()
    assert net.score(Pairs(X, NAMES[y])) > 0.9
    assert net.history_[-1, "valid_acc"] > 0.9
    with pytest.raises(ValueError, match="not among the classes"):
        net.partial_fit(Pairs(X, np.full(len(X), "rosa")))


def test_a_regressor_reads_its_targets_from_a_dataset(iris):
    X, _ = iris
    net = NetRegressor(max_epochs=2, random_state=0)
    for y in (X[:, 0], X[:, :2]):
        expected = net.fit(X, y).predict(X)
        np.testing.assert_array_equal(net.fit(Pairs(X, y)).predict(Pairs(X, y)), expected)


class Scaled(skorch.dataset.Dataset):
    def transform(self, X, y):
        X, y = super().transform(X, y)
        return X / 100, y


@pytest.mark.parametrize("iterator", [None, DataLoader])
def test_the_net_applies_the_transforms_of_its_dataset(iterator, iris):
    X, y = iris
    iterators = {} if iterator is None else {"iterator_train": iterator, "iterator_valid": iterator}
    net = NetClassifier(max_epochs=2, dataset=Scaled, random_state=0, **iterators)
    expected = NetClassifier(max_epochs=2, random_state=0, **iterators).fit(X / 100, y)
    np.testing.assert_array_equal(net.fit(X, y).predict_proba(X), expected.predict_proba(X / 100))
    inputs, _ = NetSamples(net, X).take(torch.tensor([3, 1]))
    torch.testing.assert_close(inputs, torch.from_numpy(X[[3, 1]] / 100))


def test_parameters_of_the_data_loader_are_used(iris):
    X, y = iris
    expected = NetClassifier(Dropping, max_epochs=2, random_state=0).fit(X, y).predict_proba(X)
    sizes = []

    def collate(pairs):
        sizes.append(len(pairs))
        return torch.utils.data.default_collate(pairs)

    net = NetClassifier(
        Dropping, max_epochs=2, random_state=0, iterator_train__collate_fn=collate
    ).fit(Pairs(X, y))
    np.testing.assert_array_equal(net.predict_proba(X), expected)
    assert sum(sizes) == 300
    net = NetClassifier(iterator_train__drop_last=True, max_epochs=1).fit(X, y)
    assert len(net.history_[0]["batches"]) == 4


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(10, 8), nn.Linear(8, 3)

    def forward(self, ids):
        assert ids.dtype == torch.int64
        return self.head(self.embedding(ids).mean(dim=1))


def test_token_ids_reach_the_module_as_int64():
    X = np.random.RandomState(0).randint(10, size=(60, 7))
    y = X[:, 0] % 3
    results = [
        NetClassifier(Tokens, max_epochs=2, random_state=0).fit(data, y).predict_proba(data)
        for data in (X, X.astype(np.int32), X.tolist(), torch.tensor(X), Pairs(X, y))
    ]
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


def test_other_integers_are_cast_like_features(iris):
    X = (iris[0] * 10).astype(np.int64)
    expected = NetClassifier(max_epochs=1, random_state=0).fit(X.astype(float), iris[1])
    for data in (X, torch.tensor(X), Pairs(X, iris[1])):
        net = NetClassifier(max_epochs=1, random_state=0).fit(data, iris[1])
        np.testing.assert_array_equal(net.predict_proba(data), expected.predict_proba(X))
    images = np.random.RandomState(0).randint(256, size=(40, 6, 6)).astype(np.uint8)
    y = np.arange(40) % 2
    expected = NetClassifier(max_epochs=1, random_state=0).fit(images.astype(float), y)
    for data in (images, torch.tensor(images), Pairs(images, y)):
        net = NetClassifier(max_epochs=1, random_state=0).fit(data, y)
        np.testing.assert_array_equal(net.predict_proba(data), expected.predict_proba(images))


class Stream(IterableDataset):
    def __iter__(self):
        yield from ()


def test_samples_without_an_index_are_refused_with_a_remedy(iris):
    X, y = iris
    net = NetClassifier(max_epochs=1).fit(X, y)
    for call in (net.fit, net.partial_fit, net.predict):
        with pytest.raises(TypeError, match=r"Pass its dataset, `loader.dataset`"):
            call(DataLoader(Pairs(X, y)), *([y] if call != net.predict else []))
        with pytest.raises(TypeError, match=r"Pass a map-style .*Dataset"):
            call(Stream(), *([y] if call != net.predict else []))
    with pytest.raises(TypeError, match="X must be array-like, got the dataset Pairs"):
        validate_input(net, Pairs(X, y), reset=False)


def test_bad_data_in_other_forms_are_refused(iris):
    X, y = iris
    bad = torch.from_numpy(X).clone()
    bad[3, 1] = torch.nan
    for data in (bad, {"input": bad}, {"input": bad.numpy()}):
        with pytest.raises(ValueError, match="X contains NaN or infinity"):
            NetClassifier(max_epochs=1).fit(data, y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        NetClassifier(max_epochs=1).fit(Pairs(X, y), y[:-1])
    with pytest.raises(ValueError, match="y contains NaN"):
        NetRegressor(max_epochs=1).fit(Pairs(X, y), np.full(len(X), np.nan))
    net = NetClassifier(max_epochs=1).fit(X, y)
    with pytest.raises(ValueError, match=r"must have shape \(4,\) as in fit, got \(3,\)"):
        net.predict(Pairs(X[:, :3], y))


def test_a_reader_yields_the_requested_batches(iris):
    X, y = iris
    net = NetClassifier(max_epochs=0).fit(X, y)
    for data in (X, torch.from_numpy(X), Pairs(X, y), {"X": X}):
        samples = NetSamples(net, data, y)
        assert len(samples) == 150
        chosen = samples.select(np.arange(0, 150, 3))
        index = torch.tensor([7, 0])
        inputs, targets = chosen.take(index)
        inputs = inputs["X"] if isinstance(inputs, dict) else inputs
        np.testing.assert_array_equal(inputs, X[[21, 0]])
        assert targets.tolist() == y[[21, 0]].tolist()
        nothing, _ = chosen.take(index[:0])
        nothing = nothing["X"] if isinstance(nothing, dict) else nothing
        assert nothing.shape == (0, 4)
        sizes = [len(t) for _, t in samples.shuffled(40, torch.Generator())]
        assert sizes == [40, 40, 40, 30]
        seen = torch.cat([t for _, t in samples.in_order(64)])
        np.testing.assert_array_equal(seen, y)


PEAK = """
import resource, sys
import numpy as np, torch
from torch import nn
from sklearn_ext.neural import NetClassifier

class Big(torch.utils.data.Dataset):  # samples of 1 MiB
    def __len__(self):
        return int(sys.argv[1])
    def __getitem__(self, k):
        if not 0 <= k < len(self):
            raise IndexError(k)
        return torch.full((1 << 18,), float(k % 2)), k % 2

class Thin(nn.Linear):
    def forward(self, X):
        return super().forward(X[:, :: 1 << 16])

def net():
    return NetClassifier(Thin(4, 2), max_epochs=1, batch_size=16, lr=0.1, random_state=0)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

X = np.zeros((4, 1 << 18), dtype=np.float32)
X[1::2] = 1
net().fit(X, [0, 1, 0, 1]).predict(X)
before = peak()
fitted = net().fit(Big(), np.arange(len(Big())) % 2)
print(peak() - before, fitted.score(torch.utils.data.Subset(Big(), range(4))))
"""


@pytest.mark.parametrize("n", [400, pytest.param(10_240, marks=pytest.mark.slow)])
def test_a_large_dataset_never_lies_in_memory_as_a_whole(n):
    run = subprocess.run(
        [sys.executable, "-c", PEAK, str(n)], capture_output=True, text=True, check=True
    )
    growth, score = map(float, run.stdout.split())
    assert growth < 200  # MiB
    assert score == 1
