import copy
import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from sklearn_ext import SFRonUnlearner
from sklearn_ext.neural import NetClassifier
from sklearn_ext.unlearning.networks import SFRonConfig
from sklearn_ext.unlearning.networks._sfron_algorithm import _warn_of_clipping


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return (X / 16).astype(np.float32), np.array([f"digit {k}" for k in range(10)])[y]


@pytest.fixture(scope="module")
def net(digits):
    X, y = digits
    net = NetClassifier(
        module__hidden_sizes=(32,), optimizer=torch.optim.SGD, optimizer__momentum=0.9, lr=0.05,
        batch_size=64, max_epochs=15, random_state=0)  # fmt: skip
    return net.fit(X[:600], y[:600])


@pytest.fixture
def train(digits):
    return digits[0][:600], digits[1][:600]


@pytest.fixture
def forget(train):
    return train[1] == "digit 3"


def sfron(net, **params):
    return SFRonUnlearner(net, random_state=0, **params)


def same_weights(first, second):
    pairs = zip(first.module_.parameters(), second.module_.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_a_class_is_forgotten_and_recorded(net, train, forget):
    X, y = train
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # neither damage nor clipping occurs
        unlearner = sfron(net).fit(X, y, forget=forget)
    assert unlearner.score(X[forget], y[forget]) == 0
    assert unlearner.score(X[~forget], y[~forget]) > 0.98
    assert unlearner.stop_forget_score_ == 0
    assert unlearner.stopped_
    n_iter = -(-5 * (~forget).sum() // 64)
    assert len(unlearner.history_) == unlearner.n_repair_steps_ == unlearner.n_iter_ == n_iter
    assert 0 < unlearner.n_forget_steps_ < n_iter
    made = [r for r in unlearner.history_ if np.isfinite(r["forget_loss"])]
    assert len(made) == unlearner.n_forget_steps_
    assert all(r["forget_score"] > 0 for r in made)


def test_large_data_take_two_hundred_iterations(net, train, forget):
    unlearner = sfron(net, batch_size=4, saliency_threshold=None).fit(*train, forget=forget)
    assert len(unlearner.history_) == 200


def test_the_mask_is_an_attribute(net, train, forget):
    unlearner = sfron(net, max_iter=1).fit(*train, forget=forget)
    names = dict(net.module_.named_parameters())
    assert {k: v.shape for k, v in unlearner.mask_.items()} == {
        k: tuple(v.shape) for k, v in names.items()
    }
    fraction = np.concatenate([v.ravel() for v in unlearner.mask_.values()]).mean()
    assert unlearner.mask_density_ == pytest.approx(fraction)
    assert 0.05 < fraction < 0.95
    assert sfron(net, max_iter=1, saliency_threshold=None).fit(*train, forget=forget).mask_ is None
    per_sample = sfron(net, max_iter=1, fisher="sample").fit(*train, forget=forget)
    agreement = np.mean(
        [np.mean(per_sample.mask_[k] == unlearner.mask_[k]) for k in ("1.weight", "3.weight")]
    )
    assert agreement > 0.75


def test_a_threshold_of_zero_selects_all(net, train, forget):
    everything = sfron(net, saliency_threshold=0.0).fit(*train, forget=forget)
    assert everything.mask_density_ == 1


def test_small_forget_sets_use_few_retained_samples(net, train):
    def mask(rows, **params):
        unlearner = sfron(net, max_iter=0, stop_forget_score=0.5, **params)
        return unlearner.fit(*train, forget=rows).mask_["1.weight"]

    assert (mask([17]) == mask([17], mask_max_samples=200)).all()
    assert (mask([17]) != mask([17], mask_max_samples=None)).any()
    ten = range(0, 600, 60)
    assert (mask(ten) == mask(ten, mask_max_samples=None)).all()


def test_zero_iterations_change_nothing(net, train, forget):
    unlearner = sfron(net, max_iter=0).fit(*train, forget=forget)
    assert same_weights(unlearner.estimator_, net)
    assert (unlearner.n_forget_steps_, unlearner.stopped_) == (0, False)


def test_frozen_weights_are_kept_and_not_in_the_mask(net, train, forget):
    partly = copy.deepcopy(net)
    frozen = partly.module_[1].weight.requires_grad_(False)
    unlearner = sfron(partly, optimizer="adam", learning_rate=1e-3).fit(*train, forget=forget)
    assert torch.equal(unlearner.estimator_.module_[1].weight, frozen)
    assert "1.weight" not in unlearner.mask_
    assert not same_weights(unlearner.estimator_, partly)


def test_the_default_optimizer_is_that_of_the_net(net, train, forget):
    like_net = sfron(net, max_iter=5).fit(*train, forget=forget)
    named = sfron(net, max_iter=5, optimizer="sgd", learning_rate=0.05).fit(*train, forget=forget)
    assert same_weights(like_net.estimator_, named.estimator_)
    apart = sfron(net, max_iter=5, shared_optimizer=False).fit(*train, forget=forget)
    assert not same_weights(like_net.estimator_, apart.estimator_)


def test_the_stop_score_is_the_accuracy_of_random_features(net, train):
    X, y = train
    rows = np.arange(len(X)) % 10 == 0
    unlearner = sfron(net).fit(X, y, forget=rows)
    assert 0.85 < unlearner.stop_forget_score_ < 1
    assert sfron(net, stop_forget_score=0.5).fit(X, y, forget=rows).stop_forget_score_ == 0.5


def test_validation_samples_correct_the_stop_score(net, train, digits):
    """The score follows the net; labels that are wrong for both models cancel out."""
    X, y = train
    rows = np.arange(len(X)) % 10 == 0
    X_val, y_val = digits[0][600:1000], digits[1][600:1000].copy()
    honest = sfron(net, max_iter=0).fit(X, y, forget=rows, X_val=X_val, y_val=y_val)
    accuracy = net.score(X_val, y_val)
    assert honest.stop_forget_score_ == pytest.approx(accuracy, abs=0.06)
    y_val[::2] = "digit 0"
    features = sfron(net, max_iter=0).fit(X, y, forget=rows)
    corrected = sfron(net, max_iter=0).fit(X, y, forget=rows, X_val=X_val, y_val=y_val)
    assert corrected.stop_forget_score_ == pytest.approx(features.stop_forget_score_, abs=0.1)


def test_validation_samples_of_a_forgotten_class_are_ignored(net, train, digits, forget):
    unlearner = sfron(net, max_iter=0).fit(
        *train, forget=forget, X_val=digits[0][600:], y_val=digits[1][600:]
    )
    assert unlearner.stop_forget_score_ == 0
    gone = digits[1][600:] == "digit 3"
    unlearner.fit(*train, forget=forget, X_val=digits[0][600:][gone], y_val=digits[1][600:][gone])
    assert unlearner.stop_forget_score_ == 0
    more = forget | (np.arange(600) % 10 == 0)
    first, second = (
        sfron(net, max_iter=0).fit(
            *train, forget=more, X_val=digits[0][600:][rows], y_val=digits[1][600:][rows]
        )
        for rows in (~gone, slice(None))
    )
    assert 0 < first.stop_forget_score_ == second.stop_forget_score_
    with pytest.raises(ValueError, match="must be given together, but y_val is None"):
        sfron(net).fit(*train, forget=forget, X_val=digits[0])
    with pytest.raises(ValueError, match="not among the classes"):
        sfron(net).fit(*train, forget=forget, X_val=digits[0][:1], y_val=["letter"])


def test_clipped_steps_raise_a_warning(net, train, forget):
    unlearner = sfron(net, forget_step="clip", forget_alpha=1e6, clip_norm=0.01)
    with pytest.warns(UserWarning, match="forget steps were clipped to clip_norm=0.01") as record:
        unlearner.fit(*train, forget=forget)
    assert record[0].filename == __file__


@pytest.mark.parametrize(("n_clipped", "message"), [(19, "95% of the forget steps"), (18, None)])
def test_the_warning_says_what_fraction_of_steps_was_clipped(n_clipped, message):
    config = SFRonConfig(learning_rate=0.1, batch_size=8, forget_step="clip", clip_norm=0.5)
    norms = [0.6] * n_clipped + [0.5] * (20 - n_clipped) + [np.nan] * 7  # NaN: no forget step
    history = [{"forget_norm": norm} for norm in norms]
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        _warn_of_clipping(config, history)
    assert [str(each.message)[:23] for each in record] == ([message] if message else [])


def test_damage_to_retained_samples_is_taken_back(net, train, forget):
    X, y = train
    params = {"forget_norm": 50.0, "n_repair": 0, "stop_forget_score": None}
    free = sfron(net, saliency_threshold=None, retained_tolerance=None, **params)
    held = sfron(net, saliency_threshold=None, **params)
    scores = [each.fit(X, y, forget=forget).score(X[~forget], y[~forget]) for each in (free, held)]
    before = net.score(X[~forget], y[~forget])
    assert scores[0] < before - 0.2
    assert scores[1] > before - 0.07
    assert held.n_forget_steps_ < free.n_forget_steps_


def test_from_paper_keeps_the_retained_samples(net, train, forget):
    X, y = train
    unlearner = SFRonUnlearner.from_paper(net, random_state=0, max_iter=60)
    assert unlearner.get_params()["forget_alpha"] == 25
    unlearner.fit(X, y, forget=forget)
    assert unlearner.score(X[~forget], y[~forget]) > 0.95
    assert unlearner.n_repair_steps_ == 300


def test_a_fit_without_forget_steps_warns(net, train, forget):
    with pytest.warns(UserWarning, match="never exceeded the stop_forget_score of 1, so no forget"):
        unlearner = sfron(net, stop_forget_score=1.0, max_iter=2).fit(*train, forget=forget)
    assert (unlearner.n_forget_steps_, unlearner.n_repair_steps_) == (0, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sfron(net, stop_forget_score=None, max_iter=2).fit(*train, forget=forget)


def test_one_sample_can_be_forgotten(net, train):
    X, y = train
    unlearner = sfron(net, stop_forget_score=0.0, forget_norm=3.0).fit(X, y, forget=[17])
    known = [m.predict_proba(X[17:18]).max() for m in (net, unlearner)]
    assert known[1] < known[0]
    assert unlearner.score(X, y) > 0.95


def test_a_fit_that_forgets_nothing_makes_no_iteration(net, train):
    unlearner = sfron(net).fit(*train)
    assert unlearner.n_iter_ == 0
    assert unlearner.history_ == []
    assert unlearner.n_forget_steps_ == unlearner.n_repair_steps_ == 0
    assert not unlearner.stopped_
