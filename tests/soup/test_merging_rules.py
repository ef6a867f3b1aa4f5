"""Merging rules, compared with their formulas on small tensors and in simple cases."""

import copy

import numpy as np
import pytest
import torch
from skorch import NeuralNetClassifier
from torch import nn

from sklearn_ext import (
    DARE,
    TIES,
    LayerwiseLinear,
    ModelStock,
    RegMean,
    TaskArithmetic,
    UniformSoup,
    WiSEFT,
)
from sklearn_ext.neural import NetClassifier, save_tensors, seeded
from sklearn_ext.soup import TaskVectorConfig, merge_model_stock, merge_reg_mean, merged_task_vector
from sklearn_ext.soup.ingredients import IngredientStore
from sklearn_ext.soup.recipes import add_task_vector_
from tests.soup.problems import BatchNormNet, fitted_net, small_mlp, train

RULES = [WiSEFT, TaskArithmetic, TIES, DARE, ModelStock, RegMean, LayerwiseLinear]
WITH_BASE = [WiSEFT, TaskArithmetic, TIES, DARE, ModelStock]


def tensors(n=3, seed=0):
    """Return a base and n ingredients with a matrix and a vector, in double precision."""
    generator = torch.Generator().manual_seed(seed)

    def draw():
        shapes = {"weight": (3, 4), "bias": (3,)}
        return {
            name: torch.randn(shape, dtype=torch.float64, generator=generator)
            for name, shape in shapes.items()
        }

    return draw(), [draw() for _ in range(n)]


def linear():
    return nn.Linear(4, 3, dtype=torch.float64)


def reference(base, ingredients, weights, density, *, trim, elect, normalize):
    """The definition of generalized task arithmetic, written with whole tensors."""
    deltas = torch.stack([w - base for w in ingredients])
    if trim == "magnitude" and density < 1:
        for delta in deltas:
            n_kept = int(density * delta.numel())
            kept = delta.abs().flatten().argsort(descending=True)[:n_kept]
            mask = torch.zeros(delta.numel(), dtype=torch.bool)
            mask[kept] = True
            delta[~mask.view_as(delta)] = 0
    weights = torch.as_tensor(weights, dtype=base.dtype).view(-1, *[1] * base.ndim)
    weighted = deltas * weights
    if not elect:
        return weighted.sum(0) / (weights.sum() if normalize else 1)
    elected = (weighted.sum(0) >= 0).to(base.dtype) * 2 - 1
    mask = weighted.sign() == elected
    divisor = (weights * mask).sum(0)
    divisor[divisor == 0] = 1
    return (weighted * mask).sum(0) / (divisor if normalize else 1)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("elect", [False, True])
@pytest.mark.parametrize(("trim", "density"), [("none", 1.0), ("magnitude", 0.5)])
def test_task_vectors_are_merged_by_definition(trim, density, elect, normalize):
    base, ingredients = tensors()
    rule = {"trim": trim, "normalize": normalize}
    weights = np.array([0.5, 1.0, -0.3])
    config = TaskVectorConfig(weights=weights, density=density, elect_signs=elect, **rule)
    store = IngredientStore.of(linear(), ingredients)
    rng = np.random.RandomState(0)
    vector = merged_task_vector(linear(), ingredients, base, config=config, rng=rng)
    for name in base:
        parts = [w[name] for w in ingredients]
        expected = reference(base[name], parts, weights, density, elect=elect, **rule)
        torch.testing.assert_close(vector[name], expected, rtol=1e-12, atol=1e-12)
    add_task_vector_(store, base, vector, 0.7)
    own = store.parameters["weight"]
    torch.testing.assert_close(own.detach(), base["weight"] + 0.7 * vector["weight"])


def test_dropped_task_vectors_are_right_on_average():
    base, ingredients = tensors(1)
    config = TaskVectorConfig(weights=np.ones(1), trim="random", density=0.3)
    rng = np.random.RandomState(0)
    draws = torch.stack(
        [
            merged_task_vector(linear(), ingredients, base, config=config, rng=rng)["weight"]
            for _ in range(2000)
        ]
    )
    delta = ingredients[0]["weight"] - base["weight"]
    dropped = draws == 0
    assert abs(float(dropped.double().mean()) - 0.7) < 0.01
    torch.testing.assert_close(draws[~dropped], (delta / 0.3).expand_as(draws)[~dropped])
    torch.testing.assert_close(draws.mean(0), delta, rtol=0.25, atol=0.02)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_model_stock_follows_the_angles(n):
    base, ingredients = tensors(n)
    module = linear()
    ratios = merge_model_stock(module, ingredients, base)
    for name, own in module.named_parameters():
        deltas = [(w[name] - base[name]).flatten() for w in ingredients]
        cosines = [
            torch.cosine_similarity(deltas[i], deltas[j], dim=0)
            for i in range(n)
            for j in range(i + 1, n)
        ]
        cosine = torch.stack(cosines).mean() if cosines else torch.tensor(1.0)
        t = n * cosine / (1 + (n - 1) * cosine)
        assert ratios[name] == pytest.approx(float(t), rel=1e-5)
        mean = torch.stack([w[name] for w in ingredients]).mean(0)
        torch.testing.assert_close(
            own.detach(), t * mean + (1 - t) * base[name], rtol=1e-5, atol=1e-6
        )


def test_model_stock_of_perpendicular_and_equal_ingredients():
    base = {"weight": torch.zeros(1, 2), "bias": torch.zeros(1)}
    first = {"weight": torch.tensor([[1.0, 0.0]]), "bias": torch.ones(1)}
    second = {"weight": torch.tensor([[0.0, 1.0]]), "bias": torch.ones(1)}
    module = nn.Linear(2, 1)
    assert merge_model_stock(module, [first, second], base) == {"weight": 0.0, "bias": 1.0}
    assert torch.equal(module.weight.detach(), base["weight"])


@pytest.mark.parametrize("shrinkage", [0.0, 0.9, 1.0])
def test_reg_mean_solves_its_least_squares_problem(shrinkage):
    _, ingredients = tensors()
    module = nn.Linear(4, 3, dtype=torch.float64)
    X = torch.randn(50, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    params = {"shrinkage": shrinkage}
    assert merge_reg_mean(module, ingredients, lambda: X.split(20), **params) == ["weight"]
    # All ingredients see the same inputs here, so the solution is the mean.
    mean = torch.stack([w["weight"] for w in ingredients]).mean(0)
    torch.testing.assert_close(module.weight.detach(), mean, rtol=1e-8, atol=1e-8)

    network = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    states = [copy.deepcopy(network).state_dict() for _ in range(2)]
    for k, state in enumerate(states):
        for tensor in state.values():
            nn.init.normal_(tensor, generator=torch.Generator().manual_seed(k))
    merge_reg_mean(network, states, lambda: [X], **params)
    left, right = 0, 0
    for state in states:
        hidden = torch.tanh(X @ state["0.weight"].T + state["0.bias"])
        gram = hidden.T @ hidden
        gram = shrinkage * gram + (1 - shrinkage) * torch.diag(gram.diagonal())
        left, right = left + gram, right + gram @ state["2.weight"].T
    expected = torch.linalg.solve(left, right).T
    torch.testing.assert_close(network[2].weight.detach(), expected, rtol=1e-3, atol=1e-4)
    bias = (states[0]["2.bias"] + states[1]["2.bias"]) / 2
    torch.testing.assert_close(network[2].bias.detach(), bias)


@pytest.fixture(scope="module")
def start():
    with seeded(0):
        return small_mlp()


@pytest.fixture(scope="module")
def tuned(start, mixing):
    return [train(copy.deepcopy(start), *mixing, seed=k, n_epochs=10) for k in range(3)]


@pytest.mark.parametrize("Rule", RULES)
def test_rules_mix_networks_and_are_stored(start, tuned, mixing, tmp_path, Rule):
    X, y = mixing
    params = {"base": start} if Rule in WITH_BASE else {}
    rule = Rule(NetClassifier(small_mlp()), ingredients=tuned, random_state=0, **params)
    rule.fit(X, y)
    assert rule.score(X, y) > 0.6
    rule.save(tmp_path / "rule.safetensors")
    again = Rule(NetClassifier(small_mlp())).load(tmp_path / "rule.safetensors")
    np.testing.assert_array_equal(again.predict_proba(X), rule.predict_proba(X))
    for name in (name for name in vars(rule) if name.endswith("_")):
        if name not in ("estimator_", "ingredients_"):
            np.testing.assert_equal(getattr(again, name), getattr(rule, name), err_msg=name)


@pytest.mark.parametrize("Rule", WITH_BASE)
def test_the_base_may_be_a_file_or_the_estimator(start, tuned, mixing, tmp_path, Rule):
    save_tensors(tmp_path / "base.safetensors", start.state_dict())
    plain = NetClassifier(small_mlp())
    probabilities = [
        Rule(net, ingredients=tuned, random_state=0, **params).fit(*mixing).predict_proba(mixing[0])
        for net, params in [
            (plain, {"base": start}),
            (plain, {"base": tmp_path / "base.safetensors"}),
            (fitted_net(start, *mixing), {}),
        ]
    ]
    np.testing.assert_array_equal(probabilities[0], probabilities[1])
    np.testing.assert_array_equal(probabilities[0], probabilities[2])
    with pytest.raises(ValueError, match=r"base must be the weights from which .* got None"):
        Rule(plain, ingredients=tuned).fit(*mixing)


@pytest.mark.parametrize("Rule", [WiSEFT, TaskArithmetic, TIES, DARE])
def test_changed_weights_of_one_ingredient_need_new_statistics(mixing, Rule):
    X, y = mixing
    with seeded(0):
        base = BatchNormNet()
    model = train(copy.deepcopy(base), X, y, seed=0, n_epochs=2)
    net = NetClassifier(BatchNormNet, batch_size=len(X), random_state=0)
    soup = Rule(net, ingredients=[model], base=base, scaling=0.5, random_state=0).fit(X, y)
    module = soup.estimator_.module_
    activations = module.body[0](torch.as_tensor(X)).detach()
    torch.testing.assert_close(module.body[1].running_mean, activations.mean(dim=0))
    torch.testing.assert_close(module.body[1].running_var, activations.var(dim=0))
    assert not torch.allclose(module.body[1].running_var, model.body[1].running_var, rtol=1e-3)


def weight_of(soup):
    return soup.estimator_.module_[-1].weight.detach()


def test_scaling_is_chosen_on_the_mixing_samples(start, tuned, mixing):
    params = {"ingredients": tuned, "base": start}
    soup = WiSEFT(NetClassifier(small_mlp()), **params).fit(*mixing)
    scores = [step["score"] for step in soup.history_]
    assert [step["scaling"] for step in soup.history_] == [k / 10 for k in range(11)]
    best = max(soup.history_, key=lambda step: (step["score"], -step["loss"]))
    assert soup.scaling_ == best["scaling"]
    assert soup.soup_scores_["soup"] == max(scores)
    uniform = UniformSoup(NetClassifier(small_mlp()), ingredients=tuned).fit(*mixing)
    for Rule, more in [
        (WiSEFT, {}),
        (TaskArithmetic, {"normalize": True}),
        (DARE, {"density": 1.0}),
    ]:
        scaling = 1 / 3 if Rule is DARE else 1.0
        one = Rule(NetClassifier(small_mlp()), scaling=scaling, **params, **more).fit(*mixing)
        torch.testing.assert_close(weight_of(one), weight_of(uniform))
        zero = Rule(NetClassifier(small_mlp()), scaling=0.0, **params, **more).fit(*mixing)
        torch.testing.assert_close(weight_of(zero), start[-1].weight.detach())


def test_linear_weights_may_differ_by_group(tuned, mixing):
    net = NetClassifier(small_mlp())
    by_name = LayerwiseLinear(
        net, ingredients=tuned, weights={"3": [0, 0, 1]}, layerwise="module"
    ).fit(*mixing)
    np.testing.assert_allclose(by_name.coef_, [[1 / 3] * 3, [0, 0, 1]])
    assert torch.equal(weight_of(by_name), tuned[2][-1].weight)
    given = LayerwiseLinear(net, ingredients=tuned, weights=[2, -1, 0], normalize=False)
    expected = 2 * tuned[0][-1].weight - tuned[1][-1].weight
    torch.testing.assert_close(weight_of(given.fit(*mixing)), expected.detach())
    for weights, message in [
        ([1, 2], "one entry for each of 3 ingredients"),
        ([1, -1, 0], "must not sum to 0"),
        ({"nowhere": [1, 1, 1]}, r"got \['nowhere'\]"),
        ([1, np.nan, 1], "must be finite"),
    ]:
        with pytest.raises(ValueError, match=message):
            LayerwiseLinear(net, ingredients=tuned, weights=weights).fit(*mixing)
    with pytest.raises(ValueError, match="must sum to 1 in each group with normalize=False"):
        LayerwiseLinear(net, ingredients=tuned, weights=[1, 1, 1], normalize=False).fit(*mixing)


def test_weights_of_task_vectors_are_checked(start, tuned, mixing):
    for weights in ([1.0, 2.0], [[1.0] * 3], np.inf):
        with pytest.raises(ValueError, match="weights must be a finite number or 3 of them"):
            TIES(ingredients=tuned, base=start, weights=weights).fit(*mixing)
    with pytest.raises(ValueError, match="weights must not sum to 0"):
        TIES(ingredients=tuned, base=start, weights=[1, -1, 0]).fit(*mixing)
    assert not hasattr(TIES(), "merge_recipe")


@pytest.mark.parametrize("kind", ["NetClassifier", "skorch"])
def test_an_initialized_net_takes_its_classes_from_y(tuned, mixing, kind):
    X, y = mixing
    net = NetClassifier(small_mlp())
    if kind == "skorch":
        net = NeuralNetClassifier(small_mlp(), criterion=nn.CrossEntropyLoss, train_split=None)
    net.initialize()
    before = net.module_[-1].weight.clone()
    soup = UniformSoup(net, ingredients=tuned).fit(X, y)
    assert soup.classes_.tolist() == list(range(10))
    expected = UniformSoup(NetClassifier(small_mlp()), ingredients=tuned).fit(X, y)
    np.testing.assert_allclose(weight_of(soup), weight_of(expected))
    assert soup.score(X, y) == expected.score(X, y)
    assert torch.equal(net.module_[-1].weight, before)
    stock = ModelStock(net, ingredients=tuned).fit(X, y)  # its weights are the base
    assert stock.ratios_.keys() == dict(small_mlp().named_parameters()).keys()
