"""Detectors on data in any form, around any net: heads, labels, losses and frozen layers."""

import numpy as np
import pytest
import skorch
import torch
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import sklearn_ext
from sklearn_ext import (
    EnergyOODDetector,
    FlatLoRAClassifier,
    KNNOODDetector,
    MaxLogitOODDetector,
    MSPOODDetector,
    NetClassifier,
    OrthLossOODDetector,
    ReActOODDetector,
    net_from_module,
)
from sklearn_ext.neural import MLP, raw_outputs, seeded
from sklearn_ext.ood import SeparationNet, energy_score

DETECTORS = [
    getattr(sklearn_ext, name)
    for name in sklearn_ext.__all__
    if name.endswith("OODDetector") and name != "DiffusionOODDetector"
]
every_detector = pytest.mark.parametrize("Detector", DETECTORS)


class Images(Dataset):
    """A map-style dataset that makes its samples on request."""

    def __init__(self, X, y):
        self.pixels, self.labels = X, y

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, k):
        return torch.as_tensor(self.pixels[k]), int(self.labels[k])


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)[:400]
    return X, np.where(y[:400] < 8, y[:400], -1)


@pytest.fixture(scope="module")
def net(digits):
    X, y = digits
    known = y >= 0
    module = nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 8))
    return NetClassifier(module, max_epochs=5, random_state=0).fit(X[known], y[known])


def detector_of(Detector, net, **params):
    brief = {"max_epochs": 1} if Detector is OrthLossOODDetector else {}
    return Detector(FrozenEstimator(net), random_state=0, **brief, **params)


@every_detector
def test_all_forms_of_data_give_the_same_bits(Detector, net, digits):
    X, y = digits
    expected = detector_of(Detector, net).fit(X, y)
    scores, probabilities = expected.score_samples(X), expected.predict_proba(X)
    tensors = torch.as_tensor(X), torch.as_tensor(y)
    for data in (tensors, (TensorDataset(*tensors),), (Images(X, y),), (Images(X, 0 * y), y)):
        detector = detector_of(Detector, net).fit(*data)
        assert detector.offset_ == expected.offset_
        np.testing.assert_array_equal(detector.score_samples(data[0]), scores)
        np.testing.assert_array_equal(detector.predict_proba(data[0]), probabilities)
        np.testing.assert_array_equal(detector.predict(X), expected.predict(data[0]))


@every_detector
def test_unreadable_samples_are_refused(Detector, net, digits):
    X, y = digits
    with pytest.raises(TypeError, match="X must not be a DataLoader"):
        detector_of(Detector, net).fit(DataLoader(Images(X, y)))
    fitted = detector_of(Detector, net).fit(X, y)
    with pytest.raises(ValueError, match=r"must have shape \(64,\) as in fit, got \(32,\)"):
        fitted.score_samples(Images(X[:, :32], y))


@every_detector
def test_labels_that_the_net_does_not_know_are_refused(Detector, net, digits):
    X, y = digits
    for fraction in (0.1, 0.9):  # the unknown label is kept for training, and held out
        detector = detector_of(Detector, net, validation_fraction=fraction)
        with pytest.raises(ValueError, match=r"not among the classes .*: \[9\]"):
            detector.fit(X, np.where(np.arange(len(y)) == 17, 9, y))


def test_given_labels_replace_those_in_a_dataset(digits):
    X, y = digits
    known = y >= 0
    net = skorch.NeuralNetClassifier(
        MLP, module__n_features=64, module__n_outputs=8, criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam, lr=1e-2, max_epochs=5, train_split=None, verbose=0,
    )  # fmt: skip
    expected = KNNOODDetector(net, random_state=0).fit(X, y)
    detector = KNNOODDetector(net, random_state=0).fit(Images(X, 7 - y), y)
    np.testing.assert_array_equal(detector.predict_class(X), expected.predict_class(X))
    assert (detector.predict_class(X) == y)[known].mean() > 0.8


def test_a_net_may_see_samples_of_one_class(net, digits):
    X, y = digits
    one = detector_of(KNNOODDetector, net).fit(X[y == 3], y[y == 3])
    assert (one.predict(X[y == 3]) == 1).mean() > 0.8
    with pytest.raises(ValueError, match="at least 2 classes"):
        KNNOODDetector().fit(X[y == 3], y[y == 3])


class Changed(nn.Module):
    """A trained module whose outputs are a function of its last linear layer."""

    def __init__(self, module, change):
        super().__init__()
        self.module, self.change = module, change

    def forward(self, X):
        return self.change(self.module(X))


CHANGES = {
    "temperature": (lambda z: z / 0.07, {}),
    "normalized": (lambda z: 5 * nn.functional.normalize(z, dim=1), {}),
    "log-probabilities": (lambda z: z.log_softmax(dim=1), {"criterion": nn.NLLLoss}),
    "dict": (lambda z: {"logits": z}, {}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_scores_are_those_of_the_outputs(name, net, digits):
    X, y = digits
    change, params = CHANGES[name]
    changed = net_from_module(Changed(net.module_, change), classes=range(8), **params)
    msp = MSPOODDetector(FrozenEstimator(changed)).fit(X, y)
    np.testing.assert_allclose(
        msp.score_samples(X), changed.predict_proba(X).max(axis=1), rtol=1e-5
    )
    if name == "log-probabilities":  # the detectors use the logits of the head
        changed = net
    outputs = raw_outputs(changed, X).double()
    largest = MaxLogitOODDetector(FrozenEstimator(changed)).fit(X, y)
    np.testing.assert_allclose(largest.score_samples(X), outputs.amax(dim=1), rtol=1e-4)
    # A clipping value above all features changes no score.
    for Detector, extra in ((EnergyOODDetector, {}), (ReActOODDetector, {"clip_quantile": 1.0})):
        energy = Detector(FrozenEstimator(changed), validation_fraction=1e-6, **extra).fit(X, y)
        np.testing.assert_allclose(
            energy.score_samples(X), energy_score(outputs), rtol=1e-4, atol=1e-4
        )


@every_detector
def test_outputs_that_are_not_those_of_a_head_are_refused(Detector, net, digits):
    changed = net_from_module(Changed(net.module_, lambda z: z.tanh() ** 2), classes=range(8))
    with pytest.raises(ValueError, match=r"head of Changed .* the linear layers are \['module"):
        detector_of(Detector, changed).fit(*digits)


@pytest.mark.parametrize("Detector", [MSPOODDetector, OrthLossOODDetector])
def test_an_adapted_head_is_understood(Detector, net, digits):
    X, y = digits
    known = y >= 0
    turned = np.rot90(X.reshape(-1, 8, 8), axes=(1, 2)).reshape(-1, 64).copy()
    adapted = FlatLoRAClassifier(
        net.module_, target_modules="all-linear", lr=1e-2, max_epochs=5, random_state=0
    ).fit(turned[known], y[known])
    detector = detector_of(Detector, adapted).fit(turned, y)
    own = detector.classifier_.predict_proba(turned).max(axis=1)
    if Detector is MSPOODDetector:
        np.testing.assert_allclose(detector.score_samples(turned), own, rtol=1e-5)
    before, after = detector.classifier_.module_, adapted.module_
    frozen = [name for name, p in after.named_parameters() if not p.requires_grad]
    assert len(frozen) == 4
    for name in frozen:
        assert torch.equal(before.get_parameter(name), after.get_parameter(name))


# OrthLoss ------------------------------------------------------------------------------------


def test_outliers_may_be_given_beside_the_samples(net, digits):
    X, y = digits
    known = y >= 0
    expected = detector_of(OrthLossOODDetector, net).fit(
        np.concatenate([X[known], X[~known]]), np.concatenate([y[known], y[~known]])
    )
    for outliers in (X[~known], torch.as_tensor(X[~known]), Images(X[~known], y[~known])):
        for data in ((X[known], y[known]), (Images(X[known], y[known]),)):
            detector = detector_of(OrthLossOODDetector, net).fit(*data, outliers=outliers)
            assert detector.n_outliers_ == (~known).sum()
            assert not detector.is_synthetic_
            np.testing.assert_array_equal(detector.score_samples(X), expected.score_samples(X))
    both = detector_of(OrthLossOODDetector, net).fit(X, y, outliers=Images(1 - X, y))
    assert both.n_outliers_ == (~known).sum() + len(X)
    with pytest.raises(ValueError, match="must have shape"):
        detector_of(OrthLossOODDetector, net).fit(X, y, outliers=Images(X[:, :32], y))


def test_frozen_layers_stay_where_they_are(net, digits):
    frozen = net_from_module(net.module_, classes=range(8))
    frozen.module_[0].requires_grad_(False)
    detector = detector_of(OrthLossOODDetector, frozen).fit(*digits)
    first, last = detector.classifier_.module_[0], detector.classifier_.module_[2]
    assert torch.equal(first.weight, net.module_[0].weight)
    assert not torch.equal(last.weight, net.module_[2].weight)


def test_fine_tuning_keeps_the_settings_of_the_net(net, digits):
    X, y = digits
    settings = {
        "criterion__weight": torch.linspace(1, 2, 8),
        "criterion__label_smoothing": 0.1,
        "iterator_train__collate_fn": torch.utils.data.default_collate,
        "optimizer__param_groups": [("0.*", {"lr": 0.0})],
        "precision": "bf16",
    }
    given = net_from_module(net.module_, classes=range(8), **settings)
    tuned = detector_of(OrthLossOODDetector, given).fit(X, y).classifier_
    params = tuned.get_params()
    assert torch.equal(params.pop("criterion__weight"), settings.pop("criterion__weight"))
    assert {name: params[name] for name in settings} == settings
    assert tuned.criterion_.label_smoothing == 0.1
    assert torch.equal(tuned.module_[0].weight, net.module_[0].weight)
    off = {"oe_weight": 0.0, "sep_weight": 0.0, "clu_weight": 0.0, "max_epochs": 1}
    separation = SeparationNet.from_net(given, precision="full", **off, random_state=0)
    with separation.training_loop(X, y, classes=range(8)) as train:
        train()
    plain = SeparationNet.from_net(net, **off, random_state=0)
    with plain.training_loop(X, y, classes=range(8)) as train:
        train()
    assert separation.history[0, "train_loss"] > plain.history[0, "train_loss"]


class Doubled(NetClassifier):
    """A net whose loss is computed by a method."""

    def get_loss(self, y_pred, y_true, *args, **kwargs):
        return 2 * super().get_loss(y_pred, y_true, *args, **kwargs)


def test_a_loss_of_a_net_is_kept(net, digits):
    X, y = digits
    off = {"oe_weight": 0.0, "sep_weight": 0.0, "clu_weight": 0.0, "max_epochs": 0}
    losses = []
    for Net in (NetClassifier, Doubled):
        given = Net(net.module_, classes=range(8), max_epochs=0).fit(X[y >= 0], y[y >= 0])
        tuned = SeparationNet.from_net(given, **off, random_state=0).fit(X, y)
        step = tuned.train_step_single((torch.as_tensor(X), torch.as_tensor(y)))
        losses.append(step["loss"].item())
    assert losses[1] == pytest.approx(2 * losses[0])


def test_the_order_of_classes_is_that_of_the_net(net, digits):
    X, y = digits
    names = np.array(list("hgfedcba"))
    named = net_from_module(net.module_, classes=names)
    labels = np.where(y >= 0, names[y], "none")
    detector = detector_of(OrthLossOODDetector, named, outlier_label="none").fit(X, labels)
    assert detector.classes_.tolist() == names.tolist()
    assert (detector.predict_class(X) == labels)[y >= 0].mean() > 0.8


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(10, 16), nn.Linear(16, 2)

    def forward(self, ids):
        return self.head(self.embedding(ids).mean(dim=1))


@every_detector
def test_token_ids_reach_the_module_as_integers(Detector):
    X = np.random.RandomState(0).randint(10, size=(80, 7))
    y = (X[:, 0] > 4).astype(int)
    y[:10] = -1
    with seeded(0):
        tokens = NetClassifier(Tokens, max_epochs=1, random_state=0).fit(X[10:], y[10:])
    detector = detector_of(Detector, tokens).fit(X, y)
    np.testing.assert_array_equal(
        detector.score_samples(X), detector.score_samples(torch.as_tensor(X))
    )
    if Detector is OrthLossOODDetector:
        with (
            pytest.warns(UserWarning, match="made from the samples"),
            pytest.raises(ValueError, match="integers that the module looks up"),
        ):
            detector.fit(X[10:], y[10:])
        with pytest.raises(ValueError, match="made from arrays and tensors, got Subset"):
            detector.fit(Images(X[10:], y[10:]))


def test_integer_features_get_outliers_of_real_numbers(net, digits):
    X, y = digits
    integers = np.round(16 * X).astype(int)[y >= 0]
    with pytest.warns(UserWarning, match="made from the samples"):
        detector = detector_of(OrthLossOODDetector, net).fit(integers, y[y >= 0])
    assert detector.is_synthetic_
