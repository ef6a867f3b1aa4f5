r"""Inner products with the directions of a block, and steps along them.

All engines have the same methods. Arrays have one row for each of the T parameter tensors that are
mixed and one column for each of the b ingredients of the block. The origin c is the weights that
the network has when an engine is created.

- :class:`StreamedDirections` does not store directions. It reads the ingredients in place, usually
  from memory-mapped files, and uses :math:`\langle q, d_i \rangle = \langle q, w_i \rangle -
  \langle q, c \rangle` and :math:`c + \sum_i y_i d_i = (1 - \sum_i y_i) c + \sum_i y_i w_i`. It
  keeps a copy of the origin, unless the origin is a combination of the block itself.
- :class:`StoredDirections` keeps the directions of each tensor as an array of shape (b, size). This
  takes the memory of b + 1 networks.
- :class:`LeadingDirections` keeps r combinations of the directions in half precision. A step then
  reads r/2 networks instead of b. Its arrays have one column for each combination.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch

from ..ingredients import SMALL_CHUNK, IngredientStore, add_parts_, as_real, chunks, like
from ._groups import MixedTensors

_SAMPLED_PIECES, _PIECE = 64, 1024  # of each tensor, to find the leading directions
_MEMORY_SHARE = 0.5  # of the free memory of a device, for stored directions


class Directions(Protocol):
    """The interface of all engines."""

    def squared_norms(self) -> torch.Tensor:
        r"""Return :math:`\lVert d_i \rVert^2` for each tensor."""

    def inner_products(self, gradients: Sequence[torch.Tensor]) -> torch.Tensor:
        r"""Return :math:`\langle q, d_i \rangle` for each tensor."""

    def move_(self, steps: torch.Tensor) -> None:
        r"""Set the parameters to :math:`c + \sum_i y_i d_i`."""


def directions_of_block(
    store: IngredientStore, mixed: MixedTensors, block: list[int], coef: torch.Tensor, kind: str
) -> Directions:
    """Return the engine for the directions of a block.

    Parameters
    ----------
    store : IngredientStore
        The weights of its module are the origin.
    mixed : MixedTensors
    block : list of int
        Indices of the ingredients.
    coef : tensor of shape (G, N)
        Coefficients of the origin.
    kind : {"auto", "streamed", "stored"}
        "auto" streams on the CPU. On other devices, which should not wait for files, it stores the
        directions if they fit into memory.
    """
    parameters, points = _parameters_and_points(store, mixed, block)
    if kind == "auto":
        fits = stores_by_default(parameters) and len(block) <= n_directions_that_fit(parameters)
        kind = "stored" if fits else "streamed"
    if kind == "stored":
        return StoredDirections(parameters, points)
    origin = coef[mixed.group_of][:, block] if len(block) == len(store) else None
    return StreamedDirections(parameters, points, origin)


def leading_directions_of_block(
    store: IngredientStore, mixed: MixedTensors, block: list[int], n_directions: int
) -> tuple[Directions, torch.Tensor]:
    """Return the leading directions of a block, and their combinations of shape (G, b, r)."""
    parameters, points = _parameters_and_points(store, mixed, block)
    found = leading_combinations(parameters, points, mixed.group_of, mixed.n_groups, n_directions)
    return LeadingDirections(parameters, points, found[mixed.group_of]), found


def _parameters_and_points(
    store: IngredientStore, mixed: MixedTensors, block: Sequence[int]
) -> tuple[list[torch.Tensor], list[list[torch.Tensor]]]:
    parameters = [as_real(store.parameters[name]) for name in mixed.names]
    points = [[as_real(tensor) for tensor in point] for point in store.points(block, mixed.names)]
    return parameters, points


def stores_by_default(parameters: Sequence[torch.Tensor]) -> bool:
    """Return whether a device should store directions, because it would wait for files."""
    return parameters[0].device.type != "cpu"


def n_directions_that_fit(
    parameters: Sequence[torch.Tensor], free_memory: int | None = None
) -> int:
    """Return how many directions may be stored in half of the free memory of a device.

    Parameters
    ----------
    parameters : sequence of tensors
        The tensors of one direction. The origin takes the memory of one more direction.
    free_memory : int or None, default=None
        Free memory in bytes. None asks the device of the parameters. A device that does not report
        its free memory counts as full.

    Returns
    -------
    int
        At least 1.
    """
    size = sum(parameter.numel() * parameter.element_size() for parameter in parameters)
    if free_memory is None:
        free_memory = _free_memory(parameters[0].device)
    return max(int(_MEMORY_SHARE * free_memory / max(size, 1)) - 1, 1)


def _free_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        used = torch.mps.driver_allocated_memory()
        return max(torch.mps.recommended_max_memory() - used, 0)
    return 0


class StreamedDirections:
    r"""Directions that are formed while the ingredients are read.

    Parameters
    ----------
    parameters : list of T tensors
        Parameters of the network, whose values are the origin c. :meth:`move_` changes them in
        place.
    points : list of b lists of T tensors
        The ingredients of the block. They are never changed.
    origin : tensor of shape (T, b) or None, default=None
        Coefficients of the origin, if it is a combination of the block. Then :math:`\langle q, c
        \rangle` is that combination of the :math:`\langle q, w_i \rangle`, and the origin is not
        copied.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.soup import StreamedDirections
    >>> weight = torch.zeros(2)
    >>> points = [[torch.tensor([1.0, 0.0])], [torch.tensor([0.0, 2.0])]]
    >>> directions = StreamedDirections([weight], points)
    >>> directions.inner_products([torch.tensor([3.0, 4.0])])
    tensor([[3., 8.]], dtype=torch.float64)
    >>> directions.move_(torch.tensor([[0.5, -1.0]]))
    >>> weight
    tensor([ 0.5000, -2.0000])
    """

    def __init__(
        self,
        parameters: Sequence[torch.Tensor],
        points: Sequence[Sequence[torch.Tensor]],
        origin: torch.Tensor | None = None,
    ) -> None:
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

    def squared_norms(self) -> torch.Tensor:
        r"""Return :math:`\lVert d_i \rVert^2` for each tensor, before any move.

        Returns
        -------
        tensor of float64 of shape (T, b)
        """
        return torch.stack([self._squared_distances(pieces) for pieces in self.pieces])

    def _squared_distances(self, pieces: list[tuple[torch.Tensor, ...]]) -> torch.Tensor:
        totals = []
        for w, *parts in pieces:
            difference = torch.empty_like(w)  # one buffer for all parts saves memory
            for part in parts[self.n_copies :]:
                torch.sub(like(part, w), w, out=difference)
                totals.append(torch.dot(difference, difference))
        return torch.stack(totals).view(len(pieces), -1).double().sum(dim=0).cpu()

    def inner_products(self, gradients: Sequence[torch.Tensor]) -> torch.Tensor:
        r"""Return :math:`\langle q, d_i \rangle` for each tensor.

        Parameters
        ----------
        gradients : sequence of T tensors
            q.

        Returns
        -------
        tensor of float64 of shape (T, b)
        """
        products = torch.stack(
            [_inner_products(q, pieces) for q, pieces in zip(gradients, self.pieces, strict=True)]
        )
        at_origin = (self.origin * products).sum(dim=1, keepdim=True)
        return products[:, self.n_copies :] - at_origin

    @torch.no_grad()
    def move_(self, steps: torch.Tensor) -> None:
        r"""Set the parameters to :math:`c + \sum_i y_i d_i`.

        Parameters
        ----------
        steps : tensor of shape (T, b)
            y, with one row per parameter tensor.
        """
        weights = (1.0 - steps.sum(dim=1, keepdim=True)) * self.origin
        weights[:, self.n_copies :] += steps
        for pieces, row in zip(self.pieces, weights.tolist(), strict=True):
            for w, *parts in pieces:
                add_parts_(w, parts, row)


class StoredDirections:
    """Directions that are kept in memory.

    Parameters
    ----------
    parameters : list of T tensors
        Parameters of the network, whose values are the origin. :meth:`move_` changes them in place.
    points : list of b lists of T tensors
        The ingredients of the block. They are never changed.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.soup import StoredDirections
    >>> points = [[torch.tensor([1.0, 0.0])], [torch.tensor([0.0, 2.0])]]
    >>> directions = StoredDirections([torch.zeros(2)], points)
    >>> directions.squared_norms()
    tensor([[1., 4.]], dtype=torch.float64)
    """

    def __init__(
        self, parameters: Sequence[torch.Tensor], points: Sequence[Sequence[torch.Tensor]]
    ) -> None:
        self.parameters = parameters
        self.origin = [parameter.detach().clone() for parameter in parameters]
        self.directions = [
            _stacked_differences([point[t] for point in points], c)
            for t, c in enumerate(self.origin)
        ]

    def squared_norms(self) -> torch.Tensor:
        r"""Return :math:`\lVert d_i \rVert^2` for each tensor.

        Returns
        -------
        tensor of float64 of shape (T, b)
        """
        norms = [torch.linalg.vector_norm(D, dim=1).double() for D in self.directions]
        return torch.stack(norms).square().cpu()

    def inner_products(self, gradients: Sequence[torch.Tensor]) -> torch.Tensor:
        r"""Return :math:`\langle q, d_i \rangle` for each tensor.

        Parameters
        ----------
        gradients : sequence of T tensors
            q.

        Returns
        -------
        tensor of float64 of shape (T, b)
        """
        products = [D @ q.reshape(-1) for D, q in zip(self.directions, gradients, strict=True)]
        return torch.stack(products).double().cpu()

    @torch.no_grad()
    def move_(self, steps: torch.Tensor) -> None:
        r"""Set the parameters to :math:`c + \sum_i y_i d_i`.

        Parameters
        ----------
        steps : tensor of shape (T, b)
            y, with one row per parameter tensor.
        """
        for w, c, D, y in zip(self.parameters, self.origin, self.directions, steps, strict=True):
            # y @ D reads D contiguously, whereas D.T @ y would not.
            w.copy_((like(y, D) @ D).view_as(w)).add_(c)


class LeadingDirections:
    r"""Combinations :math:`u_k = \sum_i A_{ik} d_i` of the directions, in half precision.

    Parameters
    ----------
    parameters : list of T tensors
        Parameters of the network, whose values are the origin. :meth:`move_` changes them in place.
    points : list of b lists of T tensors
        The ingredients of the block. They are never changed.
    combinations : tensor of shape (T, b, r)
        A, for each parameter tensor.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.soup import LeadingDirections
    >>> weight = torch.zeros(2)
    >>> points = [[torch.tensor([1.0, 0.0])], [torch.tensor([0.0, 2.0])]]
    >>> directions = LeadingDirections([weight], points, torch.tensor([[[1.0], [0.5]]]))
    >>> directions.inner_products([torch.tensor([3.0, 4.0])])
    tensor([[7.]], dtype=torch.float64)
    >>> directions.move_(torch.tensor([[2.0]]))
    >>> weight
    tensor([2., 2.])
    """

    def __init__(
        self,
        parameters: Sequence[torch.Tensor],
        points: Sequence[Sequence[torch.Tensor]],
        combinations: torch.Tensor,
    ) -> None:
        self.parameters = parameters
        self.position = torch.zeros(combinations.shape[0], combinations.shape[2])
        self.directions = [
            _combined_differences([point[t] for point in points], c, combinations[t])
            for t, c in enumerate(parameters)
        ]

    def squared_norms(self) -> torch.Tensor:
        r"""Return :math:`\lVert u_k \rVert^2` for each tensor.

        Returns
        -------
        tensor of float64 of shape (T, r)
        """
        norms = [
            torch.stack([piece.float().square().sum(dim=1) for piece in D.split(SMALL_CHUNK, 1)])
            for D in self.directions
        ]
        return torch.stack([parts.double().sum(dim=0) for parts in norms]).cpu()

    def inner_products(self, gradients: Sequence[torch.Tensor]) -> torch.Tensor:
        r"""Return :math:`\langle q, u_k \rangle` for each tensor.

        Parameters
        ----------
        gradients : sequence of T tensors
            q.

        Returns
        -------
        tensor of float64 of shape (T, r)
        """
        products = [
            torch.stack([like(part, piece) @ piece for part, piece in _paired(D, q)])
            for D, q in zip(self.directions, gradients, strict=True)
        ]
        return torch.stack([parts.double().sum(dim=0) for parts in products]).cpu()

    @torch.no_grad()
    def move_(self, steps: torch.Tensor) -> None:
        r"""Set the parameters to :math:`c + \sum_k y_k u_k`.

        Parameters
        ----------
        steps : tensor of shape (T, r)
            y, with one row per parameter tensor.
        """
        # Changes are added to the parameters, so that no copy of the origin is needed.
        for w, D, change in zip(
            self.parameters, self.directions, steps - self.position, strict=True
        ):
            for part, piece in _paired(D, w):
                piece.add_(like(change, piece) @ like(part, piece))
        self.position = steps.clone()


def leading_combinations(
    parameters: Sequence[torch.Tensor],
    points: Sequence[Sequence[torch.Tensor]],
    group_of: torch.Tensor,
    n_groups: int,
    n_directions: int,
) -> torch.Tensor:
    r"""Return the combinations of the directions along which the ingredients differ most.

    They are the eigenvectors of the Gram matrix :math:`K_{ij} = \langle d_i, d_j \rangle` of a
    group with the largest eigenvalues, so the combined directions are orthogonal. The matrix is
    estimated from some entries of each tensor.

    Parameters
    ----------
    parameters : sequence of T tensors
        The origin.
    points : list of b lists of T tensors
        The ingredients of the block.
    group_of : tensor of int64 of shape (T,)
        Index of the group of each parameter tensor.
    n_groups : int
    n_directions : int
        Number r of combinations, at most b.

    Returns
    -------
    tensor of float64 of shape (G, b, r)
    """
    b = len(points)
    gram = torch.zeros((n_groups, b, b), dtype=torch.float64)
    for t, (g, c) in enumerate(zip(group_of.tolist(), parameters, strict=True)):
        starts = chunks(c, _PIECE)
        stride = -(-len(starts) // _SAMPLED_PIECES)
        origin = torch.cat(starts[::stride])
        rows = origin.new_empty((b, origin.numel()), dtype=torch.float32)
        for row, point in zip(rows, points, strict=True):
            version = torch.cat(chunks(point[t], _PIECE)[::stride])
            row.copy_(like(version, origin) - origin)
        gram[g] += (rows @ rows.T).double().cpu() * (c.numel() / origin.numel())
    return torch.linalg.eigh(gram).eigenvectors.flip(-1)[:, :, :n_directions]


def _paired(
    directions: torch.Tensor, tensor: torch.Tensor
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield chunks of stacked directions with the same chunk of a tensor."""
    return zip(directions.split(SMALL_CHUNK, dim=1), chunks(tensor, SMALL_CHUNK), strict=True)


def _combined_differences(
    versions: Sequence[torch.Tensor], origin: torch.Tensor, combinations: torch.Tensor
) -> torch.Tensor:
    out = origin.new_empty((combinations.shape[1], origin.numel()), dtype=torch.bfloat16)
    pieces = zip(
        chunks(origin, SMALL_CHUNK), *(chunks(v, SMALL_CHUNK) for v in versions), strict=True
    )
    for target, (c, *parts) in zip(out.split(SMALL_CHUNK, dim=1), pieces, strict=True):
        differences = torch.stack([like(part, c) - c for part in parts])
        target.copy_(like(combinations, c).T @ differences)
    return out


def _inner_products(
    gradient: torch.Tensor, pieces: Sequence[tuple[torch.Tensor, ...]]
) -> torch.Tensor:
    # Chunks are added in float64, so that large tensors do not lose precision.
    totals = [
        torch.stack([torch.dot(q, like(part, q)) for part in parts])
        for q, (_, *parts) in zip(chunks(gradient), pieces, strict=True)
    ]
    return torch.stack(totals).double().sum(dim=0).cpu()


def _stacked_differences(versions: Sequence[torch.Tensor], origin: torch.Tensor) -> torch.Tensor:
    out = origin.new_empty((len(versions), origin.numel()))
    for row, version in zip(out, versions, strict=True):
        row.copy_(version.reshape(-1)).sub_(origin.reshape(-1))
    return out
