"""Uniform, greedy and learned soups, and what all soups offer."""

import copy
import io
import json
import pickle

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from torch import nn
from torch.optim.swa_utils import AveragedModel

from sklearn_ext import GreedySoup, LearnedSoup, MEHLSoup, UniformSoup
from sklearn_ext.neural import MLP, NetClassifier, NetRegressor, parameter_dict, save_tensors
from tests.soup.kitchens import BatchNormNet, SmallViT, digits_rows, ingredients, small_mlp

ALL = [UniformSoup, GreedySoup, LearnedSoup, MEHLSoup]


@pytest.fixture(scope="module")
def modules():
    return ingredients(small_mlp, 5)


@pytest.fixture(scope="module")
def rows():
    return digits_rows()


@pytest.fixture(scope="module")
def net():
    return NetClassifier(small_mlp(), random_state=0)


@pytest.fixture(scope="module")
def fitted(modules, rows, net):
    return {Soup: Soup(net, ingredients=modules, random_state=0).fit(*rows[1]) for Soup in ALL}


def accuracy(module, X, y):
    with torch.no_grad():
        return np.mean(module(torch.as_tensor(X)).argmax(dim=1).numpy() == y)


def test_the_uniform_soup_is_the_average_of_torch(modules, fitted):
    average = AveragedModel(modules[0])
    for module in modules:
        average.update_parameters(module)
    for name, tensor in parameter_dict(fitted[UniformSoup].estimator_.module_).items():
        expected = dict(average.module.named_parameters())[name]
        torch.testing.assert_close(tensor, expected.detach(), rtol=0, atol=1e-6)


def greedy_reference(modules, X, y):
    """The recipe, written again with whole state dicts."""

    def loss(module):
        with torch.no_grad():
            return float(nn.functional.cross_entropy(module(torch.as_tensor(X)), y_codes))

    y_codes = torch.as_tensor(y)
    scores = [accuracy(module, X, y) for module in modules]
    order = sorted(range(len(modules)), key=lambda k: (-scores[k], loss(modules[k]), k))
    members, best = [order[0]], scores[order[0]]
    for k in order[1:]:
        candidate = copy.deepcopy(modules[0])
        states = [modules[j].state_dict() for j in [*members, k]]
        mean = {name: sum(s[name] for s in states) / len(states) for name in states[0]}
        candidate.load_state_dict(mean)
        if accuracy(candidate, X, y) > best:
            members, best = [*members, k], accuracy(candidate, X, y)
    return members, best


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_greedy_is_the_recipe(modules, rows, net, seed):
    X, y = rows[1]
    part = np.random.RandomState(seed).permutation(len(X))[:150]
    soup = GreedySoup(net, ingredients=modules).fit(X[part], y[part])
    members, best = greedy_reference(modules, X[part], y[part])
    assert soup.selected_.tolist() == members
    assert soup.soup_scores_["soup"] == best >= soup.soup_scores_["best_single"]
    expected = np.zeros((1, 5))
    expected[0, members] = 1 / len(members)
    np.testing.assert_array_equal(soup.coef_, expected)
    # Weights are the mean of the members.
    for name, tensor in parameter_dict(soup.estimator_.module_).items():
        mean = sum(modules[k].state_dict()[name] for k in members) / len(members)
        torch.testing.assert_close(tensor, mean, rtol=1e-5, atol=1e-6)


def test_greedy_accepts_ties_on_request(modules, rows, net):
    X, y = rows[1]
    part = slice(30)  # few rows: nearly all scores are equal
    strict = GreedySoup(net, ingredients=modules).fit(X[part], y[part])
    lenient = GreedySoup(net, ingredients=modules, tie="accept").fit(X[part], y[part])
    assert len(lenient.selected_) > len(strict.selected_)
    assert lenient.soup_scores_["soup"] >= strict.soup_scores_["best_single"]


def test_greedy_estimates_statistics_for_every_candidate(rows):
    X, y = rows[1]
    nets = ingredients(BatchNormNet, 4, n_epochs=5, lrs=(3e-3,))
    soup = GreedySoup(NetClassifier(BatchNormNet), ingredients=nets, scoring="neg_log_loss")
    soup.fit(X, y)
    assert len(soup.selected_) > 1
    # The judged network is the returned one, statistics included.
    layer = soup.estimator_.module_.body[1]
    judged = layer.running_mean.clone()
    averaged = UniformSoup(
        NetClassifier(BatchNormNet),
        ingredients=[nets[k] for k in soup.selected_],
        scoring="neg_log_loss",
    ).fit(X, y)
    torch.testing.assert_close(judged, averaged.estimator_.module_.body[1].running_mean)
    assert soup.soup_scores_["soup"] == pytest.approx(averaged.soup_scores_["soup"], rel=1e-5)


def test_greedy_follows_the_scoring(modules, rows, net):
    soup = GreedySoup(net, ingredients=modules, scoring="neg_log_loss").fit(*rows[1])
    assert (soup.ingredient_scores_ < 0).all()
    assert soup.order_.tolist() == np.argsort(-soup.ingredient_scores_).tolist()
    assert soup.soup_scores_["soup"] >= soup.soup_scores_["best_single"]


@pytest.mark.parametrize("layerwise", [True, False])
def test_learned_coefficients_are_on_the_simplex(modules, rows, net, layerwise):
    soup = LearnedSoup(net, ingredients=modules, layerwise=layerwise, random_state=0).fit(*rows[1])
    assert soup.coef_.shape == (4 if layerwise else 1, 5)
    assert (soup.coef_ > 0).all()
    np.testing.assert_allclose(soup.coef_.sum(axis=1), 1.0, atol=1e-12)
    assert soup.soup_losses_["soup"] < soup.soup_losses_["uniform"]
    for g, (_, names) in enumerate(soup.groups_.items()):
        for name in names:
            expected = sum(
                a * module.state_dict()[name].double()
                for a, module in zip(soup.coef_[g], modules, strict=True)
            )
            actual = soup.estimator_.module_.state_dict()[name].double()
            torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6)


def test_a_learned_soup_follows_autograd_through_all_ingredients(modules, rows, net):
    """The published way, with a graph through every ingredient, gives the same coefficients."""
    X, y = rows[1]
    soup = LearnedSoup(
        net, ingredients=modules, batch_size=300, min_steps=6, max_epochs=1, random_state=0
    ).fit(X, y)
    names = list(parameter_dict(modules[0]))
    versions = {n: torch.stack([m.state_dict()[n] for m in modules]) for n in names}
    logits = torch.zeros(len(names), 5, requires_grad=True, dtype=torch.float64)
    log_factor = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.AdamW([logits, log_factor], lr=0.05, weight_decay=0.0)
    for _ in range(6):
        coef = logits.softmax(dim=1).float()
        weights = {n: torch.tensordot(coef[t], versions[n], dims=1) for t, n in enumerate(names)}
        output = torch.func.functional_call(modules[0], weights, torch.as_tensor(X))
        loss = nn.functional.cross_entropy(output * log_factor.exp(), torch.as_tensor(y))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    np.testing.assert_allclose(soup.coef_, logits.softmax(dim=1).detach(), atol=1e-4)
    assert soup.temperature_ == pytest.approx(float(torch.exp(-log_factor.detach())), rel=1e-4)


def test_the_temperature_changes_probabilities_and_no_class(fitted, rows):
    soup, (X, y) = fitted[LearnedSoup], rows[1]
    assert soup.temperature_ != 1.0
    logits = np.log(soup.estimator_.predict_proba(X))
    expected = np.exp(logits / soup.temperature_)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(soup.predict_proba(X), expected, rtol=1e-4, atol=1e-6)
    loss = -np.log(soup.predict_proba(X)[np.arange(len(y)), y]).mean()
    assert soup.soup_losses_["soup"] == pytest.approx(loss, rel=1e-4)
    np.testing.assert_array_equal(
        soup.predict(X), soup.classes_[soup.predict_proba(X).argmax(axis=1)]
    )


def test_a_temperature_of_one_on_request_and_for_probabilities(modules, rows, net):
    X, y = rows[1]
    plain = LearnedSoup(net, ingredients=modules, learn_temperature=False).fit(X, y)
    assert plain.temperature_ == 1.0
    np.testing.assert_array_equal(plain.predict_proba(X), plain.estimator_.predict_proba(X))
    modules = [nn.Sequential(*module, nn.Softmax(dim=1)) for module in modules]
    net = NetClassifier(modules[0], criterion=nn.NLLLoss, random_state=0)
    soup = LearnedSoup(net, ingredients=modules, random_state=0).fit(X, y)
    assert soup.soup_losses_["soup"] < soup.soup_losses_["uniform"]


@pytest.mark.parametrize("Soup", ALL)
def test_all_soups_report_what_they_were_made_of(fitted, rows, Soup):
    soup = fitted[Soup]
    X, y = rows[1]
    assert soup.coef_.dtype == np.float64
    assert list(soup.soup_scores_) == ["best_single", "uniform", "soup"]
    assert soup.soup_scores_["best_single"] == soup.ingredient_scores_.max()
    assert soup.soup_scores_["soup"] == soup.score(X, y) == soup.estimator_.score(X, y)
    frame = soup.coef_frame()
    assert len(frame) == soup.coef_.size
    np.testing.assert_array_equal(
        frame.pivot(index="group", columns="ingredient", values="coefficient").loc[
            list(soup.groups_), soup.ingredient_names_
        ],
        soup.coef_,
    )
    np.testing.assert_array_equal(
        frame.groupby("ingredient", sort=False)["loss"].first(), soup.ingredient_losses_
    )


@pytest.mark.parametrize("Soup", ALL)
def test_save_and_load(fitted, rows, net, tmp_path, Soup):
    X, _ = rows[1]
    soup = fitted[Soup]
    soup.save(tmp_path / "soup.safetensors")
    again = Soup(NetClassifier(small_mlp())).load(tmp_path / "soup.safetensors")
    np.testing.assert_array_equal(again.predict_proba(X), soup.predict_proba(X))
    np.testing.assert_array_equal(again.coef_, soup.coef_)
    stored = {k for k in vars(soup) if k.endswith("_")} - {"estimator_", "ingredients_"}
    for name in stored:
        np.testing.assert_equal(getattr(again, name), getattr(soup, name), err_msg=name)
    recipe = json.loads((tmp_path / "soup.json").read_text())
    assert recipe["merge_method"] == "linear"
    assert recipe["parameters"] == {"normalize": False}
    entry = recipe["models"][2]["parameters"]["weight"][-1]
    assert entry == {"filter": "3.bias", "value": soup.coef_[-1, 2]}
    # The weights alone are a plain file of skorch.
    other = NetClassifier(small_mlp(), max_epochs=0).fit(*rows[1])
    other.load_params(f_params=tmp_path / "soup.safetensors", use_safetensors=True)
    np.testing.assert_array_equal(other.predict_proba(X), soup.estimator_.predict_proba(X))


def test_loading_what_does_not_fit(fitted, tmp_path):
    fitted[UniformSoup].save(tmp_path / "soup.safetensors")
    with pytest.raises(ValueError, match="is a UniformSoup in the format"):
        MEHLSoup().load(tmp_path / "soup.safetensors")
    small = UniformSoup(NetClassifier(MLP(64, 10, (8,))))
    with pytest.raises(ValueError, match=r"the file: the tensor '1\.weight' has shape"):
        small.load(tmp_path / "soup.safetensors")
    with pytest.raises(NotFittedError):
        small.predict(np.zeros((1, 64)))
    X, y = digits_rows()[1]
    other = NetClassifier(small_mlp(), max_epochs=0).fit(X, y + 1)
    with pytest.raises(ValueError, match=r"The estimator knows the classes \[ 1"):
        UniformSoup(other).load(tmp_path / "soup.safetensors")
    with pytest.raises(FileNotFoundError):
        UniformSoup().load(tmp_path / "nothing.safetensors")
    with pytest.raises(ValueError, match=r"must end with '\.safetensors'"):
        fitted[UniformSoup].save(tmp_path / "soup.bin")


def test_a_loaded_regressor(tmp_path):
    X, _ = digits_rows()[0]
    y = X.sum(axis=1)
    soup = UniformSoup(NetRegressor(max_epochs=2), n_ingredients=2, random_state=0).fit(X, y)
    soup.save(tmp_path / "soup.safetensors")
    again = UniformSoup(NetRegressor()).load(tmp_path / "soup.safetensors")
    np.testing.assert_array_equal(again.predict(X), soup.predict(X))
    assert again.predict(X).shape == (300,)


def test_combining_by_hand(fitted, modules, rows):
    soup, (X, _) = fitted[MEHLSoup], rows[1]
    net = soup.combine(soup.coef_)
    np.testing.assert_allclose(net.predict_proba(X), soup.predict_proba(X), atol=1e-5)
    third = soup.combine([0, 0, 1, 0, 0])
    assert torch.equal(third.module_[-1].weight, modules[2][-1].weight)
    before = soup.predict_proba(X)
    with pytest.raises(ValueError, match=r"coef must sum to 1"):
        soup.combine([0.5, 0, 0, 0, 0])
    with pytest.raises(ValueError, match=r"coef must sum to 1"):
        soup.combine([np.nan, 0, 0, 0, 1])
    np.testing.assert_array_equal(soup.predict_proba(X), before)


def test_statistics_of_a_combination_are_estimated_on_rows_in_a_list(rows):
    X, y = rows[1]
    nets = ingredients(BatchNormNet, 2, n_epochs=2)
    soup = UniformSoup(NetClassifier(BatchNormNet), ingredients=nets).fit(X, y)
    few, listed = (soup.combine([2.0, -1.0], X=part) for part in (X[:50], X[:50].tolist()))
    statistics = (net.module_.body[1].running_mean for net in (few, listed))
    torch.testing.assert_close(*statistics, rtol=0, atol=0)


def test_combining_needs_ingredients(rows, net):
    X, y = rows[0]
    soup = UniformSoup(net, n_ingredients=2, random_state=0).fit(X, y)
    with pytest.raises(ValueError, match="cache_dir"):
        soup.combine([0.5, 0.5])


@pytest.mark.parametrize("Soup", ALL)
def test_pickle_joblib_and_clone(fitted, rows, Soup):
    soup, (X, _) = fitted[Soup], rows[1]
    expected = soup.predict_proba(X)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(soup)).predict_proba(X), expected)
    file = io.BytesIO()
    joblib.dump(soup, file)
    file.seek(0)
    np.testing.assert_array_equal(joblib.load(file).predict_proba(X), expected)
    changed = clone(soup.set_params(random_state=0))
    assert changed.get_params()["random_state"] == 0
    assert not hasattr(changed, "estimator_")


def test_grid_search_over_paths(modules, rows, net, tmp_path):
    paths = []
    for k, module in enumerate(modules):
        paths.append(str(tmp_path / f"{k}.safetensors"))
        save_tensors(paths[-1], module.state_dict())
    soup = MEHLSoup(net, ingredients=paths, layerwise=False, min_steps=5, random_state=0)
    search = GridSearchCV(soup, {"lr": [0.003, 0.03]}, cv=2, error_score="raise").fit(*rows[1])
    assert search.best_score_ > 0.85
    assert search.best_estimator_.coef_.shape == (1, 5)


def test_the_kind_follows_the_estimator():
    assert is_classifier(UniformSoup())
    assert is_regressor(MEHLSoup(NetRegressor()))
    assert not hasattr(MEHLSoup(NetRegressor()), "predict_proba")
    assert hasattr(MEHLSoup(), "predict_proba")
    assert not hasattr(MEHLSoup(), "decision_function")


def test_verbose_prints_every_score(modules, rows, net, capsys):
    UniformSoup(net, ingredients=modules[:2], verbose=1).fit(*rows[1])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert lines[0].startswith("[UniformSoup] 0: MLP: score 0.")
    assert lines[-1].startswith("[UniformSoup] soup: score 0.")


def test_an_image_network():
    from sklearn_ext.neural import SmallCNN

    X, y = digits_rows()[0]
    X = X.reshape(-1, 8, 8)
    net = NetClassifier(module__widths=(4, 8), max_epochs=2, random_state=0)
    soup = MEHLSoup(net, n_ingredients=2, layerwise="module", min_steps=5, random_state=0)
    soup.fit(X, y)
    assert isinstance(soup.estimator_.module_, SmallCNN)
    assert soup.predict(X).shape == (300,)
    with pytest.raises(ValueError, match=r"must have shape \(8, 8\)"):
        soup.predict(X[:, :, :4])


def test_a_small_vision_transformer(rows):
    modules = ingredients(SmallViT, 3, n_epochs=25)
    X, y = rows[1]
    soup = MEHLSoup(NetClassifier(SmallViT, random_state=0), ingredients=modules, random_state=0)
    soup.fit(X, y)
    names = [name for name, _ in SmallViT().named_parameters()]
    assert soup.coef_.shape == (len(names), 3)
    np.testing.assert_allclose(soup.coef_.sum(axis=1), 1)
    mixed = parameter_dict(soup.estimator_.module_)
    for g, name in enumerate(names):
        expected = sum(
            soup.coef_[g, i] * parameter_dict(module)[name].double()
            for i, module in enumerate(modules)
        )
        torch.testing.assert_close(mixed[name].double(), expected, rtol=1e-5, atol=1e-5)
    single = [accuracy(module, *rows[2]) for module in modules]
    assert soup.score(*rows[2]) >= np.mean(single)
