"""The network that receives the weights of a soup, and its evaluation on the mixing samples."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import skorch
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...neural import NetSamples, loss_of_outputs, torch_generator
from ...utils._warnings import warn_caller
from ._layout import first_not_finite
from ._store import IngredientStore

_BASIN_FACTOR = 2.0


class Evaluation(NamedTuple):
    """Score and mean loss of a network on the mixing samples."""

    score: float
    loss: float


@dataclass(frozen=True)
class SoupNetwork:
    """A network with its ingredients. Methods with a trailing underscore change the network.

    Attributes
    ----------
    net : skorch.NeuralNet
        An initialized net whose module receives the weights of ingredients and soups in turn.
    store : IngredientStore
        Ingredients of that module.
    mixing : NetSamples
        Samples on which coefficients are learned and networks are evaluated.
    statistics : NetSamples
        Samples on which running statistics are estimated.
    scorer : callable
        Returns a score, given a net, X and y.
    X, y : object
        The mixing samples as the scorer takes them.
    refresh_bn : bool
        Whether to re-estimate running statistics for each soup.
    base : mapping of str to tensor or None
        Weights from which the ingredients were fine-tuned, if they are known.
    after_step : callable
        Reports a step of mixing; returns whether a callback asks to stop.
    """

    net: skorch.NeuralNet
    store: IngredientStore
    mixing: NetSamples
    statistics: NetSamples
    scorer: Callable[..., float]
    X: Any
    y: Any
    refresh_bn: bool
    base: Mapping[str, torch.Tensor] | None
    after_step: Callable[[], bool] = bool

    def required_base(self) -> Mapping[str, torch.Tensor]:
        """Return the weights from which the ingredients were fine-tuned.

        Raises
        ------
        ValueError
            If these weights are unknown.
        """
        if self.base is None:
            raise ValueError(
                "base must be the weights from which the ingredients were fine-tuned, unless "
                "estimator is fitted and has them, got None."
            )
        return self.base

    def batch_size(self) -> int:
        """Return the number of samples per forward pass in evaluation."""
        return len(self.mixing) if self.net.batch_size == -1 else self.net.batch_size

    def loss_of(self, inputs: Any, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss of the network on a batch, as part of the autograd graph."""
        return loss_of_outputs(self.net, self.net.infer(inputs), targets, X=inputs)

    @torch.no_grad()
    def evaluate(self, loss_of: Callable[..., torch.Tensor] | None = None) -> Evaluation:
        """Return the score and loss of the network; `loss_of` can replace the loss of the net."""
        loss_of = self.loss_of if loss_of is None else loss_of
        self.net.module_.eval()
        total = 0.0
        for inputs, targets in self.mixing.in_order(self.batch_size()):
            total += float(loss_of(inputs, targets)) * len(targets)
        return Evaluation(self.score(), total / len(self.mixing))

    def score(self) -> float:
        """Return the score of the network, at half the cost of :meth:`evaluate`."""
        return float(self.scorer(self.net, self.X, self.y))

    def evaluate_ingredient_(self, k: int) -> Evaluation:
        """Return the score and loss of ingredient k, or NaN if its weights are not finite."""
        self.store.load_(k)
        finite = first_not_finite(self.store.layout) is None
        return self.evaluate() if finite else Evaluation(math.nan, math.nan)

    def average_(self, members: Sequence[int]) -> None:
        """Set the network to the mean of some ingredients, buffers included."""
        self.store.average_(members)
        self.refresh_buffers_(members)

    def refresh_buffers_(self, members: Sequence[int]) -> None:
        """Average the buffers of some ingredients, and re-estimate running statistics.

        A single member keeps its own statistics, which fit its weights, unless these were changed.
        """
        self.store.average_buffers_(members)
        is_member = len(members) == 1 and self.store.is_loaded(members[0])
        if self.refresh_bn and not is_member:
            batches = inputs_for_statistics(self.statistics, self.batch_size())
            estimate_running_statistics(self.net.module_, self.net.infer, batches)


def inputs_for_statistics(samples: NetSamples, batch_size: int) -> Iterator[Any]:
    """Yield batches of inputs in a fixed random order, because samples may be sorted."""
    for inputs, _ in samples.shuffled(batch_size, torch_generator(0)):
        yield inputs


@torch.no_grad()
def estimate_running_statistics(
    module: nn.Module, forward: Callable[[Any], Any], batches: Iterable[Any]
) -> None:
    """Set the running statistics of batch normalization to their averages over batches.

    Activations are not linear in the weights, so the statistics of a soup are not the average of
    those of its ingredients. Only the batch normalization layers run in training mode, so dropout
    is off, as in prediction.

    Parameters
    ----------
    module : torch.nn.Module
        It is left in evaluation mode.
    forward : callable
        Runs the module on a batch.
    batches : iterable
        Each batch has at least two samples.
    """
    layers = [
        layer
        for layer in module.modules()
        if isinstance(layer, _BatchNorm) and layer.track_running_stats
    ]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    module.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the plain average over batches
        layer.train()
    try:
        for batch in batches:
            forward(batch)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
            layer.eval()


def warn_of_separate_basins(uniform_loss: float, mean_loss: float) -> None:
    """Warn if the uniform soup is far worse than its ingredients.

    Parameters
    ----------
    uniform_loss : float
        Loss of the uniform soup.
    mean_loss : float
        Mean loss of the ingredients.
    """
    if not uniform_loss <= _BASIN_FACTOR * abs(mean_loss):
        warn_caller(
            f"The uniform soup has a loss of {uniform_loss:.4g}, but its ingredients have a mean "
            f"loss of {mean_loss:.4g}. The ingredients do not share a basin of the loss, so "
            "averaging them makes little sense. All of them must be fine-tuned from the same "
            "weights, head included."
        )
