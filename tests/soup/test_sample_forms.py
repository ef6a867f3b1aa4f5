"""Soups on samples and nets of any form: what is read, copied, interrupted and refused."""

import multiprocessing

import numpy as np
import pytest
import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from benchmarks.soup_memory import PeakMemory
from sklearn_ext import (
    DARE,
    TIES,
    GreedySoup,
    LearnedSoup,
    MEHLSoup,
    ModelStock,
    RegMean,
    TaskArithmetic,
    UniformSoup,
)
from sklearn_ext.neural import NetClassifier, NetSamples, net_from_module, seeded
from sklearn_ext.soup import (
    MEHLConfig,
    StoredDirections,
    StreamedDirections,
    coefficient_gradient,
    learn_mehl_coefficients,
)
from sklearn_ext.soup.ingredients import as_real
from tests.soup.problems import QUICK, digits_parts, fitted_net, small_mlp


class Rows(Dataset):
    """Samples and targets that must be read one by one."""

    def __init__(self, X, y):
        self.X, self.y = X, y

    def __len__(self):
        return len(self.X)

    def __getitem__(self, index):
        return torch.as_tensor(self.X[index]), self.y[index]

    def __array__(self, *args, **kwargs):
        raise AssertionError("a dataset must not be stacked")


class Named(nn.Module):
    """A network that takes its samples by name."""

    def __init__(self):
        super().__init__()
        self.body = small_mlp()

    def forward(self, pixels):
        return self.body(pixels)


def plain_net(module=None, **params):
    return NeuralNetClassifier(
        small_mlp() if module is None else module,
        criterion=nn.CrossEntropyLoss,
        train_split=None,
        verbose=0,
        **params,
    )


def of_form(X, y, form):
    """Return the samples in a form, and the y to pass to `fit` with them."""
    if form == "tensor":
        return torch.as_tensor(X), y
    if form == "dataset":
        return Rows(X, y), None
    if form == "tensor dataset":
        return TensorDataset(torch.as_tensor(X), torch.as_tensor(y)), None
    if form == "dataset and y":
        return Rows(X, np.zeros_like(y)), y
    return X, y


@pytest.mark.parametrize("form", ["tensor", "dataset", "tensor dataset", "dataset and y"])
@pytest.mark.parametrize("kind", ["ours", "skorch"])
def test_every_form_gives_the_soup_of_an_array(form, kind):
    X, y = digits_parts()[0]
    with seeded(0):
        net = NetClassifier(small_mlp()) if kind == "ours" else plain_net()
    net.set_params(max_epochs=2)
    params = {"n_ingredients": 2, **QUICK}
    expected = MEHLSoup(net, **params).fit(X, y)
    X_form, y_form = of_form(X, y, form)
    soup = MEHLSoup(net, **params).fit(X_form, y_form)
    np.testing.assert_array_equal(soup.coef_, expected.coef_)
    np.testing.assert_array_equal(soup.predict_proba(X_form), expected.predict_proba(X))
    assert soup.soup_losses_ == expected.soup_losses_
    assert soup.input_shape_ == (64,)
    assert soup.score(X_form, y) == expected.score(X, y)


@pytest.mark.parametrize("Soup", [UniformSoup, GreedySoup, LearnedSoup, ModelStock, RegMean, TIES])
def test_given_ingredients_are_mixed_on_a_dataset(modules, mixing, net, Soup):
    X, y = mixing
    params = {"ingredients": modules, "random_state": 0}
    if Soup in (ModelStock, TIES):
        params["base"] = small_mlp()
    expected = Soup(net, **params).fit(X, y)
    soup = Soup(net, **params).fit(Rows(X, y))
    np.testing.assert_array_equal(soup.predict_proba(Rows(X, y)), expected.predict_proba(X))
    assert soup.score(Rows(X, y)) == expected.score(X, y)


def test_named_inputs_give_the_soup_of_an_array(mixing):
    X, y = mixing
    modules = []
    for seed in (1, 2):
        with seeded(seed):
            modules.append(Named())
    named = MEHLSoup(NetClassifier(Named()), ingredients=modules, **QUICK).fit({"pixels": X}, y)
    bodies = [module.body for module in modules]
    plain = MEHLSoup(NetClassifier(small_mlp()), ingredients=bodies, **QUICK).fit(X, y)
    np.testing.assert_array_equal(named.coef_, plain.coef_)
    np.testing.assert_array_equal(named.predict_proba({"pixels": X}), plain.predict_proba(X))


@pytest.mark.parametrize("kind", ["ours", "skorch"])
def test_token_ids_reach_the_module_as_integers(kind):
    tokens = np.random.RandomState(0).randint(20, size=(80, 5))
    y = (tokens[:, 0] > 10).astype(int)
    module = nn.Sequential(nn.EmbeddingBag(20, 8), nn.Linear(8, 2))
    net = NetClassifier(module, max_epochs=2) if kind == "ours" else plain_net(module)
    soup = MEHLSoup(net, n_ingredients=2, **QUICK).fit(tokens, y)
    assert soup.predict(tokens).shape == (80,)


@pytest.mark.parametrize("kind", ["ours", "skorch"])
def test_integer_features_are_cast_for_the_module(kind, modules, mixing):
    X, y = (mixing[0] * 16).astype(int), mixing[1]
    net = NetClassifier(small_mlp()) if kind == "ours" else plain_net()
    soup = UniformSoup(net, ingredients=modules).fit(X, y)
    same = UniformSoup(net, ingredients=modules).fit(X.astype(np.float32), y)
    np.testing.assert_array_equal(soup.predict_proba(X), same.predict_proba(X.astype(np.float32)))


class Stream(IterableDataset):
    def __iter__(self):
        return iter(())


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (DataLoader(TensorDataset(torch.zeros(4, 64), torch.zeros(4))), r"loader\.dataset"),
        (Stream(), "map-style"),
    ],
)
def test_samples_without_an_index_are_refused(modules, net, X, message):
    with pytest.raises(TypeError, match=message):
        UniformSoup(net, ingredients=modules).fit(X, np.arange(4))


def test_a_reader_replaces_samples_and_targets(modules, mixing):
    X, y = mixing
    net = fitted_net(modules[0], X, y)

    def loss(inputs, targets):
        return nn.functional.cross_entropy(net.module_(inputs), targets)

    results = []
    states = [module.state_dict() for module in modules[:2]]
    for data in ((X, y), (NetSamples(net, X, y), None)):
        rng = np.random.RandomState(0)
        config = MEHLConfig(layerwise=False, min_iter=5)
        results.append(
            learn_mehl_coefficients(net.module_, states, *data, loss, config=config, rng=rng)
        )
    assert torch.equal(results[0].coef, results[1].coef)


class LargeRows(Dataset):
    """10 GB of samples that exist only while they are read."""

    n_samples, n_features = 10_000, 2**18

    def __len__(self):
        return self.n_samples

    def __getitem__(self, index):
        return torch.tensor([index / self.n_samples]).expand(self.n_features), index % 2


class FirstFeatures(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 2)

    def forward(self, X):
        return self.head(X[:, :4])


def _memory_of_a_large_fit(sender):
    torch.set_num_threads(1)
    net = NetClassifier(FirstFeatures, batch_size=16, max_epochs=1)
    small = torch.zeros(20, LargeRows.n_features)
    MEHLSoup(net, n_ingredients=2, **QUICK).fit(small[:, :8], np.arange(20) % 2)
    with PeakMemory() as memory:
        MEHLSoup(net, n_ingredients=1, batch_size=16, **QUICK).fit(
            LargeRows(), np.arange(LargeRows.n_samples) % 2
        )
    sender.send(memory.peak - memory.base)


@pytest.mark.slow
def test_ten_gigabytes_are_read_in_little_memory():
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_memory_of_a_large_fit, args=(sender,))
    child.start()
    peak = receiver.recv()
    child.join()
    assert peak < 200 * 2**20


class Interrupt(Callback):
    """Press Ctrl-C at the end of the first epoch."""

    def on_epoch_end(self, net, **kwargs):
        raise KeyboardInterrupt


@pytest.mark.parametrize(("kind", "n_jobs"), [("ours", 1), ("skorch", 1), ("skorch", 2)])
def test_an_interrupted_training_leaves_nothing(tmp_path, kind, n_jobs):
    X, y = digits_parts()[0]
    net = NetClassifier(small_mlp()) if kind == "ours" else plain_net()
    net.set_params(max_epochs=3, callbacks=[("interrupt", Interrupt())])
    soup = UniformSoup(net, n_ingredients=2, cache_dir=tmp_path, n_jobs=n_jobs, random_state=0)
    with pytest.raises(KeyboardInterrupt):
        soup.fit(X, y)
    assert not hasattr(soup, "estimator_")
    assert [path.name[:6] for path in tmp_path.iterdir()] == ["start-"]


class WithLambda(nn.Module):
    """A module that cannot be pickled."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(64, 16), nn.Linear(16, 10)
        self.activation = lambda z: z.relu()

    def forward(self, X):
        return self.head(self.activation(self.first(X)))


@pytest.mark.parametrize("kind", ["ours", "skorch"])
def test_modules_that_cannot_be_pickled_are_copied(kind):
    X, y = digits_parts()[0]
    net = NetClassifier(WithLambda) if kind == "ours" else plain_net(WithLambda())
    net = net.set_params(max_epochs=2).fit(X, y)
    before = net.module_.head.weight.detach().clone()
    soup = MEHLSoup(net, n_ingredients=2, **QUICK).fit(X, y)
    assert soup.predict(X).shape == y.shape
    assert torch.equal(net.module_.head.weight, before)
    if kind == "ours":
        with pytest.raises(ValueError, match="n_jobs must be None or 1"):
            MEHLSoup(net, n_ingredients=2, n_jobs=2, **QUICK).fit(X, y)


def test_nets_from_modules_are_estimators_and_ingredients(modules, mixing, net):
    X, y = mixing
    names = np.array(list("abcdefghij"))
    expected = MEHLSoup(net, ingredients=modules, **QUICK).fit(X, y)
    around = [net_from_module(module, classes=names) for module in modules]
    for soup in (
        MEHLSoup(around[0], ingredients=modules, **QUICK),
        MEHLSoup(ingredients=around, **QUICK),
    ):
        soup.fit(X, names[y])
        np.testing.assert_array_equal(soup.coef_, expected.coef_)
        np.testing.assert_array_equal(soup.predict(X), names[expected.predict(X)])
    trained = UniformSoup(around[0], n_ingredients=2, param_grid={"lr": [0.0]}).fit(X, names[y])
    assert torch.equal(trained.estimator_.module_[-1].weight, modules[0][-1].weight)
    stock = ModelStock(around[0], ingredients=modules[1:]).fit(X, names[y])  # the base is around[0]
    assert 0 < stock.ratios_["3.weight"] < 1


class Spectrum(nn.Module):
    """A filter with complex weights before a linear layer."""

    def __init__(self):
        super().__init__()
        self.filter = nn.Parameter(torch.randn(33, dtype=torch.complex64))
        self.head = nn.Linear(64, 10)

    def forward(self, X):
        return self.head(torch.fft.irfft(torch.fft.rfft(X) * self.filter, n=64))


def spectra(n):
    modules = []
    for seed in range(n):
        with seeded(seed):
            modules.append(Spectrum())
    return modules


def filter_of(soup):
    return soup.estimator_.module_.filter.detach()


@pytest.mark.parametrize("directions", ["streamed", "stored"])
def test_complex_weights_are_combined(mixing, directions, tmp_path):
    modules = spectra(3)
    net = NetClassifier(Spectrum())
    soup = MEHLSoup(net, ingredients=modules, directions=directions, min_iter=20, random_state=0)
    soup.fit(*mixing)
    row = torch.as_tensor(soup.coef_[list(soup.groups_).index("filter")])
    expected = sum(a * module.filter.detach() for a, module in zip(row, modules, strict=True))
    torch.testing.assert_close(filter_of(soup), expected.to(torch.complex64))
    assert soup.soup_losses_["soup"] < soup.soup_losses_["uniform"]
    soup.save(tmp_path / "soup.safetensors")
    again = MEHLSoup(NetClassifier(Spectrum())).load(tmp_path / "soup.safetensors")
    assert torch.equal(filter_of(again), filter_of(soup))


def test_complex_coefficients_have_the_gradient_of_autograd():
    modules = spectra(3)
    filters = torch.stack([module.filter.detach() for module in modules])
    X = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
    coef = torch.full((3,), 1 / 3, requires_grad=True)

    def loss(weights):
        return torch.fft.irfft(torch.fft.rfft(X) * weights, n=64).pow(2).sum()

    loss(coef.to(filters.dtype) @ filters).backward()
    mean = filters.mean(0).requires_grad_()
    (q,) = torch.autograd.grad(loss(mean), [mean])
    expected = (coef.grad - coef.grad.mean()).double()
    for Directions in (StreamedDirections, StoredDirections):
        directions = Directions([as_real(mean).clone()], [[as_real(f)] for f in filters])
        found = coefficient_gradient([q], directions, torch.tensor([0]), 1)
        torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("Rule", [TaskArithmetic, TIES, DARE, ModelStock, RegMean, GreedySoup])
def test_rules_keep_complex_weights(mixing, Rule):
    base, *modules = spectra(4)
    params = {} if Rule in (RegMean, GreedySoup) else {"base": base}
    soup = Rule(NetClassifier(Spectrum()), ingredients=modules, random_state=0, **params)
    if Rule is TaskArithmetic:
        soup.set_params(scaling=0.5)
    found = filter_of(soup.fit(*mixing))
    assert found.dtype == torch.complex64
    if Rule is TaskArithmetic:
        steps = sum(module.filter - base.filter for module in modules)
        torch.testing.assert_close(found, (base.filter + 0.5 * steps).detach())
    if Rule is not GreedySoup:  # it may choose a single ingredient
        assert found.imag.abs().mean() > 0.1
