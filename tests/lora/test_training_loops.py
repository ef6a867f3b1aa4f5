"""The noise as a callback of any skorch net."""

import contextlib

import numpy as np
import pytest
import skorch
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits

from sklearn_ext import FlatLoRACallback, FlatLoRAClassifier, NetClassifier
from sklearn_ext.lora import inject_lora, lora_layers
from sklearn_ext.neural import MLP, draw_seed, seeded

X, y = load_digits(return_X_y=True)
X, y = (X[:160] / 16).astype(np.float32), y[:160]


@pytest.fixture
def module():
    with seeded(0):
        return inject_lora(MLP(64, 10, hidden_sizes=(24,)), r=2, random_state=0)


def test_a_plain_skorch_net_trains_under_noise(module):
    frozen = module[1].base_layer.weight.clone()
    net = skorch.NeuralNetClassifier(
        module,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        optimizer__momentum=0.9,
        callbacks=[FlatLoRACallback(0.2, random_state=0)],
        max_epochs=5,
        batch_size=32,
        verbose=0,
        train_split=None,
    ).fit(X, y)
    strengths = np.array(net.history[:, "batches", :, "sigma"]).ravel()
    expected = [0.1 * (1 - np.cos(np.pi * t / 25)) for t in range(25)]
    np.testing.assert_allclose(strengths, expected, atol=1e-12)
    assert torch.equal(net.module_[1].base_layer.weight, frozen)
    assert net.module_[1].lora_B.weight.any()
    assert all(layer.noise is None for layer in lora_layers(net.module_).values())


@pytest.mark.parametrize("params", [{}, {"perturbation": "local"}, {"store_noise": True}])
def test_the_noise_depends_only_on_its_own_seed(module, params):
    probabilities = []
    for seed in (0, 0, 1):
        callback = FlatLoRACallback(0.5, sigma_schedule="constant", random_state=seed, **params)
        net = NetClassifier(module, callbacks=[callback], max_epochs=2, random_state=0)
        before = torch.get_rng_state()
        with torch.random.fork_rng():
            probabilities.append(clone(net).fit(X, y).predict_proba(X))
        assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(probabilities[0], probabilities[1])
    assert np.abs(probabilities[0] - probabilities[2]).max() > 1e-4


def test_the_callback_matches_the_estimator():
    with seeded(0):
        plain = MLP(64, 10, hidden_sizes=(24,))
    common = {"optimizer": torch.optim.Adam, "lr": 1e-2, "max_epochs": 3, "random_state": 0}
    net = FlatLoRAClassifier(plain, sigma=0.3, r=2, **common).fit(X, y)
    seeds = np.random.RandomState(0)
    draw_seed(seeds)  # the estimator uses the first seed for new weights
    adapted = inject_lora(plain, r=2, random_state=draw_seed(seeds))
    callback = FlatLoRACallback(0.3, random_state=seeds)
    again = NetClassifier(adapted, callbacks=[callback], **common).fit(X, y)
    np.testing.assert_array_equal(again.predict_proba(X), net.predict_proba(X))
    assert np.abs(again.history_[:, "sigma"]).max() > 0.2


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_predictions_have_no_noise_after_an_interrupted_step(module, error):
    with torch.no_grad():
        expected = module.eval()(torch.tensor(X)).softmax(dim=1)

    class Interrupting(skorch.callbacks.Callback):
        def on_grad_computed(self, net, named_parameters, **kwargs):
            raise error

    callbacks = [FlatLoRACallback(5.0, sigma_schedule="constant", random_state=0), Interrupting()]
    net = skorch.NeuralNetClassifier(
        module, criterion=torch.nn.CrossEntropyLoss, callbacks=callbacks, max_epochs=1, verbose=0
    )
    with contextlib.suppress(RuntimeError):
        net.fit(X, y)
    np.testing.assert_allclose(net.predict_proba(X), expected, atol=1e-6)


def test_a_module_without_adapters_is_rejected():
    net = NetClassifier(callbacks=[FlatLoRACallback()], max_epochs=1)
    with pytest.raises(ValueError, match="MLP has no adapted layer"):
        net.fit(X, y)


def test_parameters_out_of_range_are_named(module):
    for name, value in {"sigma": -1.0, "sigma_schedule": "square", "perturbation": "bias"}.items():
        net = NetClassifier(module, callbacks=[FlatLoRACallback(**{name: value})], max_epochs=1)
        with pytest.raises(ValueError, match=f"{name} must be .* got {value!r}"):
            net.fit(X, y)
