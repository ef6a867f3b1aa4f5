"""The training loop that all unlearners share, as plain functions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from ...neural import cosine_decay, minibatches, n_minibatches

SGD_MOMENTUM = 0.9
OPTIMIZERS = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
}


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes
    ----------
    lr : float
    n_epochs : int
    batch_size : int
    optimizer : str or torch.optim.Optimizer class
        One of OPTIMIZERS; "sgd" has a momentum of 0.9.
    weight_decay : float
    cosine : bool
        Whether the rate decays to 0 over all steps.
    """

    lr: float
    n_epochs: int
    batch_size: int
    optimizer: str | type = "adamw"
    weight_decay: float = 0.0
    cosine: bool = True


def make_optimizer(module, optimizer, lr, weight_decay):
    """Return an optimizer for the weights of a module that are trainable."""
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    if not isinstance(optimizer, str):
        return optimizer(weights, lr=lr, weight_decay=weight_decay)
    if optimizer == "sgd":
        options = {"momentum": SGD_MOMENTUM}
    else:  # on small networks one kernel for all weights saves a third of a step
        options = {"fused": all(weight.device.type in ("cpu", "cuda") for weight in weights)}
    return OPTIMIZERS[optimizer](weights, lr=lr, weight_decay=weight_decay, **options)


def set_rate(optimizer, factor):
    """Set the learning rates to a multiple of those that the optimizer was made with."""
    for group in optimizer.param_groups:
        group["lr"] = factor * group.setdefault("first_lr", group["lr"])


def has_running_statistics(module):
    """Whether normalisation layers of a module remember what they have seen."""
    return any(getattr(layer, "running_mean", None) is not None for layer in module.modules())


def training_mode(module, *, freeze_norm=False):
    """Switch to training mode, but leave running statistics alone if `freeze_norm` is set."""
    module.train()
    if freeze_norm:
        for layer in module.modules():
            if getattr(layer, "running_mean", None) is not None:
                layer.eval()


def mask_gradients(parameters, mask):
    """Set the gradients outside of a mask to zero, in place; a mask of None selects all."""
    for name, selected in (mask or {}).items():
        if parameters[name].grad is not None:
            parameters[name].grad *= selected


@torch.no_grad()
def step_inside(optimizer, parameters, mask):
    """Make a step that changes nothing outside of a mask; a mask of None selects all.

    Masked gradients are not enough for that: momentum and weight decay move weights, too.
    """
    before = {name: parameters[name].clone() for name in mask or {}}
    optimizer.step()
    for name, value in before.items():
        parameters[name].copy_(torch.where(mask[name], parameters[name], value))


def finetune(
    module: nn.Module,
    n_rows: int,
    batch: Callable,
    loss: Callable,
    recipe: Recipe,
    generator: torch.Generator,
    *,
    mask: Mapping[str, torch.Tensor] | None = None,
    freeze_norm: bool = False,
    before_epoch: Callable | None = None,
    after_epoch: Callable | None = None,
) -> list[dict]:
    """Train a module in place on shuffled batches, and return what happened in each epoch.

    Parameters
    ----------
    module : torch.nn.Module
    n_rows : int
        Rows in an epoch.
    batch : callable
        From the indices of a batch, a tensor of numbers below `n_rows`, to inputs and targets.
        It is called right before the step, so it may ask the module as it is by then.
    loss : callable
        From outputs and targets to a scalar.
    recipe : Recipe
    generator : torch.Generator
        Source of the order of the rows.
    mask : mapping of str to tensor of bool, default=None
        The weights that may change; None is all.
    freeze_norm : bool, default=False
        Whether running statistics of normalisation layers stay as they are.
    before_epoch : callable, default=None
        Called without arguments.
    after_epoch : callable, default=None
        From the record of an epoch, a dict with "epoch" and "loss", to which it may add, to whether
        to stop.

    Returns
    -------
    list of dict
        One record an epoch; "loss" is the mean over the rows, "n_steps" counts from the start.
    """
    optimizer = make_optimizer(module, recipe.optimizer, recipe.lr, recipe.weight_decay)
    parameters = dict(module.named_parameters())
    n_steps = recipe.n_epochs * n_minibatches(n_rows, recipe.batch_size)
    step, history = 0, []
    for epoch in range(recipe.n_epochs):
        if before_epoch is not None:
            before_epoch()
        total = 0.0
        for index in minibatches(n_rows, recipe.batch_size, generator):
            inputs, targets = batch(index)
            training_mode(module, freeze_norm=freeze_norm)
            value = loss(module(inputs), targets)
            optimizer.zero_grad()
            value.backward()
            if recipe.cosine:
                set_rate(optimizer, cosine_decay(step, n_steps))
            mask_gradients(parameters, mask)
            step_inside(optimizer, parameters, mask)
            total += value.item() * len(index)
            step += 1
        history.append({"epoch": epoch + 1, "loss": total / n_rows, "n_steps": step})
        if after_epoch is not None and after_epoch(history[-1]):
            break
    module.eval()
    return history
