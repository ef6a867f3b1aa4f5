"""Training of ingredients: common start, grid, cache and parallel runs."""

from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from scipy.stats import loguniform
from sklearn.base import clone
from sklearn.model_selection import PredefinedSplit
from skorch import NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import PrintLog
from torch import nn

from sklearn_ext import MEHLSoup, UniformSoup
from sklearn_ext.neural import MLP, NetClassifier, NetRegressor, load_tensors, save_tensors
from sklearn_ext.soup.ingredients import parameter_points
from tests.soup.problems import QUICK, digits_parts, fitted_net, ingredients, small_mlp


class WithDropout(MLP):
    """A perceptron with a parameter that does not change its shapes."""

    def __init__(self, dropout=0.0):
        super().__init__(64, 10, (16,))
        self.append(nn.Dropout(dropout))


class Embedding(nn.Module):
    """A network with two inputs, one of which consists of integers."""

    def __init__(self):
        super().__init__()
        self.table = nn.EmbeddingBag(20, 8)
        self.head = nn.Linear(9, 2)

    def forward(self, tokens, length):
        return self.head(torch.cat((self.table(tokens), length), dim=1))


@pytest.fixture(scope="module")
def modules():
    return ingredients(small_mlp, 3, n_epochs=6)


@pytest.fixture
def net():
    return NetClassifier(small_mlp(), max_epochs=3, random_state=0)


def test_ingredients_start_from_the_same_weights(net):
    X, y = digits_parts()[0]
    soup = UniformSoup(net, param_grid={"lr": [0.0, 1e-6]}, random_state=0).fit(X, y)
    start = soup.estimator_.module_[1].weight
    again = UniformSoup(net, n_ingredients=1, param_grid={"lr": [0.0]}, random_state=0).fit(X, y)
    torch.testing.assert_close(again.estimator_.module_[1].weight, start, rtol=0, atol=1e-4)
    assert soup.ingredient_params_ == [{"lr": 0.0}, {"lr": 1e-6}]
    assert soup.ingredients_ is None


@pytest.mark.parametrize("kind", ["path", "module", "state dict", "net", "fitted estimator"])
def test_init_params_sets_the_common_start(net, modules, tmp_path, kind):
    X, y = digits_parts()[0]
    module = modules[0]
    save_tensors(tmp_path / "start.safetensors", module.state_dict())
    starts = {
        "path": tmp_path / "start.safetensors",
        "module": module,
        "state dict": module.state_dict(),
        "net": fitted_net(module, X, y),
        "fitted estimator": None,
    }
    estimator = fitted_net(module, X, y) if kind == "fitted estimator" else net
    soup = UniformSoup(estimator, init_params=starts[kind], param_grid={"lr": [0.0]}).fit(X, y)
    assert torch.equal(soup.estimator_.module_[-1].weight, module[-1].weight)


def test_results_do_not_depend_on_n_jobs(net):
    X, y = digits_parts()[0]
    first, second = (
        MEHLSoup(net, param_grid={"lr": [1e-3, 3e-3]}, n_jobs=n_jobs, **QUICK).fit(X, y)
        for n_jobs in (1, 2)
    )
    np.testing.assert_array_equal(first.coef_, second.coef_)
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))


def test_cache_dir_is_used_again_if_nothing_has_changed(net, tmp_path):
    X, y = digits_parts()[0]
    soup = UniformSoup(
        net, param_grid={"lr": [1e-3, 3e-3]}, cache_dir=tmp_path / "runs", random_state=0
    ).fit(X, y)
    written = {path: path.stat().st_mtime_ns for path in map(Path, soup.ingredients_)}
    Path(soup.ingredients_[1]).unlink()
    mehl = MEHLSoup(net, param_grid={"lr": [1e-3, 3e-3]}, cache_dir=tmp_path / "runs", **QUICK)
    mehl.fit(X, y)
    assert mehl.ingredients_ == soup.ingredients_
    first, second = written
    assert first.stat().st_mtime_ns == written[first]
    assert second.stat().st_mtime_ns != written[second]
    np.testing.assert_array_equal(mehl.ingredient_losses_, soup.ingredient_losses_)

    others = [
        clone(soup).set_params(random_state=1),
        clone(soup).set_params(param_grid={"lr": [2e-3]}),
        clone(soup).set_params(estimator__max_epochs=2),
        clone(soup).set_params(validation_fraction=0.3),
    ]
    for other in others:
        assert not set(other.fit(X, y).ingredients_) & set(soup.ingredients_)


def test_cache_dir_trains_a_damaged_ingredient_again(net, tmp_path):
    X, y = digits_parts()[0]
    soup = UniformSoup(net, n_ingredients=2, cache_dir=tmp_path, random_state=0).fit(X, y)
    path, expected = Path(soup.ingredients_[1]), soup.predict_proba(X)
    whole = path.read_bytes()
    path.write_bytes(whole[:-3] + b"\0" + whole[-2:])  # in a weight
    assert path.read_bytes() != whole
    with pytest.warns(UserWarning, match=r"is damaged .* Its ingredient is trained again"):
        soup.fit(X, y)
    np.testing.assert_array_equal(soup.predict_proba(X), expected)
    assert path.read_bytes() == whole


def test_concurrent_fits_share_one_cache_dir(net, tmp_path):
    X, y = digits_parts()[0]
    soup = UniformSoup(net, n_ingredients=2, random_state=0, cache_dir=tmp_path)
    soup.set_params(estimator__max_epochs=1)
    fits = joblib.Parallel(n_jobs=4, backend="threading")(
        joblib.delayed(clone(soup).fit)(X, y) for _ in range(8)
    )
    expected = soup.set_params(cache_dir=None).fit(X, y).predict_proba(X)
    for each in fits:
        np.testing.assert_array_equal(each.predict_proba(X), expected)
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors"}  # and no draft


def test_splitter_selects_the_mixing_samples(net):
    X, y = digits_parts()[0]
    fold = np.where(np.arange(len(X)) < 60, 0, -1)
    soup = UniformSoup(
        net, n_ingredients=2, validation_fraction=PredefinedSplit(fold), random_state=0
    ).fit(X, y)
    assert soup.soup_scores_["soup"] == np.mean(soup.predict(X[:60]) == y[:60])


def test_error_if_no_sample_can_be_held_out(net):
    X, y = digits_parts()[0]
    first = np.unique(y, return_index=True)[1]
    with pytest.raises(ValueError, match="needs a class with at least two samples"):
        UniformSoup(net, n_ingredients=2, random_state=0).fit(X[first], y[first])


def test_parameter_points_of_grids_and_distributions():
    rng = np.random.RandomState(0)
    grid = {"lr": [1, 2], "batch_size": [3, 4]}
    assert parameter_points(None, None, rng) == [{}] * 3
    assert len(parameter_points(grid, None, rng)) == 4
    few = parameter_points(grid, 2, rng)
    assert len({tuple(point.items()) for point in few}) == 2
    many = parameter_points(grid, 6, rng)
    assert many[4:] == many[:2]
    drawn = parameter_points({"lr": loguniform(1e-4, 1e-2)}, 5, rng)
    assert len({point["lr"] for point in drawn}) == 5
    assert parameter_points([{"lr": [1]}, {"batch_size": [2]}], None, rng) == [
        {"lr": 1},
        {"batch_size": 2},
    ]


def test_module_parameters_are_set_before_the_weights():
    X, y = digits_parts()[0]
    soup = UniformSoup(
        NetClassifier(WithDropout, max_epochs=3, random_state=0),
        param_grid={"module__dropout": [0.0, 0.2]},
        random_state=0,
    ).fit(X, y)
    assert soup.soup_losses_["uniform"] < 2 * soup.ingredient_losses_.mean()


def test_regressors_and_plain_skorch_nets_are_mixed():
    X, y = digits_parts()[0]
    plain = NeuralNetClassifier(
        small_mlp(), criterion=nn.CrossEntropyLoss, train_split=None, verbose=0, max_epochs=3
    )
    soup = MEHLSoup(plain, n_ingredients=2, **QUICK).fit(X, y)
    assert soup.predict_proba(X).shape == (300, 10)
    assert soup.classes_.tolist() == list(range(10))
    for Net in (NetRegressor, NeuralNetRegressor):
        net = Net(MLP(64, 1, (16,)), train_split=None, verbose=0, max_epochs=3)
        soup = MEHLSoup(net, n_ingredients=2, **QUICK).fit(X, y.astype(np.float32))
        assert soup.predict(X).ravel().shape == (300,)
        assert not hasattr(soup, "predict_proba")
        assert not hasattr(soup, "classes_")


def test_dict_of_tensors_is_passed_to_the_net():
    rng = np.random.RandomState(0)
    tokens = torch.as_tensor(rng.randint(20, size=(80, 5)))
    X = {"tokens": tokens, "length": torch.rand(80, 1)}
    y = (tokens[:, 0] > 10).numpy().astype(int)
    net = NeuralNetClassifier(
        Embedding, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0, max_epochs=2
    )
    soup = MEHLSoup(net, n_ingredients=2, **QUICK).fit(X, y)
    assert soup.predict(X).shape == (80,)
    assert soup.input_shape_ is None
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[80, 79\]"):
        MEHLSoup(net, n_ingredients=2).fit(X, y[:79])


def test_cache_dir_holds_the_common_start(net, tmp_path):
    X, y = digits_parts()[0]
    UniformSoup(net, n_ingredients=1, cache_dir=tmp_path, random_state=0).fit(X, y)
    (start,) = tmp_path.glob("start-*.safetensors")
    assert torch.equal(load_tensors(start)["3.bias"], net.module[-1].bias)


def test_fitted_estimator_gives_weights_but_not_momentum():
    X, y = digits_parts()[0]
    fitted = NetClassifier(small_mlp, max_epochs=3, random_state=0).fit(X, y)
    start = {name: tensor.clone() for name, tensor in fitted.module_.state_dict().items()}
    once = {"n_ingredients": 1, "random_state": 0}
    soup = UniformSoup(fitted, **once).fit(X, y)
    afresh = UniformSoup(clone(fitted), init_params=start, **once).fit(X, y)
    for name, tensor in soup.estimator_.module_.state_dict().items():
        assert torch.equal(tensor, afresh.estimator_.module_.state_dict()[name])
        assert not torch.equal(tensor, start[name])


class Scaled(nn.Linear):
    factor = 1.0

    def forward(self, X):
        return super().forward(X) * self.factor


class OtherNet(NetClassifier):
    """A net with its own loss."""

    def get_loss(self, y_pred, y_true, *args, **kwargs):
        return 2.0 * super().get_loss(y_pred, y_true, *args, **kwargs)


def with_factor(module, factor):
    module.factor = factor
    return module


def test_cache_dir_distinguishes_trainings(tmp_path):
    X, y = digits_parts()[0]
    start = nn.Linear(64, 10)

    def net(Net=NetClassifier, smoothing=0.0, factor=1.0, **params):
        module = with_factor(Scaled(64, 10), factor)
        module.load_state_dict(start.state_dict())
        criterion = nn.CrossEntropyLoss(label_smoothing=smoothing)
        return Net(module, criterion=criterion, max_epochs=1, **params)

    nets = [
        net(),
        net(smoothing=0.9),
        net(factor=2.0),
        net(OtherNet),
        net(optimizer=torch.optim.SGD),
        net(optimizer__weight_decay=0.1),
    ]
    fits = [
        UniformSoup(each, n_ingredients=1, random_state=0, cache_dir=tmp_path).fit(X, y)
        for each in (*nets, net())
    ]
    assert len({soup.ingredients_[0] for soup in fits}) == len(nets)
    assert fits[0].ingredients_ == fits[-1].ingredients_
    fresh = UniformSoup(nets[1], n_ingredients=1, random_state=0).fit(X, y)
    np.testing.assert_array_equal(fits[1].predict_proba(X), fresh.predict_proba(X))


def test_cache_dir_refuses_nets_that_it_cannot_recognize(net, tmp_path):
    X, y = digits_parts()[0]
    with (tmp_path / "log").open("w") as log:
        net.set_params(callbacks=[("printer", PrintLog(sink=log.write))])
        with pytest.raises(ValueError, match="cache_dir must be None"):
            UniformSoup(net, n_ingredients=1, cache_dir=tmp_path / "runs").fit(X, y)
