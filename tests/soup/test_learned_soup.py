"""Learned soups: coefficients on the simplex, and the temperature."""

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_ext import LearnedSoup
from sklearn_ext.neural import NetClassifier, parameter_dict


@pytest.mark.parametrize("layerwise", [True, False])
def test_coefficients_are_positive_and_sum_to_one(modules, mixing, net, layerwise):
    soup = LearnedSoup(net, ingredients=modules, layerwise=layerwise, random_state=0).fit(*mixing)
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


def test_equals_autograd_through_all_ingredients(modules, mixing, net):
    """The published code has a graph through every ingredient; the coefficients are the same."""
    X, y = mixing
    soup = LearnedSoup(
        net, ingredients=modules, batch_size=300, min_iter=6, max_epochs=1, random_state=0
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


def test_temperature_changes_probabilities_but_no_class(fitted, mixing):
    soup, (X, y) = fitted[LearnedSoup], mixing
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


def test_temperature_is_optional_and_scales_probabilities(modules, mixing, net):
    X, y = mixing
    plain = LearnedSoup(net, ingredients=modules, learn_temperature=False).fit(X, y)
    assert plain.temperature_ == 1.0
    np.testing.assert_array_equal(plain.predict_proba(X), plain.estimator_.predict_proba(X))
    modules = [nn.Sequential(*module, nn.Softmax(dim=1)) for module in modules]
    net = NetClassifier(modules[0], criterion=nn.NLLLoss, random_state=0)
    soup = LearnedSoup(net, ingredients=modules, random_state=0).fit(X, y)
    assert soup.soup_losses_["soup"] < soup.soup_losses_["uniform"]


def test_from_paper_makes_exactly_five_passes(modules, mixing, net):
    soup = LearnedSoup.from_paper(estimator=net, ingredients=modules, random_state=0).fit(*mixing)
    assert soup.layerwise is True
    assert len(soup.history_) == 5 * 2  # batches of 256 of 300 samples
    assert LearnedSoup.from_paper(min_iter=7).min_iter == 7


def test_equal_ingredients_keep_equal_coefficients(modules, mixing, net):
    soup = LearnedSoup(net, ingredients=[modules[0]] * 3, random_state=0).fit(*mixing)
    np.testing.assert_allclose(soup.coef_, 1 / 3)
    assert soup.history_ == []
    assert torch.equal(soup.estimator_.module_[-1].weight, modules[0][-1].weight)
