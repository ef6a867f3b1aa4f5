"""SFRon: unlearning with bounded ascent on the forget set and repair on the retained set."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ...neural import device_of
from ...utils._typing import IntArray
from ...utils._warnings import warn_caller
from .._forget_request import ForgetRequest
from ..steps import (
    FastSlowConfig,
    Mask,
    Monitor,
    Record,
    balanced_mask,
    endless_batches,
    fast_slow,
    forward,
    has_running_statistics,
    make_optimizer,
    private_randomness,
    squared_batch_gradients,
    squared_sample_gradients,
    weighted_ascent,
)
from ._net_data import Loss, NetData, retained_targets
from ._trust_region import DEFAULT_LIMIT, RetainedLimit, TrustRegion
from .labels import UnseenOutputs, draw_samples, fit_label_model, held_out_samples

_EPOCHS = 5
_MAX_ITER = 200
_N_CHECKS = 30
_CLIPPED_FRACTION = 0.9
_MASK_SAMPLES = 5000
_MASK_SAMPLES_PER_FORGET_SAMPLE = 200


@dataclass(frozen=True)
class SFRonConfig:
    """Settings of :func:`sfron`; the parameters mean the same as in :class:`SFRonUnlearner`.

    Parameters
    ----------
    learning_rate : float
        Initial learning rate of both kinds of steps.
    batch_size : int
        Samples per step.
    max_iter : int or "auto", default="auto"
        Number of forget steps.
    n_repair : int, default=1
        Repair steps after each forget step.
    forget_step : {"normalize", "clip"}, default="normalize"
        Whether the forget gradient is normalized, or scaled and clipped.
    forget_norm : float, default=1
        Length of the first normalized forget gradient.
    forget_alpha : float, default=10
        Factor of the first forget gradient that is clipped.
    clip_norm : float, default=1
        Largest length of a clipped forget gradient.
    forget_schedule : str, default="cosine"
        Decay of length and factor.
    lambd : float, default=0.5
        Samples are weighted by their losses to the power of ``-lambd``.
    loss_floor : float, default=1e-4
        When these sample weights are computed, losses are clipped from below at this value.
    saliency_threshold : float or None, default=1
        Smallest ratio of squared gradients of a weight in the mask.
    slow_learning_rate : float in (0, 1], default=1
        Fraction of each iteration's change that is kept.
    stop_forget_score : float, "auto" or None, default="auto"
        Accuracy on the forget set at which forgetting pauses.
    optimizer : {"adamw", "adam", "sgd"} or callable, default="adamw"
        The optimizer. A callable, such as a torch.optim.Optimizer class, takes the weights, `lr`
        and `weight_decay`.
    weight_decay : float, default=0
        Weight decay of the optimizer.
    shared_optimizer : bool, default=True
        Whether forget and repair steps share an optimizer.
    strict_mask : bool, default=False
        Whether forget steps leave weights outside the mask unchanged.
    freeze_norm : bool or "auto", default="auto"
        Whether normalization layers keep their running statistics in forget steps.
    fisher : {"batch", "sample"}, default="batch"
        Whether gradients are squared per batch or per sample.
    mask_max_samples : int, "auto" or None, default="auto"
        Largest number of retained samples from which the mask is computed.
    retained_targets : {"auto", "outputs", "labels"}, default="auto"
        Targets of the repair steps: probabilities of the original network, or labels.
    limit : RetainedLimit, default=RetainedLimit()
        Limit on the loss of accuracy on retained samples.

    Examples
    --------
    >>> from sklearn_ext.unlearning.networks import SFRonConfig
    >>> SFRonConfig(learning_rate=0.05, batch_size=64, max_iter=100).forget_norm
    1.0
    """

    learning_rate: float
    batch_size: int
    max_iter: int | str = "auto"
    n_repair: int = 1
    forget_step: str = "normalize"
    forget_norm: float = 1.0
    forget_alpha: float = 10.0
    clip_norm: float = 1.0
    forget_schedule: str = "cosine"
    lambd: float = 0.5
    loss_floor: float = 1e-4
    saliency_threshold: float | None = 1.0
    slow_learning_rate: float = 1.0
    stop_forget_score: float | str | None = "auto"
    optimizer: str | Callable[..., torch.optim.Optimizer] = "adamw"
    weight_decay: float = 0.0
    shared_optimizer: bool = True
    strict_mask: bool = False
    freeze_norm: bool | str = "auto"
    fisher: str = "batch"
    mask_max_samples: int | str | None = "auto"
    retained_targets: str = "auto"
    limit: RetainedLimit = DEFAULT_LIMIT


@dataclass(frozen=True)
class SFRonResult:
    """The result of :func:`sfron`.

    Attributes
    ----------
    history : list of dict
        One record per iteration, see :func:`fast_slow`.
    mask : dict of str to tensor of bool, or None
        Weights that forget steps may change; None means all of them.
    stop_forget_score : float or None
        Accuracy on the forget set at which forgetting pauses.
    """

    history: list[Record] = field(default_factory=list)
    mask: Mask | None = None
    stop_forget_score: float | None = None

    @property
    def n_forget_steps(self) -> int:
        """Number of forget steps that were not skipped."""
        return sum(math.isfinite(record["forget_norm"]) for record in self.history)


def sfron(
    module: nn.Module,
    X: Any,
    codes: IntArray | torch.Tensor,
    request: ForgetRequest,
    config: SFRonConfig,
    rng: np.random.RandomState,
    *,
    initial: nn.Module | None = None,
    X_val: Any = None,
    codes_val: IntArray | torch.Tensor | None = None,
    loss: Loss = cross_entropy,
    monitor: Monitor | None = None,
) -> SFRonResult:
    """Change a network in place by ascent on the forget set and repair on the retained set [1]_.

    Parameters
    ----------
    module : torch.nn.Module
        A trained network, which is changed in place and stays in evaluation mode.
    X : array, tensor or reader
        Training data of the network, as in :class:`NetData`.
    codes : array or tensor of int64 of shape (n_samples,)
        Class indices of the samples.
    request : ForgetRequest
        The samples to forget and to retain.
    config : SFRonConfig
        Settings of the method.
    rng : numpy.random.RandomState
        Source of all random draws.
    initial : torch.nn.Module, default=None
        The network as it was before it was trained on the samples, whose features help to estimate
        the score at which forgetting pauses.
    X_val : array, tensor or reader of n_validation samples, default=None
        Samples that the network was not trained on. They improve the estimate of the score at
        which forgetting pauses.
    codes_val : array or tensor of int64 of shape (n_validation,), default=None
        Class indices of these samples.
    loss : callable, default=torch.nn.functional.cross_entropy
        Maps outputs of the network and targets to the mean loss of a batch or, with
        ``reduction="none"``, to the losses of its samples.
    monitor : Monitor, default=None
        Follows the iterations.

    Returns
    -------
    SFRonResult

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
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext import NetClassifier
    >>> from sklearn_ext.unlearning import ForgetRequest
    >>> from sklearn_ext.unlearning.networks import SFRonConfig, sfron
    >>> X, y = load_iris(return_X_y=True)
    >>> X = X.astype(np.float32)
    >>> net = NetClassifier(random_state=0).fit(X, y)
    >>> request = ForgetRequest.from_user(y == 2, len(y))
    >>> config = SFRonConfig(learning_rate=2e-3, batch_size=32)
    >>> result = sfron(net.module_, X, y, request, config, np.random.RandomState(0))
    >>> result.stop_forget_score  # a retrained network would not recognize the class
    0.0
    """
    if request.is_empty:
        return SFRonResult()
    with private_randomness(rng, device_of(module)) as generator:
        data = NetData(module, X, codes, request, loss)
        stop_score = config.stop_forget_score
        if isinstance(stop_score, str):
            model = fit_label_model(data, rng, initial=initial)
            held_out = held_out_samples(data, X_val, codes_val)
            stop_score = UnseenOutputs(data, model, rng, held_out).accuracy()
        mask = None
        if config.saliency_threshold is not None:
            mask = forget_remain_mask(
                data,
                threshold=config.saliency_threshold,
                batch_size=config.batch_size,
                per_sample=config.fisher == "sample",
                max_samples=config.mask_max_samples,
                rng=rng,
            )
        region = TrustRegion(data, config.limit, rng)
        targets = retained_targets(data, config.retained_targets)

        def repair_loss(index: torch.Tensor) -> torch.Tensor:
            return data.loss(forward(module, data.inputs(index)), targets[index])

        optimizer = make_optimizer(
            module, config.optimizer, config.learning_rate, config.weight_decay
        )
        steps = _fast_slow_config(data, config)
        if monitor is not None:
            monitor.begin(steps.max_iter)
        history = fast_slow(
            data.module,
            weighted_ascent(data.sample_losses, config.lambd, config.loss_floor),
            repair_loss,
            endless_batches(data.forget, config.batch_size, generator),
            endless_batches(data.retain, config.batch_size, generator),
            optimizer,
            steps,
            forget_optimizer=None if config.shared_optimizer else _plain_steps(data, config),
            mask=mask,
            forget_score=region.forget_accuracy,
            stop_score=stop_score,
            guard=region,
            check_every=math.ceil(steps.max_iter / _N_CHECKS),
            report=None if monitor is None else monitor.step,
        )
        if history:
            history[-1] = history[-1] | region.check()
        region.close()
    result = SFRonResult(history, mask, stop_score)
    if stop_score is not None and history and result.n_forget_steps == 0:
        warn_caller(
            "The accuracy on the samples to forget never exceeded the stop_forget_score of "
            f"{stop_score:.3g}, so no forget step was made."
        )
    _warn_of_clipping(config, history)
    return result


def forget_remain_mask(
    data: NetData,
    *,
    threshold: float,
    batch_size: int,
    per_sample: bool,
    max_samples: int | str | None,
    rng: np.random.RandomState,
) -> Mask:
    """Return the mask of the weights that matter more for the forget set.

    Parameters
    ----------
    data : NetData
        The network and its samples.
    threshold : float
        Smallest ratio of the squared gradients of a selected weight.
    batch_size : int
        Largest batch whose gradient is squared.
    per_sample : bool
        Whether gradients are squared per sample instead of per batch.
    max_samples : int, "auto" or None
        Largest number of retained samples to use; None means all. "auto" means 5,000, or 200 for
        each sample to forget if that is less: more would not reduce the noise from the few samples
        to forget.
    rng : numpy.random.RandomState
        Draws the samples and the batches.

    Returns
    -------
    dict of str to tensor of bool
    """
    module = data.module.eval()
    parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if isinstance(max_samples, str):
        max_samples = min(_MASK_SAMPLES, _MASK_SAMPLES_PER_FORGET_SAMPLE * len(data.forget))
    if max_samples is None:
        max_samples = len(data.retain)
    retained = draw_samples(data.retain, max_samples, rng)
    # Squares of batch means are comparable only at one batch size.
    size = min(batch_size, len(data.forget), len(retained))

    def sample_loss(
        weights: dict[str, torch.Tensor], x: torch.Tensor, code: torch.Tensor
    ) -> torch.Tensor:
        outputs = torch.func.functional_call(module, weights, (x[None],))
        return data.loss(outputs, code[None], reduction="none")[0]

    def fisher(index: torch.Tensor) -> dict[str, torch.Tensor]:
        if per_sample:
            samples = ((data.inputs(chunk), data.codes[chunk]) for chunk in index.split(size))
            return squared_sample_gradients(sample_loss, parameters, samples)
        order = index[torch.as_tensor(rng.permutation(len(index)))]
        full_batches = order[: len(order) // size * size].split(size)
        return squared_batch_gradients(data.batch_loss, parameters, full_batches)

    return balanced_mask(fisher(data.forget), fisher(retained), threshold)


def _fast_slow_config(data: NetData, config: SFRonConfig) -> FastSlowConfig:
    max_iter, freeze_norm = config.max_iter, config.freeze_norm
    if isinstance(max_iter, str):
        max_iter = min(math.ceil(_EPOCHS * len(data.retain) / config.batch_size), _MAX_ITER)
    if isinstance(freeze_norm, str):
        freeze_norm = has_running_statistics(data.module)
    return FastSlowConfig(
        max_iter=max_iter,
        n_repair=config.n_repair,
        normalize=config.forget_step == "normalize",
        forget_norm=config.forget_norm,
        forget_alpha=config.forget_alpha,
        clip_norm=config.clip_norm,
        schedule=config.forget_schedule,
        slow_learning_rate=config.slow_learning_rate,
        strict_mask=config.strict_mask,
        freeze_norm=freeze_norm,
    )


def _plain_steps(data: NetData, config: SFRonConfig) -> torch.optim.Optimizer:
    weights = [weight for weight in data.module.parameters() if weight.requires_grad]
    return torch.optim.SGD(weights, lr=config.learning_rate)


def _warn_of_clipping(config: SFRonConfig, history: list[Record]) -> None:
    norms = np.array([record["forget_norm"] for record in history])
    made = np.isfinite(norms)
    if config.forget_step != "clip" or not made.any():
        return
    clipped = (norms[made] > config.clip_norm).mean()
    if clipped > _CLIPPED_FRACTION:
        warn_caller(
            f"{clipped:.0%} of the forget steps were clipped to clip_norm={config.clip_norm}; "
            f"forget_alpha={config.forget_alpha} has no effect on them."
        )
