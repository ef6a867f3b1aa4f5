"""Greedy soups: the selection, its ties and its running statistics."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_ext import GreedySoup, UniformSoup
from sklearn_ext.neural import NetClassifier, parameter_dict
from tests.soup.problems import BatchNormNet, accuracy, ingredients


def greedy_reference(modules, X, y):
    """Select greedily with whole state dicts in memory."""

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
def test_greedy_soup_equals_a_plain_reference(modules, mixing, net, seed):
    X, y = mixing
    part = np.random.RandomState(seed).permutation(len(X))[:150]
    soup = GreedySoup(net, ingredients=modules).fit(X[part], y[part])
    members, best = greedy_reference(modules, X[part], y[part])
    assert soup.selected_.tolist() == members
    assert soup.soup_scores_["soup"] == best >= soup.soup_scores_["best_single"]
    expected = np.zeros((1, 5))
    expected[0, members] = 1 / len(members)
    np.testing.assert_array_equal(soup.coef_, expected)
    for name, tensor in parameter_dict(soup.estimator_.module_).items():
        mean = sum(modules[k].state_dict()[name] for k in members) / len(members)
        torch.testing.assert_close(tensor, mean, rtol=1e-5, atol=1e-6)


def test_tie_accept_adds_ingredients_with_equal_scores(modules, mixing, net):
    X, y = mixing
    part = slice(30)  # with few samples, nearly all scores are equal
    strict = GreedySoup(net, ingredients=modules).fit(X[part], y[part])
    lenient = GreedySoup(net, ingredients=modules, tie="accept").fit(X[part], y[part])
    assert len(lenient.selected_) > len(strict.selected_)
    assert lenient.soup_scores_["soup"] >= strict.soup_scores_["best_single"]


def test_running_statistics_are_estimated_for_each_candidate(mixing):
    X, y = mixing
    nets = ingredients(BatchNormNet, 4, n_epochs=5, lrs=(3e-3,))
    soup = GreedySoup(NetClassifier(BatchNormNet), ingredients=nets, scoring="neg_log_loss")
    soup.fit(X, y)
    assert len(soup.selected_) > 1
    # The score is that of the returned network, statistics included.
    layer = soup.estimator_.module_.body[1]
    statistics = layer.running_mean.clone()
    averaged = UniformSoup(
        NetClassifier(BatchNormNet),
        ingredients=[nets[k] for k in soup.selected_],
        scoring="neg_log_loss",
    ).fit(X, y)
    torch.testing.assert_close(statistics, averaged.estimator_.module_.body[1].running_mean)
    assert soup.soup_scores_["soup"] == pytest.approx(averaged.soup_scores_["soup"], rel=1e-5)


def test_greedy_soup_uses_the_scoring(modules, mixing, net):
    soup = GreedySoup(net, ingredients=modules, scoring="neg_log_loss").fit(*mixing)
    assert (soup.ingredient_scores_ < 0).all()
    assert soup.order_.tolist() == np.argsort(-soup.ingredient_scores_).tolist()
    assert soup.soup_scores_["soup"] >= soup.soup_scores_["best_single"]
