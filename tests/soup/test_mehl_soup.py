"""MEHL-Soup: optimum, exact coefficients, degenerate ingredients, invalid settings."""

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_ext import LearnedSoup, MEHLSoup, UniformSoup
from sklearn_ext.neural import (
    NetClassifier,
    NetRegressor,
    draw_seed,
    parameter_dict,
    predict_logits,
)
from sklearn_ext.soup import (
    LeadingDirections,
    LearnedConfig,
    MEHLConfig,
    learn_mehl_coefficients,
)
from sklearn_ext.soup.recipes import leading_combinations
from tests.soup.problems import (
    BatchNormNet,
    TiedNet,
    ingredients,
    linear_problem,
    small_mlp,
)


def rebuilt(soup, models):
    """Combine state dicts with the coefficients, in float64."""
    return {
        name: sum(a * model[name].double() for a, model in zip(soup.coef_[g], models, strict=True))
        for g, names in enumerate(soup.groups_.values())
        for name in names
    }


def assert_consistent(soup, models, rtol=1e-5):
    np.testing.assert_allclose(soup.coef_.sum(axis=1), 1.0, rtol=0, atol=1e-8)
    own = parameter_dict(soup.estimator_.module_)
    expected = rebuilt(soup, models)
    assert own.keys() == expected.keys()
    for name, tensor in own.items():
        error = (tensor.double() - expected[name]).norm() / expected[name].norm()
        assert error <= rtol, name


def states(modules):
    return [{k: v.clone() for k, v in module.state_dict().items()} for module in modules]


@pytest.fixture(scope="module")
def mlps(modules):
    return states(modules)


@pytest.mark.parametrize(
    "block_size",
    [pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow), 3, None],
)
def test_reaches_the_best_affine_combination_of_linear_models(block_size):
    X, y, W = linear_problem()
    F = X @ W.T
    system = np.block([[F.T @ F / len(X), np.ones((6, 1))], [np.ones((1, 6)), np.zeros((1, 1))]])
    best = np.linalg.solve(system, np.r_[F.T @ y / len(X), 1.0])[:6]
    optimum = np.mean((F @ best - y) ** 2)
    assert optimum / 2 == pytest.approx(0.194062, abs=5e-7)
    soup = MEHLSoup(
        NetRegressor(nn.Linear(12, 1, bias=False)),
        ingredients=[{"weight": torch.as_tensor(w[None], dtype=torch.float32)} for w in W],
        layerwise=False,
        block_size=block_size,
        n_outer=1 if block_size is None else 6,
        min_iter=300 if block_size is None else 80 if block_size < 3 else 50,
        batch_size=200,
        learning_rate=0.05,
        random_state=0,
    ).fit(X, y)
    assert soup.soup_losses_["soup"] == pytest.approx(optimum, rel=1e-4)
    if block_size is None:
        np.testing.assert_allclose(soup.coef_[0], best, atol=0.02)
    assert soup.soup_losses_["uniform"] / 2 == pytest.approx(0.30845, abs=1e-4)


@pytest.mark.parametrize("directions", ["streamed", "stored"])
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"layerwise": False},
        {"layerwise": "module", "block_size": 2, "n_outer": 2},
        {"block_size": 1, "start": "first_block"},
        {"block_size": 9, "scale": "raw"},
        {"block_size": 2, "scale": "unit", "start": "first_block", "learning_rate": 0.005},
    ],
    ids=str,
)
def test_coefficients_rebuild_the_weights(mlps, net, mixing, parameters, directions):
    parameters = parameters | {"min_iter": 10, "max_epochs": 1, "directions": directions}
    soup = MEHLSoup(net, ingredients=mlps, random_state=0, **parameters).fit(*mixing)
    assert_consistent(soup, mlps)


def test_streamed_and_stored_directions_agree(mlps, net, mixing):
    first, second = (
        MEHLSoup(
            net, ingredients=mlps, layerwise=False, block_size=3, directions=kind, random_state=0
        ).fit(*mixing)
        for kind in ("streamed", "stored")
    )
    np.testing.assert_allclose(first.coef_, second.coef_, atol=1e-5)
    np.testing.assert_allclose(
        first.predict_proba(mixing[0]), second.predict_proba(mixing[0]), atol=1e-5
    )


@pytest.mark.parametrize("layerwise", [True, False])
def test_leading_directions_rebuild_the_weights(mlps, net, mixing, layerwise):
    soup = MEHLSoup(
        net, ingredients=mlps, n_directions=2, layerwise=layerwise, min_iter=20, random_state=0
    ).fit(*mixing)
    rebuilt = soup.combine(soup.coef_)
    for own, other in zip(
        soup.estimator_.module_.parameters(), rebuilt.module_.parameters(), strict=True
    ):
        torch.testing.assert_close(own, other, rtol=0, atol=1e-6)
    np.testing.assert_allclose(soup.coef_.sum(axis=1), 1.0, atol=1e-12)
    assert soup.soup_losses_["soup"] < soup.soup_losses_["uniform"]


def test_leading_directions_are_those_of_the_gram_matrix():
    generator = torch.Generator().manual_seed(0)
    points = [[torch.randn(40, 5, generator=generator)] for _ in range(6)]
    mean = torch.stack([point[0] for point in points]).mean(0)
    group_of = torch.tensor([0])
    combinations = leading_combinations([mean], points, group_of, 1, 3)
    D = torch.stack([(point[0] - mean).flatten() for point in points]).double()
    vectors = combinations[0].T @ D
    expected = torch.linalg.svdvals(D)[:3]
    torch.testing.assert_close(vectors.norm(dim=1), expected, rtol=1e-5, atol=0)
    gram = vectors @ vectors.T
    torch.testing.assert_close(gram, torch.diag(gram.diagonal()), rtol=0, atol=1e-4)
    directions = LeadingDirections([mean.clone()], points, combinations)
    q = torch.randn(40, 5, generator=generator)
    found = directions.inner_products([q])[0]
    torch.testing.assert_close(found, vectors @ q.flatten().double(), rtol=0, atol=0.2)
    for step in ([1.0, 0.0, -2.0], [0.5, 0.25, 1.0]):
        directions.move_(torch.tensor([step], dtype=torch.float64))
    moved = mean.flatten() + (torch.tensor(step, dtype=torch.float64) @ vectors).float()
    torch.testing.assert_close(directions.parameters[0].flatten(), moved, rtol=0, atol=0.05)


def test_as_many_directions_as_ingredients_change_nothing(mlps, net, mixing):
    params = {"ingredients": mlps, "min_iter": 5, "max_epochs": 1, "random_state": 0}
    every = MEHLSoup(net, n_directions=len(mlps), **params).fit(*mixing)
    np.testing.assert_array_equal(every.coef_, MEHLSoup(net, **params).fit(*mixing).coef_)


def test_zero_learning_rate_gives_the_uniform_soup(mlps, net, mixing):
    still = MEHLSoup(net, ingredients=mlps, learning_rate=0.0, min_iter=5, random_state=0).fit(
        *mixing
    )
    uniform = UniformSoup(net, ingredients=mlps, random_state=0).fit(*mixing)
    np.testing.assert_array_equal(still.coef_, 0.2)
    for name, tensor in parameter_dict(still.estimator_.module_).items():
        expected = parameter_dict(uniform.estimator_.module_)[name]
        torch.testing.assert_close(tensor, expected, rtol=0, atol=1e-6)


def test_lowers_the_loss_on_the_mixing_samples(mlps, net, mixing):
    soup = MEHLSoup(net, ingredients=mlps, random_state=0).fit(*mixing)
    assert soup.soup_losses_["soup"] < 0.9 * soup.soup_losses_["uniform"]
    losses = [record["loss"] for record in soup.history_]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    assert [record["step"] for record in soup.history_] == list(range(len(losses)))
    rates = [record["learning_rate"] for record in soup.history_]
    assert max(rates) == pytest.approx(0.03)
    assert rates[0] < 0.01
    assert rates[-1] < 0.001


def test_coefficients_can_be_negative(mixing):
    X, y = mixing
    good, bad = states(ingredients(small_mlp, 2, n_epochs=10, lrs=(3e-3, 3e-4)))
    soup = MEHLSoup(
        NetClassifier(small_mlp()), ingredients=[good, bad], layerwise=False, random_state=0
    ).fit(X, y)
    assert soup.coef_.min() < 0.0


@pytest.mark.parametrize("block_size", [1, 2, None])
def test_equal_ingredients_give_the_same_network(mlps, net, mixing, block_size):
    soup = MEHLSoup(net, ingredients=[mlps[0]] * 3, block_size=block_size, random_state=0).fit(
        *mixing
    )
    assert np.isfinite(soup.coef_).all()
    for name, tensor in parameter_dict(soup.estimator_.module_).items():
        torch.testing.assert_close(tensor, mlps[0][name], rtol=0, atol=0)


@pytest.mark.parametrize("scale", ["mean", "unit", "raw"])
@pytest.mark.parametrize("layerwise", [True, False])
def test_tensor_that_all_ingredients_share_is_unchanged(mlps, net, mixing, scale, layerwise):
    frozen = "1.weight"
    models = [model | {frozen: mlps[0][frozen]} for model in mlps[:3]]
    soup = MEHLSoup(
        net,
        ingredients=models,
        scale=scale,
        layerwise=layerwise,
        learning_rate=0.01,
        min_iter=5,
        max_epochs=1,
        random_state=0,
    ).fit(*mixing)
    assert torch.equal(parameter_dict(soup.estimator_.module_)[frozen], models[0][frozen])
    assert_consistent(soup, models)
    if layerwise:
        np.testing.assert_array_equal(soup.coef_[list(soup.groups_).index(frozen)], 1 / 3)


def test_ingredient_equal_to_the_origin_is_ignored(mlps, net, mixing):
    # With one ingredient per block, the first is the origin, and its direction has length 0.
    soup = MEHLSoup(
        net,
        ingredients=mlps[:1] * 2,
        block_size=1,
        start="first_block",
        layerwise=False,
        random_state=0,
    ).fit(*mixing)
    assert_consistent(soup, mlps[:1] * 2)


@pytest.mark.parametrize("n", [1, 2])
def test_soup_of_one_or_two_ingredients_is_consistent(mlps, net, mixing, n):
    soup = MEHLSoup(net, ingredients=mlps[:n], layerwise=False, random_state=0).fit(*mixing)
    assert soup.coef_.shape == (1, n)
    assert_consistent(soup, mlps[:n])
    if n == 1:
        assert soup.coef_.tolist() == [[1.0]]
        assert soup.soup_scores_["soup"] == soup.ingredient_scores_[0]


def test_soup_of_linear_classifiers_mixes_their_logits(mixing):
    X, y = mixing
    models = states(ingredients(lambda: nn.Linear(64, 10), 4, n_epochs=4))
    net = NetClassifier(nn.Linear(64, 10), random_state=0)
    soup = MEHLSoup(net, ingredients=models, layerwise=False, random_state=0).fit(X, y)
    inputs = torch.as_tensor(X)
    logits = [inputs @ model["weight"].T + model["bias"] for model in models]
    expected = sum(a * out for a, out in zip(soup.coef_[0], logits, strict=True))
    torch.testing.assert_close(
        predict_logits(soup.estimator_.module_, X), expected.float(), rtol=0, atol=1e-5
    )


def test_tied_parameters_are_mixed_once_and_stay_tied(mixing):
    models = states(ingredients(TiedNet, 3, n_epochs=4))
    soup = MEHLSoup(NetClassifier(TiedNet), ingredients=models, random_state=0).fit(*mixing)
    module = soup.estimator_.module_
    assert module.first.weight is module.second.weight
    assert "second.weight" not in {name for names in soup.groups_.values() for name in names}
    assert_consistent(soup, models)
    # A file holds tied tensors once, under either name.
    other_name = [{k: v for k, v in model.items() if k != "first.weight"} for model in models]
    again = MEHLSoup(NetClassifier(TiedNet), ingredients=other_name, random_state=0).fit(*mixing)
    np.testing.assert_array_equal(again.coef_, soup.coef_)


def test_running_statistics_are_estimated_on_the_soup(mixing):
    X, y = mixing
    models = states(ingredients(BatchNormNet, 4, n_epochs=6))
    net = NetClassifier(BatchNormNet, batch_size=len(X), random_state=0)
    soup = MEHLSoup(net, ingredients=models, random_state=0).fit(X, y)
    module = soup.estimator_.module_
    assert_consistent(soup, models)
    layer = module.body[1]
    stored = layer.running_mean.clone(), layer.running_var.clone()
    loader = torch.utils.data.DataLoader(torch.as_tensor(X), batch_size=len(X))
    torch.optim.swa_utils.update_bn(loader, module)
    torch.testing.assert_close(stored, (layer.running_mean, layer.running_var))
    assert layer.momentum == 0.1


def test_negative_coefficients_keep_variances_positive(mixing):
    X, y = mixing
    models = ingredients(BatchNormNet, 2, n_epochs=3)
    for refresh_bn in (True, False):
        soup = UniformSoup(
            NetClassifier(BatchNormNet), ingredients=models, refresh_bn=refresh_bn
        ).fit(X, y)
        for inputs in (None, X):
            net = soup.combine([5.0, -4.0], X=inputs)
            assert (net.module_.body[1].running_var > 0).all()
            assert np.isfinite(net.predict_proba(X)).all()


def test_integer_buffers_are_copied(mixing):
    models = states(ingredients(BatchNormNet, 2, n_epochs=2))
    models[0]["body.1.num_batches_tracked"] = torch.tensor(7)
    soup = UniformSoup(NetClassifier(BatchNormNet), ingredients=models, refresh_bn=False).fit(
        *mixing
    )
    counter = soup.estimator_.module_.body[1].num_batches_tracked
    assert counter.dtype == torch.int64
    assert counter.item() == 7


def test_dropout_is_active_only_while_mixing(mlps, mixing):
    module = nn.Sequential(*small_mlp(), nn.Dropout(0.0))
    X, y = mixing
    seen = []
    module[-1].register_forward_pre_hook(lambda layer, _: seen.append(layer.training))
    soup = MEHLSoup(
        NetClassifier(module), ingredients=mlps[:2], min_iter=3, max_epochs=1, random_state=0
    )
    soup.fit(X, y)
    assert True in seen
    assert not soup.estimator_.module_.training
    assert all(parameter.requires_grad for parameter in soup.estimator_.module_.parameters())


def test_half_precision_ingredients_give_a_float32_soup(mlps, net, mixing):
    halves = [{name: tensor.half() for name, tensor in model.items()} for model in mlps]
    soup = MEHLSoup(net, ingredients=halves, random_state=0).fit(*mixing)
    assert soup.estimator_.module_[-1].weight.dtype == torch.float32
    assert_consistent(soup, halves)


def test_warns_if_samples_are_fewer_than_coefficients(mlps, net, mixing):
    X, y = mixing
    _, one_of_each = np.unique(y, return_index=True)
    with pytest.warns(UserWarning, match="20 coefficients are learned on 10 samples"):
        MEHLSoup(net, ingredients=mlps, min_iter=1, max_epochs=1, random_state=0).fit(
            X[one_of_each], y[one_of_each]
        )


def test_learning_rate_that_diverges_is_an_error(mlps, net, mixing):
    with pytest.raises(ValueError, match=r"learning_rate must be smaller, got 1e\+30"):
        MEHLSoup(net, ingredients=mlps, learning_rate=1e30, random_state=0).fit(*mixing)


def test_sgd_without_clipping_lowers_the_loss(mlps, net, mixing):
    soup = MEHLSoup(
        net,
        ingredients=mlps,
        optimizer=torch.optim.SGD,
        learning_rate=0.1,
        clip_norm=None,
        random_state=0,
    ).fit(*mixing)
    assert soup.soup_losses_["soup"] < soup.soup_losses_["uniform"]


def test_gradient_is_clipped_before_it_is_projected(mlps, net, mixing):
    one_step = {"max_epochs": 1, "min_iter": 1, "batch_size": 300, "warmup": None}
    plain = {
        "optimizer": torch.optim.SGD,
        "learning_rate": 1.0,
        "layerwise": False,
        "random_state": 0,
    }
    small, double, free, never = (
        MEHLSoup(net, ingredients=mlps, clip_norm=clip_norm, **one_step, **plain).fit(*mixing).coef_
        - 0.2
        for clip_norm in (1e-3, 2e-3, None, 1e6)
    )
    np.testing.assert_allclose(double, 2 * small, rtol=1e-5)
    np.testing.assert_array_equal(free, never)
    assert np.abs(free).max() > 2 * np.abs(double).max()


def test_from_paper_sets_the_published_form(mlps, net, mixing):
    soup = MEHLSoup.from_paper(block_size=2, estimator=net, ingredients=mlps, random_state=0)
    assert (soup.start, soup.scale, soup.learning_rate) == ("first_block", "unit", 0.01)
    assert (soup.block_size, soup.min_iter, soup.batch_size) == (2, 0, 128)
    soup.fit(*mixing)
    assert_consistent(soup, mlps)
    assert len(soup.history_) == 3 * 5 * 3  # blocks, epochs, batches of 128 of 300 samples


@pytest.mark.parametrize("settings", [{"block_size": 2}, {"n_directions": 2}])
def test_learn_coefficients_gives_the_coefficients_of_the_soup(mlps, net, mixing, settings):
    X, y = mixing
    soup = MEHLSoup(net, ingredients=mlps, random_state=0, **settings).fit(X, y)
    rng = np.random.RandomState(0)
    draw_seed(rng)  # fit first draws a seed for the initial weights
    module = small_mlp()
    learned = learn_mehl_coefficients(
        module,
        mlps,
        X,
        y,
        lambda inputs, targets: nn.functional.cross_entropy(module(inputs), targets),
        config=MEHLConfig(**settings),
        rng=rng,
    )
    np.testing.assert_array_equal(learned.coef, soup.coef_)
    assert learned.groups == soup.groups_
    assert learned.history == soup.history_
    assert torch.equal(module[-1].weight, soup.estimator_.module_[-1].weight)


def test_each_setting_of_a_soup_reaches_its_config(monkeypatch, mlps, net, mixing):
    settings = {
        "layerwise": False,
        "block_size": 3,
        "n_directions": 2,
        "n_outer": 2,
        "max_epochs": 1,
        "min_iter": 7,
        "learning_rate": 0.01,
        "batch_size": 100,
        "optimizer": torch.optim.SGD,
        "warmup": None,
        "clip_norm": 2.0,
        "scale": "raw",
        "start": "first_block",
        "directions": "stored",
    }
    assert settings.keys() == vars(MEHLConfig()).keys()

    class CapturedError(Exception):
        pass

    def capture(*args, config, **params):
        raise CapturedError(config)

    monkeypatch.setattr("sklearn_ext.soup._mehl_soup.learn_mehl_coefficients", capture)
    with pytest.raises(CapturedError) as error:
        MEHLSoup(net, ingredients=mlps, **settings).fit(*mixing)
    (config,) = error.value.args
    assert vars(config) == settings


def test_defaults_of_the_config_are_those_of_the_soup():
    for config, soup in ((MEHLConfig(), MEHLSoup()), (LearnedConfig(), LearnedSoup())):
        shared = vars(config).keys() & soup.get_params().keys()
        assert {name: getattr(soup, name) for name in shared} == {
            name: getattr(config, name) for name in shared
        }
