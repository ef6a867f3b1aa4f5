"""The training step, compared with an explicit loop."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from skorch.dataset import Dataset, ValidSplit
from torch import nn

from sklearn_ext.neural import NetClassifier, TensorBatches, draw_seed, seeded
from sklearn_ext.ood import SeparationNet, outlier_exposure_loss
from sklearn_ext.ood.orthloss._separation_net import OutlierBatches


@pytest.fixture(scope="module")
def digits():
    """Digits 0 to 7, and the same number of shuffled digits as outliers."""
    X, y = load_digits(return_X_y=True)
    X, y = (X[y < 8][:300] / 16).astype(np.float32), y[y < 8][:300]
    outliers = np.random.RandomState(0).permutation(X.T).T
    return np.concatenate([X, outliers]), np.concatenate([y, np.full(300, -1)])


def plain_net():
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8))


def weights(net):
    return torch.cat([p.detach().ravel() for p in net.module_.parameters()])


def test_outliers_do_not_change_the_length_of_an_epoch():
    y = np.repeat([0, 1, -1], [70, 60, 7])
    batches = OutlierBatches(Dataset(np.arange(137.0)[:, None], y), 32, outlier_ratio=0.5)
    seen = []
    for _ in range(3):
        epoch = list(batches)
        assert len(epoch) == len(batches) == 5
        inliers = torch.cat([X[codes >= 0, 0] for X, codes in epoch])
        assert sorted(inliers.tolist()) == list(range(130))
        assert [(codes < 0).sum().item() for _, codes in epoch] == [16, 16, 16, 16, 1]
        seen += [number for X, codes in epoch for number in X[codes < 0, 0].tolist()]
    counts = np.bincount(np.array(seen, dtype=int), minlength=137)[130:]
    assert counts.max() - counts.min() <= 1


def test_outliers_do_not_change_the_order_of_inliers():
    X = np.arange(150.0)[:, None]
    y = np.repeat([0, -1], [100, 50])
    torch.manual_seed(0)
    with_outliers = [X[codes >= 0] for X, codes in OutlierBatches(Dataset(X, y), 16)]
    torch.manual_seed(0)
    without = [X for X, _ in OutlierBatches(Dataset(X[:100], y[:100]), 16)]
    for a, b in zip(with_outliers, without, strict=True):
        torch.testing.assert_close(a, b)


def test_without_feature_terms_equals_outlier_exposure(digits):
    X, y = digits
    torch.manual_seed(3)
    module = plain_net()
    net = SeparationNet(
        module, sep_weight=0.0, clu_weight=0.0, max_epochs=2, callbacks__learning_rate=None
    )
    torch.manual_seed(3)
    by_hand = plain_net()
    optimizer = torch.optim.SGD(
        by_hand.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    net.set_params(random_state=5).fit(X, y)

    with seeded(draw_seed(5)):
        batches = OutlierBatches(Dataset(X, y.astype(np.int64)), 64)
        for _ in range(2):
            for samples, codes in batches:
                logits = by_hand(samples)
                inside = codes >= 0
                loss = nn.functional.cross_entropy(logits[inside], codes[inside])
                loss = loss + 0.5 * outlier_exposure_loss(logits[~inside])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    actual, expected = weights(net), nn.utils.parameters_to_vector(by_hand.parameters())
    assert torch.equal(actual, expected.detach())


def test_without_outlier_terms_equals_plain_classification(digits):
    X, y = digits
    params = {
        "optimizer": torch.optim.SGD,
        "optimizer__momentum": 0.0,
        "optimizer__nesterov": False,
        "optimizer__weight_decay": 0.0,
        "max_epochs": 3,
        "batch_size": 64,
        "lr": 0.05,
        "random_state": 0,
    }
    plain = NetClassifier(plain_net, **params).fit(X[:300], y[:300])
    off = {"oe_weight": 0.0, "sep_weight": 0.0, "clu_weight": 0.0}
    net = SeparationNet(plain_net, **off, **params, callbacks__learning_rate=None).fit(X, y)
    torch.testing.assert_close(weights(net), weights(plain), rtol=1e-4, atol=1e-6)
    assert net.classes_.tolist() == list(range(8))


def test_reductions_differ_by_the_number_of_classes(digits):
    X, y = digits
    params = {"max_epochs": 2, "random_state": 0}
    summed = SeparationNet(plain_net, sep_reduction="sum", sep_weight=0.5, **params).fit(X, y)
    mean = SeparationNet(plain_net, sep_reduction="mean", sep_weight=4.0, **params).fit(X, y)
    np.testing.assert_allclose(
        summed.history[:, "train_loss"], mean.history[:, "train_loss"], rtol=1e-5
    )


def test_second_stage_begins_at_the_given_epoch(digits):
    X, y = digits
    params = {"max_epochs": 4, "random_state": 0, "callbacks__learning_rate": None}
    off = SeparationNet(plain_net, sep_weight=0.0, clu_weight=0.0, **params).fit(X, y)
    for start in (2, 0.5):
        net = SeparationNet(plain_net, stage2_start=start, **params).fit(X, y)
        same = np.equal(net.history[:, "train_loss"], off.history[:, "train_loss"])
        assert same.tolist() == [True, True, False, False]
        before = len(net.history)
        net.partial_fit(X, y)
        assert len(net.history) == before + 4


def test_few_outliers_do_not_shorten_epochs():
    rng = np.random.RandomState(0)
    X = rng.randn(1064, 4).astype(np.float32)
    y = np.concatenate([np.arange(1000) % 2, np.full(64, -1)])
    net = SeparationNet(max_epochs=2, batch_size=100, random_state=0).fit(X, y)
    assert [len(epoch["batches"]) for epoch in net.history] == [10, 10]


def test_from_net_continues_from_the_weights_of_a_net(digits):
    X, y = digits
    fitted = NetClassifier(random_state=0).fit(X[:300], y[:300])
    kept = weights(fitted).clone()
    still = SeparationNet.from_net(fitted, max_epochs=0, random_state=1).fit(X, y)
    assert torch.equal(weights(still), kept)
    tuned = SeparationNet.from_net(fitted, max_epochs=2, random_state=1).fit(X, y)
    assert not torch.equal(weights(tuned), kept)
    assert torch.equal(weights(fitted), kept)


def test_training_loop_equals_fit(digits):
    X, y = digits
    params = {"max_epochs": 2, "random_state": 1}
    fitted = SeparationNet(plain_net, **params).fit(X, y)
    net = SeparationNet(plain_net, **params)
    with net.training_loop(X, y) as train:
        train()
    assert torch.equal(weights(net), weights(fitted))
    wider = SeparationNet(max_epochs=1, random_state=0)
    with wider.training_loop(X, y, classes=range(10)) as train:
        train()
    assert wider.predict_proba(X).shape == (600, 10)


def test_only_iterators_of_outliers_get_the_outlier_ratio(digits):
    X, y = digits
    net = SeparationNet(outlier_ratio=0.5, batch_size=30, max_epochs=1, random_state=0).fit(X, y)
    batch = next(iter(net.get_iterator(Dataset(X, y), training=True)))
    assert ((batch[1] < 0).sum(), (batch[1] >= 0).sum()) == (15, 30)
    plain = SeparationNet(iterator_train=TensorBatches).get_params_for("iterator_train")
    assert "outlier_ratio" not in plain


def test_learning_rate_falls_to_the_floor(digits):
    X, y = digits
    net = SeparationNet(max_epochs=3, random_state=0).fit(X, y)
    assert net.optimizer_.param_groups[0]["lr"] < 0.002
    assert net.partial_fit(X, y).optimizer_.param_groups[0]["initial_lr"] == 0.05


def test_validation_uses_only_inliers(digits):
    X, y = digits
    net = SeparationNet(
        max_epochs=1,
        train_split=ValidSplit(5, stratified=True),
        callbacks__valid_acc=None,
        random_state=0,
    )
    assert np.isfinite(net.fit(X, y).history[-1, "valid_loss"])


def test_outliers_without_inliers_raise(digits):
    with pytest.raises(ValueError, match="no classes are left"):
        SeparationNet().fit(digits[0], np.full(600, -1))
