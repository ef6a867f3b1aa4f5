"""One network, many ingredients, and the rows that judge what is made of them."""

import contextlib
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from ._batch_norm import estimate_running_statistics
from ._layout import is_finite
from ._rows import Rows
from ._shelf import Shelf


class Evaluation(NamedTuple):
    """Score and mean loss of the network on the mixing rows."""

    score: float
    loss: float


@dataclass(frozen=True)
class Workbench:
    """What every recipe works with. Methods with a trailing underscore change the network.

    Attributes
    ----------
    net : skorch.NeuralNet
        Initialised; its module takes the weights in turn.
    shelf : Shelf
        The ingredients, beside that module.
    mixing : Rows
        On which coefficients are learned and everything is judged.
    statistics : Rows
        On which running statistics are estimated.
    scorer : callable
        Of a net, X and y.
    X, y : object
        The mixing rows as the scorer takes them.
    refresh_bn : bool
    """

    net: Any
    shelf: Shelf
    mixing: Rows
    statistics: Rows
    scorer: Any
    X: Any
    y: Any
    refresh_bn: bool

    @property
    def parameters(self):
        """Parameters of the module by name."""
        return self.shelf.layout.parameters

    def batch_size(self):
        """Rows of a forward pass that learns nothing."""
        return len(self.mixing) if self.net.batch_size == -1 else self.net.batch_size

    def loss_of(self, inputs, targets):
        """Loss of the network on a batch, with its graph."""
        return self.net.get_loss(self.net.infer(inputs), targets)

    @torch.no_grad()
    def evaluate(self, loss_of=None):
        """Score and loss of the network as it stands; None is the loss of the net."""
        loss_of = self.loss_of if loss_of is None else loss_of
        self.net.module_.eval()
        total = 0.0
        for inputs, targets in self.mixing.in_order(self.batch_size()):
            total += float(loss_of(inputs, targets)) * len(targets)
        return Evaluation(self.score(), total / len(self.mixing))

    def score(self):
        """Score of the network as it stands, at the cost of half an evaluation."""
        return float(self.scorer(self.net, self.X, self.y))

    def evaluate_ingredient_(self, k):
        """Score and loss of an ingredient; NaN where its weights are not finite."""
        self.shelf.load_(k)
        finite = is_finite(self.shelf.layout)
        return self.evaluate() if finite else Evaluation(math.nan, math.nan)

    def average_(self, members):
        """Put the mean of some ingredients in the network, buffers included."""
        equal = [1.0 / len(members)] * len(members)
        self.shelf.combine_(dict.fromkeys(self.parameters, equal), members)
        self.finish_buffers_(members)

    def finish_buffers_(self, members):
        """Average the buffers of some ingredients, and estimate running statistics anew.

        The statistics of one member alone are right as they are.
        """
        self.shelf.average_buffers_(members)
        if self.refresh_bn and len(members) > 1:
            batches = self.statistics.inputs_for_statistics(self.batch_size())
            estimate_running_statistics(self.net.module_, self.net.infer, batches)

    @contextlib.contextmanager
    def training_only(self, names):
        """Let gradients reach some parameters and no others, in training mode."""
        wanted = set(names)
        before = {name: own.requires_grad for name, own in self.parameters.items()}
        try:
            for name, own in self.parameters.items():
                own.requires_grad_(name in wanted)
            self.net.module_.train()
            yield
        finally:
            for name, own in self.parameters.items():
                own.requires_grad_(before[name])
            self.net.module_.eval()
