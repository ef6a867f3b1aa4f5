r"""The loop in which coefficients are learned, the same for every learned soup.

A step costs one forward and backward pass of one network, whatever the number of ingredients: the
gradient with respect to the weights is projected on the directions of a block, the free variables
of the coefficients move, and the network is set to the new combination.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..neural import cosine_decay, n_minibatches, torch_generator
from ._hyperplane import sum_by_group
from ._span import StoredSpan, StreamedSpan

_SPANS = {"streamed": StreamedSpan, "stored": StoredSpan}


@dataclass(frozen=True)
class Schedule:
    """How long and how fast coefficients are learned.

    Attributes
    ----------
    max_epochs : int
        Passes over the mixing rows.
    min_steps : int
        There are further passes until so many steps are done.
    batch_size : int
    lr : float
    optimizer : callable
        Class of a torch optimiser. Weight decay is 0: it would pull towards the origin of the
        block, not towards small weights.
    warmup : float or None
        Share of the steps in which the rate rises, before it falls along a cosine. None keeps
        the rate constant.
    clip_norm : float or None
        Largest norm of the gradient with respect to all weights.
    """

    max_epochs: int
    min_steps: int
    batch_size: int
    lr: float
    optimizer: Callable
    warmup: float | None
    clip_norm: float | None

    def n_epochs(self, n_rows):
        """Return the number of passes over so many rows."""
        return max(self.max_epochs, math.ceil(self.min_steps / self.n_batches(n_rows)))

    def n_batches(self, n_rows):
        """Return the number of steps of a pass."""
        return n_minibatches(n_rows, self.batch_size)

    def rate(self, step, n_steps):
        """Learning rate of a step."""
        if self.warmup is None:
            return self.lr
        return self.lr * cosine_decay(step, n_steps, warmup=int(self.warmup * n_steps))


@dataclass(frozen=True)
class MixedGroups:
    """The tensors that are mixed, and the groups that they belong to.

    Attributes
    ----------
    names : list of str
        The T tensors that differ between ingredients.
    group_of : tensor of int64 of shape (T,)
    n_groups : int
        Groups without a tensor that differs count too; their coefficients stay as they are.
    """

    names: list[str]
    group_of: torch.Tensor
    n_groups: int

    @classmethod
    def of(cls, groups, names):
        """Find the groups of some tensors in a dict of all groups."""
        number = {name: g for g, members in enumerate(groups.values()) for name in members}
        return cls(names, torch.tensor([number[n] for n in names], dtype=torch.int64), len(groups))

    def total(self, by_tensor):
        """Sum over the tensors of each group, from (T, b) to (G, b)."""
        return sum_by_group(by_tensor, self.group_of, self.n_groups)


def open_span(bench, groups, block, coef, directions):
    """Return what computes inner products and moves for a block.

    Parameters
    ----------
    bench : Workbench
        Its network is the origin.
    groups : MixedGroups
    block : sequence of int
    coef : tensor of shape (G, N)
        Coefficients of the origin.
    directions : {"streamed", "stored"}

    Returns
    -------
    StreamedSpan or StoredSpan
    """
    parameters = [bench.parameters[name].detach() for name in groups.names]
    points = bench.shelf.points(block, groups.names)
    origin = coef[groups.group_of][:, block] if len(block) == len(bench.shelf) else None
    return _SPANS[directions](parameters, points, origin)


def mix_block(bench, groups, span, coordinates, schedule, *, seed, loss_of=None, extra=()):
    """Learn the coefficients of one block, and leave the network at the learned soup.

    Parameters
    ----------
    bench : Workbench
        Its module trains the parameters of `groups` and no others.
    groups : MixedGroups
    span : StreamedSpan or StoredSpan
    coordinates : HyperplaneCoordinates or SimplexCoordinates
    schedule : Schedule
    seed : int
        Of the order of the rows.
    loss_of : callable or None
        Of inputs and targets; None is the loss of the net.
    extra : sequence of tensors
        Further variables that `loss_of` depends on.

    Returns
    -------
    y : tensor of float64 of shape (G, b)
        The step from the origin to the learned soup.
    history : list of dict
        epoch, step, loss and lr of each step of the optimiser.

    Raises
    ------
    ValueError
        If the loss is no longer finite.
    """
    loss_of = bench.loss_of if loss_of is None else loss_of
    weights = [bench.parameters[name] for name in groups.names]
    z = coordinates.start().requires_grad_()
    optimizer = schedule.optimizer([z, *extra], lr=schedule.lr, weight_decay=0.0)
    generator = torch_generator(seed)
    n_epochs = schedule.n_epochs(len(bench.mixing))
    n_steps = n_epochs * schedule.n_batches(len(bench.mixing))
    y, history = coordinates.step(z.detach()), []
    for epoch in range(n_epochs):
        for inputs, targets in bench.mixing.shuffled(schedule.batch_size, generator):
            step = len(history)
            rate = schedule.rate(step, n_steps)
            loss = loss_of(inputs, targets)
            if not bool(torch.isfinite(loss)):
                raise ValueError(
                    f"The loss became {float(loss.detach())} at step {step}: lower lr, got "
                    f"{schedule.lr!r}."
                )
            gradients = torch.autograd.grad(loss, [*weights, *extra], materialize_grads=True)
            pull = _pull(gradients[: len(weights)], span, groups, schedule.clip_norm)
            z.grad = coordinates.pull_back(z.detach(), pull)
            for variable, gradient in zip(extra, gradients[len(weights) :], strict=True):
                variable.grad = gradient
            # A model of memory, not to be held while the next one is computed.
            del gradients
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            y = coordinates.step(z.detach())
            span.move_(y[groups.group_of])
            history.append({"epoch": epoch, "step": step, "loss": float(loss.detach()), "lr": rate})
    return y, history


def _pull(gradients, span, groups, clip_norm):
    """Gradient with respect to y, that with respect to the weights clipped before."""
    pull = groups.total(span.project(gradients))
    if clip_norm is None:
        return pull
    norms = torch.stack([gradient.norm().double().cpu() for gradient in gradients])
    return pull * (clip_norm / max(float(norms.norm()), clip_norm))


def permuted_blocks(n_ingredients, block_size, rng):
    """Cut a random order of the ingredients in blocks; the last may be smaller.

    Parameters
    ----------
    n_ingredients, block_size : int
    rng : RandomState

    Returns
    -------
    list of list of int
    """
    order = rng.permutation(n_ingredients).tolist()
    return [order[k : k + block_size] for k in range(0, n_ingredients, block_size)]
