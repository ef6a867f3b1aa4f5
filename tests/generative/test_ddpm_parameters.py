"""Every parameter of the diffusion model has its documented effect."""

import inspect

import numpy as np
import pytest
import torch

from sklearn_ext import ConditionalDDPM
from sklearn_ext.generative import (
    DDPMConfig,
    MLPDenoiser,
    cosine_levels,
    linear_levels,
    train_denoiser,
)
from sklearn_ext.neural import torch_generator

BASE = {"width": 8, "max_iter": 10, "batch_size": 16, "n_timesteps": 50, "random_state": 0}

# A value other than that in BASE, or the default, for each parameter that affects the fit.
FIT = {
    "module": lambda shape, n_classes: MLPDenoiser(shape, n_classes, width=8, n_blocks=1),
    "width": 12,
    "image_shape": (4, 1),
    "max_iter": 11,
    "batch_size": 17,
    "learning_rate": 1e-3,
    "n_timesteps": 51,
    "schedule": "cosine",
    "cond_drop_prob": 0.9,
    "ema_decay": 0.0,
    "clip_norm": 0.1,
    "precision": "bf16",
    "feature_range": (-20.0, 20.0),
    "random_state": 1,
}
# These determine where the model is trained and written, not its weights.
WITHOUT_EFFECT = {"checkpoint", "checkpoint_interval", "warm_start", "device", "verbose"}

METHOD_PARAMETERS = [
    ("sample", "n_steps", 4),
    ("sample", "guidance", 4.0),
    ("sample", "eta", 1.0),
    ("sample", "random_state", 1),
    ("reconstruct", "start", 0.9),
    ("reconstruct", "n_steps", 4),
    ("reconstruct", "guidance", 4.0),
    ("reconstruct", "eta", 1.0),
    ("reconstruct", "random_state", 1),
    ("score_samples", "n_draws", 3),
]


@pytest.fixture(scope="module")
def table():
    rng = np.random.RandomState(0)
    y = np.arange(60) % 3
    return rng.randn(60, 4) + 3 * np.eye(3, 4)[y], y


@pytest.fixture(scope="module")
def trained(table):
    return ConditionalDDPM(**BASE | {"max_iter": 300}).fit(*table)


def fit(table, **params):
    return ConditionalDDPM(**BASE | params).fit(*table)


def flat_weights(model):
    return torch.cat([value.flatten() for value in model.diffusion_.module.state_dict().values()])


def class_embedding(model):
    """Return the learned vector of each class; that of "any class" is last."""
    return model.diffusion_.module.condition.classes.weight.detach()


def test_every_parameter_is_tested():
    assert FIT.keys() | WITHOUT_EFFECT == ConditionalDDPM().get_params().keys()
    for name in ("sample", "reconstruct", "score_samples"):
        options = {
            key
            for key, value in inspect.signature(getattr(ConditionalDDPM, name)).parameters.items()
            if value.kind is value.KEYWORD_ONLY
        }
        tried = {parameter for method, parameter, _ in METHOD_PARAMETERS if method == name}
        assert options - {"allow_forgotten"} == tried


@pytest.mark.parametrize("name", FIT)
def test_constructor_parameters_change_the_weights(table, name):
    usual = flat_weights(fit(table))
    assert torch.equal(usual, flat_weights(fit(table)))
    changed = flat_weights(fit(table, **{name: FIT[name]}))
    assert changed.shape != usual.shape or not torch.equal(changed, usual)


@pytest.mark.parametrize(("method", "name", "value"), METHOD_PARAMETERS)
def test_method_parameters_change_the_result(trained, table, method, name, value):
    X, y = table

    def result(**options):
        if method == "score_samples":
            return trained.score_samples(X[:5], y[:5], **options)
        options = {"random_state": 0, "n_steps": 3} | options
        if method == "sample":
            return trained.sample(5, 1, **options)[0]
        return trained.reconstruct(X[:5], y[:5], **options)

    np.testing.assert_array_equal(result(), result())
    assert not np.allclose(result(), result(**{name: value}), rtol=1e-4, atol=1e-4)


def test_clip_norm_bounds_the_steps_of_adam(table):
    """Adam divides by the size of the gradient plus 1e-8; the constant dominates tiny gradients."""
    params = {"cond_drop_prob": 0.0, "ema_decay": 0.0}
    start = flat_weights(fit(table, learning_rate=1e-20, **params))
    bounded = flat_weights(fit(table, clip_norm=1e-12, **params))
    free = flat_weights(fit(table, clip_norm=float("inf"), **params))
    assert (bounded - start).abs().max() < 1e-5
    assert (free - start).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("drop_prob", "any_class_learns", "classes_learn"),
    [(0.0, False, True), (0.5, True, True), (1.0, True, False)],
)
def test_any_class_learns_from_hidden_classes_alone(
    table, drop_prob, any_class_learns, classes_learn
):
    early = class_embedding(fit(table, max_iter=2, cond_drop_prob=drop_prob))
    late = class_embedding(fit(table, max_iter=12, cond_drop_prob=drop_prob))
    assert torch.equal(early[-1], late[-1]) is not any_class_learns
    assert torch.equal(early[:-1], late[:-1]) is not classes_learn


@pytest.mark.parametrize("n_timesteps", [30, 50])
@pytest.mark.parametrize(("name", "levels"), [("linear", linear_levels), ("cosine", cosine_levels)])
def test_the_levels_are_those_of_the_schedule(table, name, levels, n_timesteps):
    model = fit(table, schedule=name, n_timesteps=n_timesteps, max_iter=1)
    np.testing.assert_array_equal(model.diffusion_.levels, levels(n_timesteps))


def test_feature_range_sets_the_range_of_samples(table):
    X, _ = table
    model = fit(table, feature_range=(-10.0, 30.0), max_iter=1)
    encoded = model.diffusion_.encode(X).numpy()
    np.testing.assert_allclose(encoded, (X - 10) / 20, rtol=1e-5, atol=1e-6)
    narrow = fit(table, feature_range=(-0.1, 0.2), max_iter=1).sample(20, random_state=0)[0]
    assert narrow.min() == pytest.approx(-0.1, abs=1e-6)
    assert narrow.max() == pytest.approx(0.2, abs=1e-6)


def test_features_have_a_range_each_and_pixels_share_one():
    rng = np.random.RandomState(0)
    y = np.arange(12) % 2
    X = rng.uniform(size=(12, 16)) * np.arange(1, 17)
    table = fit((X, y), max_iter=1).diffusion_.encode(X).numpy()
    np.testing.assert_allclose(table.min(axis=0), -1, atol=1e-5)
    np.testing.assert_allclose(table.max(axis=0), 1, atol=1e-5)
    for shape, params in [((12, 4, 4), {}), ((12, 16), {"image_shape": (4, 4)})]:
        images = fit((X.reshape(shape), y), max_iter=1, **params)
        encoded = images.diffusion_.encode(X.reshape(shape)).numpy().reshape(12, 16)
        expected = 2 * (X - X.min()) / (X.max() - X.min()) - 1
        np.testing.assert_allclose(encoded, expected, rtol=1e-4, atol=1e-5)


def test_the_learning_rate_falls_to_a_hundredth():
    rates = []

    def after_step(training, loss):
        rates.append(training.optimizer.param_groups[0]["lr"])
        return False

    train_denoiser(
        MLPDenoiser((3,), 2, width=8, n_blocks=1),
        torch.zeros(9, 3),
        torch.arange(9) % 2,
        levels=linear_levels(50),
        n_classes=2,
        config=DDPMConfig(max_iter=1001, batch_size=8, learning_rate=0.5),
        generator=torch_generator(0),
        after_step=after_step,
    )
    assert rates[0] == 0.5
    assert rates[-1] == pytest.approx(0.005, rel=1e-3)


def test_guidance_of_minus_one_ignores_the_class(trained):
    """The two weights add up to one, so only the estimate for any class is left."""

    def rows(label, guidance):
        return trained.sample(5, label, n_steps=4, guidance=guidance, random_state=0)[0]

    np.testing.assert_array_equal(rows(0, -1.0), rows(2, -1.0))
    assert not np.allclose(rows(0, 0.0), rows(2, 0.0), atol=0.01)
    # Guidance moves the samples of two classes apart.
    apart = [np.abs(rows(0, w) - rows(2, w)).mean() for w in (0.0, 1.0, 3.0)]
    assert apart[0] < apart[1] < apart[2]


@pytest.mark.parametrize("n_draws", [1, 5])
def test_a_score_is_the_mean_over_n_draws(trained, table, n_draws):
    X, y = table
    diffusion = trained.diffusion_
    noise = torch.randn(n_draws, 4, generator=torch_generator(trained.score_seed_))
    x, errors = diffusion.encode(X[:6]), []
    for k in range(n_draws):
        step = int((k + 0.5) * 50 / n_draws)
        level = float(diffusion.levels[step])
        noisy = level**0.5 * x + (1 - level) ** 0.5 * noise[k]
        with torch.no_grad():
            found = diffusion.module(noisy, torch.full((6,), step / 50), torch.as_tensor(y[:6]))
        errors.append((noise[k] - found).square().sum(dim=1).numpy())
    scores = trained.score_samples(X[:6], y[:6], n_draws=n_draws)
    np.testing.assert_allclose(scores, -np.mean(errors, axis=0), rtol=1e-4)
