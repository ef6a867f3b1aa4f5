"""Every parameter of the network unlearners has its documented effect."""

import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.datasets import make_blobs
from sklearn.linear_model import LogisticRegression
from torch import nn

from sklearn_ext import (
    BadTeacherUnlearner,
    FineTuneUnlearner,
    GradientAscentUnlearner,
    MUSOUnlearner,
    NatMUUnlearner,
    RandomLabelUnlearner,
    SalUnUnlearner,
    SFRonUnlearner,
    unlearning_report,
)
from sklearn_ext.metrics import membership_inference_score
from sklearn_ext.neural import NetClassifier, head_of, outputs_and_features
from sklearn_ext.unlearning import ForgetRequest
from sklearn_ext.unlearning.networks import NetData
from sklearn_ext.unlearning.networks.labels import _muso_labels
from sklearn_ext.unlearning.steps import FastSlowConfig, fast_slow

pytestmark = [
    pytest.mark.filterwarnings(r"ignore:The accuracy on \d+ retained samples fell"),
    pytest.mark.filterwarnings("ignore:.*forget steps were clipped"),
]

FINE_TUNERS = [
    FineTuneUnlearner,
    GradientAscentUnlearner,
    RandomLabelUnlearner,
    SalUnUnlearner,
    BadTeacherUnlearner,
    NatMUUnlearner,
    MUSOUnlearner,
]

FINE_TUNING = {"learning_rate": 5e-3, "max_epochs": 2, "batch_size": 16, "random_state": 0}
BASE = {
    **dict.fromkeys(FINE_TUNERS, FINE_TUNING),
    GradientAscentUnlearner: FINE_TUNING | {"batch_size": 5},
    SFRonUnlearner: {
        "max_iter": 3, "learning_rate": 0.05, "forget_norm": 1.0, "optimizer": "sgd",
        "batch_size": 8, "stop_forget_score": None, "random_state": 0,
    },
}  # fmt: skip

# Another value of each parameter, and what has to differ from BASE for it to matter.
_TRAINED = {
    "learning_rate": (1e-2, {}),
    "weight_decay": (0.1, {}),
    "max_epochs": (3, {}),
    "batch_size": (17, {}),
    "optimizer": (torch.optim.RMSprop, {}),
    "random_state": (1, {}),
}
_CLIPPED = {"forget_step": "clip", "forget_alpha": 1.0, "clip_norm": 1e3}
CASES = {
    FineTuneUnlearner: _TRAINED,
    GradientAscentUnlearner: _TRAINED,
    RandomLabelUnlearner: _TRAINED,
    SalUnUnlearner: _TRAINED | {"mask_fraction": (0.2, {})},
    BadTeacherUnlearner: _TRAINED | {"temperature": (3.0, {})},
    NatMUUnlearner: _TRAINED
    | {
        "delta": (0.2, {}),
        "n_hybrids": (1, {}),
        "mask": (lambda n_masks, shape: np.full((n_masks, *shape), 0.1), {}),
        "reinit_head": (True, {}),
        "head": ("1", {"reinit_head": True}),
        "resample": (True, {}),
        "augment": (lambda rows: rows + 0.5, {}),
        "feature_range": ((-0.1, 0.1), {}),
        "retained_targets": ("labels", {}),
    },
    MUSOUnlearner: _TRAINED
    | {
        "label_model": ("head", {}),
        "soft_targets": (True, {}),
        "retained_targets": ("labels", {}),
        "retained_ratio": (1.0, {}),
        "subset_ratio": (0.5, {"label_model": "head", "soft_targets": True}),
        "eps": (10.0, {"label_model": "head", "soft_targets": True}),
        "head": (
            "first",
            {"estimator": "branches", "label_model": "head", "soft_targets": True},
        ),
        "initial_head": (np.eye(9, 3), {"label_model": "projection", "soft_targets": True}),
    },
    SFRonUnlearner: {
        "max_iter": (4, {}),
        "n_repair": (2, {}),
        "learning_rate": (0.1, {}),
        "forget_step": ("clip", {}),
        "forget_norm": (0.5, {}),
        "forget_alpha": (2.0, _CLIPPED),
        "clip_norm": (0.01, _CLIPPED),
        "forget_schedule": ("constant", {}),
        "lambd": (2.0, {}),
        "loss_floor": (0.5, {}),
        "saliency_threshold": (None, {}),
        "slow_learning_rate": (0.5, {}),
        "stop_forget_score": (1.0, {}),
        "optimizer": ("adam", {}),
        "weight_decay": (0.1, {}),
        "shared_optimizer": (False, {}),
        "strict_mask": (True, {}),
        "freeze_norm": (False, {"estimator": "normed"}),
        "fisher": ("sample", {}),
        "mask_max_samples": (12, {}),
        "retained_targets": ("labels", {}),
        "batch_size": (9, {}),
        "random_state": (1, {}),
    },
}


class Normed(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


class Branches(nn.Module):
    """Two linear layers with the same number of features, to choose one as the head."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(5, 8)
        self.first = nn.Linear(8, 3)
        self.last = nn.Linear(8, 3)

    def forward(self, X):
        features = torch.relu(self.inner(X))
        return self.first(features) + self.last(torch.tanh(features))


class Raw(nn.Module):
    """A network that cannot be reinitialized, and so is its own bad teacher."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 3))

    def forward(self, X):
        return X @ self.weight


@pytest.fixture(scope="module")
def blobs():
    X, y = make_blobs([20, 20, 20], n_features=5, cluster_std=4.0, random_state=0)
    return (X / 5).astype(np.float32), y


@pytest.fixture(scope="module")
def forget():
    return np.arange(60) % 5 == 0


@pytest.fixture(scope="module")
def nets(blobs):
    modules = {
        "usual": {"module__hidden_sizes": (8,)},
        "normed": {"module": Normed},
        "branches": {"module": Branches},
        "raw": {"module": Raw},
    }
    return {
        name: NetClassifier(**module, lr=0.1, batch_size=16, max_epochs=5, random_state=0).fit(
            *blobs
        )
        for name, module in modules.items()
    }


@pytest.fixture
def run(blobs, forget, nets):
    """Fit an unlearner of a class with parameters to the net."""

    def fit(unlearner, estimator="usual", **params):
        params = BASE[unlearner] | params
        return unlearner(nets[estimator], **params).fit(*blobs, forget=forget)

    return fit


def weights(estimator):
    state = estimator.module_.named_parameters()
    return {name: value.detach().clone() for name, value in state}


def vector(estimator):
    return torch.cat([value.flatten() for value in weights(estimator).values()])


def before(fitted):
    return vector(fitted.original_estimator_)


def after(fitted):
    return vector(fitted.estimator_)


def inside(fitted):
    """The mask of an unlearner as one vector."""
    return torch.cat(
        [torch.as_tensor(fitted.mask_[k]).flatten() for k in weights(fitted.estimator_)]
    )


@pytest.mark.parametrize("unlearner", CASES, ids=lambda unlearner: unlearner.__name__)
def test_every_parameter_is_tried(unlearner):
    # test_trust_region.py tries the limit on the loss of accuracy.
    elsewhere = {"estimator", "verbose", "retained_tolerance", "on_retained_loss"}
    assert CASES[unlearner].keys() == unlearner().get_params().keys() - elsewhere


@pytest.mark.filterwarnings("ignore:The accuracy on the samples to forget never exceeded")
@pytest.mark.parametrize(
    ("unlearner", "name"),
    [
        pytest.param(unlearner, name, id=f"{unlearner.__name__}-{name}")
        for unlearner, cases in CASES.items()
        for name in cases
    ],
)
def test_parameters_change_the_weights(run, unlearner, name):
    value, where = CASES[unlearner][name]
    usual = run(unlearner, **where)
    assert torch.equal(before(usual), before(run(unlearner, **where)))
    assert torch.equal(after(usual), after(run(unlearner, **where)))
    changed = run(unlearner, **where | {name: value})
    assert torch.equal(before(usual), before(changed))
    assert (after(usual) - after(changed)).abs().max() > 1e-6


@pytest.mark.parametrize("unlearner", FINE_TUNERS, ids=lambda unlearner: unlearner.__name__)
def test_weight_decay_shrinks_the_weights_in_a_step(run, unlearner):
    """AdamW subtracts ``lr * weight_decay`` times the weights, apart from the gradient."""
    params = {"optimizer": "adamw", "max_epochs": 1, "batch_size": 10_000, "learning_rate": 0.01}
    plain = run(unlearner, **params)
    decayed = run(unlearner, weight_decay=0.5, **params)
    fraction = after(plain) - after(decayed)
    expected = 0.01 * 0.5 * before(plain)
    if unlearner is SalUnUnlearner:
        expected *= after(plain) != before(plain)
    torch.testing.assert_close(fraction, expected, rtol=1e-3, atol=1e-6)


def test_sfron_applies_weight_decay_alone(run):
    quiet = {"max_iter": 1, "n_repair": 0, "forget_norm": 0.0, "learning_rate": 0.1}
    assert torch.equal(after(run(SFRonUnlearner, **quiet)), before(run(SFRonUnlearner, **quiet)))
    decayed = run(SFRonUnlearner, weight_decay=0.5, **quiet)
    torch.testing.assert_close(after(decayed), (1 - 0.1 * 0.5) * before(decayed))


@pytest.mark.parametrize("length", [0.3, 2.0])
def test_a_normalized_forget_step_has_the_given_length(run, length):
    fitted = run(SFRonUnlearner, max_iter=1, n_repair=0, forget_norm=length, learning_rate=0.1)
    step = (after(fitted) - before(fitted)).norm().item()
    assert step == pytest.approx(0.1 * length, rel=1e-3)


@pytest.mark.parametrize("clip_norm", [0.01, 0.1])
def test_a_clipped_forget_step_is_no_longer_than_its_bound(run, clip_norm):
    params = {"forget_step": "clip", "forget_alpha": 1e3, "max_iter": 1, "n_repair": 0,
              "learning_rate": 0.1}  # fmt: skip
    fitted = run(SFRonUnlearner, clip_norm=clip_norm, **params)
    step = (after(fitted) - before(fitted)).norm().item()
    assert step == pytest.approx(0.1 * clip_norm, rel=1e-3)


@pytest.mark.parametrize(
    ("schedule", "fractions"),
    [
        ("constant", [1, 1, 1, 1]),
        ("linear", [1, 0.75, 0.5, 0.25]),
        ("quadratic", [1, 0.5625, 0.25, 0.0625]),
        ("cosine", [(1 + math.cos(math.pi * k / 4)) / 2 for k in range(4)]),
    ],
)
def test_forget_steps_decay_as_scheduled(run, schedule, fractions):
    fitted = run(SFRonUnlearner, forget_schedule=schedule, max_iter=4)
    scales = np.array([record["forget_scale"] for record in fitted.history_])
    np.testing.assert_allclose(scales / scales[0], fractions, atol=1e-12)


def test_each_repair_lowers_the_loss_of_retained_samples(run, blobs, forget):
    X, y = (values[~forget] for values in blobs)
    found = []
    for n_repair in (0, 1, 3):
        fitted = run(SFRonUnlearner, n_repair=n_repair, forget_norm=0.0, retained_targets="labels")
        assert fitted.n_repair_steps_ == 3 * n_repair
        proba = fitted.predict_proba(X)
        found.append(-np.log(proba[np.arange(len(y)), y]).mean())
    assert found[0] > found[1] > found[2]


@pytest.mark.parametrize("fraction", [0.25, 0.5])
def test_an_iteration_keeps_a_fraction_of_its_change(run, fraction):
    fast = run(SFRonUnlearner, max_iter=1)
    slow = run(SFRonUnlearner, max_iter=1, slow_learning_rate=fraction)
    expected = before(fast) + fraction * (after(fast) - before(fast))
    torch.testing.assert_close(after(slow), expected)


def test_samples_count_alike_below_the_loss_floor(run):
    floored = run(SFRonUnlearner, loss_floor=1e6)
    alike = run(SFRonUnlearner, lambd=0.0)
    torch.testing.assert_close(after(floored), after(alike), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("strict", [False, True])
def test_a_strict_mask_keeps_other_weights_exactly(run, strict):
    fitted = run(SFRonUnlearner, strict_mask=strict, weight_decay=0.1, n_repair=0)
    selected = inside(fitted)
    assert 0 < selected.float().mean() < 1
    kept = after(fitted)[~selected] == before(fitted)[~selected]
    assert kept.all() if strict else kept.float().mean() < 0.5
    assert not torch.equal(after(fitted)[selected], before(fitted)[selected])


@pytest.mark.parametrize(("freeze_norm", "kept"), [("auto", True), (True, True), (False, False)])
def test_forget_steps_keep_frozen_statistics(run, freeze_norm, kept):
    fitted = run(SFRonUnlearner, estimator="normed", freeze_norm=freeze_norm, n_repair=0)
    statistics = [
        net.module_[1].running_mean for net in (fitted.original_estimator_, fitted.estimator_)
    ]
    assert torch.equal(*statistics) is kept


class Point(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, dtype=torch.float64))


def walk(config, rate=0.1, forget_rate=None):
    """Return how far steps with gradients of length five go, one axis per kind."""
    point = Point()
    forget_optimizer = None
    if forget_rate is not None:
        forget_optimizer = torch.optim.SGD([point.weight], lr=forget_rate)
    history = fast_slow(
        point,
        lambda _: (5 * point.weight[0], torch.tensor(0.0)),
        lambda _: 5 * point.weight[1:2],
        itertools.repeat(None),
        itertools.repeat(None),
        torch.optim.SGD([point.weight], lr=rate),
        config,
        forget_optimizer=forget_optimizer,
    )
    assert len(history) == config.max_iter
    return -point.weight.detach()


@pytest.mark.parametrize(("bound", "length"), [(math.inf, 5.0), (7.0, 5.0), (2.0, 2.0)])
def test_repair_steps_are_no_longer_than_their_bound(bound, length):
    config = FastSlowConfig(4, n_repair=3, forget_norm=0.5, schedule="constant", decay_rate=False,
                repair_clip=bound)  # fmt: skip
    forgotten, repaired = walk(config)[:2]
    assert forgotten.item() == pytest.approx(0.1 * 4 * 0.5)
    assert repaired.item() == pytest.approx(0.1 * 4 * 3 * length, rel=1e-5)


@pytest.mark.parametrize(("decay_rate", "total"), [(False, 4.0), (True, 2.5)])
@pytest.mark.parametrize("forget_rate", [None, 0.3])
def test_the_rates_of_both_optimizers_fall(decay_rate, total, forget_rate):
    """Half a cosine over four steps sums to two and a half."""
    config = FastSlowConfig(4, forget_norm=1.0, schedule="constant", decay_rate=decay_rate)
    forgotten, repaired = walk(config, forget_rate=forget_rate)[:2]
    rate = 0.1 if forget_rate is None else forget_rate
    assert forgotten.item() == pytest.approx(rate * total)
    assert repaired.item() == pytest.approx(0.1 * total * 5)


def test_salun_changes_the_weights_that_matter(run, nets, blobs, forget):
    fraction = 0.25
    fitted = run(SalUnUnlearner, mask_fraction=fraction, batch_size=100, optimizer="adam")

    def salient(rows):
        module = nets["usual"].module_.eval()
        X, y = (torch.as_tensor(values[rows]) for values in blobs)
        loss = nn.functional.cross_entropy(module(X), y)
        found = torch.autograd.grad(loss, list(module.parameters()))
        size = torch.cat([gradient.abs().flatten() for gradient in found])
        return size >= size.sort(descending=True).values[round(fraction * len(size)) - 1]

    moved = after(fitted) != before(fitted)
    assert torch.equal(moved, salient(forget))
    assert not torch.equal(moved, salient(~forget))


@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_a_model_that_is_its_own_teacher_learns_nothing(run, temperature):
    """Teachers and student use the same temperature."""
    fitted = run(
        BadTeacherUnlearner,
        estimator="raw",
        temperature=temperature,
        optimizer="sgd",
        learning_rate=0.1,
    )
    torch.testing.assert_close(after(fitted), before(fitted), rtol=1e-4, atol=1e-5)


def test_each_retained_sample_is_augmented_in_each_epoch(run, forget):
    seen = []

    def record(rows):
        seen.append(len(rows))
        return rows

    same = run(NatMUUnlearner, augment=record, max_epochs=3)
    assert torch.equal(after(same), after(run(NatMUUnlearner, max_epochs=3)))
    assert sum(seen) == 3 * (~forget).sum()


@pytest.mark.parametrize(
    ("head", "reinitialized"), [(None, "last"), ("last", "last"), ("first", "first")]
)
def test_the_named_head_is_reinitialized(run, head, reinitialized):
    fitted = run(NatMUUnlearner, estimator="branches", head=head, reinit_head=True, max_epochs=0)
    old, new = weights(fitted.original_estimator_), weights(fitted.estimator_)
    assert [name for name in old if not torch.equal(old[name], new[name])] == [
        f"{reinitialized}.weight"
    ]


def test_a_new_head_has_the_gain_of_relu_units(blobs, forget):
    net = NetClassifier(module__hidden_sizes=(1000,), max_epochs=1, random_state=0).fit(*blobs)
    fitted = NatMUUnlearner(net, reinit_head=True, max_epochs=0, random_state=0)
    fitted.fit(*blobs, forget=forget)
    spread = head_of(fitted.estimator_.module_).weight.std().item()
    assert spread == pytest.approx(math.sqrt(2) * math.sqrt(2 / (1000 + 3)), rel=0.1)


@pytest.mark.parametrize("eps", [None, 1e-3, 5.0])
def test_head_labels_are_as_sharp_as_random_features(nets, blobs, forget, eps):
    """The softmax of twice the scores of a ridge head fitted to -1 and 1."""
    X, y = blobs
    data = NetData(nets["usual"].module_, X, y, ForgetRequest.from_user(forget, len(X)))
    labels = _muso_labels.HeadLabels(
        data, np.random.RandomState(0), rule="head", soft=True, n_epochs=1, subset_ratio=1.0,
        eps=eps, head=None, initial_head=None,
    )  # fmt: skip
    labels.refit(0)
    found = labels.targets(torch.arange(5))

    def features(index):
        with torch.no_grad():
            inputs = outputs_and_features(data.module, data.inputs(index), head_of(data.module))[1]
        return torch.cat([inputs, torch.ones(len(inputs), 1)], dim=1).double()

    T = 2 * nn.functional.one_hot(data.codes[data.retain], 3).double() - 1
    ridge = _muso_labels.leave_out_head(
        features(data.retain),
        T,
        torch.zeros(9, 3, dtype=torch.float64),
        1e-3 if eps is None else eps,
    )
    scores = features(data.forget[:5]) @ ridge
    torch.testing.assert_close(found, (2 * scores).softmax(dim=1).float(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("eps", "expected"),
    [
        (None, [1e-6 + (1e-2 - 1e-6) * (1 - math.cos(math.pi * k / 4)) / 2 for k in range(5)]),
        (0.3, [0.3] * 5),
    ],
)
def test_the_projection_ridge_rises_unless_given(run, monkeypatch, eps, expected):
    used = []
    projected_head = _muso_labels.projected_head

    def watched(Z, W_0, W_p, eps):
        used.append(eps)
        return projected_head(Z, W_0, W_p, eps)

    monkeypatch.setattr(_muso_labels, "projected_head", watched)
    run(MUSOUnlearner, label_model="projection", eps=eps, max_epochs=5)
    np.testing.assert_allclose(used, expected)


def test_a_given_projection_ridge_changes_the_weights(run):
    params = {"label_model": "projection", "soft_targets": True}
    fitted = [after(run(MUSOUnlearner, eps=eps, **params)) for eps in (None, 10.0)]
    assert not torch.allclose(*fitted, atol=1e-6)


@pytest.mark.parametrize("max_samples", [5, 2000])
def test_max_samples_limits_the_attacked_samples(blobs, forget, max_samples):
    X, y = blobs
    X_test, y_test = X[::3] + 0.5, y[::3]
    classifier = LogisticRegression().fit(X, y)
    metrics = unlearning_report(
        {"model": classifier}, X, y, forget, X_test=X_test, y_test=y_test,
        max_samples=max_samples, random_state=0,
    ).scores["model"]  # fmt: skip
    seed = np.random.RandomState(0).randint(2**31 - 1)
    groups = [(X[forget], y[forget]), (X[~forget], y[~forget]), (X_test, y_test)]
    (_, y_f), (_, y_r), (_, y_t) = groups

    def attacked(attack, n_rows):
        return 100 * membership_inference_score(
            *(classifier.predict_proba(rows) for rows, _ in groups),
            y=y_f, y_member=y_r, y_nonmember=y_t, classes=classifier.classes_, attack=attack,
            max_samples=n_rows, random_state=seed,
        )  # fmt: skip

    assert metrics["MIA_efficacy"] == 100 - attacked("confidence", max_samples)
    assert attacked("confidence", 5) != attacked("confidence", 2000)
