"""Training of a denoiser: noisy batches, Adam, and a moving average of the weights."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ..neural import cosine_decay, mixed_precision
from ..utils._typing import Array, FloatArray
from ._denoisers import exact_array
from ._denoising_math import (
    Prediction,
    add_noise,
    antithetic_steps,
    denoising_losses,
    prediction_target,
)
from ._schedules import time_of

_LAST_FRACTION = 0.01  # of the learning rate
MOMENTS = ("exp_avg", "exp_avg_sq")
WEIGHTS = "weights."


@dataclass(frozen=True)
class DDPMConfig:
    """How :func:`~sklearn_ext.generative.train_denoiser` trains.

    Parameters
    ----------
    max_iter : int
        Number of training steps. The learning rate falls along half a cosine until the last one.
    batch_size : int, default=64
        Number of samples per step, drawn with replacement.
    learning_rate : float, default=2e-3
        Learning rate of Adam in the first step. The last step uses one hundredth of it.
    cond_drop_prob : float in [0, 1], default=0.1
        Fraction of samples whose class is hidden.
    ema_decay : float in [0, 1), default=0.999
        Largest weight of the old average. At step k it is at most (1 + k) / (10 + k).
    clip_norm : float, default=1.0
        Largest norm of a gradient.
    precision : {"full", "bf16"}, default="full"
        Precision of the forward pass. "bf16" uses torch's automatic mixed precision with bfloat16;
        weights and losses stay as they are.

    Examples
    --------
    >>> from sklearn_ext.generative import DDPMConfig
    >>> DDPMConfig(max_iter=100).learning_rate
    0.002
    """

    max_iter: int
    batch_size: int = 64
    learning_rate: float = 2e-3
    cond_drop_prob: float = 0.1
    ema_decay: float = 0.999
    clip_norm: float = 1.0
    precision: str = "full"


@dataclass(frozen=True)
class NoisyBatch:
    """Noisy samples with the times and class codes that the denoiser gets.

    Attributes
    ----------
    x : tensor of shape (n, ...)
        Noisy samples.
    times : tensor of shape (n,)
        Times in [0, 1).
    codes : int64 tensor of shape (n,)
        Class codes, some of them replaced by "any class".
    target : tensor of shape (n, ...)
        What the denoiser should estimate: the noise, unless it predicts something else.
    """

    x: torch.Tensor
    times: torch.Tensor
    codes: torch.Tensor
    target: torch.Tensor

    def losses(self, module: nn.Module, precision: str = "full") -> torch.Tensor:
        """Return the denoising loss of every sample, a tensor of shape (n,)."""
        with mixed_precision(precision, self.x.device):
            estimate = module(self.x, self.times, self.codes)
        return denoising_losses(self.target, estimate.to(self.target.dtype))


class Noising:
    """Draws times and noise for samples, and hides some of their classes.

    Parameters
    ----------
    levels : ndarray of shape (T,)
        The signal levels of the schedule.
    null_code : int
        The class code that means "any class".
    drop_prob : float
        Fraction of the classes to hide.
    generator : torch.Generator
        Source of the draws, on the device of the samples.
    prediction : {"epsilon", "v", "sample"}, default="epsilon"
        What the denoiser estimates.
    """

    def __init__(
        self,
        levels: FloatArray,
        null_code: int,
        drop_prob: float,
        generator: torch.Generator,
        prediction: Prediction = "epsilon",
    ) -> None:
        self.levels = torch.as_tensor(levels, dtype=torch.float32, device=generator.device)
        self.null_code = null_code
        self.drop_prob = drop_prob
        self.generator = generator
        self.prediction: Prediction = prediction

    def __call__(self, x: torch.Tensor, codes: torch.Tensor) -> NoisyBatch:
        """Make a noisy batch from samples of shape (n, ...) and their class codes."""
        n, device = len(x), self.generator.device
        steps = antithetic_steps(n, len(self.levels), self.generator)
        noise = torch.randn(x.shape, generator=self.generator, device=device)
        if self.drop_prob > 0:
            hidden = torch.rand(n, generator=self.generator, device=device) < self.drop_prob
            codes = codes.masked_fill(hidden, self.null_code)
        level = self.levels[steps].view(-1, *[1] * (x.ndim - 1))
        times = time_of(steps, len(self.levels)).to(x.dtype)
        target = prediction_target(x, noise, level, self.prediction)
        return NoisyBatch(add_noise(x, noise, level), times, codes, target)


class DenoiserTraining:
    """A network in training, whose state can be stored and restored bit by bit.

    Parameters
    ----------
    module : torch.nn.Module
        Trained in place.
    generator : torch.Generator
        Source of batches, times and noise, on the device of the module.

    Attributes
    ----------
    average : torch.nn.Module
        The network with averaged weights.
    step : int
        Number of steps done.
    """

    def __init__(self, module: nn.Module, generator: torch.Generator) -> None:
        self.module = module
        self.generator = generator
        self.average = copy.deepcopy(module)
        self.parameters: list[torch.Tensor] = [p for p in module.parameters() if p.requires_grad]
        self._averages: list[torch.Tensor] = [
            p for p in self.average.parameters() if p.requires_grad
        ]
        self.optimizer = torch.optim.Adam(self.parameters, fused=True)
        self.step = 0

    def descend(self, loss: torch.Tensor, config: DDPMConfig) -> None:
        """Take a step of Adam that lowers a loss, and update the average."""
        decay = cosine_decay(self.step, config.max_iter, floor=_LAST_FRACTION)
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * decay
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, config.clip_norm, foreach=True)
        self.optimizer.step()
        self._update_average(min(config.ema_decay, (1 + self.step) / (10 + self.step)))
        self.step += 1

    @torch.no_grad()
    def _update_average(self, decay: float) -> None:
        torch._foreach_lerp_(self._averages, self.parameters, 1 - decay)
        for kept, current in zip(self.average.buffers(), self.module.buffers(), strict=True):
            kept.copy_(current)

    def state(self) -> dict[str, Array]:
        """Return copies of everything that is needed to continue, except the average."""
        tensors = {WEIGHTS + name: value for name, value in self.module.state_dict().items()}
        for index, parameter in enumerate(self.parameters):
            moments = self.optimizer.state.get(parameter, {})
            tensors |= {f"{name}.{index}": moments[name] for name in MOMENTS if name in moments}
        tensors["generator"] = self.generator.get_state()
        arrays = {name: exact_array(tensor) for name, tensor in tensors.items()}
        return {**arrays, "step": np.array(self.step)}

    def restore(self, state: dict[str, Array]) -> None:
        """Continue from a state. The module must have been built with the averaged weights."""
        tensors = {name: torch.from_numpy(array.copy()) for name, array in state.items()}
        weights = {k: v for k, v in tensors.items() if k.startswith(WEIGHTS)}
        self.module.load_state_dict({k.removeprefix(WEIGHTS): v for k, v in weights.items()})
        self.generator.set_state(tensors["generator"])
        self.step = int(tensors["step"])
        self.optimizer.state.clear()
        for index, parameter in enumerate(self.parameters):
            if f"{MOMENTS[0]}.{index}" in tensors:
                moments = {k: tensors[f"{k}.{index}"].to(parameter) for k in MOMENTS}
                step = torch.tensor(float(self.step), device=parameter.device)
                self.optimizer.state[parameter] = {"step": step, **moments}


def train_denoiser(
    module: nn.Module,
    X: torch.Tensor,
    codes: torch.Tensor,
    *,
    levels: FloatArray,
    n_classes: int,
    config: DDPMConfig,
    generator: torch.Generator,
    state: dict[str, Array] | None = None,
    after_step: Callable[[DenoiserTraining, float], bool] | None = None,
) -> DenoiserTraining:
    r"""Train a network to estimate the noise in noisy samples.

    A step draws samples, steps t of the schedule and noise e, and lowers the mean of
    :math:`\lVert e - \hat e(\sqrt{\bar\alpha_t}\, x + \sqrt{1 - \bar\alpha_t}\, e, t, c)
    \rVert^2` [1]_.

    Parameters
    ----------
    module : torch.nn.Module
        ``forward(x, t, c)`` returns an estimate of the noise in x. It is not changed.
    X : tensor of shape (n_samples, ...)
        Samples in [-1, 1].
    codes : int64 tensor of shape (n_samples,)
        Class codes from 0 to ``n_classes - 1``; `n_classes` means "any class".
    levels : ndarray of shape (n_timesteps,)
        The signal levels :math:`\bar\alpha_t`, for instance those of
        :func:`~sklearn_ext.generative.cosine_levels`.
    n_classes : int
        Number of classes; 0 without labels.
    config : DDPMConfig
        How to train.
    generator : torch.Generator
        Source of all draws, on the device of X and of the module.
    state : dict of str to ndarray or None, default=None
        The ``state()`` of an earlier training to continue. The module must then have the averaged
        weights of that training.
    after_step : callable or None, default=None
        Called as ``after_step(training, loss)`` after each step, with the mean squared error per
        entry of the noise in this step's batch. ``training.step`` is the number of steps done.
        Training ends early if it returns True.

    Returns
    -------
    DenoiserTraining
        The trained network is its attribute ``average``. Another training can continue from its
        ``state()``.

    Raises
    ------
    FloatingPointError
        If the loss is not finite.

    References
    ----------
    .. [1] J. Ho, A. Jain, P. Abbeel, "Denoising Diffusion Probabilistic Models", NeurIPS 2020,
       Eq. 14.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.generative import DDPMConfig, MLPDenoiser, cosine_levels, train_denoiser
    >>> X, codes = torch.linspace(-1, 1, 60).reshape(20, 3), torch.arange(20) % 2
    >>> training = train_denoiser(
    ...     MLPDenoiser((3,), n_classes=2, width=8),
    ...     X,
    ...     codes,
    ...     levels=cosine_levels(100),
    ...     n_classes=2,
    ...     config=DDPMConfig(max_iter=5),
    ...     generator=torch.Generator().manual_seed(0),
    ... )
    >>> training.step, training.average(X, torch.zeros(20), codes).shape
    (5, torch.Size([20, 3]))
    """
    training = DenoiserTraining(copy.deepcopy(module), generator)
    if state is not None:
        training.restore(state)
    noising = Noising(levels, n_classes, config.cond_drop_prob, generator)
    n_entries = math.prod(X.shape[1:])
    training.module.train()
    while training.step < config.max_iter:
        drawn = torch.randint(len(X), (config.batch_size,), generator=generator, device=X.device)
        batch = noising(X[drawn], codes[drawn])
        loss = batch.losses(training.module, config.precision).mean() / n_entries
        training.descend(loss, config)
        value = loss.item()
        if not math.isfinite(value):
            raise FloatingPointError(f"The loss is {value} at step {training.step}.")
        if after_step is not None and after_step(training, value):
            break
    return training
