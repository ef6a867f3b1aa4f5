"""The noise in plain training loops and in skorch nets."""

import contextlib
import copy

import numpy as np
import pytest
import skorch
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits

from sklearn_ext import (
    FlatLoRACallback,
    FlatLoRAClassifier,
    FlatLoRATrainerCallback,
    NetClassifier,
    flat_lora,
)
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


def test_embeddings_alone_cannot_take_noise():
    module = inject_lora(torch.nn.Sequential(torch.nn.Embedding(9, 5)), target_modules=["0"])
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad])
    with (
        pytest.raises(ValueError, match="Sequential has no adapted layer that takes noise"),
        flat_lora(module, optimizer, sigma=0.1, total_steps=3),
    ):
        pass


def test_parameters_out_of_range_are_named(module):
    for name, value in {"sigma": -1.0, "sigma_schedule": "square", "perturbation": "bias"}.items():
        net = NetClassifier(module, callbacks=[FlatLoRACallback(**{name: value})], max_epochs=1)
        with pytest.raises(ValueError, match=f"{name} must be .* got {value!r}"):
            net.fit(X, y)


def steps_of(model, optimizer, wrapped=None, n_steps=6, **params):
    """Train in a plain loop, and return the loss of each step."""
    network = model if wrapped is None else wrapped
    losses = []
    params = {"sigma": 0.5, "total_steps": n_steps, "random_state": 0} | params
    with flat_lora(network, optimizer, **params):
        for _ in range(n_steps):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(network(torch.tensor(X)), torch.tensor(y))
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


def adam(module):
    return torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=1e-2)


def test_a_compiled_network_trains_like_an_eager_one(module):
    other = copy.deepcopy(module)
    expected = steps_of(module, adam(module))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled = torch.compile(other, backend="eager")
    with torch._dynamo.config.patch(error_on_recompile=False, recompile_limit=3):
        assert steps_of(other, adam(other), wrapped=compiled) == expected
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 6
    assert torch.equal(other[1].lora_B.weight, module[1].lora_B.weight)


def test_closures_of_one_step_share_the_noise(module):
    optimizer = torch.optim.LBFGS([p for p in module.parameters() if p.requires_grad], max_iter=4)
    seeds = []
    with flat_lora(module, optimizer, sigma=0.5, total_steps=3, random_state=0) as noise:

        def closure():
            optimizer.zero_grad()
            seeds.append(getattr(module[1].noise, "seed", None))
            loss = torch.nn.functional.cross_entropy(module(torch.tensor(X)), torch.tensor(y))
            loss.backward()
            return loss

        for _ in range(3):
            optimizer.step(closure)
    assert noise.n_updates == 3
    assert len(set(seeds)) == 3 < len(seeds)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_the_end_of_the_block_removes_the_noise(module, error):
    optimizer = adam(module)
    before = module.train()(torch.tensor(X))
    params = {"sigma": 5.0, "sigma_schedule": "constant", "total_steps": 2, "random_state": 0}

    def interrupted_training():
        with flat_lora(module, optimizer, **params):
            assert (module(torch.tensor(X)) - before).abs().max() > 0.1
            assert torch.equal(module.eval()(torch.tensor(X)), before)
            module.train()
            raise error

    with pytest.raises(error):
        interrupted_training()
    assert torch.equal(module(torch.tensor(X)), before)
    assert not optimizer._optimizer_step_post_hooks


def test_updates_after_the_last_step_get_the_final_noise(module):
    optimizer = adam(module)
    with flat_lora(module, optimizer, sigma=0.3, total_steps=2, random_state=0) as noise:
        for _ in range(4):
            module(torch.tensor(X)).square().mean().backward()
            optimizer.step()
    assert (noise.n_updates, noise.strength) == (4, 0.3)


@pytest.mark.parametrize("total_steps", [0, -1, 2.0, True, None])
def test_the_number_of_steps_is_checked(module, total_steps):
    with (
        pytest.raises(ValueError, match=f"total_steps must be .* got {total_steps!r}"),
        flat_lora(module, adam(module), sigma=0.1, total_steps=total_steps),
    ):
        pass


def test_callbacks_ignore_unknown_events_only():
    callback = FlatLoRATrainerCallback()
    assert callback.on_event_of_the_future(None, None, None, model=1) is None
    with pytest.raises(AttributeError, match="'FlatLoRATrainerCallback' object has no attribute"):
        _ = callback.train
    assert copy.deepcopy(callback).sigma == "auto"


@pytest.mark.parametrize("max_epochs", [2, 25])
def test_automatic_strengths_are_those_of_the_length(module, max_epochs):
    expected = min(0.1, max_epochs / 200)
    common = {"max_epochs": max_epochs, "random_state": 0, "batch_size": 160}
    callback = FlatLoRACallback(sigma_schedule="constant", random_state=0)
    net = NetClassifier(module, callbacks=[callback], **common).fit(X, y)
    assert net.history_[0, "sigma"] == expected
    with seeded(0):
        plain = MLP(64, 10, hidden_sizes=(24,))
    net = FlatLoRAClassifier(plain, sigma_schedule="constant", r=2, **common).fit(X, y)
    assert net.sigma_history_[0] == expected
