"""Ingredients beside the module that their combinations are put in."""

from dataclasses import dataclass

import torch

from ._combination import weighted_sum_
from ._ingredients import Ingredient
from ._layout import Layout


@dataclass(frozen=True)
class Shelf:
    """Ingredients of one module. Methods with a trailing underscore change the module.

    Attributes
    ----------
    layout : Layout
        Of the module.
    ingredients : list of Ingredient
        Read tensor by tensor, and never changed.
    """

    layout: Layout
    ingredients: list[Ingredient]

    def __len__(self):
        return len(self.ingredients)

    def tensor(self, k, name):
        """One tensor of an ingredient."""
        return self.layout.read(self.ingredients[k].tensors, name)

    def points(self, block, names):
        """Tensors of some ingredients, one list each."""
        return [[self.tensor(k, name) for name in names] for k in block]

    @torch.no_grad()
    def load_(self, k):
        """Put the parameters and buffers of an ingredient in the module."""
        for name, own in self.layout.own_tensors().items():
            own.copy_(self.tensor(k, name))

    def combine_(self, weights, members):
        """Put weighted sums of some ingredients in the parameters.

        Parameters
        ----------
        weights : dict of str to sequence of float
            Of the members, by name of the parameter; they sum to 1.
        members : sequence of int
        """
        for name, own in self.layout.parameters.items():
            tensors = [self.tensor(k, name) for k in members]
            if all(_same(tensors[0], other) for other in tensors[1:]):
                weighted_sum_(own.detach(), tensors[:1], [1.0])  # a sum would only round it
            else:
                weighted_sum_(own.detach(), tensors, weights[name])

    @torch.no_grad()
    def average_buffers_(self, members):
        """Put the means of floating buffers in the module, and copies of the others.

        Learned coefficients are not for buffers: some are negative, and so would variances be.
        """
        for name, own in self.layout.float_buffers.items():
            tensors = [self.tensor(k, name) for k in members]
            weighted_sum_(own, tensors, [1.0 / len(members)] * len(members))
        for name, own in self.layout.other_buffers.items():
            own.copy_(self.tensor(members[0], name))

    def differing(self):
        """Names of the parameters that are not the same in all ingredients."""
        everyone = range(1, len(self))
        return [
            name
            for name in self.layout.parameters
            if not all(_same(self.tensor(0, name), self.tensor(k, name)) for k in everyone)
        ]


def weights_by_tensor(coef, groups):
    """Spread coefficients of groups over their parameters.

    Parameters
    ----------
    coef : ndarray of shape (G, N)
    groups : dict of str to list of str

    Returns
    -------
    dict of str to list of N floats
    """
    rows = zip(groups.values(), coef.tolist(), strict=True)
    return {name: row for members, row in rows for name in members}


def _same(first, second):
    alike = first.dtype == second.dtype and first.device == second.device
    return alike and torch.equal(first, second)
