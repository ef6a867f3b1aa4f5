r"""Conditional Gaussians on torch tensors: one batch of factorisations a chunk of patterns.

To batch patterns with different numbers of holes, the observed block is written into a matrix of
full size that is the identity on the holes, :math:`A = O S O + \mathrm{diag}(1 - o)`: its
factorisation is that of :math:`S_{oo}`, padded. Everything is computed in float64.
"""

import numpy as np
import torch

from ._missing_patterns import group_rows

_ELEMENTS = 2**22  # of the largest temporary


class TorchEngine:
    """What :class:`NumbaEngine` computes, on tensors of one device."""

    name = "torch"

    def __init__(self, device="cpu"):
        self.device = torch.device(device)
        if self.device.type == "mps":
            raise ValueError("device='mps' has no float64, which engine='torch' computes in.")

    def table(self, X):
        """Prepare a table whose holes are NaN; the other methods take what this returns."""
        return _Table(self, X)

    def moments(self, table, mean, cov):
        """Sum over rows of z - mean, and of E[(x - mean)(x - mean)'], given what is observed."""
        mean, cov = self._tensor(mean), self._tensor(cov)
        first, second = torch.zeros_like(mean), torch.zeros_like(cov)
        for chunk in table.chunks:
            _, C, rest = self._condition(chunk, mean, cov)
            first += rest.sum(dim=(0, 1))
            flat = rest.reshape(-1, len(mean))
            second += flat.T @ flat + (chunk.counts[:, None, None] * C).sum(dim=0)
        return self._numpy(first), self._numpy(second)

    def posterior(self, table, mean, cov):
        """Completed rows, and the variances of their holes (0 where observed)."""
        mean, cov = self._tensor(mean), self._tensor(cov)
        Z, V = table.empty(), table.empty()
        for chunk in table.chunks:
            _, C, rest = self._condition(chunk, mean, cov)
            variances = C.diagonal(dim1=1, dim2=2).clamp_min(0.0)[:, None, :]
            chunk.write(Z, torch.where(chunk.holes, mean + rest, chunk.values))
            chunk.write(V, variances.expand_as(rest))
        return Z, V

    def draw(self, table, mean, cov, noise):
        """Rows completed by z + L e: L the lower Cholesky factor of C, e the row's noise.

        The k-th hole of a row takes the k-th column of `noise`.
        """
        mean, cov = self._tensor(mean), self._tensor(cov)
        noise, Z = self._tensor(noise), table.empty()
        for chunk in table.chunks:
            _, C, rest = self._condition(chunk, mean, cov)
            L = torch.linalg.cholesky(C + torch.diag_embed((~chunk.holes[:, 0]).to(C.dtype)))
            # Hole number k of a pattern sits in the column where k + 1 holes have been counted.
            number = (chunk.holes[:, 0].cumsum(dim=1) - 1).clamp_min(0)
            e = noise[chunk.rows].gather(2, number[:, None, :].expand_as(rest))
            e = torch.where(chunk.holes, e, 0.0)
            drawn = mean + rest + e @ L.transpose(1, 2)
            chunk.write(Z, torch.where(chunk.holes, drawn, chunk.values))
        return Z

    def leave_one_out(self, table, mean, cov):
        r"""Predict each observed entry from the others of its row; NaN where nothing is observed.

        .. math:: x_p - u_p / (S_{oo}^{-1})_{pp}, \qquad u = S_{oo}^{-1} (x_o - \mu_o).
        """
        mean, cov = self._tensor(mean), self._tensor(cov)
        out = table.empty()
        for chunk in table.chunks:
            factor, _, rest = self._condition(chunk, mean, cov)
            inverse = torch.cholesky_inverse(factor)
            u = torch.where(chunk.holes, 0.0, rest) @ inverse
            left = chunk.values - u / inverse.diagonal(dim1=1, dim2=2)[:, None, :]
            chunk.write(out, torch.where(chunk.holes, torch.nan, left))
        return out

    def expected_kernel(self, Z_a, V_a, Z_b, V_b, gamma):
        """Compute the expected Gaussian kernel of rows with independent Gaussian entries."""
        Z_a, V_a, Z_b, V_b = map(self._tensor, (Z_a, V_a, Z_b, V_b))
        exponent = torch.zeros(len(Z_a), len(Z_b), dtype=torch.float64, device=self.device)
        widening = torch.ones_like(exponent)
        for p in range(Z_a.shape[1]):
            width = 1.0 + 2.0 * gamma * (V_a[:, p, None] + V_b[:, p])
            exponent += (Z_a[:, p, None] - Z_b[:, p]) ** 2 / width
            widening *= width
        return self._numpy(torch.exp(-gamma * exponent) / widening.sqrt())

    def smooth(self, Z, V, holes, anchors, gamma):
        """Weighted sums of the anchors' residuals, and sums of the weights, at the holes.

        The formula is that of :mod:`._residual_smoothing`.
        """
        Z_b, V_b, observed_b, residuals = map(self._tensor, anchors)
        totals, masses = np.zeros(Z.shape), np.zeros(Z.shape)
        step = max(1, _ELEMENTS // len(Z_b))
        for first in range(0, len(Z), step):
            part = slice(first, first + step)
            z, v = self._tensor(Z[part]), self._tensor(V[part])

            def term(p, z=z, v=v):
                return (z[:, p, None] - Z_b[:, p]) ** 2 + v[:, p, None] + V_b[:, p]

            distance = sum(term(p) for p in range(Z.shape[1]))
            for p in np.flatnonzero(holes[part].any(axis=0)):
                K = torch.exp(-gamma * (distance - term(p))) * observed_b[:, p]
                at = holes[part, p]
                masses[part, p] = np.where(at, self._numpy(K.sum(dim=1)), 0.0)
                totals[part, p] = np.where(at, self._numpy(K @ residuals[:, p]), 0.0)
        return totals, masses

    def _condition(self, chunk, mean, cov):
        """Return padded factors of S_oo, conditional covariances, and z - mean of the rows."""
        o = (~chunk.holes[:, 0]).to(cov.dtype)
        across = o[:, :, None] * cov
        factor = torch.linalg.cholesky(across * o[:, None, :] + torch.diag_embed(1.0 - o))
        between = across * (1.0 - o)[:, None, :]
        solved = torch.cholesky_solve(between, factor)
        m = 1.0 - o
        C = m[:, :, None] * cov * m[:, None, :] - between.transpose(1, 2) @ solved
        rest = torch.where(chunk.holes, 0.0, chunk.values - mean) * chunk.present
        return factor, C, rest + rest @ solved

    def _tensor(self, x):
        return torch.as_tensor(x, dtype=torch.float64, device=self.device)

    @staticmethod
    def _numpy(x):
        return x.cpu().numpy()


class _Table:
    def __init__(self, engine, X):
        observed = ~np.isnan(X)
        self.shape = X.shape
        self.patterns = patterns = group_rows(observed)
        counts = np.diff(patterns.starts)
        # Patterns with like numbers of rows share a chunk, so that little is padded.
        by_count = np.argsort(counts, kind="stable")
        self.chunks = []
        first, width = 0, max(1, X.shape[1])
        while first < len(by_count):
            size = max(1, _ELEMENTS // (width * max(width, counts[by_count[first]])))
            groups = by_count[first : first + size]
            while len(groups) > 1 and counts[groups[-1]] > 2 * counts[groups[0]]:
                groups = groups[: np.searchsorted(counts[groups], 2 * counts[groups[0]], "right")]
            self.chunks.append(_Chunk(engine, X, patterns, groups))
            first += len(groups)

    def empty(self):
        return np.empty(self.shape)


class _Chunk:
    """Rows of some patterns, padded to one number of rows a pattern."""

    def __init__(self, engine, X, patterns, groups):
        counts = patterns.starts[groups + 1] - patterns.starts[groups]
        place = np.arange(counts.max())
        there = place < counts[:, None]
        position = patterns.starts[groups][:, None] + np.minimum(place, counts[:, None] - 1)
        rows = patterns.order[position]
        self._there, self._rows = there, rows[there]
        self.rows = torch.as_tensor(rows, device=engine.device)
        self.counts = engine._tensor(counts)
        self.present = engine._tensor(there)[:, :, None]
        self.values = engine._tensor(np.nan_to_num(X[rows]))
        self.holes = torch.as_tensor(~patterns.observed[groups], device=engine.device)[:, None, :]

    def write(self, out, values):
        out[self._rows] = values.cpu().numpy()[self._there]
