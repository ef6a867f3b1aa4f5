"""Trained networks of any kind behave in a DiffusionModel as our own networks do."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn
from torch.utils.data import TensorDataset

from sklearn_ext import ConditionalDDPM, DiffusionOODDetector, NetClassifier, SFRonClassForgetter
from sklearn_ext.generative import DiffusionModel, MLPDenoiser, Noising, linear_levels
from sklearn_ext.neural import torch_generator
from sklearn_ext.utils import expected_failed_checks

CENTERS = np.array([[-6.0, 0.0], [6.0, 0.0], [0.0, 9.0]])
RANGE = (-9.0, 12.0)
T = 100
WORSE = "ignore:The network predicts worse:UserWarning"


@pytest.fixture(scope="module")
def blobs():
    return make_blobs([60, 60, 60], centers=CENTERS, cluster_std=1.0, random_state=0)


@pytest.fixture(scope="module")
def own(blobs):
    model = ConditionalDDPM(
        width=32, max_iter=400, n_timesteps=T, feature_range=RANGE, random_state=0
    )
    return model.fit(*blobs)


def predictor(prediction, levels):
    """Return a `call` that turns a network's estimate of the noise into another prediction."""
    all_levels = torch.tensor(levels, dtype=torch.float32)

    def call(module, x, t, c):
        a = all_levels[t][:, None]
        noise = module(x, t / T, c)
        clean = (x - (1 - a).sqrt() * noise) / a.sqrt()
        if prediction == "epsilon":
            return noise
        return clean if prediction == "sample" else a.sqrt() * noise - (1 - a).sqrt() * clean

    return call


def wrapped(own, prediction="epsilon", **params):
    levels = own.diffusion_.levels
    arguments = {
        "schedule": levels,
        "prediction": prediction,
        "sample_range": RANGE,
        "null_label": 3,
        "call": predictor(prediction, levels),
        "random_state": 0,
    }
    return DiffusionModel(own.diffusion_.module, **arguments | params)


@pytest.mark.filterwarnings(WORSE)  # converting the noise magnifies its errors
@pytest.mark.parametrize("prediction", ["epsilon", "v", "sample"])
def test_every_prediction_draws_the_same_samples(own, blobs, prediction):
    model = wrapped(own, prediction).fit(*blobs)
    options = {"random_state": 0, "n_steps": 10}
    expected, labels = own.sample(20, **options)
    actual, own_labels = model.sample(20, **options)
    np.testing.assert_allclose(actual, expected, atol=1e-3)
    np.testing.assert_array_equal(own_labels, labels)
    np.testing.assert_allclose(
        model.reconstruct(*blobs, start=0.3, **options),
        own.reconstruct(*blobs, start=0.3, **options),
        atol=1e-3,
    )


@pytest.mark.filterwarnings(WORSE)  # without the range of its training
@pytest.mark.parametrize("sample_range", [RANGE, None])
def test_a_dataset_gives_the_result_of_its_array(own, blobs, sample_range):
    X, y = blobs[0].astype(np.float32), blobs[1]
    dataset = TensorDataset(torch.from_numpy(X), torch.from_numpy(y))
    model = wrapped(own, sample_range=sample_range)
    expected = clone(model).fit(X, y)
    model.fit(dataset)
    np.testing.assert_array_equal(model.classes_, expected.classes_)
    np.testing.assert_array_equal(model.class_prior_, expected.class_prior_)
    np.testing.assert_array_equal(model.score_samples(dataset), expected.score_samples(X, y))


def test_forgetting_changes_the_network_as_it_changes_our_own(own, blobs):
    given = own.diffusion_.module
    before = {name: value.clone() for name, value in given.state_dict().items()}
    params = {"random_state": 0, "max_iter": 5}
    expected = SFRonClassForgetter(own, **params).fit(*blobs, forget_class=0)
    actual = SFRonClassForgetter(wrapped(own), **params).fit(*blobs, forget_class=0)
    changed = actual.estimator_.module_
    assert type(changed) is type(given)
    for name, value in expected.estimator_.diffusion_.module.state_dict().items():
        assert torch.equal(changed.state_dict()[name], value), name
        assert torch.equal(given.state_dict()[name], before[name]), name
    assert actual.mask_.keys() == dict(given.named_parameters()).keys()
    for name, mask in expected.mask_.items():
        np.testing.assert_array_equal(actual.mask_[name], mask)
    with pytest.raises(ValueError, match="contains classes that are forgotten"):
        actual.sample(3, y=0)


def trained_for(prediction, X, y):
    """Train a network to predict v or the clean sample."""
    torch.manual_seed(0)
    network, levels = MLPDenoiser((2,), n_classes=3, width=32), linear_levels(T)
    x, codes = torch.tensor(X / 12, dtype=torch.float32), torch.tensor(y)
    noising = Noising(levels, 3, 0.1, torch_generator(0), prediction)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(400):
        optimizer.zero_grad()
        noising(x, codes).losses(network).mean().backward()
        optimizer.step()
    return network, levels


@pytest.mark.parametrize("prediction", ["v", "sample"])
def test_a_class_is_forgotten_whatever_is_predicted(blobs, prediction):
    X, y = blobs
    names = np.array(["left", "right", "top"])
    network, levels = trained_for(prediction, X, y)
    model = DiffusionModel(
        network,
        schedule=levels,
        prediction=prediction,
        sample_range=(-12, 12),
        classes=names,
        null_label=3,
        call=lambda module, x, t, c: module(x, t / T, c),
        random_state=0,
    )
    model.fit(X, names[y])
    forgetter = SFRonClassForgetter(FrozenEstimator(model), random_state=0)
    forgetter.fit(X, names[y], forget_class="left")
    samples, _ = model.sample(60, "left", random_state=0)
    np.testing.assert_allclose(samples.mean(axis=0), CENTERS[0], atol=2)
    for label, place in (("left", "right"), ("top", "top")):
        samples, _ = forgetter.sample(60, label, random_state=0, allow_forgotten=True)
        nearest = np.square(samples[:, None] - CENTERS).sum(axis=2).argmin(axis=1)
        assert (names[nearest] == place).mean() > 0.9


@pytest.mark.filterwarnings(WORSE)  # converting the noise magnifies its errors
def test_the_detector_regenerates_with_the_network(own, blobs):
    X, y = blobs
    X_new = np.concatenate([X[:20], X[:20] + 9])
    scores = [
        DiffusionOODDetector(diffusion=model, random_state=0).fit(X).score_samples(X_new)
        for model in (own, wrapped(own), wrapped(own).fit(X, y), wrapped(own, "v"))
    ]
    np.testing.assert_array_equal(scores[1], scores[0])
    np.testing.assert_array_equal(scores[2], scores[0])
    np.testing.assert_allclose(scores[3], scores[0], rtol=1e-2, atol=1e-2)
    conditional = [
        DiffusionOODDetector(
            LogisticRegression(), diffusion=model, conditional=True, random_state=0
        ).fit(X, y)
        for model in (own, wrapped(own))
    ]
    np.testing.assert_array_equal(*(each.score_samples(X_new) for each in conditional))


class TinyTransformer(nn.Module):
    """Latents in, noise and a learned variance out, with a null class token; signature of a DiT."""

    def __init__(self, n_classes=4, n_channels=2):
        super().__init__()
        self.y_embedder = nn.Embedding(n_classes + 1, 8)
        self.x_embedder = nn.Conv2d(n_channels, 8, 1)
        self.final_layer = nn.Conv2d(8, 2 * n_channels, 1)

    def forward(self, x, t, y):
        condition = self.y_embedder(y) + t[:, None].to(x.dtype) / 100
        return self.final_layer(torch.tanh(self.x_embedder(x) + condition[:, :, None, None]))


@pytest.mark.filterwarnings(WORSE)
def test_latents_with_a_learned_variance_have_no_limits():
    torch.manual_seed(0)
    network = TinyTransformer().bfloat16()
    X, y = 5 * np.random.RandomState(0).randn(40, 2, 4, 4).astype(np.float32), np.arange(40) % 4
    model = DiffusionModel(
        network, schedule=linear_levels(T), sample_range=None, null_label=4, random_state=0
    )
    samples, _ = model.fit(X, y).sample(50, y=2, n_steps=5, random_state=0)
    assert samples.shape == (50, 2, 4, 4)
    assert np.abs(samples).max() > 5
    forgetter = SFRonClassForgetter(model, max_iter=3, random_state=0).fit(X, y, forget_class=1)
    changed = forgetter.estimator_.module_
    assert isinstance(changed, TinyTransformer)
    assert changed.final_layer.weight.dtype == torch.bfloat16
    assert not torch.equal(changed.y_embedder.weight, network.y_embedder.weight)
    # The learned variance has no part in the loss.
    assert torch.equal(changed.final_layer.weight[2:], network.final_layer.weight[2:])


def test_the_trial_tells_which_settings_are_wrong(own, blobs):
    model = wrapped(own, "sample", call=predictor("epsilon", own.diffusion_.levels))
    with pytest.warns(UserWarning, match="predicts worse than a constant zero: its mean") as record:
        model.fit(*blobs)
    assert record[0].filename == __file__


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 5)

    def forward(self, x, t=None, c=None):
        return self.layer(x)


def conditional_only(module, x, t, c):
    return x + c[:, None]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"module": "unet"}, "'module' parameter"),
        ({"prediction": "noise"}, "'prediction' parameter"),
        ({"module": Classifier(), "call": None}, r"output has shape \(32, 5\) instead of"),
        ({"module": nn.Linear(2, 2), "call": None}, r"module=Linear must be .* as module\(x, t, c"),
        ({"call": lambda module, x: x}, r"called as call\(module, x, t, c\)"),
        ({"call": lambda module, x, t, c: x / 0}, "finite predictions"),
        ({"schedule": "linear"}, "schedule must be an array of at least two signal levels"),
        ({"schedule": [0.1, 0.9]}, "that fall from nearly 1"),
        ({"sample_range": (1, 0)}, "sample_range must be None or a pair"),
        ({"classes": ["a", "a", "b"]}, "classes must be different labels"),
        ({"null_label": 2}, "null_label=2 must not be the integer label of a class"),
    ],
)
def test_a_network_of_the_wrong_kind_is_refused_in_fit(own, blobs, params, message):
    model = wrapped(own).set_params(**params)
    with pytest.raises(ValueError, match=message):
        model.fit(*blobs)
    assert not hasattr(model, "diffusion_")
    with pytest.raises(AttributeError):
        model.module_  # noqa: B018


def test_bare_networks_and_foreign_labels_are_refused(own, blobs):
    X, y = blobs
    network = own.diffusion_.module
    with pytest.raises(TypeError, match="a DiffusionModel around a trained network"):
        SFRonClassForgetter(network).fit(X, y, forget_class=0)
    with pytest.raises(TypeError, match=r"wrap it in a DiffusionModel\. Got MLPDenoiser"):
        DiffusionOODDetector(diffusion=network).fit(X)
    with pytest.raises(ValueError, match="y must contain the integers that the network takes"):
        wrapped(own).fit(X, np.array(["left", "right", "top"])[y])


def test_a_network_without_a_null_label_needs_classes(own, blobs):
    X, y = blobs
    model = wrapped(own, null_label=None).fit(X, y)
    samples, _ = model.sample(5, y=1, random_state=0)
    np.testing.assert_array_equal(samples, own.sample(5, y=1, guidance=0.0, random_state=0)[0])
    with pytest.raises(ValueError, match=r"guidance must be 0 or None .* got 1.0"):
        model.sample(5, guidance=1.0)
    with pytest.raises(ValueError, match="y must not be None, because the network"):
        model.score_samples(X)
    with pytest.raises(ValueError, match="conditional=False needs a diffusion model of any class"):
        DiffusionOODDetector(diffusion=model).fit(X)
    forgetter = SFRonClassForgetter(model, max_iter=2, random_state=0).fit(X, y, forget_class=0)
    assert len(forgetter.history_) == 2


def test_a_network_without_classes_is_called_without_them(blobs):
    X, _ = blobs
    own = ConditionalDDPM(width=16, max_iter=50, n_timesteps=T, feature_range=RANGE, random_state=0)
    own.fit(X)
    model = DiffusionModel(
        own.diffusion_.module,
        schedule=own.diffusion_.levels,
        sample_range=RANGE,
        call=lambda module, x, t: module(x, t / T, torch.zeros(len(x), dtype=torch.int64)),
    ).fit(X)
    samples, labels = model.sample(5, random_state=0)
    np.testing.assert_array_equal(samples, own.sample(5, random_state=0)[0])
    assert labels is None


def test_clones_and_pickles_keep_the_network(own, blobs):
    model = DiffusionModel(
        TimeInSteps(own.diffusion_.module),
        schedule=own.diffusion_.levels,
        sample_range=RANGE,
        null_label=3,
        random_state=0,
    )
    fitted = clone(model).fit(*blobs)
    expected = own.sample(4, random_state=0)[0]
    for each in (fitted, pickle.loads(pickle.dumps(fitted))):
        np.testing.assert_array_equal(each.sample(4, random_state=0)[0], expected)


class TimeInSteps(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x, t, c):
        return (self.module(x, t / T, c),)


@pytest.mark.filterwarnings(WORSE)
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_networks_and_schedulers_of_diffusers_work(prediction):
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    network = diffusers.UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        num_class_embeds=4,
    )
    scheduler = diffusers.DDPMScheduler(num_train_timesteps=50, prediction_type=prediction)
    name = {"epsilon": "epsilon", "v_prediction": "v"}[prediction]
    X, y = np.random.RandomState(0).uniform(0, 255, size=(24, 8, 8)), np.arange(24) % 3
    model = DiffusionModel(
        network,
        schedule=scheduler,
        prediction=name,
        sample_range=(0, 255),
        null_label=3,
        image_shape=(1, 8, 8),
        random_state=0,
    )
    forgetter = SFRonClassForgetter(model, max_iter=2, batch_size=8, random_state=0)
    forgetter.fit(X, y, forget_class=1)
    changed = forgetter.estimator_.module_
    assert isinstance(changed, diffusers.UNet2DModel)
    assert not torch.equal(changed.conv_in.weight, network.conv_in.weight)
    samples, _ = forgetter.sample(3, n_steps=2, random_state=0)
    assert samples.shape == (3, 8, 8)
    assert samples.min() >= 0
    assert samples.max() <= 255
    x_t = torch.randn(2, 1, 8, 8)
    steps, labels = torch.tensor([10, 10]), torch.tensor([0, 2])
    with torch.no_grad():
        output = model.fit(X, y).module_(x_t, steps, labels).sample
        ours = model.diffusion_.predict_noise(x_t, 10, labels)
    expected = output
    if name == "v":
        level = scheduler.alphas_cumprod[10]
        expected = level**0.5 * output + (1 - level) ** 0.5 * x_t
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    net = NetClassifier(max_epochs=1, random_state=0).fit(X / 255, y)
    detector = DiffusionOODDetector(net, diffusion=model, n_repeats=1, random_state=0).fit(X, y)
    assert np.isfinite(detector.score_samples(X)).all()
    with pytest.raises(ValueError, match="must agree with the scheduler"):
        model.set_params(prediction="sample").fit(X, y)


class Scaled(nn.Module):
    """A network for samples of any shape, with or without classes."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.full((1,), 0.5))

    def forward(self, x, t, c=None):
        return self.scale * x


@pytest.mark.filterwarnings(WORSE)
@parametrize_with_checks(
    [
        DiffusionModel(
            Scaled(), schedule=linear_levels(T), sample_range=None, null_label=1000, random_state=0
        )
    ],
    expected_failed_checks=expected_failed_checks,
)
def test_scikit_learn_conventions(estimator, check):
    check(estimator)
