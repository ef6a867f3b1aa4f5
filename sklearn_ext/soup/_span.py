r"""What the mixing of a block does to full-sized tensors: inner products and combinations.

Two engines of the same four methods. Arrays have one row for each of the T parameter tensors that
are mixed and one column for each of the b ingredients of the block.

- :class:`StreamedSpan` stores no direction. It reads the ingredients where they are, in files
  mapped into memory as a rule, and uses :math:`\langle q, d_i \rangle = \langle q, w_i \rangle -
  \langle q, c \rangle` and :math:`c + \sum_i y_i d_i = (1 - \sum_i y_i) c + \sum_i y_i w_i`.
  Memory: the origin, whatever b is.
- :class:`StoredSpan` keeps the directions as one (b, size) array a tensor. Memory: b + 1 models.
"""

import torch

from ._combination import chunks, weighted_sum_


class StreamedSpan:
    """Directions that are formed while the ingredients are read.

    Parameters
    ----------
    parameters : list of T tensors
        Those of the network, standing at the origin. :meth:`move_` changes them in place.
    points : list of b lists of T tensors
        The ingredients of the block. Never changed.
    """

    def __init__(self, parameters, points):
        self.parameters = parameters
        self.points = points
        self.origin = [parameter.detach().clone() for parameter in parameters]

    def squared_norms(self):
        r""":math:`\lVert d_i \rVert^2` of each tensor, float64 of shape (T, b)."""
        return self._by_tensor(
            lambda w, c, t: torch.stack([_squared_distance(p[t], c) for p in self.points])
        )

    def project(self, gradients):
        r""":math:`\langle q, d_i \rangle` of each tensor, float64 of shape (T, b).

        Parameters
        ----------
        gradients : list of T tensors
            q.
        """

        def inner(w, c, t):
            q = gradients[t]
            return torch.stack([_inner(q, p[t]) for p in self.points]) - _inner(q, c)

        return self._by_tensor(inner)

    def _by_tensor(self, function):
        rows = enumerate(zip(self.parameters, self.origin, strict=True))
        return torch.stack([function(w, c, t) for t, (w, c) in rows])

    @torch.no_grad()
    def move_(self, steps):
        r"""Set the parameters to :math:`c + \sum_i y_i d_i`.

        Parameters
        ----------
        steps : tensor of shape (T, b)
            y, one row a tensor.
        """
        for t, (w, c) in enumerate(zip(self.parameters, self.origin, strict=True)):
            y = steps[t].tolist()
            weighted_sum_(w, [c, *(p[t] for p in self.points)], [1.0 - sum(y), *y])


class StoredSpan:
    """Directions that are kept; parameters and methods are those of :class:`StreamedSpan`."""

    def __init__(self, parameters, points):
        self.parameters = parameters
        self.origin = [parameter.detach().clone() for parameter in parameters]
        self.directions = [
            torch.stack([p[t].to(c.device, c.dtype).reshape(-1) for p in points]) - c.reshape(-1)
            for t, c in enumerate(self.origin)
        ]

    def squared_norms(self):
        r""":math:`\lVert d_i \rVert^2` of each tensor, float64 of shape (T, b)."""
        return torch.stack([D.square().sum(dim=1).double() for D in self.directions]).cpu()

    def project(self, gradients):
        r""":math:`\langle q, d_i \rangle` of each tensor, float64 of shape (T, b)."""
        products = [D @ q.reshape(-1) for D, q in zip(self.directions, gradients, strict=True)]
        return torch.stack(products).double().cpu()

    @torch.no_grad()
    def move_(self, steps):
        r"""Set the parameters to :math:`c + \sum_i y_i d_i`."""
        for w, c, D, y in zip(self.parameters, self.origin, self.directions, steps, strict=True):
            # y @ D reads the rows as they lie in memory, D.T @ y would jump between them.
            w.copy_((y.to(D.device, D.dtype) @ D).view_as(w)).add_(c)


def _inner(first, second):
    return _accumulate(first, second, torch.dot)


def _squared_distance(first, second):
    return _accumulate(first, second, lambda a, b: (a - b).square_().sum())


def _accumulate(first, second, function):
    """Sum a function of chunks of two tensors in float64, so that the length costs no digits."""
    pieces = [function(a, b) for a, b in zip(*_aligned(first, second), strict=True)]
    return torch.stack(pieces).double().sum().cpu()


def _aligned(first, second):
    """Chunks of two tensors, on the device of the first and in its dtype."""
    return chunks(first), (b.to(first.device, first.dtype) for b in chunks(second))
