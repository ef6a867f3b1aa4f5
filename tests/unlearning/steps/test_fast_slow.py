import math
from itertools import repeat

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from sklearn_ext.unlearning.steps import (
    SCHEDULES,
    FastSlowConfig,
    ascent_weights,
    endless_batches,
    fast_slow,
    weighted_ascent,
)

CONSTANT = {"schedule": "constant", "decay_rate": False}


class Point(nn.Module):
    """Weights alone, for losses that are functions of them."""

    def __init__(self, start):
        super().__init__()
        self.weight = nn.Parameter(start.clone())


def quadratic(dimension=30):
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(
        torch.randn(dimension, dimension, generator=generator, dtype=torch.float64)
    ).Q
    values = torch.logspace(-2, 1, dimension, dtype=torch.float64)
    direction = torch.randn(dimension, generator=generator, dtype=torch.float64)
    return values, basis, direction


def run_quadratic(n_iter, n_repair, slow=1.0, rate=0.05):
    values, basis, g = quadratic()
    hessian = (basis * values) @ basis.T
    point = Point(torch.zeros_like(g))
    fast_slow(
        point,
        lambda _: ((point.weight * g).sum(), torch.tensor(0.0)),
        lambda _: 0.5 * (point.weight @ hessian @ point.weight)[None],
        repeat(None),
        repeat(None),
        torch.optim.SGD(point.parameters(), lr=rate),
        FastSlowConfig(n_iter, n_repair, normalize=False, forget_alpha=1.0, clip_norm=math.inf,
             slow_learning_rate=slow, **CONSTANT),
    )  # fmt: skip
    return point.weight.detach(), values, basis, g


def cosine(a, b):
    return float(a @ b / (a.norm() * b.norm()))


@pytest.mark.parametrize(("n_repair", "n_iter"), [(1, 100), (5, 200), (20, 10)])
def test_displacements_on_a_quadratic_follow_the_formula(n_repair, n_iter):
    rate = 0.05
    moved, values, basis, g = run_quadratic(n_iter, n_repair)
    contraction = (1 - rate * values) ** n_repair
    response = contraction * (1 - contraction**n_iter) / (1 - contraction)
    expected = -rate * basis @ (response * (basis.T @ g))
    assert (moved - expected).norm() < 1e-10 * expected.norm()


def test_accumulation_turns_ascent_into_a_newton_step():
    found = {}
    for n_repair, n_iter in [(1, 1), (1, 10), (1, 100), (5, 10), (5, 100), (20, 100)]:
        moved, values, basis, g = run_quadratic(n_iter, n_repair)
        newton = -basis @ ((basis.T @ g) / values)
        found[n_repair, n_iter] = cosine(moved, newton)
    assert found[1, 1] < found[1, 10] < found[1, 100] < found[5, 100] < found[20, 100]
    assert found[5, 10] > found[1, 10]
    assert found[20, 100] > 0.97


def test_a_slow_rate_takes_the_same_path_more_slowly():
    n_repair, n_iter, slow, rate = 5, 40, 0.5, 0.05
    moved, values, basis, g = run_quadratic(n_iter, n_repair, slow=slow)
    contraction = (1 - rate * values) ** n_repair
    slowed = 1 - slow + slow * contraction
    limit = contraction / (1 - contraction)  # the same as for whole steps
    expected = -rate * basis @ (limit * (1 - slowed**n_iter) * (basis.T @ g))
    assert (moved - expected).norm() < 1e-10 * expected.norm()


def test_ascent_weights_have_the_tabulated_values():
    losses = torch.tensor([1e-4, 1e-3, 1e-2, 0.1, 1.0], dtype=torch.float64)
    expected = {
        0.0: ([1, 1, 1, 1, 1], 0.2222),
        0.5: ([3.4297, 1.0846, 0.343, 0.1085, 0.0343], 0.01),
        1.0: ([4.5, 0.45, 0.045, 0.0045, 0.00045], 0.00045),
    }
    for lambd, (weights, loss) in expected.items():
        found = ascent_weights(losses, lambd, 1e-4)
        np.testing.assert_allclose(5 * found, weights, rtol=1e-3)
        assert float((found * losses).sum()) == pytest.approx(loss, rel=2e-2)
    alone = ascent_weights(losses.float(), 100.0, 1e-4)
    np.testing.assert_allclose(alone, [1, 0, 0, 0, 0], atol=1e-6)


def forget_gradient(floor):
    logits = torch.tensor([[40.0, 0, 0], [2.0, 0, 0], [1.0, 0, 0]], requires_grad=True)
    losses = nn.functional.cross_entropy(
        logits, torch.zeros(3, dtype=torch.int64), reduction="none"
    )
    assert losses[0] == 0
    objective, _ = weighted_ascent(lambda _: losses, 0.5, floor)(None)
    objective.backward()
    return logits.grad.norm()


def test_a_loss_that_underflows_does_not_cancel_the_step():
    assert forget_gradient(1e-30) < 1e-8
    assert forget_gradient(1e-4) > 1e-3


def test_schedules_fall_from_one():
    for name, factor in SCHEDULES.items():
        values = [factor(k, 8) for k in range(8)]
        assert values[0] == 1
        assert values == sorted(values, reverse=True)
        assert (values[-1] < 0.2) == (name != "constant")


def test_batches_are_endless_and_reshuffled():
    rows = torch.arange(10, 20)
    stream = endless_batches(rows, 4, torch.Generator().manual_seed(0))
    passes = [torch.cat([next(stream) for _ in range(3)]) for _ in range(4)]
    for each in passes:
        assert torch.equal(each.sort().values, rows)
    assert len({tuple(each.tolist()) for each in passes}) > 1


def test_a_small_set_is_repeated():
    stream = endless_batches(torch.tensor([7]), 4, torch.Generator().manual_seed(0))
    assert [next(stream).tolist() for _ in range(3)] == [[7]] * 3


class Classification:
    """A small network on random samples, of which the first ten are to be forgotten."""

    def __init__(self):
        generator = torch.Generator().manual_seed(1)
        self.X = torch.randn(60, 5, generator=generator)
        self.y = torch.randint(3, (60,), generator=generator)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.module = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))

    def losses(self, rows):
        return nn.functional.cross_entropy(
            self.module(self.X[rows]), self.y[rows], reduction="none"
        )

    def streams(self):
        generator = torch.Generator().manual_seed(2)
        forget, retain = torch.arange(10), torch.arange(10, 60)
        return endless_batches(forget, 4, generator), endless_batches(retain, 8, generator)

    def run(self, lambd=0.5, optimizer=None, mask=None, stop=None, **plan):
        return fast_slow(
            self.module,
            weighted_ascent(self.losses, lambd),
            self.losses,
            *self.streams(),
            optimizer or torch.optim.SGD(self.module.parameters(), lr=0.1),
            FastSlowConfig(**plan),
            mask=mask,
            forget_score=lambda: float(self.losses(torch.arange(10)).mean() < 5),
            stop_score=stop,
        )

    def weights(self):
        return [weight.detach().clone() for weight in self.module.parameters()]


def assert_same(first, second):
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def assert_moved(first, second):
    assert not all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def decayed(k, n):
    return 0.1 * ((1 + math.cos(math.pi * k / n)) / 2)


def test_without_repair_it_is_gradient_ascent():
    ours, theirs = Classification(), Classification()
    ours.run(lambd=0.0, max_iter=12, n_repair=0, normalize=False, forget_alpha=1.0,
             clip_norm=math.inf, schedule="constant")  # fmt: skip
    stream, _ = theirs.streams()
    for k in range(12):
        losses = theirs.losses(next(stream))
        theirs.module.zero_grad()
        (-(losses * (1 / torch.ones_like(losses).sum())).sum()).backward()
        with torch.no_grad():
            for weight in theirs.module.parameters():
                weight.add_(weight.grad, alpha=-decayed(k, 12))
    assert_same(ours.weights(), theirs.weights())


def test_without_ascent_it_is_fine_tuning():
    ours, theirs = Classification(), Classification()
    ours.run(max_iter=12, normalize=False, forget_alpha=0.0)
    forget, retain = theirs.streams()
    for k in range(12):
        next(forget)
        theirs.module.zero_grad()
        theirs.losses(next(retain)).mean().backward()
        with torch.no_grad():
            for weight in theirs.module.parameters():
                weight.add_(weight.grad, alpha=-decayed(k, 12))
    assert_same(ours.weights(), theirs.weights())


def test_zero_iterations_change_nothing():
    problem = Classification()
    before = problem.weights()
    assert problem.run(max_iter=0) == []
    assert_same(before, problem.weights())


def test_a_full_mask_changes_nothing():
    masked, free = Classification(), Classification()
    full = {
        name: torch.ones_like(w, dtype=torch.bool) for name, w in masked.module.named_parameters()
    }
    masked.run(max_iter=6, mask=full)
    free.run(max_iter=6)
    assert_same(masked.weights(), free.weights())


def test_a_strict_empty_mask_disables_forget_steps():
    problem = Classification()
    before = problem.weights()
    empty = {
        name: torch.zeros_like(w, dtype=torch.bool) for name, w in problem.module.named_parameters()
    }
    optimizer = torch.optim.SGD(problem.module.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    problem.run(max_iter=6, n_repair=0, mask=empty, strict_mask=True, optimizer=optimizer)
    assert_same(before, problem.weights())
    optimizer = torch.optim.SGD(problem.module.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    problem.run(max_iter=6, n_repair=0, mask=empty, optimizer=optimizer)
    assert_moved(before, problem.weights())


def test_a_normalized_step_has_the_given_length():
    problem = Classification()
    before = torch.cat([w.flatten() for w in problem.weights()])
    (record,) = problem.run(max_iter=1, n_repair=0, forget_norm=0.7)
    after = torch.cat([w.flatten() for w in problem.weights()])
    assert (after - before).norm().item() == pytest.approx(0.1 * 0.7, rel=1e-5)
    assert record["forget_scale"] == 0.7
    assert math.isnan(record["remain_loss"])


def test_a_clipped_step_is_no_longer_than_its_bound():
    problem = Classification()
    before = torch.cat([w.flatten() for w in problem.weights()])
    (record,) = problem.run(
        max_iter=1, n_repair=0, normalize=False, forget_alpha=1e4, clip_norm=2.0
    )
    after = torch.cat([w.flatten() for w in problem.weights()])
    assert (after - before).norm().item() == pytest.approx(0.1 * 2.0, rel=1e-5)
    assert record["forget_norm"] > 2.0


def test_below_the_stop_score_there_is_only_repair():
    stopped, tuned = Classification(), Classification()
    history = stopped.run(max_iter=5, stop=1.0)
    assert all(math.isnan(record["forget_loss"]) for record in history)
    assert {record["forget_score"] for record in history} == {1.0}
    _, retain = tuned.streams()
    optimizer = torch.optim.SGD(tuned.module.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(2)
    retain = endless_batches(torch.arange(10, 60), 8, generator)
    for k in range(5):
        optimizer.param_groups[0]["lr"] = decayed(k, 5)
        optimizer.zero_grad()
        tuned.losses(next(retain)).mean().backward()
        optimizer.step()
    assert_same(stopped.weights(), tuned.weights())


def test_forget_steps_can_keep_running_statistics():
    module = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    problem = Classification()
    problem.module = module
    before = module[1].running_mean.clone()
    problem.run(max_iter=3, n_repair=0, freeze_norm=True)
    assert torch.equal(before, module[1].running_mean)
    problem.run(max_iter=3, n_repair=0)
    assert not torch.equal(before, module[1].running_mean)


def softmax_regression(kind):
    """Digits, with the minimizers on all samples and on the retained ones; L2 of 1e-2."""
    X, y = load_digits(return_X_y=True)
    rows = np.random.RandomState(0).permutation(len(X))[:900]
    X = torch.tensor(X[rows] / 16, dtype=torch.float64)
    y = torch.tensor(y[rows])
    forget = torch.arange(900) < 90 if kind == "random" else y == 3

    def total(W, rows):
        return nn.functional.cross_entropy(X[rows] @ W, y[rows], reduction="sum") / 900

    def ridge(W):
        return 5e-3 * (W**2).sum()

    def hessian(W, rows):
        p = (X[rows] @ W).softmax(dim=1)
        curvature = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
        H = torch.einsum("ni,nj,ncd->icjd", X[rows], X[rows], curvature) / 900
        return H.reshape(640, 640) + 1e-2 * torch.eye(640, dtype=H.dtype)

    def minimize(rows):
        W = torch.zeros(64, 10, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS(
            [W], max_iter=60, history_size=50,
            line_search_fn="strong_wolfe")  # fmt: skip

        def closure():
            optimizer.zero_grad()
            loss = total(W, rows) + ridge(W)
            loss.backward()
            return loss

        optimizer.step(closure)
        W = W.detach()
        for _ in range(3):  # Newton's last digits
            gradient = torch.func.grad(lambda W: total(W, rows) + ridge(W))(W)
            W = W - torch.linalg.solve(hessian(W, rows), gradient.reshape(-1)).view(64, 10)
        return W

    everything = torch.ones(900, dtype=torch.bool)
    return X, y, forget, total, ridge, hessian, minimize(everything), minimize(~forget)


@pytest.mark.parametrize(("kind", "newton_cosine"), [("random", 0.999), ("class", 0.95)])
def test_softmax_regression_ends_at_the_retrained_model(kind, newton_cosine):
    X, y, forget, total, ridge, hessian, trained, retrained = softmax_regression(kind)
    gradient_r = torch.func.grad(lambda W: total(W, ~forget) + ridge(W))(trained)
    gradient_f = torch.func.grad(lambda W: total(W, forget))(trained)
    assert (gradient_r + gradient_f).abs().max() < 1e-10  # the path starts at a stationary point
    newton = torch.linalg.solve(hessian(trained, ~forget), gradient_f.reshape(-1))
    assert cosine(newton, (retrained - trained).reshape(-1)) > newton_cosine

    point = Point(trained)
    fast_slow(
        point,
        lambda _: (-total(point.weight, forget), torch.tensor(0.0)),
        lambda _: (total(point.weight, ~forget) + ridge(point.weight))[None],
        repeat(None),
        repeat(None),
        torch.optim.SGD(point.parameters(), lr=0.5),
        FastSlowConfig(400, 5, normalize=False, forget_alpha=0.05, clip_norm=math.inf),
    )
    found = point.weight.detach()
    assert (found - retrained).norm() < 0.08 * (trained - retrained).norm()
    predictions = [(X[forget] @ W).argmax(dim=1) for W in (found, retrained)]
    accuracies = [(each == y[forget]).double().mean().item() for each in predictions]
    assert accuracies[0] == accuracies[1]
    assert accuracies[1] == 0 if kind == "class" else 0.9 < accuracies[1] < 1
