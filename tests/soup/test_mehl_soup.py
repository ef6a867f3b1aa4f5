"""Hyperplane learned soups: optimum, exactness, degenerate ingredients, guards."""

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_ext import MEHLSoup, UniformSoup
from sklearn_ext.neural import NetClassifier, NetRegressor, parameter_dict, predict_logits
from tests.soup.kitchens import (
    BatchNormNet,
    TiedNet,
    digits_rows,
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
def mlps():
    return states(ingredients(small_mlp, 5))


@pytest.fixture(scope="module")
def net():
    return NetClassifier(small_mlp(), random_state=0)


@pytest.fixture(scope="module")
def mixing():
    return digits_rows()[1]


@pytest.mark.parametrize(
    "block_size",
    [pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow), 3, None],
)
def test_it_reaches_the_best_affine_combination_of_linear_models(block_size):
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
        min_steps=300 if block_size is None else 80 if block_size < 3 else 50,
        batch_size=200,
        lr=0.05,
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
        {"block_size": 2, "scale": "unit", "start": "first_block", "lr": 0.005},
    ],
    ids=str,
)
def test_coefficients_rebuild_the_weights(mlps, net, mixing, parameters, directions):
    parameters = parameters | {"min_steps": 10, "max_epochs": 1, "directions": directions}
    soup = MEHLSoup(net, ingredients=mlps, random_state=0, **parameters).fit(*mixing)
    assert_consistent(soup, mlps)


def test_streamed_and_stored_directions_give_one_result(mlps, net, mixing):
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


def test_without_a_step_it_is_the_uniform_soup(mlps, net, mixing):
    still = MEHLSoup(net, ingredients=mlps, lr=0.0, min_steps=5, random_state=0).fit(*mixing)
    uniform = UniformSoup(net, ingredients=mlps, random_state=0).fit(*mixing)
    np.testing.assert_array_equal(still.coef_, 0.2)
    for name, tensor in parameter_dict(still.estimator_.module_).items():
        expected = parameter_dict(uniform.estimator_.module_)[name]
        torch.testing.assert_close(tensor, expected, rtol=0, atol=1e-6)


def test_it_lowers_the_loss_on_the_mixing_rows(mlps, net, mixing):
    soup = MEHLSoup(net, ingredients=mlps, random_state=0).fit(*mixing)
    assert soup.soup_losses_["soup"] < 0.9 * soup.soup_losses_["uniform"]
    losses = [record["loss"] for record in soup.history_]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    assert [record["step"] for record in soup.history_] == list(range(len(losses)))
    rates = [record["lr"] for record in soup.history_]
    assert max(rates) == pytest.approx(0.03)
    assert rates[0] < 0.01
    assert rates[-1] < 0.001


def test_coefficients_may_be_negative(mixing):
    X, y = mixing
    good, bad = states(ingredients(small_mlp, 2, n_epochs=10, lrs=(3e-3, 3e-4)))
    soup = MEHLSoup(
        NetClassifier(small_mlp()), ingredients=[good, bad], layerwise=False, random_state=0
    ).fit(X, y)
    assert soup.coef_.min() < 0.0


@pytest.mark.parametrize("block_size", [1, 2, None])
def test_equal_ingredients_give_the_same_model(mlps, net, mixing, block_size):
    soup = MEHLSoup(net, ingredients=[mlps[0]] * 3, block_size=block_size, random_state=0).fit(
        *mixing
    )
    assert np.isfinite(soup.coef_).all()
    for name, tensor in parameter_dict(soup.estimator_.module_).items():
        torch.testing.assert_close(tensor, mlps[0][name], rtol=0, atol=0)


@pytest.mark.parametrize("scale", ["mean", "unit", "raw"])
@pytest.mark.parametrize("layerwise", [True, False])
def test_a_frozen_tensor_stays_as_it_is(mlps, net, mixing, scale, layerwise):
    frozen = "1.weight"
    models = [model | {frozen: mlps[0][frozen]} for model in mlps[:3]]
    soup = MEHLSoup(
        net,
        ingredients=models,
        scale=scale,
        layerwise=layerwise,
        lr=0.01,
        min_steps=5,
        max_epochs=1,
        random_state=0,
    ).fit(*mixing)
    assert torch.equal(parameter_dict(soup.estimator_.module_)[frozen], models[0][frozen])
    assert_consistent(soup, models)
    if layerwise:
        np.testing.assert_array_equal(soup.coef_[list(soup.groups_).index(frozen)], 1 / 3)


def test_a_duplicate_of_the_origin_is_no_direction(mlps, net, mixing):
    # With blocks of one and the start at the first of them, its direction has no length.
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
def test_one_and_two_ingredients(mlps, net, mixing, n):
    soup = MEHLSoup(net, ingredients=mlps[:n], layerwise=False, random_state=0).fit(*mixing)
    assert soup.coef_.shape == (1, n)
    assert_consistent(soup, mlps[:n])
    if n == 1:
        assert soup.coef_.tolist() == [[1.0]]
        assert soup.soup_scores_["soup"] == soup.ingredient_scores_[0]


def test_linear_classifiers_mix_in_the_space_of_logits(mixing):
    X, y = mixing
    models = states(ingredients(lambda: nn.Linear(64, 10), 4, n_epochs=4))
    net = NetClassifier(nn.Linear(64, 10), random_state=0)
    soup = MEHLSoup(net, ingredients=models, layerwise=False, random_state=0).fit(X, y)
    inputs = torch.as_tensor(X)
    logits = [inputs @ model["weight"].T + model["bias"] for model in models]
    expected = sum(a * out for a, out in zip(soup.coef_[0], logits, strict=True))
    torch.testing.assert_close(
        predict_logits(soup.estimator_, X), expected.float(), rtol=0, atol=1e-5
    )


def test_tied_parameters_are_mixed_once_and_stay_tied(mixing):
    models = states(ingredients(TiedNet, 3, n_epochs=4))
    soup = MEHLSoup(NetClassifier(TiedNet), ingredients=models, random_state=0).fit(*mixing)
    module = soup.estimator_.module_
    assert module.first.weight is module.second.weight
    assert "second.weight" not in {name for names in soup.groups_.values() for name in names}
    assert_consistent(soup, models)
    # Files hold tied tensors once, under either name.
    other_name = [{k: v for k, v in model.items() if k != "first.weight"} for model in models]
    again = MEHLSoup(NetClassifier(TiedNet), ingredients=other_name, random_state=0).fit(*mixing)
    np.testing.assert_array_equal(again.coef_, soup.coef_)


def test_running_statistics_are_those_of_the_soup(mixing):
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


def test_a_strongly_negative_coefficient_keeps_variances_positive(mixing):
    X, y = mixing
    models = ingredients(BatchNormNet, 2, n_epochs=3)
    for refresh_bn in (True, False):
        soup = UniformSoup(
            NetClassifier(BatchNormNet), ingredients=models, refresh_bn=refresh_bn
        ).fit(X, y)
        for rows in (None, X):
            net = soup.combine([5.0, -4.0], X=rows)
            assert (net.module_.body[1].running_var > 0).all()
            assert np.isfinite(net.predict_proba(X)).all()


def test_counters_are_copied(mixing):
    models = states(ingredients(BatchNormNet, 2, n_epochs=2))
    models[0]["body.1.num_batches_tracked"] = torch.tensor(7)
    soup = UniformSoup(NetClassifier(BatchNormNet), ingredients=models, refresh_bn=False).fit(
        *mixing
    )
    counter = soup.estimator_.module_.body[1].num_batches_tracked
    assert counter.dtype == torch.int64
    assert counter.item() == 7


def test_dropout_is_on_while_coefficients_are_learned_and_off_afterwards(mlps, mixing):
    module = nn.Sequential(*small_mlp(), nn.Dropout(0.0))
    X, y = mixing
    seen = []
    module[-1].register_forward_pre_hook(lambda layer, _: seen.append(layer.training))
    soup = MEHLSoup(
        NetClassifier(module), ingredients=mlps[:2], min_steps=3, max_epochs=1, random_state=0
    )
    soup.fit(X, y)
    assert True in seen
    assert not soup.estimator_.module_.training
    assert all(parameter.requires_grad for parameter in soup.estimator_.module_.parameters())


def test_half_precision_ingredients(mlps, net, mixing):
    halves = [{name: tensor.half() for name, tensor in model.items()} for model in mlps]
    soup = MEHLSoup(net, ingredients=halves, random_state=0).fit(*mixing)
    assert soup.estimator_.module_[-1].weight.dtype == torch.float32
    assert_consistent(soup, halves)


def test_few_rows_for_many_coefficients_are_warned_of(mlps, net, mixing):
    X, y = mixing
    _, one_of_each = np.unique(y, return_index=True)
    with pytest.warns(UserWarning, match="20 coefficients are learned on 10 rows"):
        MEHLSoup(net, ingredients=mlps, min_steps=1, max_epochs=1, random_state=0).fit(
            X[one_of_each], y[one_of_each]
        )


def test_a_step_that_is_too_long_is_an_error(mlps, net, mixing):
    with pytest.raises(ValueError, match=r"lower lr, got 1e\+30"):
        MEHLSoup(net, ingredients=mlps, lr=1e30, random_state=0).fit(*mixing)


def test_other_optimisers(mlps, net, mixing):
    soup = MEHLSoup(
        net, ingredients=mlps, optimizer=torch.optim.SGD, lr=0.1, clip_norm=None, random_state=0
    ).fit(*mixing)
    assert soup.soup_losses_["soup"] < soup.soup_losses_["uniform"]


def test_the_gradient_is_clipped_before_it_is_projected(mlps, net, mixing):
    one_step = {"max_epochs": 1, "min_steps": 1, "batch_size": 300, "warmup": None}
    plain = {"optimizer": torch.optim.SGD, "lr": 1.0, "layerwise": False, "random_state": 0}
    small, double, free, never = (
        MEHLSoup(net, ingredients=mlps, clip_norm=clip_norm, **one_step, **plain).fit(*mixing).coef_
        - 0.2
        for clip_norm in (1e-3, 2e-3, None, 1e6)
    )
    np.testing.assert_allclose(double, 2 * small, rtol=1e-5)
    np.testing.assert_array_equal(free, never)
    assert np.abs(free).max() > 2 * np.abs(double).max()
