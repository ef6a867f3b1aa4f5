r"""The Gaussian model on torch tensors, with one batch of factorizations per chunk of patterns.

To batch patterns with different numbers of missing values, the observed block is written into a
matrix of full size that is the identity elsewhere, :math:`A = O S O + \mathrm{diag}(1 - o)`. Its
factorization is that of :math:`S_{oo}`, padded. All computations use float64.
"""

from typing import NamedTuple, TypeAlias

import numpy as np
import torch

from ...utils._typing import Array, BoolArray, FloatArray, IntArray
from ._missing_patterns import MissingPatterns, group_samples

_ELEMENTS = 2**22  # elements of the largest temporary

Tensor: TypeAlias = torch.Tensor


class GaussianTorchEngine:
    """A :class:`GaussianEngine` on a torch device.

    Parameters
    ----------
    device : str or torch.device, default="cpu"
        Device of the tensors.

    Raises
    ------
    ValueError
        If the device does not support float64.
    """

    name = "torch"

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        if self.device.type == "mps":
            raise ValueError(
                "engine='torch' computes in float64, which device='mps' lacks; use device='cpu'."
            )

    def table(self, X: FloatArray) -> "_Table":
        return _Table(X.shape, _chunks(X, self.device))

    def moments(
        self, table: "_Table", mean: FloatArray, cov: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        mu, S = self._tensor(mean), self._tensor(cov)
        first, second = torch.zeros_like(mu), torch.zeros_like(S)
        for chunk in table.chunks:
            _, C, rest = _condition(chunk, mu, S)
            first += rest.sum(dim=(0, 1))
            flat = rest.reshape(-1, len(mu))
            second += flat.T @ flat + (chunk.counts[:, None, None] * C).sum(dim=0)
        return _numpy(first), _numpy(second)

    def posterior(
        self, table: "_Table", mean: FloatArray, cov: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        mu, S = self._tensor(mean), self._tensor(cov)
        Z, V = np.empty(table.shape), np.empty(table.shape)
        for chunk in table.chunks:
            _, C, rest = _condition(chunk, mu, S)
            variances = C.diagonal(dim1=1, dim2=2).clamp_min(0.0)[:, None, :]
            chunk.write(Z, torch.where(chunk.missing, mu + rest, chunk.values))
            chunk.write(V, variances.expand_as(rest))
        return Z, V

    def draw(
        self, table: "_Table", mean: FloatArray, cov: FloatArray, noise: FloatArray
    ) -> FloatArray:
        mu, S, E = self._tensor(mean), self._tensor(cov), self._tensor(noise)
        Z = np.empty(table.shape)
        for chunk in table.chunks:
            _, C, rest = _condition(chunk, mu, S)
            L = torch.linalg.cholesky(C + torch.diag_embed((~chunk.missing[:, 0]).to(C.dtype)))
            # Missing value k of a pattern is in the column where the running count reaches k + 1.
            number = (chunk.missing[:, 0].cumsum(dim=1) - 1).clamp_min(0)
            e = E[chunk.indices].gather(2, number[:, None, :].expand_as(rest))
            e = torch.where(chunk.missing, e, 0.0)
            drawn = mu + rest + e @ L.transpose(1, 2)
            chunk.write(Z, torch.where(chunk.missing, drawn, chunk.values))
        return Z

    def leave_one_out(
        self, table: "_Table", mean: FloatArray, cov: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        mu, S = self._tensor(mean), self._tensor(cov)
        out, variances = np.empty(table.shape), np.empty(table.shape)
        for chunk in table.chunks:
            factor, _, rest = _condition(chunk, mu, S)
            inverse = torch.cholesky_inverse(factor)
            u = torch.where(chunk.missing, 0.0, rest) @ inverse
            diagonal = inverse.diagonal(dim1=1, dim2=2)[:, None, :].expand_as(u)
            left = chunk.values - u / diagonal
            chunk.write(out, torch.where(chunk.missing, torch.nan, left))
            chunk.write(variances, torch.where(chunk.missing, torch.nan, 1.0 / diagonal))
        return out, variances

    def expected_kernel(
        self,
        Z_a: FloatArray,
        V_a: FloatArray,
        Z_b: FloatArray,
        V_b: FloatArray,
        gamma: float,
    ) -> FloatArray:
        z_a, v_a, z_b, v_b = map(self._tensor, (Z_a, V_a, Z_b, V_b))
        exponent = torch.zeros(len(z_a), len(z_b), dtype=torch.float64, device=self.device)
        widening = torch.ones_like(exponent)
        for p in range(z_a.shape[1]):
            width = 1.0 + 2.0 * gamma * (v_a[:, p, None] + v_b[:, p])
            exponent += (z_a[:, p, None] - z_b[:, p]) ** 2 / width
            widening *= width
        return _numpy(torch.exp(-gamma * exponent) / widening.sqrt())

    def smooth(
        self,
        Z: FloatArray,
        V: FloatArray,
        missing: BoolArray,
        anchors: tuple[FloatArray, FloatArray, BoolArray, FloatArray],
        gamma: float,
    ) -> tuple[FloatArray, FloatArray]:
        z_b, v_b, observed_b, residuals = map(self._tensor, anchors)
        totals, masses = np.zeros(Z.shape), np.zeros(Z.shape)
        step = max(1, _ELEMENTS // len(z_b))
        for first in range(0, len(Z), step):
            part = slice(first, first + step)
            z, v = self._tensor(Z[part]), self._tensor(V[part])

            def term(p: int, z: Tensor = z, v: Tensor = v) -> Tensor:
                return (z[:, p, None] - z_b[:, p]) ** 2 + v[:, p, None] + v_b[:, p]

            distance = sum(term(p) for p in range(Z.shape[1]))
            for p in np.flatnonzero(missing[part].any(axis=0)).tolist():
                K = torch.exp(-gamma * (distance - term(p))) * observed_b[:, p]
                at = missing[part, p]
                masses[part, p] = np.where(at, _numpy(K.sum(dim=1)), 0.0)
                totals[part, p] = np.where(at, _numpy(K @ residuals[:, p]), 0.0)
        return totals, masses

    def _tensor(self, x: Array) -> Tensor:
        return _tensor(x, self.device)


class _Chunk(NamedTuple):
    """Samples of some patterns, padded to one number of samples per pattern.

    ``indices`` and ``present`` are of shape (n_patterns, n_padded): the samples, and which of them
    are not padding. The tensors have a third axis for columns, or for broadcasting over them.
    """

    samples: IntArray
    present: BoolArray
    indices: Tensor
    counts: Tensor
    weights: Tensor
    values: Tensor
    missing: Tensor

    def write(self, out: FloatArray, values: Tensor) -> None:
        """Copy the values of all samples into the rows of `out`."""
        out[self.samples] = _numpy(values)[self.present]


class _Table(NamedTuple):
    shape: tuple[int, ...]
    chunks: list[_Chunk]


def _chunks(X: FloatArray, device: torch.device) -> list[_Chunk]:
    patterns = group_samples(~np.isnan(X))
    counts = np.diff(patterns.starts)
    # Patterns with similar numbers of samples share a chunk, so that padding stays small.
    by_count = np.argsort(counts, kind="stable")
    chunks = []
    first, width = 0, max(1, X.shape[1])
    while first < len(by_count):
        size = max(1, _ELEMENTS // (width * max(width, counts[by_count[first]])))
        groups = by_count[first : first + size]
        while len(groups) > 1 and counts[groups[-1]] > 2 * counts[groups[0]]:
            groups = groups[: np.searchsorted(counts[groups], 2 * counts[groups[0]], "right")]
        chunks.append(_chunk(X, patterns, groups, device))
        first += len(groups)
    return chunks


def _chunk(
    X: FloatArray, patterns: MissingPatterns, groups: IntArray, device: torch.device
) -> _Chunk:
    counts = patterns.starts[groups + 1] - patterns.starts[groups]
    place = np.arange(counts.max())
    present = place < counts[:, None]
    position = patterns.starts[groups][:, None] + np.minimum(place, counts[:, None] - 1)
    indices = patterns.order[position]
    return _Chunk(
        samples=indices[present],
        present=present,
        indices=torch.as_tensor(indices, device=device),
        counts=_tensor(counts, device),
        weights=_tensor(present, device)[:, :, None],
        values=_tensor(np.nan_to_num(X[indices]), device),
        missing=torch.as_tensor(~patterns.observed[groups], device=device)[:, None, :],
    )


def _condition(chunk: _Chunk, mean: Tensor, cov: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return padded factors of S_oo, conditional covariances, and z - mean of the samples."""
    o = (~chunk.missing[:, 0]).to(cov.dtype)
    across = o[:, :, None] * cov
    factor = torch.linalg.cholesky(across * o[:, None, :] + torch.diag_embed(1.0 - o))
    between = across * (1.0 - o)[:, None, :]
    solved = torch.cholesky_solve(between, factor)
    m = 1.0 - o
    C = m[:, :, None] * cov * m[:, None, :] - between.transpose(1, 2) @ solved
    rest = torch.where(chunk.missing, 0.0, chunk.values - mean) * chunk.weights
    return factor, C, rest + rest @ solved


def _tensor(x: Array, device: torch.device) -> Tensor:
    return torch.as_tensor(x, dtype=torch.float64, device=device)


def _numpy(x: Tensor) -> FloatArray:
    array: FloatArray = x.cpu().numpy()
    return array
