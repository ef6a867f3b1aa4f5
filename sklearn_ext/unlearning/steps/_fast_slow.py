r"""Alternating steps that forget and repair, as SFRon makes them.

From weights :math:`\theta_k` an outer iteration makes

1. one forget step, :math:`\theta^f = \theta_k - \beta_f\, m \odot g`, with a mask m and
   :math:`g = -a_k \nabla \sum_i \bar w_i \ell_i` over a batch of forget rows;
2. T repair steps, descent on batches of the remaining rows, which give :math:`\theta^r`;
3. :math:`\theta_{k+1} = \theta_k + s\,(\theta^r - \theta_k)`.

On a quadratic remaining loss with Hessian H the displacements add up to a multiple of
:math:`-H^{-1} g`: the repair steps act as a damped inverse of the Hessian that is never formed.

Nothing here is specific to classification: losses of rows come as functions of a batch.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from ...neural import cosine_decay, minibatches
from ._fine_tuning import mask_gradients, set_rate, step_inside, training_mode

SCHEDULES = {
    "cosine": cosine_decay,
    "linear": lambda k, n: 1 - k / n,
    "quadratic": lambda k, n: (1 - k / n) ** 2,
    "constant": lambda k, n: 1.0,
}


@dataclass(frozen=True)
class Plan:
    r"""How many steps of which length.

    Attributes
    ----------
    n_iter, n_repair : int
        Outer iterations, and repair steps in each.
    normalize : bool
        Whether the masked forget gradient is brought to the length :math:`\rho_k` (True), or
        multiplied by :math:`a_k` and clipped (False).
    forget_norm : float
        :math:`\rho_0`.
    forget_alpha : float
        :math:`a_0`.
    clip_norm : float
        Largest length of the forget gradient if it is not normalised.
    schedule : str
        Name in SCHEDULES of how :math:`\rho_k` and :math:`a_k` decay.
    slow_lr : float
        s; 1 takes the repaired weights as they are.
    strict_mask : bool
        Whether the forget step leaves weights outside of the mask exactly as they are.
    freeze_norm : bool
        Whether forget steps leave running statistics of normalisation layers alone.
    decay_rate : bool
        Whether the learning rate of all steps decays along half a cosine, too.
    repair_clip : float
        Largest length of the repair gradient.
    """

    n_iter: int
    n_repair: int = 1
    normalize: bool = True
    forget_norm: float = 0.3
    forget_alpha: float = 10.0
    clip_norm: float = 1.0
    schedule: str = "cosine"
    slow_lr: float = 1.0
    strict_mask: bool = False
    freeze_norm: bool = False
    decay_rate: bool = True
    repair_clip: float = math.inf


def ascent_weights(losses, lambd, floor):
    r"""Return :math:`\bar w_i \propto \max(\ell_i, \mathrm{floor})^{-\lambda}`, summing to one.

    Rows that are still fitted well count more (SFRon, eq. 5). The floor keeps a row whose loss has
    underflowed from taking all the weight, while its gradient is zero.

    Parameters
    ----------
    losses : tensor of shape (n,)
    lambd, floor : float

    Returns
    -------
    tensor of shape (n,), detached
    """
    # The powers themselves overflow where lambd is large.
    return torch.softmax(-lambd * losses.detach().clamp_min(floor).log(), dim=0)


def weighted_ascent(row_losses, lambd=0.5, floor=1e-4):
    r"""Return the objective :math:`-\sum_i \bar w_i \ell_i` as `fast_slow` takes it.

    Parameters
    ----------
    row_losses : callable
        From a batch to its losses, a tensor of shape (n,).
    lambd, floor : float
        As for :func:`ascent_weights`.

    Returns
    -------
    callable
        From a batch to the objective and the mean loss of its rows.
    """

    def objective(batch):
        losses = row_losses(batch)
        return -(ascent_weights(losses, lambd, floor) * losses).sum(), losses.detach().mean()

    return objective


def endless_batches(rows, batch_size, generator) -> Iterator[torch.Tensor]:
    """Yield batches of rows for ever, in a new order in each pass.

    Parameters
    ----------
    rows : tensor of int64
    batch_size : int
    generator : torch.Generator
    """
    while True:
        for index in minibatches(len(rows), batch_size, generator):
            yield rows[index]


def fast_slow(
    module: nn.Module,
    forget_objective: Callable,
    remain_losses: Callable,
    forget_batches: Iterator,
    remain_batches: Iterator,
    optimizer: torch.optim.Optimizer,
    plan: Plan,
    *,
    forget_optimizer: torch.optim.Optimizer | None = None,
    mask: Mapping[str, torch.Tensor] | None = None,
    forget_score: Callable | None = None,
    stop_score: float | None = None,
    report: Callable | None = None,
) -> list[dict]:
    """Change the weights of a module in place by forget and repair steps.

    Parameters
    ----------
    module : torch.nn.Module
    forget_objective : callable
        From a batch to a scalar that a forget step lowers, and to the mean loss of its rows;
        :func:`weighted_ascent` makes one.
    remain_losses : callable
        From a batch to the losses of its rows, whose mean a repair step lowers.
    forget_batches, remain_batches : iterators
        Endless.
    optimizer : torch.optim.Optimizer
        Makes both kinds of steps.
    plan : Plan
    forget_optimizer : torch.optim.Optimizer, default=None
        Makes the forget steps, if they are not to share momentum with the repair steps.
    mask : mapping of str to tensor of bool, default=None
        The weights that forget steps may change; None is all.
    forget_score : callable, default=None
        Without arguments, how well the forget rows are known at present.
    stop_score : float, default=None
        Iterations whose forget score is not above it only repair.
    report : callable, default=None
        From each record to whether to stop.

    Returns
    -------
    list of dict
        One record an iteration. "forget_loss", "forget_norm" (before normalising or clipping) and
        "forget_scale" are nan where the forget step was left out.
    """
    parameters = dict(module.named_parameters())
    trainable = [weight for weight in parameters.values() if weight.requires_grad]
    forget_optimizer = forget_optimizer or optimizer
    history = []
    for k in range(plan.n_iter):
        slow = [weight.detach().clone() for weight in trainable] if plan.slow_lr < 1 else None
        scale = SCHEDULES[plan.schedule](k, plan.n_iter)
        scale *= plan.forget_norm if plan.normalize else plan.forget_alpha
        if plan.decay_rate:
            for each in {optimizer, forget_optimizer}:
                set_rate(each, cosine_decay(k, plan.n_iter))
        record = {"iteration": k + 1, "forget_loss": math.nan, "forget_norm": math.nan,
                  "forget_scale": math.nan, "remain_loss": math.nan}  # fmt: skip
        if stop_score is not None:
            record["forget_score"] = forget_score()
        if stop_score is None or record["forget_score"] > stop_score:
            training_mode(module, freeze_norm=plan.freeze_norm)
            objective, loss = forget_objective(next(forget_batches))
            optimizer.zero_grad()
            (objective if plan.normalize else scale * objective).backward()
            mask_gradients(parameters, mask)
            norm = _set_length(trainable, plan, scale)
            if plan.strict_mask:
                step_inside(forget_optimizer, parameters, mask)
            else:
                forget_optimizer.step()
            record.update(forget_loss=loss.item(), forget_norm=norm, forget_scale=scale)
        training_mode(module)
        for _ in range(plan.n_repair):
            loss = remain_losses(next(remain_batches)).mean()
            optimizer.zero_grad()
            loss.backward()
            if plan.repair_clip < math.inf:
                nn.utils.clip_grad_norm_(trainable, plan.repair_clip)
            optimizer.step()
            record["remain_loss"] = loss.item()
        if slow is not None:
            _interpolate(trainable, slow, plan.slow_lr)
        history.append(record)
        if report is not None and report(record):
            break
    module.eval()
    return history


def _set_length(weights, plan, scale):
    """Normalise or clip the gradients in place, and return their norm before."""
    norm = nn.utils.clip_grad_norm_(weights, math.inf if plan.normalize else plan.clip_norm).item()
    if plan.normalize and norm > 0:
        torch._foreach_mul_([w.grad for w in weights if w.grad is not None], scale / norm)
    return norm


@torch.no_grad()
def _interpolate(weights, slow, slow_lr):
    for weight, start in zip(weights, slow, strict=True):
        weight.copy_(start + slow_lr * (weight - start))
