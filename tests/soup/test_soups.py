"""Uniform soups, and the interface that all soups share."""

import io
import json
import pickle

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.utils._testing import assert_docstring_consistency
from torch.optim.swa_utils import AveragedModel

from sklearn_ext import GreedySoup, LearnedSoup, MEHLSoup, UniformSoup
from sklearn_ext.neural import (
    MLP,
    NetClassifier,
    NetRegressor,
    SmallCNN,
    parameter_dict,
    save_tensors,
)
from sklearn_ext.neural.files import read_file
from tests.files import damaged, killed_at
from tests.soup.problems import (
    BatchNormNet,
    SmallViT,
    accuracy,
    digits_parts,
    ingredients,
    small_mlp,
)

ALL = [UniformSoup, GreedySoup, LearnedSoup, MEHLSoup]


def test_uniform_soup_equals_averaged_model_of_torch(modules, fitted):
    average = AveragedModel(modules[0])
    for module in modules:
        average.update_parameters(module)
    for name, tensor in parameter_dict(fitted[UniformSoup].estimator_.module_).items():
        expected = dict(average.module.named_parameters())[name]
        torch.testing.assert_close(tensor, expected.detach(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("Soup", ALL)
def test_scores_and_coef_frame_describe_the_soup(fitted, mixing, Soup):
    soup = fitted[Soup]
    X, y = mixing
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
def test_load_restores_what_save_wrote(fitted, mixing, net, tmp_path, Soup):
    X, _ = mixing
    soup = fitted[Soup]
    soup.save(tmp_path / "soup.safetensors")
    again = Soup(NetClassifier(small_mlp())).load(tmp_path / "soup.safetensors")
    np.testing.assert_array_equal(again.predict_proba(X), soup.predict_proba(X))
    np.testing.assert_array_equal(again.coef_, soup.coef_)
    stored = {k for k in vars(soup) if k.endswith("_")} - {"estimator_", "ingredients_"}
    for name in stored:
        np.testing.assert_equal(getattr(again, name), getattr(soup, name), err_msg=name)
    assert [path.name for path in tmp_path.iterdir()] == ["soup.safetensors"]
    recipe = soup.merge_recipe()
    assert recipe["merge_method"] == "linear"
    assert recipe["parameters"] == {"normalize": False}
    entry = recipe["models"][2]["parameters"]["weight"][-1]
    assert entry == {"filter": "3.bias", "value": soup.coef_[-1, 2]}
    # skorch also reads the weights in the file.
    other = NetClassifier(small_mlp(), max_epochs=0).fit(*mixing)
    other.load_params(f_params=tmp_path / "soup.safetensors", use_safetensors=True)
    np.testing.assert_array_equal(other.predict_proba(X), soup.estimator_.predict_proba(X))


def test_load_rejects_files_that_do_not_fit(fitted, tmp_path):
    fitted[UniformSoup].save(tmp_path / "soup.safetensors")
    with pytest.raises(ValueError, match=r"must contain a MEHLSoup.*got a UniformSoup"):
        MEHLSoup().load(tmp_path / "soup.safetensors")
    small = UniformSoup(NetClassifier(MLP(64, 10, (8,))))
    with pytest.raises(ValueError, match=r"The file .*'1\.weight' has shape"):
        small.load(tmp_path / "soup.safetensors")
    with pytest.raises(NotFittedError):
        small.predict(np.zeros((1, 64)))
    X, y = digits_parts()[1]
    other = NetClassifier(small_mlp(), max_epochs=0).fit(X, y + 1)
    with pytest.raises(ValueError, match=r"The estimator was fitted on the classes \[ 1"):
        UniformSoup(other).load(tmp_path / "soup.safetensors")
    with pytest.raises(FileNotFoundError):
        UniformSoup().load(tmp_path / "nothing.safetensors")
    with pytest.raises(ValueError, match=r"must end with '\.safetensors'"):
        fitted[UniformSoup].save(tmp_path / "soup.bin")


def rewritten(path, change):
    """Change fields in the header of a stored soup, and write the file with a new checksum."""
    tensors, metadata = read_file(path)
    header = json.loads(metadata["sklearn_ext.soup"])
    change(header, tensors)
    save_tensors(path, tensors, metadata | {"sklearn_ext.soup": json.dumps(header)})


NAN = float("nan")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("predict", "something else", r"unknown fields \['predict'\]"),
        ("cache_dir", "/", r"unknown fields \['cache_dir'\]"),
        ("coef_", [[NAN] * 5], "coef_ .*finite number, got nan"),
        ("coef_", [[0.5] * 5], r"coef_ .*must sum to 1 in each group, got sums \[2.5\]"),
        ("coef_", [[0.5] * 2], r"coef_ .*shape \(1, 5\), got \(1, 2\)"),
        ("coef_", [[0.5], 3], "entry 1 of coef_"),
        ("order_", [0, 0, 1, 2, 3], "order_ .*permutation"),
        ("selected_", [7], "selected_ .*indices of 5"),
        ("groups_", {"all": ["1.weight"]}, "groups_ .*each parameter"),
        ("classes_", {"dtype": "<i8", "values": [0, 0]}, "classes_ .*different labels"),
        ("classes_", {"dtype": "V8", "values": [0]}, "classes_ .*not supported"),
        ("input_shape_", [10**6, 10**6], "input_shape_ .*must agree"),
        ("ingredient_scores_", [0.5], r"ingredient_scores_ .*shape \(5,\)"),
        ("soup_scores_", {"soup": 1.0}, "soup_scores_ .*lacks"),
        ("ingredient_names_", 3, "ingredient_names_ .*must be a list, got 3"),
    ],
)
def test_load_names_the_field_that_is_invalid(fitted, tmp_path, field, value, message):
    path = tmp_path / "soup.safetensors"
    fitted[GreedySoup].save(path)
    rewritten(path, lambda header, tensors: header["fitted"].update({field: value}))
    soup = GreedySoup(NetClassifier(small_mlp()))
    with pytest.raises(ValueError, match=message):
        soup.load(path)
    assert vars(soup) == vars(GreedySoup(soup.estimator))


def test_load_rejects_weights_that_are_not_finite(fitted, tmp_path):
    path = tmp_path / "soup.safetensors"
    fitted[UniformSoup].save(path)
    rewritten(path, lambda header, tensors: tensors["3.bias"].fill_(NAN))
    with pytest.raises(ValueError, match=r"finite weights, but the tensor '3\.bias'"):
        UniformSoup(NetClassifier(small_mlp())).load(path)


def test_damaged_soups_raise_or_have_the_right_content(fitted, tmp_path):
    soup, path = fitted[MEHLSoup], tmp_path / "soup.safetensors"
    soup.save(path)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(100):
        path.write_bytes(damaged(whole, rng))
        try:
            again = MEHLSoup(NetClassifier(small_mlp())).load(path)
        except ValueError:
            continue
        np.testing.assert_array_equal(again.coef_, soup.coef_)
        for own, stored in zip(
            soup.estimator_.module_.parameters(),
            again.estimator_.module_.parameters(),
            strict=True,
        ):
            assert torch.equal(own, stored)


def test_a_killed_save_leaves_the_old_soup(fitted, tmp_path):
    first, second, path = fitted[UniformSoup], fitted[GreedySoup], tmp_path / "soup.safetensors"
    first.save(path)
    for moment in ("fsync", "replace"):
        assert killed_at(moment, lambda: second.save(path))
        again = UniformSoup(NetClassifier(small_mlp())).load(path)
        np.testing.assert_array_equal(again.coef_, first.coef_)
    assert len(list(tmp_path.iterdir())) == 2  # the last draft is left
    second.save(path)
    assert list(tmp_path.iterdir()) == [path]
    assert GreedySoup(NetClassifier(small_mlp())).load(path).selected_.tolist()


def test_load_restores_a_regressor(tmp_path):
    X, _ = digits_parts()[0]
    y = X.sum(axis=1)
    soup = UniformSoup(NetRegressor(max_epochs=2), n_ingredients=2, random_state=0).fit(X, y)
    soup.save(tmp_path / "soup.safetensors")
    again = UniformSoup(NetRegressor()).load(tmp_path / "soup.safetensors")
    np.testing.assert_array_equal(again.predict(X), soup.predict(X))
    assert again.predict(X).shape == (300,)


def test_combine_uses_the_given_coefficients(fitted, modules, mixing):
    soup, (X, _) = fitted[MEHLSoup], mixing
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


def test_combine_estimates_statistics_on_lists_and_arrays(mixing):
    X, y = mixing
    nets = ingredients(BatchNormNet, 2, n_epochs=2)
    soup = UniformSoup(NetClassifier(BatchNormNet), ingredients=nets).fit(X, y)
    few, listed = (soup.combine([2.0, -1.0], X=part) for part in (X[:50], X[:50].tolist()))
    statistics = (net.module_.body[1].running_mean for net in (few, listed))
    torch.testing.assert_close(*statistics, rtol=0, atol=0)


@pytest.mark.parametrize("Soup", ALL)
def test_a_single_ingredient_keeps_its_running_statistics(mixing, Soup):
    models = ingredients(BatchNormNet, 1, n_epochs=2)
    soup = Soup(NetClassifier(BatchNormNet), ingredients=models, random_state=0).fit(*mixing)
    for name, buffer in models[0].named_buffers():
        assert torch.equal(soup.estimator_.module_.get_buffer(name), buffer), name


def test_combine_needs_kept_ingredients(net):
    X, y = digits_parts()[0]
    soup = UniformSoup(net, n_ingredients=2, random_state=0).fit(X, y)
    with pytest.raises(ValueError, match="cache_dir"):
        soup.combine([0.5, 0.5])


@pytest.mark.parametrize("Soup", ALL)
def test_soups_can_be_pickled_and_cloned(fitted, mixing, Soup):
    soup, (X, _) = fitted[Soup], mixing
    expected = soup.predict_proba(X)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(soup)).predict_proba(X), expected)
    file = io.BytesIO()
    joblib.dump(soup, file)
    file.seek(0)
    np.testing.assert_array_equal(joblib.load(file).predict_proba(X), expected)
    changed = clone(soup.set_params(random_state=0))
    assert changed.get_params()["random_state"] == 0
    assert not hasattr(changed, "estimator_")


def test_grid_search_with_paths_as_ingredients(modules, mixing, net, tmp_path):
    paths = []
    for k, module in enumerate(modules):
        paths.append(str(tmp_path / f"{k}.safetensors"))
        save_tensors(paths[-1], module.state_dict())
    soup = MEHLSoup(net, ingredients=paths, layerwise=False, min_iter=5, random_state=0)
    search = GridSearchCV(soup, {"learning_rate": [0.003, 0.03]}, cv=2, error_score="raise").fit(
        *mixing
    )
    assert search.best_score_ > 0.85
    assert search.best_estimator_.coef_.shape == (1, 5)


def test_soup_is_a_classifier_or_regressor_like_its_net():
    assert is_classifier(UniformSoup())
    assert is_regressor(MEHLSoup(NetRegressor()))
    assert not hasattr(MEHLSoup(NetRegressor()), "predict_proba")
    assert hasattr(MEHLSoup(), "predict_proba")
    assert not hasattr(MEHLSoup(), "decision_function")


def test_verbose_prints_the_score_of_each_ingredient(modules, mixing, net, capsys):
    UniformSoup(net, ingredients=modules[:2], verbose=1).fit(*mixing)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert lines[0].startswith("[UniformSoup] 0: MLP: score 0.")
    assert lines[-1].startswith("[UniformSoup] soup: score 0.")


def test_images_are_mixed_with_the_default_network():
    X, y = digits_parts()[0]
    X = X.reshape(-1, 8, 8)
    net = NetClassifier(module__widths=(4, 8), max_epochs=2, random_state=0)
    soup = MEHLSoup(net, n_ingredients=2, layerwise="module", min_iter=5, random_state=0)
    soup.fit(X, y)
    assert isinstance(soup.estimator_.module_, SmallCNN)
    assert soup.predict(X).shape == (300,)
    with pytest.raises(ValueError, match=r"must have shape \(8, 8\)"):
        soup.predict(X[:, :, :4])


def test_coefficients_rebuild_a_vision_transformer(mixing):
    modules = ingredients(SmallViT, 3, n_epochs=25)
    X, y = mixing
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
    test = digits_parts()[2]
    single = [accuracy(module, *test) for module in modules]
    assert soup.score(*test) >= np.mean(single)


def test_shared_docstring_entries_are_equal():
    assert_docstring_consistency(
        ALL,
        include_params=list(UniformSoup().get_params()),
        include_attrs=True,
        exclude_attrs=["history_", "order_", "selected_", "temperature_"],
    )


@pytest.mark.parametrize("Soup", ALL)
def test_callbacks_see_each_ingredient_and_each_step(Soup):
    seen = []

    class Recorder:
        def setup(self, estimator, context): ...

        def teardown(self, estimator, context): ...

        def on_fit_task_begin(self, estimator, context, **data): ...

        def on_fit_task_end(self, estimator, context, **data):
            seen.append(context.task_name)
            return context.task_name == "step" and Soup is MEHLSoup

    X, y = digits_parts()[0]
    net = NetClassifier(small_mlp(), max_epochs=1)
    soup = Soup(net, n_ingredients=3, n_jobs=2, random_state=0)
    soup.set_callbacks(Recorder()).fit(X, y)
    n_steps = {UniformSoup: 0, GreedySoup: 2, MEHLSoup: 1}.get(Soup)
    n_steps = len(soup.history_) if n_steps is None else n_steps
    assert seen == ["ingredient"] * 3 + ["step"] * n_steps + ["fit"]
    if Soup is MEHLSoup:  # the recorder asks to stop
        assert len(soup.history_) == 1


def test_repr_is_one_line(modules):
    assert repr(UniformSoup()) == "UniformSoup()"
    net = NetClassifier(small_mlp())
    assert repr(MEHLSoup(net, ingredients=modules, block_size=2)) == (
        "MEHLSoup(estimator=NetClassifier, ingredients=<5 of MLP>, block_size=2)"
    )
    soup = GreedySoup(FrozenEstimator(net), ingredients=[modules[0], "a.pt"], key_map={"a": "b"})
    assert repr(soup) == (
        "GreedySoup(estimator=FrozenEstimator(NetClassifier), ingredients=[MLP, 'a.pt'], "
        "key_map={'a': 'b'})"
    )
    states = [module.state_dict() for module in modules[:1]]
    assert repr(UniformSoup(ingredients=states)) == "UniformSoup(ingredients=[<4 tensors>])"
    assert len(repr(UniformSoup(param_grid={"lr": list(range(999))}))) < 120
