"""Training of a denoiser: noisy batches, Adam, and an average of the weights."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ..neural import cosine_decay
from ._denoising_math import add_noise, antithetic_steps, denoising_losses
from ._diffusion import Diffusion
from ._schedules import time_of

_LAST_LR_SHARE = 0.01
_MOMENTS = ("exp_avg", "exp_avg_sq")
_WEIGHTS = "weights."


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes
    ----------
    n_steps : int
        The learning rate falls along half a cosine until this step.
    batch_size : int
    lr : float
        Of the first step; the last has a hundredth of it.
    cond_drop_prob : float
        Share of rows whose class is hidden.
    ema_decay : float
        Largest weight of the old average; at step k it is at most (1 + k) / (10 + k).
    clip_norm : float
        Largest norm of the gradient.
    """

    n_steps: int
    batch_size: int
    lr: float
    cond_drop_prob: float
    ema_decay: float
    clip_norm: float


@dataclass(frozen=True)
class NoisyBatch:
    """Rows on their way to noise, and what the denoiser is told about them.

    Attributes
    ----------
    x : tensor of shape (n, ...)
    times : tensor of shape (n,)
        In [0, 1).
    codes : int64 tensor of shape (n,)
    noise : tensor of shape (n, ...)
        What the denoiser should find.
    """

    x: torch.Tensor
    times: torch.Tensor
    codes: torch.Tensor
    noise: torch.Tensor

    def losses(self, module: nn.Module) -> torch.Tensor:
        """Return the loss of every row."""
        return denoising_losses(self.noise, module(self.x, self.times, self.codes))


class Noising:
    """Draws times and noise for rows, and hides some of their classes.

    Parameters
    ----------
    diffusion : Diffusion
        Its schedule, and its code for "any class".
    drop_prob : float
        Share of classes to hide.
    generator : torch.Generator
    """

    def __init__(self, diffusion: Diffusion, drop_prob: float, generator: torch.Generator):
        self.levels = torch.as_tensor(
            diffusion.levels, dtype=torch.float32, device=generator.device
        )
        self.null_code = diffusion.null_code
        self.drop_prob = drop_prob
        self.generator = generator

    def __call__(self, x: torch.Tensor, codes: torch.Tensor) -> NoisyBatch:
        """Make a noisy batch of rows of shape (n, ...) and their codes."""
        n, device = len(x), self.generator.device
        steps = antithetic_steps(n, len(self.levels), self.generator)
        noise = torch.randn(x.shape, generator=self.generator, device=device)
        if self.drop_prob > 0:
            hidden = torch.rand(n, generator=self.generator, device=device) < self.drop_prob
            codes = codes.masked_fill(hidden, self.null_code)
        level = self.levels[steps].view(-1, *[1] * (x.ndim - 1))
        times = time_of(steps, len(self.levels)).to(x.dtype)
        return NoisyBatch(add_noise(x, noise, level), times, codes, noise)


class Trainer:
    """A network in training; its state can be stored and training resumed from it, bit by bit.

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

    def __init__(self, module: nn.Module, generator: torch.Generator):
        self.module = module
        self.generator = generator
        self.average = copy.deepcopy(module)
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self._averages = [p for p in self.average.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(self.parameters, fused=True)
        self.step = 0

    def run(
        self,
        diffusion: Diffusion,
        X: torch.Tensor,
        codes: torch.Tensor,
        recipe: Recipe,
        after_step: Callable[[int, float], bool],
    ) -> None:
        """Train until `recipe.n_steps` steps are done.

        Parameters
        ----------
        diffusion : Diffusion
            Its schedule and its code for "any class".
        X : tensor of shape (n, ...)
            Rows in [-1, 1].
        codes : int64 tensor of shape (n,)
        recipe : Recipe
        after_step : callable
            Gets the number of steps done and the mean loss of an entry in this step's batch;
            training ends early if it returns true.

        Raises
        ------
        FloatingPointError
            If the loss is no longer finite.
        """
        noising = Noising(diffusion, recipe.cond_drop_prob, self.generator)
        n_entries = math.prod(X.shape[1:])
        self.module.train()
        while self.step < recipe.n_steps:
            rows = torch.randint(
                len(X), (recipe.batch_size,), generator=self.generator, device=X.device
            )
            loss = noising(X[rows], codes[rows]).losses(self.module).mean() / n_entries
            self._descend(loss, recipe)
            value = loss.item()
            if not math.isfinite(value):
                raise FloatingPointError(f"The loss is {value} at step {self.step}.")
            if after_step(self.step, value):
                break

    def _descend(self, loss, recipe):
        lr = recipe.lr * cosine_decay(self.step, recipe.n_steps, floor=_LAST_LR_SHARE)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, recipe.clip_norm, foreach=True)
        self.optimizer.step()
        decay = min(recipe.ema_decay, (1 + self.step) / (10 + self.step))
        self._update_average(decay)
        self.step += 1

    @torch.no_grad()
    def _update_average(self, decay):
        torch._foreach_lerp_(self._averages, self.parameters, 1 - decay)
        for kept, current in zip(self.average.buffers(), self.module.buffers(), strict=True):
            kept.copy_(current)

    def state(self) -> dict[str, np.ndarray]:
        """Return copies of all that training goes on from, but for the average."""
        tensors = {_WEIGHTS + name: value for name, value in self.module.state_dict().items()}
        for index, parameter in enumerate(self.parameters):
            moments = self.optimizer.state.get(parameter, {})
            tensors |= {f"{name}.{index}": moments[name] for name in _MOMENTS if name in moments}
        tensors["generator"] = self.generator.get_state()
        arrays = {name: tensor.detach().cpu().numpy().copy() for name, tensor in tensors.items()}
        return {**arrays, "step": np.array(self.step)}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Go on from a state; the module must have been made with the averaged weights."""
        tensors = {name: torch.from_numpy(array.copy()) for name, array in state.items()}
        weights = {k: v for k, v in tensors.items() if k.startswith(_WEIGHTS)}
        self.module.load_state_dict({k.removeprefix(_WEIGHTS): v for k, v in weights.items()})
        self.generator.set_state(tensors["generator"])
        self.step = int(tensors["step"])
        self.optimizer.state.clear()
        for index, parameter in enumerate(self.parameters):
            if f"{_MOMENTS[0]}.{index}" in tensors:
                moments = {k: tensors[f"{k}.{index}"].to(parameter.device) for k in _MOMENTS}
                step = torch.tensor(float(self.step), device=parameter.device)
                self.optimizer.state[parameter] = {"step": step, **moments}
