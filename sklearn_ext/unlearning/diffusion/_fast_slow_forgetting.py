"""The algorithm of the class forgetter: fast-slow steps on a denoiser.

Forget steps have one of two objectives: climbing the denoising loss of the class's samples
(`weighted_ascent` of `denoising_sample_losses`), or giving the class the meaning of another class
(`redirection`).
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ...generative import Noising, NoisyBatch, Prediction, denoising_losses
from ...neural import has_finite_parameters
from ...utils._typing import FloatArray, IntArray
from ..steps import (
    FastSlowConfig,
    Mask,
    Record,
    balanced_mask,
    endless_batches,
    fast_slow,
    has_running_statistics,
    squared_batch_gradients,
    weighted_ascent,
)

_MASK_PASSES = 4
_LARGEST_AUTO_BATCHES = 64


@dataclass(frozen=True)
class ClassForgettingConfig:
    """Settings of :func:`~sklearn_ext.unlearning.diffusion.forget_classes`.

    Parameters
    ----------
    max_iter : int, default=50
        Number of forget steps.
    n_repair : int, default=1
        Number of repair steps after each forget step.
    learning_rate : float, default=3e-4
        Learning rate of Adam, which makes both kinds of steps.
    forget_loss : {"redirect", "ascent"}, default="redirect"
        Whether forget steps give the class the meaning of another class, or climb its denoising
        loss.
    redirect_to : int or None, default=None
        Class code that replaces the forgotten ones. None is the next code that is retained.
    forget_alpha : float, default=10.0
        Scale of the first forget gradient, before it is clipped.
    clip_norm : float, default=1.0
        Largest norm of a gradient.
    forget_schedule : {"cosine", "linear", "quadratic", "constant"}, default="cosine"
        Decay of `forget_alpha`.
    lambd : float, default=0.5
        In an ascent, the samples of a batch are weighted by their losses to the power -`lambd`.
    loss_floor : float, default=1e-4
        When these sample weights are computed, losses are clipped from below at this value.
    saliency_threshold : float or None, default=1.0
        Forget steps may change a weight if its mean squared gradient on the forget set is at
        least this many times that on the retained set. With None, all weights may change.
    mask_batches : int or None, default=None
        Number of batches of each set for these gradients. None makes four passes over the
        retained set, but at most 64 batches.
    slow_learning_rate : float in (0, 1], default=1.0
        Fraction of each iteration's displacement that is kept.
    strict_mask : bool, default=False
        Whether forget steps leave the other weights exactly unchanged.
    cond_drop_prob : float in [0, 1], default=0.1
        Fraction of samples whose class is hidden.
    batch_size : int, default=64
        Number of samples per step.

    Examples
    --------
    >>> from sklearn_ext.unlearning.diffusion import ClassForgettingConfig
    >>> ClassForgettingConfig(forget_loss="ascent").max_iter
    50
    """

    max_iter: int = 50
    n_repair: int = 1
    learning_rate: float = 3e-4
    forget_loss: str = "redirect"
    redirect_to: int | None = None
    forget_alpha: float = 10.0
    clip_norm: float = 1.0
    forget_schedule: str = "cosine"
    lambd: float = 0.5
    loss_floor: float = 1e-4
    saliency_threshold: float | None = 1.0
    mask_batches: int | None = None
    slow_learning_rate: float = 1.0
    strict_mask: bool = False
    cond_drop_prob: float = 0.1
    batch_size: int = 64


@dataclass(frozen=True)
class ClassForgetting:
    """The result of :func:`forget_classes`.

    Attributes
    ----------
    module : torch.nn.Module
        The changed network.
    mask : dict of str to tensor of bool, or None
        The weights that forget steps could change; None without a mask.
    history : list of dict
        One record per iteration.
    """

    module: nn.Module
    mask: Mask | None
    history: list[Record]


def forget_classes(
    module: nn.Module,
    X: torch.Tensor,
    codes: torch.Tensor,
    forget_codes: IntArray,
    *,
    levels: FloatArray,
    n_classes: int,
    config: ClassForgettingConfig,
    generator: torch.Generator,
    prediction: Prediction = "epsilon",
    report: Callable[[Record], bool | None] | None = None,
) -> ClassForgetting:
    """Make a denoiser forget classes by alternating forget and repair steps [1]_.

    Parameters
    ----------
    module : torch.nn.Module
        The network, ``forward(x, t, c)``. It is not changed.
    X : tensor of shape (n_samples, ...)
        Samples in [-1, 1] of the classes to forget and of those to retain.
    codes : int64 tensor of shape (n_samples,)
        Class code of each sample.
    forget_codes : int ndarray
        The class codes to forget. X must have samples of each, and of at least one other class.
    levels : ndarray of shape (n_timesteps,)
        The signal levels of the schedule that the network was trained with.
    n_classes : int
        Number of classes of the network. As a class code, this number means "any class".
    config : ClassForgettingConfig
        How to change the network.
    generator : torch.Generator
        Source of all draws, on the device of X and of the module.
    prediction : {"epsilon", "v", "sample"}, default="epsilon"
        What the network estimates, and what losses therefore compare: the noise, the clean sample,
        or the difference v of the two.
    report : callable or None, default=None
        Called with the record of each iteration; return True to stop.

    Returns
    -------
    ClassForgetting
        The changed network in ``module``, with the ``mask`` of the weights that forget steps
        could change and the ``history`` of the iterations.

    Raises
    ------
    FloatingPointError
        If a weight of the changed network is not finite.

    References
    ----------
    .. [1] Z. Huang, X. Cheng, J. Zheng, H. Wang, Z. He, T. Li, X. Huang, "Unified Gradient-Based
       Machine Unlearning with Remain Geometry Enhancement", NeurIPS, 2024. arXiv:2409.19732.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sklearn_ext.generative import MLPDenoiser, cosine_levels
    >>> from sklearn_ext.unlearning.diffusion import ClassForgettingConfig, forget_classes
    >>> X, codes = torch.linspace(-1, 1, 60).reshape(20, 3), torch.arange(20) % 2
    >>> result = forget_classes(
    ...     MLPDenoiser((3,), n_classes=2, width=8),
    ...     X,
    ...     codes,
    ...     np.array([0]),
    ...     levels=cosine_levels(100),
    ...     n_classes=2,
    ...     config=ClassForgettingConfig(max_iter=3),
    ...     generator=torch.Generator().manual_seed(0),
    ... )
    >>> [record["iteration"] for record in result.history]
    [1, 2, 3]
    """
    module = copy.deepcopy(module)
    in_forget_set = torch.isin(codes, torch.as_tensor(forget_codes, device=codes.device))
    forget = torch.nonzero(in_forget_set)[:, 0].cpu()
    retain = torch.nonzero(~in_forget_set)[:, 0].cpu()
    plain = Noising(levels, n_classes, 0.0, generator, prediction)
    dropping = Noising(levels, n_classes, config.cond_drop_prob, generator, prediction)
    losses = denoising_sample_losses(module, dropping, X, codes)
    if config.forget_loss == "ascent":
        objective = weighted_ascent(losses, config.lambd, config.loss_floor)
    else:
        others = redirected_codes(codes.cpu().numpy(), forget_codes, config.redirect_to)
        objective = redirection(module, plain, X, codes, torch.as_tensor(others).to(codes))
    mask = None
    if config.saliency_threshold is not None:
        mask = _class_mask(
            module,
            denoising_sample_losses(module, plain, X, codes),
            forget,
            retain,
            config.saliency_threshold,
            config,
            generator,
        )
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    history = fast_slow(
        module,
        objective,
        losses,
        endless_batches(forget, config.batch_size, generator),
        endless_batches(retain, config.batch_size, generator),
        torch.optim.Adam(weights, lr=config.learning_rate, fused=True),
        FastSlowConfig(
            max_iter=config.max_iter,
            n_repair=config.n_repair,
            normalize=False,
            forget_alpha=config.forget_alpha,
            clip_norm=config.clip_norm,
            schedule=config.forget_schedule,
            slow_learning_rate=config.slow_learning_rate,
            strict_mask=config.strict_mask,
            freeze_norm=has_running_statistics(module),
            decay_rate=False,
            repair_clip=config.clip_norm,
        ),
        mask=mask,
        report=report,
    )
    if not has_finite_parameters(module):
        raise FloatingPointError("Forgetting has led to weights that are not finite.")
    return ClassForgetting(module, mask, history)


def redirected_codes(codes: IntArray, forget_codes: IntArray, redirect_to: int | None) -> IntArray:
    """Return the class that replaces the class of each sample if that is forgotten.

    Parameters
    ----------
    codes : int ndarray of shape (n,)
        Class codes of the samples.
    forget_codes : int ndarray
        The codes to replace.
    redirect_to : int or None
        The replacement. None is the next retained code, or the first after the last.

    Returns
    -------
    int ndarray of shape (n,)
        Class codes that are retained.
    """
    retained = np.setdiff1d(codes, forget_codes)
    redirected = codes.copy()
    for code in forget_codes:
        following = retained[np.searchsorted(retained, code) % len(retained)]
        redirected[codes == code] = following if redirect_to is None else redirect_to
    return redirected


def denoising_sample_losses(
    module: nn.Module, noising: Noising, x: torch.Tensor, codes: torch.Tensor
) -> Callable[[torch.Tensor], torch.Tensor]:
    r"""Return a function for the losses :math:`\lVert e_i - \hat e(x_{i,t}, t, c_i) \rVert^2`.

    Each call draws new times and noise, and hides classes as `noising` determines.

    Parameters
    ----------
    module : torch.nn.Module
        The network, ``forward(x, t, c)``.
    noising : Noising
        Draws times and noise.
    x : tensor of shape (n, ...)
        Samples in [-1, 1].
    codes : int64 tensor of shape (n,)
        Class code of each sample.

    Returns
    -------
    callable
        Maps indices of samples to a tensor of their losses.
    """

    def losses(indices: torch.Tensor) -> torch.Tensor:
        return noising(x[indices], codes[indices]).losses(module)

    return losses


def redirection(
    module: nn.Module,
    noising: Callable[[torch.Tensor, torch.Tensor], NoisyBatch],
    x: torch.Tensor,
    codes: torch.Tensor,
    other_codes: torch.Tensor,
) -> Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    r"""Return the objective that gives a class the meaning of another class.

    .. math::
        \frac{1}{n d} \sum_i \lVert \hat e_\theta(x_{i,t}, t, c_i)
            - \mathrm{sg}\, \hat e_\theta(x_{i,t}, t, c'_i) \rVert^2

    over noisy samples of the class, without a gradient (sg) through the estimate for the other
    class. Unlike the denoising loss in an ascent, this objective is bounded.

    Parameters
    ----------
    module : torch.nn.Module
        The network, ``forward(x, t, c)``.
    noising : callable
        Maps samples and class codes to a noisy batch. It must not hide classes.
    x : tensor of shape (n_samples, ...)
        Samples in [-1, 1].
    codes : int64 tensor of shape (n_samples,)
        Class code c of each sample.
    other_codes : int64 tensor of shape (n_samples,)
        Class code c' of each sample, whose meaning its class gets.

    Returns
    -------
    callable
        Maps indices of samples to the objective and to the mean denoising loss of the samples.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.generative import MLPDenoiser, Noising, cosine_levels
    >>> from sklearn_ext.unlearning.diffusion import redirection
    >>> noising = Noising(cosine_levels(100), 2, 0.0, torch.Generator().manual_seed(0))
    >>> x, zeros, ones = torch.zeros(4, 3), torch.zeros(4).long(), torch.ones(4).long()
    >>> objective = redirection(MLPDenoiser((3,), n_classes=2), noising, x, zeros, ones)
    >>> value, loss = objective(torch.arange(4))
    >>> value.item()  # an untrained denoiser does not distinguish classes
    0.0
    """

    def objective(indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        batch = noising(x[indices], codes[indices])
        estimate = module(batch.x, batch.times, batch.codes)
        with torch.no_grad():
            target = module(batch.x, batch.times, other_codes[indices])
            loss = denoising_losses(batch.target, estimate).mean()
        return (estimate - target).square().mean(), loss

    return objective


def _class_mask(
    module: nn.Module,
    losses: Callable[[torch.Tensor], torch.Tensor],
    forget: torch.Tensor,
    retain: torch.Tensor,
    threshold: float,
    config: ClassForgettingConfig,
    generator: torch.Generator,
) -> dict[str, torch.Tensor]:
    """Return the weights that matter more for the forget set than for the retained set."""
    # Squares of mean gradients depend on the batch size, so both sets use the same.
    size = min(config.batch_size, len(forget), len(retain))
    n_batches = config.mask_batches
    if n_batches is None:
        n_batches = min(math.ceil(_MASK_PASSES * len(retain) / size), _LARGEST_AUTO_BATCHES)
    module.eval()
    parameters = {n: p for n, p in module.named_parameters() if p.requires_grad}

    def mean_loss(indices: torch.Tensor) -> torch.Tensor:
        return losses(indices).mean()

    def fisher(indices: torch.Tensor) -> dict[str, torch.Tensor]:
        batches = endless_batches(indices, size, generator)
        some = (next(batches) for _ in range(n_batches))
        return squared_batch_gradients(mean_loss, parameters, some)

    return balanced_mask(fisher(forget), fisher(retain), threshold)
