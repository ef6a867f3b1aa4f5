"""The ingredients of a soup, and the module that receives their combinations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ...neural.files import KeyMap
from ...utils._typing import FloatArray
from ._layout import Layout, layout_of, tensors_of_ingredient
from ._weighted_sums import weighted_sum_


@dataclass(frozen=True)
class IngredientStore:
    """Ingredients of one module. Methods with a trailing underscore change the module.

    Attributes
    ----------
    layout : Layout
        Layout of the module.
    ingredients : list of mappings of str to tensor
        Tensors under the names of the module, which are read one by one and never changed.
    """

    layout: Layout
    ingredients: list[Mapping[str, torch.Tensor]]

    @classmethod
    def of(
        cls,
        module: nn.Module,
        ingredients: Sequence[Mapping[str, torch.Tensor]],
        labels: Sequence[str] | None = None,
        key_map: KeyMap | None = None,
    ) -> "IngredientStore":
        """Make a store after checking that each ingredient fits the module.

        Parameters
        ----------
        module : torch.nn.Module
        ingredients : sequence of mappings of str to tensor
        labels : sequence of str or None, default=None
            Names of the ingredients in error messages. None uses their indices.
        key_map : mapping, callable or None, default=None
            New names of tensors.

        Raises
        ------
        ValueError
            If an ingredient does not fit the module.
        """
        if labels is None:
            labels = [f"ingredients[{k}]" for k in range(len(ingredients))]
        layout = layout_of(module)
        named = zip(labels, ingredients, strict=True)
        return cls(layout, [tensors_of_ingredient(layout, t, label, key_map) for label, t in named])

    def __len__(self) -> int:
        return len(self.ingredients)

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """Parameters of the module by name."""
        return self.layout.parameters

    def tensor(self, k: int, name: str) -> torch.Tensor:
        """Return one tensor of ingredient k."""
        return self.ingredients[k][name]

    def points(self, block: Sequence[int], names: Sequence[str]) -> list[list[torch.Tensor]]:
        """Return the named tensors of each ingredient of a block."""
        return [[self.tensor(k, name) for name in names] for k in block]

    def differing_parameters(self) -> list[str]:
        """Return the names of the parameters that differ between ingredients."""
        others = range(1, len(self))
        return [
            name
            for name in self.parameters
            if not all(_equal(self.tensor(0, name), self.tensor(k, name)) for k in others)
        ]

    @torch.no_grad()
    def load_(self, k: int) -> None:
        """Copy the parameters and buffers of ingredient k into the module."""
        for name, own in self.layout.own_tensors().items():
            own.copy_(self.tensor(k, name))

    def is_loaded(self, k: int) -> bool:
        """Return whether the parameters of the module are those of ingredient k."""
        return all(
            torch.equal(own, self.tensor(k, name).to(own)) for name, own in self.parameters.items()
        )

    def combine_(self, weights: Mapping[str, Sequence[float]], members: Sequence[int]) -> None:
        """Set the parameters of the module to weighted sums over some ingredients.

        Parameters
        ----------
        weights : mapping of str to sequence of float
            For each parameter, the weights of the members. They sum to 1.
        members : sequence of int
        """
        for name, own in self.parameters.items():
            tensors = [self.tensor(k, name) for k in members]
            if all(_equal(tensors[0], other) for other in tensors[1:]):
                weighted_sum_(own.detach(), tensors[:1], [1.0])  # summing equal tensors would round
            else:
                weighted_sum_(own.detach(), tensors, weights[name])

    def average_(self, members: Sequence[int]) -> None:
        """Set the parameters of the module to their means over some ingredients."""
        equal = [1.0 / len(members)] * len(members)
        self.combine_(dict.fromkeys(self.parameters, equal), members)

    @torch.no_grad()
    def average_buffers_(self, members: Sequence[int]) -> None:
        """Set floating-point buffers to their means over some ingredients, and copy others.

        Learned coefficients must not be used for buffers: with negative coefficients a running
        variance could become negative.
        """
        for name, own in self.layout.float_buffers.items():
            tensors = [self.tensor(k, name) for k in members]
            weighted_sum_(own, tensors, [1.0 / len(members)] * len(members))
        for name, own in self.layout.other_buffers.items():
            own.copy_(self.tensor(members[0], name))


def weights_by_tensor(
    coef: FloatArray, groups: Mapping[str, Sequence[str]]
) -> dict[str, list[float]]:
    """Return the N coefficients of each parameter, given those of its group.

    Parameters
    ----------
    coef : ndarray of shape (G, N)
    groups : mapping of str to sequence of str
    """
    rows = zip(groups.values(), coef.tolist(), strict=True)
    return {name: row for members, row in rows for name in members}


def _equal(first: torch.Tensor, second: torch.Tensor) -> bool:
    comparable = first.dtype == second.dtype and first.device == second.device
    return comparable and torch.equal(first, second)
