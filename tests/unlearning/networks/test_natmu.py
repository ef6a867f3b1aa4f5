import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from sklearn_ext import NatMUUnlearner
from sklearn_ext.neural import NetClassifier, head_of
from sklearn_ext.unlearning import ForgetRequest
from sklearn_ext.unlearning.networks import NetData, gradual_masks
from sklearn_ext.unlearning.networks._natmu_blending import blended_samples


@pytest.fixture(scope="module")
def images():
    X, y = load_digits(return_X_y=True)
    return (X[:300] / 16).reshape(-1, 8, 8).astype(np.float32), y[:300]


@pytest.fixture(scope="module")
def net(images):
    return NetClassifier(module__widths=(8, 16), lr=1e-2, max_epochs=8, random_state=0).fit(*images)


@pytest.fixture
def forget(images):
    return images[1] == 3


def ten_blends(net, images, forget, delta):
    """Blends of the first ten samples to forget with the first ten retained samples."""
    X, y = images
    data = NetData(net.module_, X, y, ForgetRequest.from_user(forget, len(X)))
    index = torch.stack([torch.arange(10), torch.arange(10), torch.arange(10) % 4], dim=1)
    masks = torch.as_tensor(gradual_masks(8, 8, 4, delta), dtype=torch.float32)
    return data, blended_samples(data, index, masks, None)


@pytest.mark.parametrize(("delta", "source"), [(-1.0, "retain"), (1.0, "forget")])
def test_extreme_shifts_give_unmixed_samples(net, images, forget, delta, source):
    data, blends = ten_blends(net, images, forget, delta)
    assert torch.equal(blends, data.inputs(getattr(data, source)[:10]))


def test_blending_by_batch_gives_the_same_bits(net, images, forget, monkeypatch):
    X, y = images
    unlearner = NatMUUnlearner(net, max_epochs=2, random_state=0)
    at_once = unlearner.fit(X, y, forget=forget).predict_proba(X)
    monkeypatch.setattr("sklearn_ext.unlearning.networks._natmu_algorithm._MAX_STORED_BYTES", 0)
    np.testing.assert_array_equal(unlearner.fit(X, y, forget=forget).predict_proba(X), at_once)


def test_only_retained_samples_are_augmented(net, images, forget):
    """Each batch is trained on at once, so an augmentation gets the retained samples alone."""
    X, y = images
    seen = []

    def record(samples):
        seen.append(samples.clone())
        return samples

    NatMUUnlearner(net, augment=record, max_epochs=1, random_state=0).fit(X, y, forget=forget)
    augmented = torch.cat(seen).flatten(start_dim=1)
    retained = torch.as_tensor(X[~forget]).flatten(start_dim=1)
    assert torch.equal(augmented.sum(dim=1).sort().values, retained.sum(dim=1).sort().values)


def test_labels_are_those_of_the_retained_samples(net, images, forget):
    X, y = images
    unlearner = NatMUUnlearner(net, random_state=0).fit(X, y, forget=forget)
    u, r, k = unlearner.hybrid_index_.T
    assert forget[u].all()
    assert not forget[r].any()
    assert (y[u] != y[r]).all()
    assert set(k) == {0, 1, 2, 3}
    assert len(u) == 4 * forget.sum()
    assert len(set(r)) == len(r)
    assert not unlearner.stock_exhausted_
    # The k-th most likely class goes with the k-th mask.
    p = net.predict_proba(X[forget])
    p[:, 3] = -1
    assert (y[r[k == 0]] == p.argmax(axis=1)).mean() > 0.9
    assert unlearner.masks_.shape == (4, 8, 8)
    assert unlearner.n_steps_ == unlearner.history_[-1]["n_steps"]


def test_samples_are_reused_when_there_are_too_few(net, images):
    X, y = images
    forget = np.arange(len(y)) >= 60
    unlearner = NatMUUnlearner(net, max_epochs=1, random_state=0).fit(X, y, forget=forget)
    assert unlearner.stock_exhausted_


def test_tables_get_one_weight_for_all_features(images):
    X, y = images
    net = NetClassifier(max_epochs=1)
    unlearner = NatMUUnlearner(net, delta=0.03, random_state=0)
    unlearner.fit(X.reshape(len(X), -1), y, forget=[0, 1])
    np.testing.assert_allclose(unlearner.masks_, np.full((4, 1), 0.5))
    with pytest.raises(ValueError, match="mask='gradual' requires images"):
        unlearner.set_params(mask="gradual").fit(X.reshape(len(X), -1), y, forget=[0, 1])


def test_images_with_channels_share_their_masks(images):
    X, y = images
    color = np.repeat(X[:, None], 3, axis=1)
    net = NetClassifier(module__widths=(4,), max_epochs=1)
    unlearner = NatMUUnlearner(net, random_state=0).fit(color, y, forget=[0])
    assert unlearner.masks_.shape == (4, 1, 8, 8)


def test_masks_can_be_given_or_computed_by_a_callable(net, images):
    X, y = images

    def columns(n_masks, shape):
        return np.random.RandomState(0).randint(2, size=(n_masks, *shape))

    called = NatMUUnlearner(net, mask=columns, max_epochs=1, random_state=0)
    given = NatMUUnlearner(net, mask=columns(4, (8, 8)), max_epochs=1, random_state=0)
    for unlearner in (called, given):
        unlearner.fit(X, y, forget=[0, 1])
    np.testing.assert_array_equal(called.masks_, given.masks_)
    np.testing.assert_array_equal(called.predict_proba(X), given.predict_proba(X))
    with pytest.raises(ValueError, match=r"shape \(4, 8, 8\) with entries in \[0, 1\]"):
        NatMUUnlearner(net, mask=np.full((4, 8, 8), 1.5)).fit(X, y, forget=[0])
    with pytest.raises(ValueError, match=r"got shape \(3, 8, 8\)"):
        NatMUUnlearner(net, mask=np.ones((3, 8, 8))).fit(X, y, forget=[0])


def test_too_many_hybrids_are_reduced_with_a_warning(images):
    X, y = images
    two = y < 2
    net = NetClassifier(module__widths=(4,), max_epochs=2)
    with pytest.warns(
        UserWarning, match="n_hybrids=4 exceeds .* 1 blends per sample are used"
    ) as record:
        unlearner = NatMUUnlearner(net, n_hybrids=4).fit(X[two], y[two], forget=[0])
    assert record[0].filename == __file__
    assert len(unlearner.hybrid_index_) == 1


def test_blends_are_clipped_to_the_feature_range(net, images, forget):
    X, y = images
    unlearner = NatMUUnlearner(net, feature_range=(0.2, 0.4), max_epochs=1, random_state=0)
    narrow = unlearner.fit(X, y, forget=forget).history_
    wide = unlearner.set_params(feature_range=None).fit(X, y, forget=forget).history_
    auto = unlearner.set_params(feature_range="auto").fit(X, y, forget=forget).history_
    assert wide == auto  # blends of samples in a range stay in it
    assert narrow != wide
    bright = np.where(forget[:, None, None], X + 5, X)  # the range is that of the retained samples
    auto, given, wide = (
        unlearner.set_params(feature_range=limits).fit(bright, y, forget=forget).history_
        for limits in ("auto", (X[~forget].min(), X[~forget].max()), None)
    )
    assert auto == given != wide
    for limits in ((1, 0), (0, 1, 2)):
        with pytest.raises(ValueError, match=r"feature_range must be a pair \(low, high\)"):
            unlearner.set_params(feature_range=limits).fit(X, y, forget=forget)


def test_samples_can_be_drawn_anew_in_each_epoch(net, images, forget):
    X, y = images
    fixed, drawn = (
        NatMUUnlearner(net, resample=resample, max_epochs=2, random_state=0)
        .fit(X, y, forget=forget)
        .hybrid_index_
        for resample in (False, True)
    )
    assert fixed.shape == drawn.shape
    assert (fixed[:, 1] != drawn[:, 1]).mean() > 0.5


@pytest.mark.parametrize(
    ("reinit", "request_", "anew"),
    [(True, "row", True), ("auto", "row", False), ("auto", "class", True), (False, "class", False)],
)
def test_the_head_is_reinitialized_on_request(net, images, forget, reinit, request_, anew):
    X, y = images
    unlearner = NatMUUnlearner(net, reinit_head=reinit, max_epochs=0, random_state=0)
    unlearner.fit(X, y, forget=forget if request_ == "class" else [0])
    before, after = (head_of(n.module_) for n in (net, unlearner.estimator_))
    assert torch.equal(before.bias, after.bias)
    assert torch.equal(before.weight, after.weight) != anew
    if anew:  # Xavier normal with a gain of the square root of two
        expected = math.sqrt(2) * math.sqrt(2 / sum(after.weight.shape))
        assert after.weight.std().item() == pytest.approx(expected, rel=0.2)
