"""Gradient descent on coefficients: settings, learning rate and batches of the learned recipes."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ...neural import NetSamples, cosine_decay, n_minibatches, torch_generator
from ._groups import GroupingRule


@dataclass(frozen=True, kw_only=True)
class MixingConfig:
    """Settings that the two learned recipes have in common.

    :class:`MEHLConfig` and :class:`LearnedConfig` document the fields.
    """

    layerwise: GroupingRule = True
    max_epochs: int = 5
    min_iter: int = 50
    learning_rate: float = 0.03
    batch_size: int = 64
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW
    warmup: float | None = 0.2
    clip_norm: float | None = 1.0
    directions: str = "auto"


@dataclass(frozen=True)
class LearnedCoefficients:
    """Result of the two learned recipes.

    Attributes
    ----------
    coef : tensor of float64 of shape (G, N)
    groups : dict of str to list of str
        Names of the tensors in each group.
    history : list of dict
        One entry per step.
    log_factor : tensor of shape () or None, default=None
        Logarithm of the factor of the network's outputs, if it was learned.
    """

    coef: torch.Tensor
    groups: dict[str, list[str]]
    history: list[dict[str, Any]]
    log_factor: torch.Tensor | None = None


class CoefficientDescent:
    """Batches, learning rates and optimizer steps of one run of gradient descent.

    Parameters
    ----------
    variables : sequence of tensors
        Tensors to optimize. Their ``grad`` must be set before each :meth:`step`.
    samples : NetSamples
        The mixing samples.
    config : MixingConfig
    seed : int
        Seed of the order of the samples.

    Attributes
    ----------
    history : list of dict
        Epoch, step, loss and learning rate of each step.
    """

    def __init__(
        self,
        variables: Sequence[torch.Tensor],
        samples: NetSamples,
        config: MixingConfig,
        seed: int,
    ) -> None:
        # Weight decay would pull toward the origin of the block, not toward small weights.
        self.optimizer = config.optimizer(variables, lr=config.learning_rate, weight_decay=0.0)
        self.samples = samples
        self.config = config
        self.seed = seed
        n_batches = n_minibatches(len(samples), config.batch_size)
        self.n_epochs = max(config.max_epochs, math.ceil(config.min_iter / n_batches))
        self.n_steps = self.n_epochs * n_batches
        self.epoch = 0
        self.history: list[dict[str, Any]] = []

    def batches(self) -> Iterator[tuple[Any, torch.Tensor]]:
        """Yield the inputs and targets of each step, in the order of the steps."""
        generator = torch_generator(self.seed)
        for epoch in range(self.n_epochs):
            self.epoch = epoch
            yield from self.samples.shuffled(self.config.batch_size, generator)

    def step(self, loss: torch.Tensor) -> None:
        """Update the variables with their gradients, and record the step.

        Raises
        ------
        ValueError
            If the loss is not finite.
        """
        step, rate = len(self.history), self.config.learning_rate
        value = float(loss.detach())
        if not math.isfinite(value):
            raise ValueError(
                f"learning_rate must be smaller, got {rate!r}: the loss is {value} at step {step}."
            )
        if self.config.warmup is not None:
            warmup = int(self.config.warmup * self.n_steps)
            rate *= cosine_decay(step, self.n_steps, warmup=warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.history.append(
            {"epoch": self.epoch, "step": step, "loss": value, "learning_rate": rate}
        )


@contextlib.contextmanager
def training_only(module: nn.Module, names: Sequence[str]) -> Iterator[None]:
    """Put a module in training mode, with gradients for the named parameters only.

    On exit, the module is in evaluation mode and ``requires_grad`` is restored.
    """
    parameters = dict(module.named_parameters())
    before = {name: parameter.requires_grad for name, parameter in parameters.items()}
    wanted = set(names)
    try:
        for name, parameter in parameters.items():
            parameter.requires_grad_(name in wanted)
        module.train()
        yield
    finally:
        for name, parameter in parameters.items():
            parameter.requires_grad_(before[name])
        module.eval()
