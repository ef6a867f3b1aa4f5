"""Where ingredients come from: nets, files, or training from one start."""

import copy
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import skorch
import torch
from scipy.stats import loguniform
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import PredefinedSplit
from torch import nn

from sklearn_ext import MEHLSoup, UniformSoup
from sklearn_ext.neural import MLP, NetClassifier, NetRegressor, load_tensors, save_tensors
from sklearn_ext.soup._ingredient_training import parameter_points
from sklearn_ext.soup._judgement import warn_of_many_basins
from tests.soup.kitchens import digits_rows, ingredients, small_mlp


class WithDropout(MLP):
    """A perceptron with a parameter that changes no shape."""

    def __init__(self, dropout=0.0):
        super().__init__(64, 10, (16,))
        self.append(nn.Dropout(dropout))


class Embedding(nn.Module):
    """A network of two inputs, one of them integers."""

    def __init__(self):
        super().__init__()
        self.table = nn.EmbeddingBag(20, 8)
        self.head = nn.Linear(9, 2)

    def forward(self, tokens, length):
        return self.head(torch.cat((self.table(tokens), length), dim=1))


QUICK = {"min_steps": 5, "max_epochs": 1, "layerwise": False, "random_state": 0}


@pytest.fixture(scope="module")
def modules():
    return ingredients(small_mlp, 3, n_epochs=6)


@pytest.fixture(scope="module")
def mixing():
    return digits_rows()[1]


@pytest.fixture
def net():
    return NetClassifier(small_mlp(), max_epochs=3, random_state=0)


def fitted_net(module, X, y):
    net = NetClassifier(copy.deepcopy(module), max_epochs=0).fit(X, y)
    assert torch.equal(net.module_[-1].weight, module[-1].weight)
    return net


def stored(modules, folder, suffix):
    folder.mkdir()
    for k, module in enumerate(modules):
        path = folder / f"run {k}{suffix}"
        if suffix == ".safetensors":
            save_tensors(path, module.state_dict())
        else:
            torch.save(module.state_dict(), path)
    return folder


def test_every_kind_of_source_gives_the_same_soup(modules, mixing, net, tmp_path):
    X, y = mixing
    nets = [fitted_net(module, X, y) for module in modules]
    files = stored(modules, tmp_path / "safe", ".safetensors")
    sources = {
        "modules": modules,
        "state dicts": [module.state_dict() for module in modules],
        "nets": nets,
        "frozen nets": [FrozenEstimator(fitted) for fitted in nets],
        "a folder": files,
        "a pattern": str(files / "run *.safetensors"),
        "paths": sorted(files.iterdir()),
        ".pt": stored(modules, tmp_path / "pt", ".pt"),
        ".pth": stored(modules, tmp_path / "pth", ".pth"),
        "mixed": [nets[0], modules[1], str(files / "run 2.safetensors")],
    }
    coefs = {
        name: MEHLSoup(net, ingredients=source, **QUICK).fit(X, y).coef_
        for name, source in sources.items()
    }
    for name, coef in coefs.items():
        # Where a tensor begins in memory decides the order in which sums are vectorised.
        np.testing.assert_allclose(coef, coefs["modules"], rtol=0, atol=1e-6, err_msg=name)


def test_skorch_files_are_read(modules, mixing, net, tmp_path):
    fitted = fitted_net(modules[0], *mixing)
    fitted.save_params(f_params=tmp_path / "a.safetensors", use_safetensors=True)
    fitted.save_params(f_params=tmp_path / "b.pt")
    soup = UniformSoup(net, ingredients=tmp_path).fit(*mixing)
    assert torch.equal(soup.estimator_.module_[-1].weight, modules[0][-1].weight)
    assert soup.ingredient_names_ == [str(tmp_path / "a.safetensors"), str(tmp_path / "b.pt")]


def test_nothing_in_a_file_is_executed(mixing, net, tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    torch.save({"weight": Trap()}, tmp_path / "bad.pt")
    with pytest.raises(ValueError, match=r"bad\.pt"):
        UniformSoup(net, ingredients=[tmp_path / "bad.pt"]).fit(*mixing)
    assert not (tmp_path / "executed").exists()


def test_the_ingredients_and_the_estimator_stay_as_they_were(modules, mixing):
    X, y = mixing
    nets = [fitted_net(module, X, y) for module in modules]
    MEHLSoup(nets[0], ingredients=nets, **QUICK).fit(X, y)
    for module, fitted in zip(modules, nets, strict=True):
        for name, tensor in module.state_dict().items():
            assert torch.equal(tensor, fitted.module_.state_dict()[name])


def test_without_an_estimator_the_first_net_or_module_is_the_architecture(modules, mixing):
    X, y = mixing
    by_module = MEHLSoup(ingredients=modules, **QUICK).fit(X, y)
    by_net = MEHLSoup(ingredients=[fitted_net(module, X, y) for module in modules], **QUICK)
    np.testing.assert_array_equal(by_module.coef_, by_net.fit(X, y).coef_)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda model: model.pop("3.weight"), r"c\.safetensors lacks the tensor '3\.weight'"),
        (
            lambda model: model.update({"3.weight": torch.zeros(10, 25)}),
            r"c\.safetensors: the tensor '3\.weight' has shape \(10, 25\).*\(10, 24\)",
        ),
        (
            lambda model: model.update(other=torch.zeros(1)),
            r"c\.safetensors holds a tensor 'other'",
        ),
    ],
)
def test_another_architecture_is_named(modules, mixing, net, tmp_path, damage, message):
    save_tensors(tmp_path / "a.safetensors", modules[0].state_dict())
    model = dict(modules[1].state_dict())
    damage(model)
    save_tensors(tmp_path / "c.safetensors", model)
    with pytest.raises(ValueError, match=message):
        UniformSoup(net, ingredients=str(tmp_path / "*")).fit(*mixing)


@pytest.mark.parametrize("nothing", [[], "no such *", Path("nowhere.safetensors")])
def test_no_ingredients(mixing, net, nothing):
    with pytest.raises((ValueError, FileNotFoundError), match=r"names nothing|no file"):
        UniformSoup(net, ingredients=nothing).fit(*mixing)


def test_sources_of_other_types_are_refused(modules, mixing, net):
    with pytest.raises(TypeError, match=r"ingredients\[1\] must be a fitted skorch net.*int"):
        UniformSoup(net, ingredients=[modules[0], 3]).fit(*mixing)
    with pytest.raises(ValueError, match="list of networks or paths"):
        UniformSoup(net, ingredients=modules[0].state_dict()).fit(*mixing)
    with pytest.raises(TypeError, match="estimator must be None, a skorch net"):
        UniformSoup(UniformSoup(), ingredients=modules).fit(*mixing)
    with pytest.raises(ValueError, match="exclude each other"):
        UniformSoup(net, ingredients=modules, param_grid={"lr": [0.1]}).fit(*mixing)


def test_clones_of_nets_are_unfitted_and_the_error_says_so(modules, mixing, net):
    nets = [fitted_net(module, *mixing) for module in modules]
    with pytest.raises(NotFittedError, match="FrozenEstimator"):
        clone(UniformSoup(net, ingredients=nets)).fit(*mixing)
    frozen = [FrozenEstimator(fitted) for fitted in nets]
    clone(UniformSoup(net, ingredients=frozen)).fit(*mixing)


def test_nets_of_other_classes_are_refused(modules, mixing):
    X, y = mixing
    nets = [fitted_net(modules[0], X, y), fitted_net(modules[1], X, y + 1)]
    with pytest.raises(ValueError, match=r"ingredients\[1\] knows the classes \[ 1"):
        UniformSoup(ingredients=nets).fit(X, y)


def test_unknown_and_missing_labels(modules, mixing):
    X, y = mixing
    fitted = fitted_net(modules[0], X, y)
    with pytest.raises(ValueError, match="none of the classes"):
        UniformSoup(fitted, ingredients=modules).fit(X, y + 1)
    with pytest.warns(UserWarning, match=r"no row of the classes \[9\]"):
        UniformSoup(fitted, ingredients=modules).fit(X[y < 9], y[y < 9])
    plain = skorch.NeuralNetClassifier(small_mlp(), criterion=nn.CrossEntropyLoss)
    with pytest.raises(ValueError, match="10 outputs, but y has 9 classes"):
        UniformSoup(plain, ingredients=modules).fit(X[y < 9], y[y < 9])
    with pytest.raises(ValueError, match=r"\(1, 10\) for one sample, but y requires \(1, 9\)"):
        UniformSoup(NetClassifier(small_mlp()), ingredients=modules).fit(X[y < 9], y[y < 9])


def test_adapter_factors_are_not_averaged(mixing):
    class Adapted(nn.Module):
        def __init__(self):
            super().__init__()
            self.lora_A = nn.Linear(64, 2, bias=False)
            self.lora_B = nn.Linear(2, 10, bias=False)

        def forward(self, X):
            return self.lora_B(self.lora_A(X))

    with pytest.raises(ValueError, match="merge each adapter"):
        UniformSoup(ingredients=[Adapted(), Adapted()]).fit(*mixing)


def test_what_diverged_is_left_out(modules, mixing, net):
    bad = copy.deepcopy(modules[1])
    with torch.no_grad():
        bad[-1].bias[0] = np.nan
    with pytest.warns(UserWarning, match="left out: 1: MLP. 2 are left"):
        soup = UniformSoup(net, ingredients=[modules[0], bad, modules[2]]).fit(*mixing)
    assert soup.coef_.shape == (1, 2)
    assert soup.ingredient_names_ == ["0: MLP", "2: MLP"]
    with pytest.warns(UserWarning, match="One is left, which is the soup"):
        soup = UniformSoup(net, ingredients=[bad, modules[2]]).fit(*mixing)
    assert torch.equal(soup.estimator_.module_[-1].weight, modules[2][-1].weight)
    with pytest.raises(ValueError, match="No ingredient is finite"):
        UniformSoup(net, ingredients=[bad, bad]).fit(*mixing)


def test_other_starts_are_warned_of(mixing, net):
    strangers = ingredients(small_mlp, 4, shared_start=False, n_epochs=25)
    with pytest.warns(UserWarning, match="SHARE NO BASIN"):
        soup = UniformSoup(net, ingredients=strangers).fit(*mixing)
    assert soup.soup_scores_["uniform"] < 0.7 < soup.ingredient_scores_.min()


# Training of ingredients


def test_ingredients_start_from_the_same_weights(net):
    X, y = digits_rows()[0]
    soup = UniformSoup(net, param_grid={"lr": [0.0, 1e-6]}, random_state=0).fit(X, y)
    start = soup.estimator_.module_[1].weight
    again = UniformSoup(net, n_ingredients=1, param_grid={"lr": [0.0]}, random_state=0).fit(X, y)
    torch.testing.assert_close(again.estimator_.module_[1].weight, start, rtol=0, atol=1e-4)
    assert soup.ingredient_params_ == [{"lr": 0.0}, {"lr": 1e-6}]
    assert soup.ingredients_ is None


@pytest.mark.parametrize("kind", ["path", "module", "state dict", "net", "fitted estimator"])
def test_a_given_start(net, modules, tmp_path, kind):
    X, y = digits_rows()[0]
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


def test_results_do_not_depend_on_the_number_of_jobs(net):
    X, y = digits_rows()[0]
    first, second = (
        MEHLSoup(net, param_grid={"lr": [1e-3, 3e-3]}, n_jobs=n_jobs, **QUICK).fit(X, y)
        for n_jobs in (1, 2)
    )
    np.testing.assert_array_equal(first.coef_, second.coef_)
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))


def test_a_folder_of_trained_ingredients_is_used_again(net, tmp_path):
    X, y = digits_rows()[0]
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


def test_the_split_keeps_classes_and_uses_splitters(net):
    X, y = digits_rows()[0]
    fold = np.where(np.arange(len(X)) < 60, 0, -1)
    soup = UniformSoup(
        net, n_ingredients=2, validation_fraction=PredefinedSplit(fold), random_state=0
    ).fit(X, y)
    assert soup.soup_scores_["soup"] == np.mean(soup.predict(X[:60]) == y[:60])


def test_a_row_must_be_left_for_mixing(net):
    X, y = digits_rows()[0]
    first = np.unique(y, return_index=True)[1]
    with pytest.raises(ValueError, match="held out of training, but no class has two"):
        UniformSoup(net, n_ingredients=2, random_state=0).fit(X[first], y[first])


def test_points_of_a_grid():
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


def test_parameters_of_the_module_are_set_before_its_weights():
    X, y = digits_rows()[0]

    soup = UniformSoup(
        NetClassifier(WithDropout, max_epochs=3, random_state=0),
        param_grid={"module__dropout": [0.0, 0.2]},
        random_state=0,
    ).fit(X, y)
    assert soup.soup_losses_["uniform"] < 2 * soup.ingredient_losses_.mean()


def test_regressors_and_plain_skorch_nets():
    from skorch import NeuralNetClassifier, NeuralNetRegressor

    X, y = digits_rows()[0]
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


def test_rows_that_only_the_net_understands():
    rng = np.random.RandomState(0)
    tokens = torch.as_tensor(rng.randint(20, size=(80, 5)))
    X = {"tokens": tokens, "length": torch.rand(80, 1)}
    y = (tokens[:, 0] > 10).numpy().astype(int)
    from skorch import NeuralNetClassifier

    net = NeuralNetClassifier(
        Embedding, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0, max_epochs=2
    )
    soup = MEHLSoup(net, n_ingredients=2, **QUICK).fit(X, y)
    assert soup.predict(X).shape == (80,)
    assert soup.input_shape_ is None
    with pytest.raises(ValueError, match="80 rows, y has 79"):
        MEHLSoup(net, n_ingredients=2).fit(X, y[:79])


def test_saved_start_is_the_one_that_was_drawn(net, tmp_path):
    X, y = digits_rows()[0]
    UniformSoup(net, n_ingredients=1, cache_dir=tmp_path, random_state=0).fit(X, y)
    (start,) = tmp_path.glob("start-*.safetensors")
    assert torch.equal(load_tensors(start)["3.bias"], net.module[-1].bias)


def test_a_fitted_estimator_gives_its_weights_and_not_its_momentum():
    X, y = digits_rows()[0]
    fitted = NetClassifier(small_mlp, max_epochs=3, random_state=0).fit(X, y)
    start = {name: tensor.clone() for name, tensor in fitted.module_.state_dict().items()}
    once = {"n_ingredients": 1, "random_state": 0}
    soup = UniformSoup(fitted, **once).fit(X, y)
    afresh = UniformSoup(clone(fitted), init_params=start, **once).fit(X, y)
    for name, tensor in soup.estimator_.module_.state_dict().items():
        assert torch.equal(tensor, afresh.estimator_.module_.state_dict()[name])
        assert not torch.equal(tensor, start[name])


def test_twice_the_loss_of_the_ingredients_is_another_basin():
    with warnings.catch_warnings(action="error"):
        warn_of_many_basins(1.9, 1.0)
    with pytest.warns(UserWarning, match="SHARE NO BASIN"):
        warn_of_many_basins(2.1, 1.0)
