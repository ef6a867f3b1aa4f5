"""Every parameter of the class forgetter has its documented effect."""

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import make_blobs

from sklearn_ext import ConditionalDDPM, SFRonClassForgetter

BASE = {"max_iter": 3, "learning_rate": 0.01, "batch_size": 8, "random_state": 0}

# A second value of each parameter, and the other parameters that it needs to have an effect.
CASES = {
    "max_iter": (4, {}),
    "n_repair": (2, {}),
    "learning_rate": (0.02, {}),
    "forget_loss": ("ascent", {}),
    "redirect_to": (2, {}),
    "forget_alpha": (1.0, {"clip_norm": 1e3}),
    "clip_norm": (0.1, {}),
    "forget_schedule": ("constant", {"clip_norm": 1e3}),
    "lambd": (2.0, {"forget_loss": "ascent"}),
    "loss_floor": (1e3, {"forget_loss": "ascent"}),
    "saliency_threshold": (None, {}),
    "mask_batches": (1, {}),
    "slow_learning_rate": (0.5, {}),
    "strict_mask": (True, {}),
    "cond_drop_prob": (0.9, {}),
    "batch_size": (9, {}),
    "random_state": (1, {}),
}


@pytest.fixture(scope="module")
def blobs():
    X, y = make_blobs([20, 20, 20], n_features=5, cluster_std=4.0, random_state=0)
    return (X / 5).astype(np.float32), y


@pytest.fixture(scope="module")
def model(blobs):
    return ConditionalDDPM(width=8, max_iter=60, n_timesteps=50, random_state=0).fit(*blobs)


@pytest.fixture
def run(blobs, model):
    def fit(**params):
        return SFRonClassForgetter(model, **BASE | params).fit(*blobs, forget_class=0)

    return fit


def module_of(estimator):
    return estimator.diffusion_.module


def vector(estimator):
    parameters = module_of(estimator).parameters()
    return torch.cat([value.detach().clone().flatten() for value in parameters])


def before(fitted):
    return vector(fitted.original_estimator_)


def after(fitted):
    return vector(fitted.estimator_)


def test_every_parameter_is_tested():
    assert CASES.keys() == SFRonClassForgetter().get_params().keys() - {"estimator", "verbose"}


@pytest.mark.parametrize("name", CASES)
def test_parameters_change_the_weights(run, name):
    value, where = CASES[name]
    usual = run(**where)
    assert torch.equal(after(usual), after(run(**where)))
    changed = run(**where | {name: value})
    assert torch.equal(before(usual), before(changed))
    assert (after(usual) - after(changed)).abs().max() > 1e-6


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
    fitted = run(forget_schedule=schedule, max_iter=4)
    scales = np.array([record["forget_scale"] for record in fitted.history_])
    np.testing.assert_allclose(scales / scales[0], fractions, atol=1e-12)


@pytest.mark.parametrize("fraction", [0.25, 0.5])
def test_an_iteration_keeps_a_fraction_of_its_change(run, fraction):
    fast = run(max_iter=1)
    slow = run(max_iter=1, slow_learning_rate=fraction)
    expected = before(fast) + fraction * (after(fast) - before(fast))
    torch.testing.assert_close(after(slow), expected)


def test_losses_below_the_floor_get_equal_weights(run):
    floored = run(loss_floor=1e6, forget_loss="ascent")
    equal = run(lambd=0.0, forget_loss="ascent")
    torch.testing.assert_close(after(floored), after(equal), rtol=1e-4, atol=1e-5)


def test_a_tiny_clip_norm_nearly_stops_all_steps(run):
    """Repair steps are clipped like forget steps, far below the 1e-8 in the divisor of Adam."""
    free, bounded = run(), run(clip_norm=1e-13)
    assert (after(bounded) - before(bounded)).abs().max() < 1e-5
    assert (after(free) - before(free)).abs().max() > 1e-3


def test_cond_drop_prob_is_the_fraction_of_hidden_classes(run):
    """If all classes are hidden, only the embedding of "any class" has a gradient."""
    params = {"forget_loss": "ascent", "saliency_threshold": None}

    def moved(drop_prob):
        fitted = run(cond_drop_prob=drop_prob, **params)
        old, new = (
            module_of(each).condition.classes.weight
            for each in (fitted.original_estimator_, fitted.estimator_)
        )
        return [not torch.equal(*rows) for rows in zip(old, new, strict=True)]

    assert moved(0.0) == [True, True, True, False]
    assert moved(0.5) == [True, True, True, True]
    assert moved(1.0) == [False, False, False, True]


class StopAfterTwo:
    """A callback that stops the fit after two steps."""

    n_steps = 0
    ended = False

    def setup(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        self.n_steps += context.task_name == "step"
        self.ended = context.task_name == "fit"
        return self.n_steps >= 2

    def teardown(self, estimator, context):
        pass


def test_callbacks_follow_and_stop_the_steps(model, blobs):
    stop = StopAfterTwo()
    forgetter = SFRonClassForgetter(model, random_state=0).set_callbacks(stop)
    forgetter.fit(*blobs, forget_class=1)
    assert len(forgetter.history_) == stop.n_steps == 2
    assert stop.ended
