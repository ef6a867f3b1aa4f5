import copy
import functools
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits, make_blobs
from sklearn.frozen import FrozenEstimator
from sklearn.neural_network import MLPClassifier
from sklearn.utils._testing import assert_docstring_consistency
from torch.utils.data import TensorDataset

from sklearn_ext import ConditionalDDPM, SFRonClassForgetter, SFRonUnlearner
from sklearn_ext.generative import MLPDenoiser, Noising
from sklearn_ext.metrics import generation_report
from sklearn_ext.neural import torch_generator
from sklearn_ext.unlearning.diffusion import (
    ClassForgettingConfig,
    denoising_sample_losses,
    forget_classes,
    redirected_codes,
    redirection,
)

CENTERS = np.array([[-6.0, 0.0], [6.0, 0.0], [0.0, 9.0]])
LABELS = np.array(["left", "right", "top"])


@pytest.fixture(scope="module")
def blobs():
    X, codes = make_blobs([60, 60, 60], centers=CENTERS, cluster_std=1.0, random_state=0)
    return X, LABELS[codes]


@pytest.fixture(scope="module")
def model(blobs):
    return ConditionalDDPM(width=48, max_iter=500, random_state=0).fit(*blobs)


@pytest.fixture(scope="module")
def redirected(model, blobs):
    return SFRonClassForgetter(model, random_state=0).fit(*blobs, forget_class="left")


def weights(fitted):
    return fitted.diffusion_.module.state_dict()


def same_weights(first, second):
    return all(torch.equal(value, weights(second)[name]) for name, value in weights(first).items())


def nearest(fitted, label, n=100):
    samples, _ = fitted.sample(n, label, random_state=0, allow_forgotten=True)
    codes = np.square(samples[:, None] - CENTERS).sum(axis=2).argmin(axis=1)
    return np.bincount(codes, minlength=3) / n


def test_a_redirected_class_generates_the_next_class(model, redirected):
    assert nearest(model, "left")[0] > 0.95
    assert nearest(redirected, "left")[0] < 0.1
    assert nearest(redirected, "right")[1] > 0.95
    assert nearest(redirected, "top")[2] > 0.95


def test_a_class_can_be_redirected_to_any_retained_class(model, blobs):
    forgetter = SFRonClassForgetter(model, redirect_to="top", max_iter=100, random_state=0)
    forgetter.fit(*blobs, forget_class="left")
    assert nearest(forgetter, "left")[2] > 0.8


def test_an_ascent_raises_the_loss_of_the_class_only(model, blobs):
    X, y = blobs
    forgetter = SFRonClassForgetter(model, forget_loss="ascent", random_state=0)
    forgetter.fit(X, y, forget_class="left")
    left = y == "left"
    rise = model.score_samples(X, y) - forgetter.score_samples(X, y)
    assert rise[left].mean() > 10 * np.abs(rise[~left].mean())
    assert nearest(forgetter, "right")[1] > 0.95


def test_from_paper_ascends_with_the_published_settings(model, blobs):
    forgetter = SFRonClassForgetter.from_paper(model, random_state=0)
    assert forgetter.forget_loss == "ascent"
    assert (forgetter.learning_rate, forgetter.batch_size) == (1e-4, 128)
    explicit = SFRonClassForgetter(
        model, forget_loss="ascent", learning_rate=1e-4, batch_size=128, random_state=0
    )
    for each in (forgetter, explicit):
        each.fit(*blobs, forget_class="left")
    assert same_weights(forgetter.estimator_, explicit.estimator_)
    first, last = forgetter.history_[0], forgetter.history_[-1]
    assert last["forget_loss"] > first["forget_loss"]
    assert nearest(forgetter, "right")[1] > 0.95
    assert SFRonClassForgetter.from_paper(lambd=0.0).lambd == 0.0


def test_several_classes_are_forgotten_at_once(model, blobs):
    forgetter = SFRonClassForgetter(model, random_state=0).fit(*blobs, forget_class=["left", "top"])
    assert forgetter.estimator_.forgotten_classes_.tolist() == ["left", "top"]
    assert (np.unique(blobs[1][forgetter.forget_idx_]) == ["left", "top"]).all()
    assert nearest(forgetter, "left")[0] < 0.2
    assert nearest(forgetter, "top")[2] < 0.2
    assert set(forgetter.sample(20, random_state=0)[1]) == {"right"}


def test_classes_can_be_forgotten_one_after_another(redirected, blobs):
    forgetter = SFRonClassForgetter(redirected.estimator_, max_iter=1, random_state=0)
    forgetter.fit(*blobs, forget_class="right")
    assert forgetter.estimator_.forgotten_classes_.tolist() == ["left", "right"]


def test_a_second_request_keeps_the_first_class_forgotten(redirected, blobs):
    forgetter = SFRonClassForgetter(redirected.estimator_, random_state=0)
    again = forgetter.fit(*blobs, forget_class="top")
    assert nearest(again, "left")[0] < 0.1  # repair steps use no sample of it
    assert nearest(again, "top")[1] > 0.8  # the forgotten class is not the next class
    assert nearest(again, "right")[1] > 0.95
    with pytest.raises(ValueError, match="At least one class must be retained"):
        SFRonClassForgetter(again.estimator_).fit(*blobs, forget_class="right")


def test_forgotten_classes_are_refused_and_not_trained_again(redirected, blobs, tmp_path):
    changed = redirected.estimator_
    assert changed.forgotten_classes_.tolist() == ["left"]
    with pytest.raises(ValueError, match="forgotten"):
        redirected.sample(3, "left")
    assert set(redirected.sample(50, n_steps=2, random_state=0)[1]) == {"right", "top"}
    path = tmp_path / "model.safetensors"
    changed.save_checkpoint(path)
    loaded = ConditionalDDPM(width=48, warm_start=True, max_iter=600).load_checkpoint(path)
    assert loaded.forgotten_classes_.tolist() == ["left"]
    assert same_weights(loaded, changed)
    with pytest.raises(ValueError, match="cannot continue the training"):
        loaded.fit(*blobs)


def test_a_dataset_and_its_arrays_give_the_same_result(blobs):
    X, codes = blobs[0].astype(np.float32), np.searchsorted(LABELS, blobs[1])
    data = TensorDataset(torch.from_numpy(X), torch.from_numpy(codes))
    model = ConditionalDDPM(width=8, max_iter=20, random_state=0).fit(X, codes)
    forgetters = [
        SFRonClassForgetter(model, max_iter=3, random_state=0).fit(*given, forget_class=1)
        for given in ((X, codes), (data, None), (data, codes))
    ]
    for each in forgetters[1:]:
        assert same_weights(each.estimator_, forgetters[0].estimator_)
        np.testing.assert_array_equal(each.forget_idx_, forgetters[0].forget_idx_)


def test_the_given_model_is_not_changed(model, blobs):
    before, state = copy.deepcopy(weights(model)), pickle.dumps(model.training_state_)
    SFRonClassForgetter(model, max_iter=2, random_state=0).fit(*blobs, forget_class="top")
    assert all(torch.equal(value, before[name]) for name, value in weights(model).items())
    assert pickle.dumps(model.training_state_) == state
    assert len(model.forgotten_classes_) == 0


def test_seeds_and_pickles_reproduce_the_result(model, redirected, blobs):
    again = clone(redirected).set_params(estimator=FrozenEstimator(model))
    again = clone(again).fit(*blobs, forget_class="left")
    assert same_weights(again.estimator_, redirected.estimator_)
    assert again.history_ == redirected.history_
    stored = pickle.loads(pickle.dumps(redirected))
    np.testing.assert_array_equal(
        stored.sample(3, random_state=0)[0], redirected.sample(3, random_state=0)[0]
    )
    other = SFRonClassForgetter(model, random_state=1).fit(*blobs, forget_class="left")
    assert not same_weights(other.estimator_, redirected.estimator_)


def test_the_history_has_a_record_per_iteration(redirected):
    assert [record["iteration"] for record in redirected.history_] == list(range(1, 51))
    assert redirected.n_forget_steps_ == redirected.n_repair_steps_ == 50
    assert redirected.n_iter_ == 50
    assert redirected.history_[0]["forget_scale"] == 10
    assert redirected.history_[-1]["forget_loss"] > 2 * redirected.history_[0]["forget_loss"]
    assert 0 < redirected.mask_density_ < 1
    names = {name for name, _ in redirected.estimator_.diffusion_.module.named_parameters()}
    assert set(redirected.mask_) == names


def test_without_a_request_or_iterations_nothing_changes(model, blobs):
    unasked = SFRonClassForgetter(model, random_state=0).fit(*blobs)
    assert same_weights(unasked.estimator_, model)
    assert len(unasked.forget_idx_) == len(unasked.history_) == 0
    idle = SFRonClassForgetter(model, max_iter=0, random_state=0).fit(*blobs, forget_class="left")
    assert same_weights(idle.estimator_, model)
    assert unasked.score(*blobs) == model.score(*blobs)
    np.testing.assert_array_equal(
        unasked.reconstruct(blobs[0], random_state=0), model.reconstruct(blobs[0], random_state=0)
    )


def test_the_saliency_threshold_controls_the_mask(model, blobs):
    build = functools.partial(SFRonClassForgetter, model, random_state=0, max_iter=3)
    fit = {"forget_class": "left"}
    assert build(saliency_threshold=0.0).fit(*blobs, **fit).mask_density_ == 1
    assert build(saliency_threshold=None).fit(*blobs, **fit).mask_ is None
    closed = build(saliency_threshold=float("inf"), strict_mask=True, n_repair=0).fit(*blobs, **fit)
    assert same_weights(closed.estimator_, model)


@pytest.mark.parametrize("forget_loss", ["redirect", "ascent"])
def test_an_unfitted_model_is_fitted_first(blobs, forget_loss):
    unfitted = ConditionalDDPM(width=16, max_iter=5)
    forgetter = SFRonClassForgetter(
        unfitted, max_iter=2, mask_batches=2, forget_loss=forget_loss, random_state=0
    ).fit(*blobs, forget_class="left")
    assert not hasattr(unfitted, "diffusion_")
    assert forgetter.original_estimator_.n_iter_ == 5
    again = clone(forgetter).fit(*blobs, forget_class="left")
    assert same_weights(again.estimator_, forgetter.estimator_)


def test_redirection_has_no_gradient_through_the_other_class(model, blobs):
    diffusion = copy.deepcopy(model.diffusion_)
    x = diffusion.encode(blobs[0].astype(np.float32))[:7]
    own, other = torch.zeros(7, dtype=torch.int64), torch.ones(7, dtype=torch.int64)
    indices = torch.arange(7)

    def objective(codes):
        noising = Noising(diffusion.levels, 3, 0.0, torch_generator(0))
        return redirection(diffusion.module, noising, x, own, codes)(indices)

    value, loss = objective(other)
    batch = Noising(diffusion.levels, 3, 0.0, torch_generator(0))(x, own)
    estimates = [diffusion.module(batch.x, batch.times, codes) for codes in (own, other)]
    torch.testing.assert_close(value, (estimates[0] - estimates[1]).square().mean())
    torch.testing.assert_close(loss, batch.losses(diffusion.module).mean())
    value.backward()
    embedding = diffusion.module.condition.classes.weight.grad
    assert embedding[0].abs().sum() > 0
    assert (embedding[1:] == 0).all()
    assert objective(own)[0] == 0
    losses = denoising_sample_losses(
        diffusion.module, Noising(diffusion.levels, 3, 0.0, torch_generator(0)), x, own
    )(indices)
    torch.testing.assert_close(losses.mean(), loss)


@pytest.mark.parametrize(("redirect_to", "expected"), [(None, [0, 3, 3, 0]), (0, [0, 0, 3, 0])])
def test_forgotten_codes_are_redirected_to_retained_ones(redirect_to, expected):
    codes, forgotten = np.array([0, 1, 3, 4]), np.array([1, 2, 4])
    assert redirected_codes(codes, forgotten, redirect_to).tolist() == expected


def test_the_algorithm_leaves_the_given_module_unchanged(model, blobs):
    diffusion = model.diffusion_
    before = copy.deepcopy(diffusion.module.state_dict())
    result = forget_classes(
        diffusion.module,
        diffusion.encode(blobs[0].astype(np.float32)),
        diffusion.code_tensor(np.unique(blobs[1], return_inverse=True)[1]),
        np.array([0]),
        levels=diffusion.levels,
        n_classes=3,
        config=ClassForgettingConfig(max_iter=5, mask_batches=1),
        generator=torch_generator(0),
        report=lambda record: record["iteration"] == 2,
    )
    assert len(result.history) == 2
    assert all(torch.equal(diffusion.module.state_dict()[k], v) for k, v in before.items())
    changed = result.module.state_dict()
    assert not all(torch.equal(changed[name], value) for name, value in before.items())


def test_verbose_prints_the_records(model, blobs, capsys):
    SFRonClassForgetter(model, max_iter=1, verbose=1).fit(*blobs, forget_class="left")
    assert "[SFRonClassForgetter] iteration 1, forget_loss" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("params", "fit", "error", "message"),
    [
        ({}, {"forget_class": "bottom"}, ValueError, "not among the classes"),
        ({}, {"forget_class": LABELS}, ValueError, "At least one class must be retained"),
        ({}, {"forget_class": []}, ValueError, "must name at least one class, got an empty list"),
        (
            {"redirect_to": "left"},
            {"forget_class": "left"},
            ValueError,
            "one of the retained classes",
        ),
        ({"redirect_to": "up"}, {"forget_class": "left"}, ValueError, "not among the classes"),
        ({"forget_loss": "random"}, {}, ValueError, "'forget_loss' parameter"),
        ({"estimator": MLPClassifier()}, {}, TypeError, "estimator must be None, a Conditional"),
        ({"estimator": FrozenEstimator(ConditionalDDPM())}, {}, ValueError, "not fitted"),
    ],
)
def test_errors_name_the_invalid_argument(model, blobs, params, fit, error, message):
    with pytest.raises(error, match=message):
        SFRonClassForgetter(**{"estimator": model, **params}).fit(*blobs, **fit)


def test_weights_that_are_not_finite_raise_an_error(model, blobs):
    forgetter = SFRonClassForgetter(model, learning_rate=1e38)
    with pytest.raises(ValueError, match=r"not finite. Use a learning_rate below 1e\+38"):
        forgetter.fit(*blobs, forget_class="left")
    assert not hasattr(forgetter, "estimator_")


def test_data_that_do_not_match_the_model_are_refused(model, blobs):
    X, y = blobs
    with pytest.raises(ValueError, match=r"fitted to samples of shape \(2,\)"):
        SFRonClassForgetter(model).fit(X[:, :1], y, forget_class="left")
    with pytest.raises(ValueError, match=r"names \['top'\], but X has no samples"):
        SFRonClassForgetter(model).fit(X[y != "top"], y[y != "top"], forget_class="top")
    unlabeled = ConditionalDDPM(module=functools.partial(MLPDenoiser, width=8), max_iter=2).fit(X)
    with pytest.raises(ValueError, match="must be fitted with labels"):
        SFRonClassForgetter(unlabeled).fit(X, y, forget_class="left")


def test_shared_attributes_are_described_as_in_related_classes():
    facts = ["input_shape_", "n_features_in_", "feature_names_in_"]
    assert_docstring_consistency([ConditionalDDPM, SFRonClassForgetter], include_attrs=facts)
    steps = ["classes_", "n_forget_steps_", "n_repair_steps_", "mask_density_"]
    related = [SFRonUnlearner, SFRonClassForgetter]
    assert_docstring_consistency(related, include_attrs=facts + steps)


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    X = X / 8 - 1
    classifier = MLPClassifier((256, 128), random_state=0).fit(X, y)
    return X, y, classifier, ConditionalDDPM(random_state=0).fit(X, y)


def evaluate(digits, forget_class, **params):
    X, y, classifier, model = digits
    forgetter = SFRonClassForgetter(model, random_state=0, **params)
    forgetter.fit(X, y, forget_class=forget_class)
    models = {"before": model, "after": forgetter}
    report = generation_report(models, classifier, X, y, forget_class, random_state=0)
    return report.scores["before"], report.scores["after"]


@pytest.mark.slow
@pytest.mark.parametrize("forget_loss", ["redirect", "ascent"])
def test_every_digit_can_be_forgotten_in_fifty_steps(digits, forget_loss):
    pairs = [evaluate(digits, label, forget_loss=forget_loss) for label in range(10)]
    assert sum(after["valid_forget_accuracy"] <= 0.05 for _, after in pairs) >= 9
    for before, after in pairs:
        assert before["valid_forget_accuracy"] > 0.9
        assert after["other_accuracy"] >= 0.98
        assert after["other_frechet_distance"] <= 2.5 * before["other_frechet_distance"]
    assert np.mean([after["other_loss"] / before["other_loss"] for before, after in pairs]) < 1.15
    if forget_loss == "redirect":
        assert sum(after["forget_accuracy"] <= 0.1 for _, after in pairs) >= 8


@pytest.mark.slow
def test_ascent_without_repair_damages_the_other_digits(digits):
    before, after = evaluate(digits, 3, forget_loss="ascent", n_repair=0)
    _, repaired = evaluate(digits, 3, forget_loss="ascent")
    assert after["other_frechet_distance"] > 10 * before["other_frechet_distance"]
    assert after["other_frechet_distance"] > 5 * repaired["other_frechet_distance"]


@pytest.mark.slow
@pytest.mark.parametrize("forget_loss", ["redirect", "ascent"])
def test_repair_alone_forgets_nothing(digits, forget_loss):
    _, after = evaluate(digits, 3, forget_loss=forget_loss, forget_alpha=0.0)
    assert after["valid_forget_accuracy"] > 0.9
