"""Sources of ingredients: nets, modules, state dicts and files."""

import contextlib
import copy
import json
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import skorch
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from torch import nn

from sklearn_ext import MEHLSoup, UniformSoup
from sklearn_ext.neural import NetClassifier, save_tensors
from sklearn_ext.soup.ingredients import open_ingredient, warn_of_separate_basins
from tests.files import damaged
from tests.soup.problems import QUICK, fitted_net, ingredients, small_mlp


@pytest.fixture(scope="module")
def modules():
    return ingredients(small_mlp, 3, n_epochs=6)


@pytest.fixture
def net():
    return NetClassifier(small_mlp(), max_epochs=3, random_state=0)


def stored(modules, folder, suffix):
    folder.mkdir()
    for k, module in enumerate(modules):
        path = folder / f"run {k}{suffix}"
        if suffix == ".safetensors":
            save_tensors(path, module.state_dict())
        else:
            torch.save(module.state_dict(), path)
    return folder


def test_all_kinds_of_sources_give_the_same_soup(modules, mixing, net, tmp_path):
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
        # Sums are vectorized in an order that depends on the memory addresses of the tensors.
        np.testing.assert_allclose(coef, coefs["modules"], rtol=0, atol=1e-6, err_msg=name)


def test_files_written_by_skorch_are_read(modules, mixing, net, tmp_path):
    fitted = fitted_net(modules[0], *mixing)
    fitted.save_params(f_params=tmp_path / "a.safetensors", use_safetensors=True)
    fitted.save_params(f_params=tmp_path / "b.pt")
    soup = UniformSoup(net, ingredients=tmp_path).fit(*mixing)
    assert torch.equal(soup.estimator_.module_[-1].weight, modules[0][-1].weight)
    assert soup.ingredient_names_ == [str(tmp_path / "a.safetensors"), str(tmp_path / "b.pt")]


def test_code_in_a_file_is_not_executed(mixing, net, tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    torch.save({"weight": Trap()}, tmp_path / "bad.pt")
    with pytest.raises(ValueError, match=r"bad\.pt"):
        UniformSoup(net, ingredients=[tmp_path / "bad.pt"]).fit(*mixing)
    assert not (tmp_path / "executed").exists()


def test_damaged_ingredients_raise_or_have_the_right_content(modules, tmp_path):
    path, rng = tmp_path / "w.safetensors", np.random.default_rng(0)
    tensors = modules[0].state_dict()
    save_tensors(path, tensors)
    whole = path.read_bytes()
    for _ in range(100):
        path.write_bytes(damaged(whole, rng))
        with contextlib.suppress(ValueError):
            read = open_ingredient(path, "ingredients[0]").tensors
            assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())


def test_fit_does_not_change_ingredients_or_estimator(modules, mixing):
    X, y = mixing
    nets = [fitted_net(module, X, y) for module in modules]
    MEHLSoup(nets[0], ingredients=nets, **QUICK).fit(X, y)
    for module, fitted in zip(modules, nets, strict=True):
        for name, tensor in module.state_dict().items():
            assert torch.equal(tensor, fitted.module_.state_dict()[name])


def test_default_architecture_is_that_of_the_first_ingredient(modules, mixing):
    X, y = mixing
    by_module = MEHLSoup(ingredients=modules, **QUICK).fit(X, y)
    by_net = MEHLSoup(ingredients=[fitted_net(module, X, y) for module in modules], **QUICK)
    np.testing.assert_array_equal(by_module.coef_, by_net.fit(X, y).coef_)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda model: model.pop("3.weight"),
            r"c\.safetensors does not fit the network. It lacks the tensors '3\.weight'\.",
        ),
        (
            lambda model: model.update({"3.weight": torch.zeros(10, 25)}),
            r"c\.safetensors .*The tensor '3\.weight' has shape \(10, 25\).*\(10, 24\)",
        ),
        (
            lambda model: model.update(other=torch.zeros(1)),
            r"c\.safetensors .*It has the tensors 'other', which the network lacks",
        ),
    ],
)
def test_error_names_the_tensor_that_does_not_fit(modules, mixing, net, tmp_path, damage, message):
    save_tensors(tmp_path / "a.safetensors", modules[0].state_dict())
    model = dict(modules[1].state_dict())
    damage(model)
    save_tensors(tmp_path / "c.safetensors", model)
    with pytest.raises(ValueError, match=message):
        UniformSoup(net, ingredients=str(tmp_path / "*")).fit(*mixing)


@pytest.mark.parametrize("nothing", [[], "no such *", Path("nowhere.safetensors")])
def test_empty_ingredients_are_an_error(mixing, net, nothing):
    with pytest.raises(
        (ValueError, FileNotFoundError), match=r"must contain a network|does not exist"
    ):
        UniformSoup(net, ingredients=nothing).fit(*mixing)


def test_invalid_sources_are_rejected(modules, mixing, net):
    with pytest.raises(TypeError, match=r"ingredients\[1\] must be a fitted skorch net.*int"):
        UniformSoup(net, ingredients=[modules[0], 3]).fit(*mixing)
    with pytest.raises(ValueError, match="list of networks or paths"):
        UniformSoup(net, ingredients=modules[0].state_dict()).fit(*mixing)
    with pytest.raises(TypeError, match="estimator must be None, a skorch net"):
        UniformSoup(UniformSoup(), ingredients=modules).fit(*mixing)
    with pytest.raises(ValueError, match="param_grid must be None if ingredients are given, got"):
        UniformSoup(net, ingredients=modules, param_grid={"lr": [0.1]}).fit(*mixing)


def test_error_explains_that_clone_drops_the_weights_of_nets(modules, mixing, net):
    nets = [fitted_net(module, *mixing) for module in modules]
    with pytest.raises(NotFittedError, match="FrozenEstimator"):
        clone(UniformSoup(net, ingredients=nets)).fit(*mixing)
    frozen = [FrozenEstimator(fitted) for fitted in nets]
    clone(UniformSoup(net, ingredients=frozen)).fit(*mixing)


def test_nets_fitted_on_different_classes_are_rejected(modules, mixing):
    X, y = mixing
    nets = [fitted_net(modules[0], X, y), fitted_net(modules[1], X, y + 1)]
    with pytest.raises(ValueError, match=r"ingredients\[1\] was fitted on the classes \[ 1"):
        UniformSoup(ingredients=nets).fit(X, y)


def test_unknown_labels_raise_and_missing_ones_warn(modules, mixing):
    X, y = mixing
    fitted = fitted_net(modules[0], X, y)
    with pytest.raises(ValueError, match="not among the classes"):
        UniformSoup(fitted, ingredients=modules).fit(X, y + 1)
    with pytest.warns(UserWarning, match=r"no samples of the classes \[9\]"):
        UniformSoup(fitted, ingredients=modules).fit(X[y < 9], y[y < 9])
    plain = skorch.NeuralNetClassifier(small_mlp(), criterion=nn.CrossEntropyLoss)
    with pytest.raises(ValueError, match="10 outputs, but y has 9 classes"):
        UniformSoup(plain, ingredients=modules).fit(X[y < 9], y[y < 9])
    with pytest.raises(ValueError, match="10 outputs, but y has 9 classes"):
        UniformSoup(NetClassifier(small_mlp()), ingredients=modules).fit(X[y < 9], y[y < 9])


def test_low_rank_adapter_factors_are_rejected(mixing):
    class Adapted(nn.Module):
        def __init__(self):
            super().__init__()
            self.lora_A = nn.Linear(64, 2, bias=False)
            self.lora_B = nn.Linear(2, 10, bias=False)

        def forward(self, X):
            return self.lora_B(self.lora_A(X))

    with pytest.raises(ValueError, match="merge each adapter"):
        UniformSoup(ingredients=[Adapted(), Adapted()]).fit(*mixing)


def test_ingredients_that_are_not_finite_are_left_out(modules, mixing, net):
    bad = copy.deepcopy(modules[1])
    with torch.no_grad():
        bad[-1].bias[0] = np.nan
    with pytest.warns(UserWarning, match="left out: 1: MLP. 2 remain"):
        soup = UniformSoup(net, ingredients=[modules[0], bad, modules[2]]).fit(*mixing)
    assert soup.coef_.shape == (1, 2)
    assert soup.ingredient_names_ == ["0: MLP", "2: MLP"]
    with pytest.warns(UserWarning, match="Only one remains as the soup"):
        soup = UniformSoup(net, ingredients=[bad, modules[2]]).fit(*mixing)
    assert torch.equal(soup.estimator_.module_[-1].weight, modules[2][-1].weight)
    with pytest.raises(ValueError, match="No ingredient has finite weights"):
        UniformSoup(net, ingredients=[bad, bad]).fit(*mixing)


def test_warns_if_ingredients_have_different_starts(mixing, net):
    unrelated = ingredients(small_mlp, 4, shared_start=False, n_epochs=25)
    with pytest.warns(UserWarning, match="do not share a basin"):
        soup = UniformSoup(net, ingredients=unrelated).fit(*mixing)
    assert soup.soup_scores_["uniform"] < 0.7 < soup.ingredient_scores_.min()


def test_basin_warning_starts_at_twice_the_mean_loss():
    with warnings.catch_warnings(action="error"):
        warn_of_separate_basins(1.9, 1.0)
    with pytest.warns(UserWarning, match="do not share a basin"):
        warn_of_separate_basins(2.1, 1.0)


def checkpoints(modules, folder):
    """Write each module in another form that people use, and return the folder."""
    states = [module.state_dict() for module in modules]
    names = list(states[0])
    for k in range(3):
        (folder / f"run{k}").mkdir(parents=True)
    for k, part in enumerate((names[:2], names[2:])):
        save_tensors(folder / "run0" / f"part{k}.safetensors", {n: states[0][n] for n in part})
    weight_map = {name: f"part{int(name in names[2:])}.safetensors" for name in names}
    index = folder / "run0" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    (folder / "run0" / "config.json").write_text("{}")
    prefixed = {f"module.{name}": tensor for name, tensor in states[1].items()}
    torch.save({"epoch": 3, "model": prefixed}, folder / "run1" / "pytorch_model.bin")
    half = {name: tensor.bfloat16() for name, tensor in states[2].items()}
    save_tensors(folder / "run2" / "model.safetensors", half)
    return folder


@pytest.mark.parametrize("Soup", [UniformSoup, MEHLSoup])
def test_checkpoints_of_any_form_are_mixed(modules, mixing, net, tmp_path, Soup):
    runs = checkpoints(modules, tmp_path / "runs")
    half = copy.deepcopy(modules[2]).bfloat16().float()
    params = QUICK if Soup is MEHLSoup else {}
    expected = Soup(net, ingredients=[*modules[:2], half], **params).fit(*mixing)
    for source in (f"{runs}/*/", runs, sorted(runs.iterdir())):
        soup = Soup(net, ingredients=source, **params).fit(*mixing)
        np.testing.assert_allclose(soup.coef_, expected.coef_, rtol=0, atol=1e-6)
        assert soup.ingredient_names_ == [f"{runs}/run{k}" for k in range(3)]
    one = UniformSoup(net, ingredients=runs / "run0").fit(*mixing)
    assert torch.equal(one.estimator_.module_[-1].weight, modules[0][-1].weight)


def test_key_and_key_map_choose_the_weights(modules, mixing, net, tmp_path):
    start = {name: torch.zeros_like(t) for name, t in modules[0].state_dict().items()}
    for k, module in enumerate(modules):
        renamed = {f"net.{name}": tensor for name, tensor in module.state_dict().items()}
        torch.save({"model": start, "best": {"weights": renamed}}, tmp_path / f"{k}.pt")
    soup = UniformSoup(
        net,
        ingredients=tmp_path,
        key="best.weights",
        key_map=lambda name: name.removeprefix("net."),
    ).fit(*mixing)
    expected = UniformSoup(net, ingredients=modules).fit(*mixing)
    np.testing.assert_array_equal(soup.predict_proba(mixing[0]), expected.predict_proba(mixing[0]))
    again = soup.combine([[1.0, 0.0, 0.0]])
    assert torch.equal(again.module_[-1].weight, modules[0][-1].weight)
