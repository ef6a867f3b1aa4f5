"""The training loop that the fine-tuning unlearners share, and its parts."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from torch import nn

from ...neural import (
    cosine_decay,
    draw_seed,
    minibatches,
    n_minibatches,
    seeded,
    torch_generator,
)

Mask: TypeAlias = Mapping[str, torch.Tensor]  # boolean tensors by parameter name
Record: TypeAlias = dict[str, float]  # what happened in an epoch or iteration

SGD_MOMENTUM = 0.9
OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
}
_HALF_PRECISION_EPS = 1e-4  # the default of Adam, 1e-8, is zero in half precision
_AUTO_EPOCHS = 5
_AUTO_SAMPLE_VISITS = 50_000


class Monitor(Protocol):
    """Follows a run epoch by epoch, or iteration by iteration."""

    def begin(self, n_steps: int) -> None:
        """Prepare for `n_steps` epochs or iterations, before the first one."""

    def step(self, record: Record) -> bool:
        """Receive the record of an epoch or iteration, and return whether to stop."""


class Guard(Protocol):
    """Checks a module at intervals, and may change it or ask for smaller steps.

    Attributes
    ----------
    rate : float
        Factor of the learning rate.
    inside : bool
        Whether the module is within the limits.
    """

    rate: float
    inside: bool

    def check(self, *, step_back: bool = True) -> Record:
        """Return what to record, and take back a change that is too large if `step_back`."""


@dataclass(frozen=True)
class FineTuneConfig:
    """Settings of a fine-tuning run.

    Parameters
    ----------
    learning_rate : float
        Initial learning rate.
    max_epochs : int or "auto", default="auto"
        Passes over the samples. "auto" means five, or fewer if five passes would visit more than
        50,000 samples.
    batch_size : int, default=32
        Samples per step.
    optimizer : {"adamw", "adam", "sgd"} or torch.optim.Optimizer class, default="adamw"
        The optimizer. "sgd" uses a momentum of 0.9.
    weight_decay : float, default=0
        Weight decay of the optimizer.
    cosine : bool, default=True
        Whether the learning rate decays to 0 along half a cosine over all steps.

    Examples
    --------
    >>> from sklearn_ext.unlearning.steps import FineTuneConfig
    >>> FineTuneConfig(learning_rate=1e-3).n_epochs(n_samples=20_000)
    2
    """

    learning_rate: float
    max_epochs: int | str = "auto"
    batch_size: int = 32
    optimizer: str | Callable[..., torch.optim.Optimizer] = "adamw"
    weight_decay: float = 0.0
    cosine: bool = True

    def n_epochs(self, n_samples: int) -> int:
        """Return the number of passes over the samples.

        Parameters
        ----------
        n_samples : int
            Number of samples.

        Returns
        -------
        int
        """
        if isinstance(self.max_epochs, str):
            return min(_AUTO_EPOCHS, max(1, _AUTO_SAMPLE_VISITS // n_samples))
        return self.max_epochs


class FineTuning:
    """A fine-tuning run that changes a module in place, one batch at a time.

    The caller owns the loop, so that it can prepare inputs and targets before each step::

        run.begin()
        for epoch in range(run.n_epochs):
            for index in run.batches():
                run.step(X[index], targets[index])
            if run.end_epoch():
                break

    Parameters
    ----------
    module : torch.nn.Module
        The network to train.
    n_samples : int
        Samples per epoch.
    loss : callable
        Maps the module's outputs and the targets of a batch to a scalar.
    config : FineTuneConfig
        Settings of the run.
    generator : torch.Generator
        Draws the order of the samples.
    mask : mapping of str to tensor of bool, default=None
        Weights that may change; None means all of them.
    factors : mapping of str to tensor, default=None
        Multiplied with the gradients, by parameter name; None means one.
    n_extra_steps : int, default=0
        Steps that the caller makes besides those on the batches of each epoch.
    freeze_norm : bool, default=False
        Whether normalization layers keep their running statistics.
    monitor : Monitor, default=None
        Follows the epochs.
    guard : Guard, default=None
        Checks the module after every epoch, before the monitor sees it.

    Attributes
    ----------
    n_epochs : int
        Epochs to run.
    history : list of dict
        One record per epoch: "epoch", "loss" (mean over the samples), "n_steps" (counted from the
        start), and what the caller adds.
    """

    def __init__(
        self,
        module: nn.Module,
        n_samples: int,
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        config: FineTuneConfig,
        generator: torch.Generator,
        *,
        mask: Mask | None = None,
        factors: Mapping[str, torch.Tensor] | None = None,
        n_extra_steps: int = 0,
        freeze_norm: bool = False,
        monitor: Monitor | None = None,
        guard: Guard | None = None,
    ) -> None:
        self.n_epochs = config.n_epochs(n_samples)
        self.history: list[Record] = []
        self._module = module
        self._n_samples = n_samples
        self._loss = loss
        self._config = config
        self._generator = generator
        self._mask = mask
        self._factors = factors
        self._freeze_norm = freeze_norm
        self._monitor = monitor
        self._guard = guard
        self._parameters = dict(module.named_parameters())
        self._optimizer = make_optimizer(
            module, config.optimizer, config.learning_rate, config.weight_decay
        )
        self._total_steps = n_extra_steps + self.n_epochs * n_minibatches(
            n_samples, config.batch_size
        )
        self._n_steps = 0
        self._epoch_loss = 0.0

    def begin(self) -> None:
        """Announce the number of epochs to the monitor."""
        if self._monitor is not None:
            self._monitor.begin(self.n_epochs)

    def batches(self) -> Iterator[torch.Tensor]:
        """Return an iterator over the shuffled batches of one epoch, as sample indices."""
        return minibatches(self._n_samples, self._config.batch_size, self._generator)

    def step(self, inputs: Any, targets: torch.Tensor) -> None:
        """Make one optimizer step on a batch."""
        training_mode(self._module, freeze_norm=self._freeze_norm)
        loss = self._loss(forward(self._module, inputs), targets)
        self._optimizer.zero_grad()
        loss.backward()
        factor = cosine_decay(self._n_steps, self._total_steps) if self._config.cosine else 1.0
        set_rate(self._optimizer, factor * (1.0 if self._guard is None else self._guard.rate))
        mask_gradients(self._parameters, self._mask)
        mask_gradients(self._parameters, self._factors)
        step_inside(self._optimizer, self._parameters, self._mask)
        self._epoch_loss += loss.item() * len(targets)
        self._n_steps += 1

    def end_epoch(self, **values: float) -> bool:
        """Record an epoch together with further values, and return whether to stop.

        Raises
        ------
        ValueError
            If the mean loss is not finite.
        """
        if not math.isfinite(self._epoch_loss):
            raise ValueError(
                f"Epoch {len(self.history) + 1} has produced losses or weights that are not finite "
                f"at learning_rate={self._config.learning_rate:g}; try a smaller rate."
            )
        record: Record = {
            "epoch": len(self.history) + 1,
            "loss": self._epoch_loss / self._n_samples,
            "n_steps": self._n_steps,
            **values,
            **({} if self._guard is None else self._guard.check()),
        }
        if record.get("kept", 1.0) < 1:
            self._optimizer.state.clear()  # momentum would repeat the change that was taken back
        self.history.append(record)
        self._epoch_loss = 0.0
        return self._monitor is not None and self._monitor.step(record)


def fine_tune(
    module: nn.Module,
    n_samples: int,
    batch: Callable[[torch.Tensor], tuple[Any, torch.Tensor]],
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    config: FineTuneConfig,
    generator: torch.Generator,
    **options: Any,
) -> list[Record]:
    """Fine-tune a module in place on inputs and targets that do not change.

    Parameters
    ----------
    module : torch.nn.Module
        The network to train.
    n_samples : int
        Samples per epoch.
    batch : callable
        Maps the indices of a batch to its inputs and targets.
    loss : callable
        Maps the module's outputs and the targets of a batch to a scalar.
    config : FineTuneConfig
        Settings of the run.
    generator : torch.Generator
        Draws the order of the samples.
    **options
        Further arguments of :class:`FineTuning`: `mask`, `factors`, `freeze_norm`, `monitor`
        and `guard`.

    Returns
    -------
    list of dict
        One record per epoch, as in :class:`FineTuning`.
    """
    run = FineTuning(module, n_samples, loss, config, generator, **options)
    run.begin()
    for _ in range(run.n_epochs):
        for index in run.batches():
            run.step(*batch(index))
        if run.end_epoch():
            break
    module.eval()
    return run.history


def forward(module: nn.Module, inputs: Any) -> Any:
    """Return the outputs of a module for a batch; a dict of inputs becomes keyword arguments."""
    return module(**inputs) if isinstance(inputs, Mapping) else module(inputs)


@contextmanager
def private_randomness(
    rng: np.random.RandomState, device: torch.device | str | None
) -> Iterator[torch.Generator]:
    """Yield a generator for batch orders while torch's global generators are seeded from `rng`."""
    generator = torch_generator(draw_seed(rng))
    with seeded(draw_seed(rng), device):
        yield generator


def make_optimizer(
    module: nn.Module,
    optimizer: str | Callable[..., torch.optim.Optimizer],
    learning_rate: float,
    weight_decay: float,
) -> torch.optim.Optimizer:
    """Return an optimizer of the module's trainable weights."""
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    if not weights:
        raise ValueError("The network cannot be trained: all its weights are frozen.")
    if not isinstance(optimizer, str):
        return optimizer(weights, lr=learning_rate, weight_decay=weight_decay)
    options: dict[str, Any]
    if optimizer == "sgd":
        options = {"momentum": SGD_MOMENTUM}
    else:  # on small networks, one kernel for all weights saves a third of a step
        fits = [w.is_floating_point() and w.device.type in ("cpu", "cuda") for w in weights]
        options = {"fused": all(fits)}
        if any(weight.dtype == torch.float16 for weight in weights):
            options["eps"] = _HALF_PRECISION_EPS
    make: Callable[..., torch.optim.Optimizer] = OPTIMIZERS[optimizer]
    return make(weights, lr=learning_rate, weight_decay=weight_decay, **options)


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set the learning rates to `factor` times the rates that the optimizer was created with."""
    for group in optimizer.param_groups:
        group["lr"] = factor * group.setdefault("first_lr", group["lr"])


def _has_running_statistics(layer: nn.Module) -> bool:
    return getattr(layer, "running_mean", None) is not None


def has_running_statistics(module: nn.Module) -> bool:
    """Return whether any layer of a module keeps running statistics of its inputs."""
    return any(_has_running_statistics(layer) for layer in module.modules())


def training_mode(module: nn.Module, *, freeze_norm: bool = False) -> None:
    """Switch to training mode.

    Running statistics change only in layers whose weights are not frozen, and in none with
    `freeze_norm`.
    """
    module.train()
    for layer in module.modules():
        if _has_running_statistics(layer) and (freeze_norm or _is_frozen(layer)):
            layer.eval()


def _is_frozen(layer: nn.Module) -> bool:
    weights = list(layer.parameters())
    return bool(weights) and not any(weight.requires_grad for weight in weights)


def mask_gradients(parameters: Mapping[str, nn.Parameter], mask: Mask | None) -> None:
    """Multiply the gradients by a mask or by factors in place; None leaves them unchanged."""
    if mask is None:
        return
    for name, selected in mask.items():
        gradient = parameters[name].grad
        if gradient is not None:
            gradient *= selected


@torch.no_grad()
def step_inside(
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, nn.Parameter],
    mask: Mask | None,
) -> None:
    """Make an optimizer step that changes no weight outside a mask; None selects all weights.

    Masked gradients alone would not ensure this, because momentum and weight decay move weights
    as well.
    """
    selected = {} if mask is None else mask
    before = {name: parameters[name].clone() for name in selected}
    optimizer.step()
    for name, value in before.items():
        parameters[name].copy_(torch.where(selected[name], parameters[name], value))
