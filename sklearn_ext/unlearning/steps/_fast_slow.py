r"""Alternating forget and repair steps, as SFRon makes them.

An outer iteration starts from weights :math:`\theta_k` and makes

1. one forget step, :math:`\theta^f = \theta_k - \beta_f\, m \odot g`, with a mask m and
   :math:`g = -a_k \nabla \sum_i \bar w_i \ell_i` over a batch of the forget set;
2. T repair steps, descent on batches of the retained set, which give :math:`\theta^r`;
3. a slow step, :math:`\theta_{k+1} = \theta_k + s\,(\theta^r - \theta_k)`.

On a quadratic remaining loss with Hessian H, the displacements add up to a multiple of
:math:`-H^{-1} g`: the repair steps act as a damped inverse of a Hessian that is never formed.

Nothing here is specific to classification. The losses of samples are passed as functions of a
batch.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ...neural import cosine_decay, minibatches
from ._fine_tuning import (
    Guard,
    Mask,
    Record,
    mask_gradients,
    set_rate,
    step_inside,
    training_mode,
)


def _linear_decay(k: int, n: int) -> float:
    return 1 - k / n


def _quadratic_decay(k: int, n: int) -> float:
    return (1 - k / n) ** 2


def _constant(k: int, n: int) -> float:
    return 1.0


SCHEDULES: dict[str, Callable[[int, int], float]] = {
    "cosine": cosine_decay,
    "linear": _linear_decay,
    "quadratic": _quadratic_decay,
    "constant": _constant,
}


@dataclass(frozen=True)
class FastSlowConfig:
    r"""Number and length of the steps of :func:`fast_slow`.

    Parameters
    ----------
    max_iter : int
        Outer iterations K, each with one forget step.
    n_repair : int, default=1
        Repair steps T per outer iteration.
    normalize : bool, default=True
        Whether the masked forget gradient is rescaled to the length :math:`\rho_k` (True), or
        multiplied by :math:`a_k` and clipped (False).
    forget_norm : float, default=0.3
        Length :math:`\rho_0` of the first normalized forget gradient.
    forget_alpha : float, default=10
        Factor :math:`a_0` of the first forget gradient that is not normalized.
    clip_norm : float, default=1
        Largest length of a forget gradient that is not normalized.
    schedule : {"cosine", "linear", "quadratic", "constant"}, default="cosine"
        Decay of :math:`\rho_k` and :math:`a_k`.
    slow_learning_rate : float in (0, 1], default=1
        Fraction s of each iteration's displacement that is kept.
    strict_mask : bool, default=False
        Whether a forget step leaves the weights outside the mask exactly unchanged.
    freeze_norm : bool, default=False
        Whether normalization layers keep their running statistics in forget steps.
    decay_rate : bool, default=True
        Whether the learning rate of all steps decays along half a cosine as well.
    repair_clip : float, default=inf
        Largest length of a repair gradient.

    Examples
    --------
    >>> from sklearn_ext.unlearning.steps import FastSlowConfig
    >>> config = FastSlowConfig(max_iter=4, forget_norm=2.0, schedule="linear")
    >>> [config.forget_scale(k) for k in range(4)]
    [2.0, 1.5, 1.0, 0.5]
    """

    max_iter: int
    n_repair: int = 1
    normalize: bool = True
    forget_norm: float = 0.3
    forget_alpha: float = 10.0
    clip_norm: float = 1.0
    schedule: str = "cosine"
    slow_learning_rate: float = 1.0
    strict_mask: bool = False
    freeze_norm: bool = False
    decay_rate: bool = True
    repair_clip: float = math.inf

    def forget_scale(self, k: int) -> float:
        r"""Return the length :math:`\rho_k`, or the factor :math:`a_k` without normalization.

        Parameters
        ----------
        k : int
            Index of the outer iteration, from 0.

        Returns
        -------
        float
        """
        factor = SCHEDULES[self.schedule](k, self.max_iter)
        return factor * (self.forget_norm if self.normalize else self.forget_alpha)


def ascent_weights(losses: torch.Tensor, lambd: float, floor: float) -> torch.Tensor:
    r"""Return the weights of samples in the forget loss (SFRon, eq. 5).

    .. math:: \bar w_i \propto \max(\ell_i, \mathrm{floor})^{-\lambda}, \quad \sum_i \bar w_i = 1

    Samples with a small loss count more. The floor prevents a sample whose loss has underflowed to
    zero from taking all the weight, because its gradient is zero as well.

    Parameters
    ----------
    losses : tensor of shape (n,)
        Losses of the samples.
    lambd : float
        The exponent :math:`\lambda`.
    floor : float
        Losses are clipped from below at this value.

    Returns
    -------
    tensor of shape (n,)
        The weights, detached from the autograd graph.
    """
    # The powers themselves would overflow for a large lambd.
    return torch.softmax(-lambd * losses.detach().clamp_min(floor).log(), dim=0)


def weighted_ascent(
    sample_losses: Callable[[Any], torch.Tensor], lambd: float = 0.5, floor: float = 1e-4
) -> Callable[[Any], tuple[torch.Tensor, torch.Tensor]]:
    r"""Return the forget objective :math:`-\sum_i \bar w_i \ell_i` for :func:`fast_slow`.

    Parameters
    ----------
    sample_losses : callable
        Maps a batch to the losses of its samples, a tensor of shape (n,).
    lambd : float, default=0.5
        As in :func:`ascent_weights`.
    floor : float, default=1e-4
        As in :func:`ascent_weights`.

    Returns
    -------
    callable
        Maps a batch to the objective and to the mean loss of its samples.
    """

    def objective(batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        losses = sample_losses(batch)
        return -(ascent_weights(losses, lambd, floor) * losses).sum(), losses.detach().mean()

    return objective


def endless_batches(
    indices: torch.Tensor, batch_size: int, generator: torch.Generator
) -> Iterator[torch.Tensor]:
    """Yield batches of sample indices forever, in a new order in each pass.

    Parameters
    ----------
    indices : int64 tensor of shape (n,)
        The samples to draw from.
    batch_size : int
        Samples per batch.
    generator : torch.Generator
        Draws the orders.

    Yields
    ------
    int64 tensor
    """
    while True:
        for batch in minibatches(len(indices), batch_size, generator):
            yield indices[batch]


def fast_slow(
    module: nn.Module,
    forget_objective: Callable[[Any], tuple[torch.Tensor, torch.Tensor]],
    remain_losses: Callable[[Any], torch.Tensor],
    forget_batches: Iterator[Any],
    remain_batches: Iterator[Any],
    optimizer: torch.optim.Optimizer,
    config: FastSlowConfig,
    *,
    forget_optimizer: torch.optim.Optimizer | None = None,
    mask: Mask | None = None,
    forget_score: Callable[[], float] | None = None,
    stop_score: float | None = None,
    guard: Guard | None = None,
    check_every: int = 1,
    report: Callable[[Record], bool | None] | None = None,
) -> list[Record]:
    r"""Change the weights of a module in place by alternating forget and repair steps.

    The outer iteration k makes a forget step, `n_repair` repair steps and a slow step,

    .. math::
        \theta^f = \theta_k - \beta_k\, m \odot g, \qquad
        \theta_{k+1} = \theta_k + s\,(\theta^r - \theta_k),

    where :math:`\theta^r` are the weights after the repair steps [1]_.

    Parameters
    ----------
    module : torch.nn.Module
        The network to change.
    forget_objective : callable
        Maps a batch to a scalar that the forget step lowers and to the mean loss of its samples;
        see :func:`weighted_ascent`.
    remain_losses : callable
        Maps a batch to the losses of its samples, or to their mean, which the repair steps lower.
    forget_batches : iterator
        Endless batches of the forget set.
    remain_batches : iterator
        Endless batches of the retained set.
    optimizer : torch.optim.Optimizer
        Makes both kinds of steps.
    config : FastSlowConfig
        Number and length of the steps.
    forget_optimizer : torch.optim.Optimizer, default=None
        Makes the forget steps, so that they don't share momentum with the repair steps. None means
        `optimizer`.
    mask : mapping of str to tensor of bool, default=None
        Weights that forget steps may change; None means all of them.
    forget_score : callable, default=None
        Returns the current score on the forget set, without arguments.
    stop_score : float, default=None
        Iterations whose forget score is not above this value skip the forget step.
    guard : Guard, default=None
        Checks the module and multiplies the rate of the forget steps, which are skipped while the
        module is not inside its limit.
    check_every : int, default=1
        Iterations between two checks of the forget score and of the guard.
    report : callable, default=None
        Called with the record of each iteration; return True to stop.

    Returns
    -------
    list of dict
        One record per iteration. "forget_loss", "forget_norm" (before normalizing or clipping) and
        "forget_scale" are NaN where the forget step was skipped.

    Raises
    ------
    FloatingPointError
        If the loss of a repair step is not finite.

    References
    ----------
    .. [1] Z. Huang, X. Cheng, J. Zheng, H. Wang, Z. He, T. Li, X. Huang, "Unified Gradient-Based
       Machine Unlearning with Remain Geometry Enhancement", NeurIPS, 2024. arXiv:2409.19732.

    Examples
    --------
    >>> import torch
    >>> from itertools import repeat
    >>> from sklearn_ext.unlearning.steps import FastSlowConfig, fast_slow
    >>> line = torch.nn.Linear(1, 1, bias=False)
    >>> _ = torch.nn.init.constant_(line.weight, 0.0)
    >>> history = fast_slow(
    ...     line,
    ...     lambda _: (line.weight.sum(), torch.tensor(0.0)),
    ...     lambda _: line.weight[0] ** 2,
    ...     repeat(None),
    ...     repeat(None),
    ...     torch.optim.SGD(line.parameters(), lr=0.1),
    ...     FastSlowConfig(1, forget_norm=1.0),
    ... )
    >>> round(line.weight.item(), 3)  # a forget step of -0.1, one fifth of which is repaired
    -0.08
    """
    parameters = dict(module.named_parameters())
    trainable = [weight for weight in parameters.values() if weight.requires_grad]
    if forget_optimizer is None:
        forget_optimizer = optimizer
    history = []
    score, watched = math.inf, {}
    for k in range(config.max_iter):
        slow = config.slow_learning_rate < 1
        start = [weight.detach().clone() for weight in trainable] if slow else []
        decay = cosine_decay(k, config.max_iter) if config.decay_rate else 1.0
        if config.decay_rate:
            for each in {optimizer, forget_optimizer}:
                set_rate(each, decay)
        record: Record = {
            "iteration": k + 1,
            "forget_loss": math.nan,
            "forget_norm": math.nan,
            "forget_scale": math.nan,
            "remain_loss": math.nan,
        }
        if k % check_every == 0:
            if guard is not None:
                watched = guard.check(step_back=False)
            if forget_score is not None and stop_score is not None:
                score = forget_score()
        if score < math.inf:
            record["forget_score"] = score
        if (stop_score is None or score > stop_score) and (guard is None or guard.inside):
            training_mode(module, freeze_norm=config.freeze_norm)
            scale = config.forget_scale(k)
            objective, loss = forget_objective(next(forget_batches))
            optimizer.zero_grad()
            (objective if config.normalize else scale * objective).backward()
            mask_gradients(parameters, mask)
            norm = _set_length(trainable, config, scale)
            if guard is not None:
                set_rate(forget_optimizer, decay * guard.rate)
            step_inside(forget_optimizer, parameters, mask if config.strict_mask else None)
            if guard is not None:
                set_rate(forget_optimizer, decay)
            record.update(forget_loss=loss.item(), forget_norm=norm, forget_scale=scale)
        training_mode(module)
        for _ in range(config.n_repair):
            loss = remain_losses(next(remain_batches)).mean()
            optimizer.zero_grad()
            loss.backward()
            if config.repair_clip < math.inf:
                nn.utils.clip_grad_norm_(trainable, config.repair_clip)
            optimizer.step()
            record["remain_loss"] = loss.item()
        if slow:
            _interpolate(trainable, start, config.slow_learning_rate)
        history.append(record | watched)
        if config.n_repair and not math.isfinite(record["remain_loss"]):
            raise FloatingPointError(
                f"Iteration {k + 1} has produced losses or weights that are not finite."
            )
        if report is not None and report(history[-1]):
            break
    module.eval()
    return history


def _set_length(weights: list[nn.Parameter], config: FastSlowConfig, scale: float) -> float:
    """Normalize or clip the gradients in place, and return their norm before that."""
    limit = math.inf if config.normalize else config.clip_norm
    norm = nn.utils.clip_grad_norm_(weights, limit).item()
    if config.normalize and norm > 0:
        torch._foreach_mul_([w.grad for w in weights if w.grad is not None], scale / norm)
    return norm


@torch.no_grad()
def _interpolate(weights: list[nn.Parameter], start: list[torch.Tensor], rate: float) -> None:
    for weight, before in zip(weights, start, strict=True):
        weight.copy_(before + rate * (weight - before))
