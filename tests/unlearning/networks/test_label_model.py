"""Label models do not depend on the samples to forget, and estimate their own accuracy."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss

from sklearn_ext.neural import MLP, NetClassifier, SmallCNN, net_from_module
from sklearn_ext.unlearning import ForgetRequest, MUSOUnlearner
from sklearn_ext.unlearning.networks import NetData
from sklearn_ext.unlearning.networks._base import untrained_module
from sklearn_ext.unlearning.networks.labels._label_model import (
    UnseenOutputs,
    accuracy_of,
    fit_label_model,
    fourier_features,
    held_out_samples,
    network_features,
    patch_features,
)

FORGET = np.arange(0, 600, 10)


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return (X[:600] / 16).astype(np.float32), y[:600]


def fitted(X, y, module, rng=0, **options):
    data = NetData(module, X, y, ForgetRequest.from_user(FORGET, len(y)))
    return fit_label_model(data, np.random.RandomState(rng), **options), data


@pytest.mark.parametrize("scale", [1.0, 1000.0])
@pytest.mark.parametrize("n", [2, 41])
def test_the_kernel_is_that_of_the_median_distance(n, scale):
    """The kernel of two samples at the median distance of all pairs is exp(-1)."""
    sample = scale * torch.randn(n, 3, generator=torch.Generator().manual_seed(0))
    distances = torch.pdist(sample)
    close = distances.median() * torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    first, second = fourier_features(sample, np.random.RandomState(0))(close)
    assert float(first @ second / (first @ first)) == pytest.approx(np.exp(-1), abs=0.1)


@pytest.mark.parametrize("kind", ["patches", "random_features"])
def test_it_does_not_depend_on_the_forget_set(digits, kind):
    X, y = digits
    X = X.reshape(-1, 8, 8)
    module = SmallCNN(1, 10, widths=(2,))
    changed = X.copy()
    changed[FORGET] = 7.0
    kept = torch.as_tensor(np.delete(np.arange(600), FORGET))
    first, data = fitted(X, y, module, kind=kind)
    second, _ = fitted(changed, y, module, kind=kind)
    assert first.kind == second.kind == kind
    assert torch.equal(first.log_probabilities(data, kept), second.log_probabilities(data, kept))


def test_leave_one_out_accuracy_is_that_of_refits(digits):
    X, y = digits[0][:60], digits[1][:60]
    module = MLP(64, 10, hidden_sizes=(8,))
    request = ForgetRequest.from_user([0], 60)
    data = NetData(module, X, y, request)
    features = network_features(module)
    model = fit_label_model(data, np.random.RandomState(0), kind="initial", initial=module)
    Z = features(torch.as_tensor(X[1:])).detach().double().numpy()
    Z = np.c_[(Z - Z.mean(0)) / np.maximum(Z.std(0), 1e-6), np.ones(len(Z))]
    T, codes = 2 * np.eye(10)[y[1:]] - 1, y[1:]
    best = 0.0
    for alpha in 10.0 ** np.arange(-3.0, 1.5, 0.5):
        hits = 0
        for k in range(59):
            rest = np.arange(59) != k
            S = Z[rest].T @ Z[rest] + alpha * 59 * np.eye(Z.shape[1])
            hits += (Z[k] @ np.linalg.solve(S, Z[rest].T @ T[rest])).argmax() == codes[k]
        best = max(best, hits / 59)
    assert model.accuracy == pytest.approx(best, abs=1e-9)


def test_it_predicts_samples_that_were_left_out(digits):
    X, y = digits
    model, data = fitted(X, y, MLP(64, 10))
    assert model.kind == "random_features"
    assert accuracy_of(model, data, data.forget) > 0.9
    assert abs(accuracy_of(model, data, data.forget) - model.accuracy) < 0.08
    probabilities = model.log_probabilities(data, data.forget).exp()
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(60))


def test_patches_describe_photographs_better_than_pixels():
    rng = np.random.RandomState(0)
    y = rng.randint(2, size=600)
    X = rng.rand(600, 16, 16).astype(np.float32)
    for image, label in zip(X, y, strict=True):  # a bar anywhere, upright or level
        r, c = rng.randint(2, 9, size=2)
        image[(slice(r, r + 6), c) if label else (r, slice(c, c + 6))] += 1.0
    module = SmallCNN(1, 2, widths=(2,))
    patches, _ = fitted(X, y, module)
    pixels, _ = fitted(X, y, module, kind="random_features")
    assert patches.kind == "patches"
    assert patches.accuracy > 0.9 > pixels.accuracy


def test_patch_features_ignore_brightness_and_contrast():
    images = torch.rand(40, 3, 15, 12, generator=torch.Generator().manual_seed(0))
    features = patch_features(images, np.random.RandomState(0))
    assert features(images).shape == (40, 512)
    one = features(images[3:4])
    torch.testing.assert_close(one[0], features(images)[3], atol=1e-5, rtol=1e-4)
    brighter = features(2 * images[:4] + 1)  # patches are normalized, up to their noise floor
    both = torch.stack([brighter.flatten(), features(images[:4]).flatten()])
    assert torch.corrcoef(both)[0, 1] > 0.9


def test_features_of_a_pretrained_network_are_chosen(digits):
    X, y = digits
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = MLP(64, 10)
    pretrained = NetClassifier(module, max_epochs=20, random_state=0).fit(X, y).module_
    net = NetClassifier(pretrained, max_epochs=1, random_state=0).fit(X, y)
    unlearner = MUSOUnlearner(net, max_epochs=0, random_state=0).fit(X, y, forget=FORGET)
    assert unlearner.label_model_.kind == "initial"
    assert unlearner.label_model_.accuracy > 0.95


def test_the_untrained_network_is_built_again(digits):
    X, y = digits
    net = NetClassifier(max_epochs=1, random_state=0).fit(X, y)
    fresh, again = untrained_module(net, 3), untrained_module(net, 3)
    assert fresh is not None
    assert fresh is not net.module_
    for a, b in zip(fresh.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    instance = MLP(64, 10)
    before = [weight.clone() for weight in instance.parameters()]
    copy = untrained_module(NetClassifier(instance, max_epochs=1).fit(X, y), 0)
    assert all(torch.equal(a, b) for a, b in zip(before, copy.parameters(), strict=True))


def test_earlier_weights_of_a_given_network_are_unknown(digits):
    X, y = digits
    net = net_from_module(MLP(64, 10), classes=np.arange(10))
    assert untrained_module(net, 0) is None
    labels = MUSOUnlearner(net, max_epochs=0, random_state=0).fit(X, y, forget=FORGET).label_model_
    assert labels.kind == "random_features"


@pytest.fixture(scope="module")
def threes(digits):
    """A network trained briefly, which has to forget a class, and its label model."""
    X, y = digits[0][:400], digits[1][:400]
    net = NetClassifier(module__hidden_sizes=(32,), lr=1e-2, max_epochs=30, random_state=0).fit(
        X, y
    )
    data = NetData(net.module_, X, y, ForgetRequest.from_user(y == 3, 400))
    return net, data, fit_label_model(data, np.random.RandomState(0))


def restricted(probabilities):
    """Return probabilities of all classes but the forgotten one."""
    kept = probabilities * (np.arange(10) != 3)
    return kept / kept.sum(axis=1, keepdims=True)


def test_unseen_outputs_mix_the_label_model_and_the_network(digits, threes):
    X, y = digits[0][:400], digits[1][:400]
    net, data, model = threes
    unseen = UnseenOutputs(data, model, np.random.RandomState(0))
    loss = log_loss(y[y != 3], net.predict_proba(X[y != 3]), labels=np.arange(10))
    weight = 1 - loss / model.loss
    assert 0 < weight < 1
    assert unseen.memorized == pytest.approx(weight, abs=1e-5)
    labels = model.log_probabilities(data, data.forget).exp().numpy()
    own = restricted(net.predict_proba(X[y == 3]))
    expected = labels.clip(1e-12) ** weight * own.clip(1e-12) ** (1 - weight)
    expected[:, 3] = 0.0
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(unseen.probabilities(sharpen=False), expected, atol=1e-5)
    assert unseen.accuracy() == 0.0  # no retained sample is a three


def test_a_network_that_has_memorized_nothing_keeps_its_outputs(digits):
    X, y = digits
    model, data = fitted(X, y, MLP(64, 10))
    unseen = UnseenOutputs(data, model, np.random.RandomState(0))
    assert unseen.memorized == 0.0
    outputs = data.outputs(data.forget)
    torch.testing.assert_close(unseen.probabilities(sharpen=True), outputs.softmax(dim=1))
    hits = outputs.argmax(dim=1) == data.codes[data.forget]
    assert unseen.accuracy() == pytest.approx(hits.double().mean().item())


def test_memorized_labels_are_not_expected(digits):
    X = digits[0]
    y = np.random.RandomState(0).randint(10, size=len(X))
    net = NetClassifier(max_epochs=80, random_state=0).fit(X, y)
    assert net.score(X[FORGET], y[FORGET]) > 0.95
    data = NetData(net.module_, X, y, ForgetRequest.from_user(FORGET, len(y)))
    unseen = UnseenOutputs(
        data, fit_label_model(data, np.random.RandomState(0)), np.random.RandomState(0)
    )
    assert unseen.memorized > 0.9
    assert unseen.accuracy() < 0.35


def test_held_out_samples_set_weight_and_confidence(digits, threes):
    X, y = digits
    net, data, model = threes
    held_out = held_out_samples(data, X[400:], y[400:])
    unseen = UnseenOutputs(data, model, np.random.RandomState(0), held_out)
    known = y[400:] != 3
    losses = [
        log_loss(labels, net.predict_proba(samples), labels=np.arange(10))
        for samples, labels in ((X[:400][y[:400] != 3], y[:400][y[:400] != 3]),
                                (X[400:][known], y[400:][known]))
    ]  # fmt: skip
    weight = 1 - losses[0] / losses[1]
    assert unseen.memorized == pytest.approx(weight, abs=1e-5)
    own = restricted(net.predict_proba(X[:400][y[:400] == 3]))
    labels = (unseen.probabilities(sharpen=True).numpy() / own.clip(1e-12) ** (1 - weight)) ** (
        1 / weight
    )
    labels /= labels.sum(axis=1, keepdims=True)
    confidence = net.predict_proba(X[400:][known]).max(axis=1).mean()
    assert labels.max(axis=1).mean() == pytest.approx(confidence, abs=0.05)
    assert held_out_samples(data, X[400:][~known], y[400:][~known]) is None
    assert held_out_samples(data, None, None) is None
