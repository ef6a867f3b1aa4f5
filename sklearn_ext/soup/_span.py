r"""What the mixing of a block does to full-sized tensors: inner products and combinations.

Two engines of the same methods. Arrays have one row for each of the T parameter tensors that are
mixed and one column for each of the b ingredients of the block. The network stands at the origin c
when a span is opened.

- :class:`StreamedSpan` stores no direction. It reads the ingredients where they are, in files
  mapped into memory as a rule, and uses :math:`\langle q, d_i \rangle = \langle q, w_i \rangle -
  \langle q, c \rangle` and :math:`c + \sum_i y_i d_i = (1 - \sum_i y_i) c + \sum_i y_i w_i`.
  Memory: a copy of the origin; nothing where the origin is a combination of the block itself.
- :class:`StoredSpan` keeps the directions as one (b, size) array a tensor. Memory: b + 1 models.
"""

import torch

from ._combination import add_parts_, chunks, like


class StreamedSpan:
    r"""Directions that are formed while the ingredients are read.

    Parameters
    ----------
    parameters : list of T tensors
        Those of the network. :meth:`move_` changes them in place.
    points : list of b lists of T tensors
        The ingredients of the block. Never changed.
    origin : tensor of shape (T, b) or None
        Coefficients of the origin, if it is a combination of the block. Then :math:`\langle q, c
        \rangle` is that combination of the :math:`\langle q, w_i \rangle`, and no copy is needed.
    """

    def __init__(self, parameters, points, origin=None):
        n_tensors, n_points = len(parameters), len(points)
        copies = [] if origin is not None else [[p.detach().clone() for p in parameters]]
        sources = [*copies, *points]
        if origin is None:
            origin = torch.zeros(n_tensors, n_points + 1, dtype=torch.float64)
            origin[:, 0] = 1.0
        self.origin = origin
        self.n_copies = len(copies)
        self.pieces = [
            list(zip(chunks(w), *(chunks(source[t]) for source in sources), strict=True))
            for t, w in enumerate(parameters)
        ]

    def squared_norms(self):
        r""":math:`\lVert d_i \rVert^2` of each tensor, float64 of shape (T, b), before any move."""
        return torch.stack([self._squared_distances(pieces) for pieces in self.pieces])

    def _squared_distances(self, pieces):
        totals = []
        for w, *parts in pieces:
            difference = torch.empty_like(w)  # one for all, lest the allocator keep many
            for part in parts[self.n_copies :]:
                torch.sub(like(part, w), w, out=difference)
                totals.append(torch.dot(difference, difference))
        return torch.stack(totals).view(len(pieces), -1).double().sum(dim=0).cpu()

    def project(self, gradients):
        r""":math:`\langle q, d_i \rangle` of each tensor, float64 of shape (T, b).

        Parameters
        ----------
        gradients : list of T tensors
            q.
        """
        products = torch.stack(
            [_products(q, pieces) for q, pieces in zip(gradients, self.pieces, strict=True)]
        )
        at_origin = (self.origin * products).sum(dim=1, keepdim=True)
        return products[:, self.n_copies :] - at_origin

    @torch.no_grad()
    def move_(self, steps):
        r"""Set the parameters to :math:`c + \sum_i y_i d_i`.

        Parameters
        ----------
        steps : tensor of shape (T, b)
            y, one row a tensor.
        """
        weights = (1.0 - steps.sum(dim=1, keepdim=True)) * self.origin
        weights[:, self.n_copies :] += steps
        for pieces, row in zip(self.pieces, weights.tolist(), strict=True):
            for w, *parts in pieces:
                add_parts_(w, parts, row)


class StoredSpan:
    """Directions that are kept; parameters and methods are those of :class:`StreamedSpan`."""

    def __init__(self, parameters, points, origin=None):
        self.parameters = parameters
        self.origin = [parameter.detach().clone() for parameter in parameters]
        self.directions = [
            _stacked_differences([point[t] for point in points], c)
            for t, c in enumerate(self.origin)
        ]

    def squared_norms(self):
        r""":math:`\lVert d_i \rVert^2` of each tensor, float64 of shape (T, b)."""
        norms = [torch.linalg.vector_norm(D, dim=1).double() for D in self.directions]
        return torch.stack(norms).square().cpu()

    def project(self, gradients):
        r""":math:`\langle q, d_i \rangle` of each tensor, float64 of shape (T, b)."""
        products = [D @ q.reshape(-1) for D, q in zip(self.directions, gradients, strict=True)]
        return torch.stack(products).double().cpu()

    @torch.no_grad()
    def move_(self, steps):
        r"""Set the parameters to :math:`c + \sum_i y_i d_i`."""
        for w, c, D, y in zip(self.parameters, self.origin, self.directions, steps, strict=True):
            # y @ D reads the rows as they lie in memory, D.T @ y would jump between them.
            w.copy_((like(y, D) @ D).view_as(w)).add_(c)


def _products(gradient, pieces):
    """Inner products with all sources; chunks are added in float64: size costs no digits."""
    totals = [
        torch.stack([torch.dot(q, like(part, q)) for part in parts])
        for q, (_, *parts) in zip(chunks(gradient), pieces, strict=True)
    ]
    return torch.stack(totals).double().sum(dim=0).cpu()


def _stacked_differences(versions, origin):
    out = origin.new_empty((len(versions), origin.numel()))
    for row, version in zip(out, versions, strict=True):
        row.copy_(version.reshape(-1)).sub_(origin.reshape(-1))
    return out
