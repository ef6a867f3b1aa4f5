"""Sums over samples, grouped by magnitude so that large samples cost small ones no precision."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ....utils._typing import BoolArray, FloatArray, IntArray
from .._engine import EngineArray, RidgeEngine

NEVER_LEARNED = (
    "The samples cannot be removed from the model. Check that X, y and sample_weight are those of "
    "samples that the model has learned and not yet forgotten."
)
_LEVEL_BITS = 8  # samples of one level differ by less than 2**8 in magnitude
_LEVEL_OFFSET = 4  # level 0 spans magnitudes from 2**-4 to 2**4


@dataclass(frozen=True)
class Sums:
    """Sums over samples, in which large samples cost small ones no precision.

    A sample's level is its order of magnitude, and each level has its own sums. Forgetting a sample
    therefore changes only the sums of samples of its size, and sums over no samples are zero.

    Attributes
    ----------
    gram : dict of int to ndarray of shape (p, p)
        By level, the sum of the outer products of weighted features, in the lower triangle.
    n_rows : dict of int to int
        By level, the number of samples in `gram`.
    moment : dict of int to ndarray of shape (p, k)
        By level, the sum of weighted features times weighted targets. The level belongs to the
        product of the magnitudes of a sample and of one of its targets.
    n_targets : dict of int to ndarray of int of shape (k,)
        By level and column of targets, the number of samples in `moment`.
    """

    gram: dict[int, FloatArray]
    n_rows: dict[int, int]
    moment: dict[int, FloatArray]
    n_targets: dict[int, IntArray]

    @classmethod
    def empty(cls) -> "Sums":
        """Return the sums of no samples."""
        return cls({}, {}, {}, {})

    def total(self, engine: RidgeEngine, ridge: float, p: int, k: int) -> tuple[Any, Any]:
        """Return the Gram matrix plus the ridge, and the moment, in new memory."""
        gram, moment = engine.zeros(p, p), engine.zeros(p, k)
        for level in sorted(self.gram):  # from small to large, so that no precision is lost
            gram += engine.asarray(self.gram[level])
        gram.reshape(-1)[:: p + 1] += ridge
        for level in sorted(self.moment):
            moment += engine.asarray(self.moment[level])
        return gram, moment

    def changed(
        self, engine: RidgeEngine, Z: Any, Y: Any, sign: float, *, overwrite: bool = False
    ) -> "Sums":
        """Add (sign 1) or subtract (-1) samples; the Gram matrices may be overwritten on request.

        Raises
        ------
        ValueError
            If samples are subtracted that cannot be in the sums.
        """
        sums = self.with_moment(engine, Z, Y, sign)
        return sums.with_gram(engine, Z, sign, overwrite=overwrite)

    def with_moment(self, engine: RidgeEngine, Z: Any, Y: Any, sign: float) -> "Sums":
        """Change the moments and the numbers of samples.

        The Gram matrices stay; `with_gram` must follow before the next change.
        """
        moment, n_targets, n_rows = dict(self.moment), dict(self.n_targets), dict(self.n_rows)
        magnitudes = _magnitudes(engine, Z)
        for level, n in zip(*np.unique(_levels(magnitudes), return_counts=True), strict=True):
            n_rows[int(level)] = _count(n_rows.get(int(level), 0) + int(sign) * n)
        levels = _levels(magnitudes[:, None] * abs(engine.to_numpy(Y)))
        for level in map(int, np.unique(levels)):
            chosen = levels == level
            count = _count(n_targets.get(level, 0) + int(sign) * chosen.sum(axis=0))
            change = engine.to_numpy(Z.T @ (Y * engine.asarray(chosen)))
            total = moment.get(level, 0.0) + sign * change
            total[:, count == 0] = 0.0
            moment[level], n_targets[level] = total, count
        return replace(
            self,
            n_rows={level: n for level, n in n_rows.items() if n},
            moment={level: B for level, B in moment.items() if n_targets[level].any()},
            n_targets={level: n for level, n in n_targets.items() if n.any()},
        )

    def with_gram(
        self, engine: RidgeEngine, Z: Any, sign: float, *, overwrite: bool = False
    ) -> "Sums":
        """Change the Gram matrices, which lose levels without samples."""
        gram, levels = dict(self.gram), _levels(_magnitudes(engine, Z))
        for level in map(int, np.unique(levels)):
            if level not in self.n_rows:
                del gram[level]
                continue
            rows = np.flatnonzero(levels == level)
            part = Z if len(rows) == len(levels) else Z[rows]
            is_new = level not in gram
            start = engine.zeros(Z.shape[1], Z.shape[1]) if is_new else gram[level]
            square = engine.add_square(
                engine.asarray(start), part.T, sign, overwrite=overwrite or is_new
            )
            gram[level] = engine.to_numpy(square)
        return replace(self, gram=gram)

    def rescaled(self, scale: FloatArray, shift: FloatArray) -> "Sums":
        r"""Return the sums of the features :math:`a_j z_j + b_j`; the last feature is constant.

        With the column c of the Gram matrix that belongs to the constant feature and its last entry
        s, the new matrix is :math:`a a^T \circ G + (a \circ c) b^T + b (a \circ c)^T + s b b^T`.
        """
        gram = {}
        for level, lower in self.gram.items():
            G = np.tril(lower) + np.tril(lower, -1).T
            mixed = np.outer(scale * G[:, -1], shift)
            gram[level] = np.outer(scale, scale) * G + mixed + mixed.T
            gram[level] += G[-1, -1] * np.outer(shift, shift)
        moment = {
            level: scale[:, None] * B + shift[:, None] * B[-1] for level, B in self.moment.items()
        }
        return replace(self, gram=gram, moment=moment)

    def with_columns(self, columns: IntArray) -> "Sums":
        """Return the sums for some columns of the targets, which may be repeated."""
        return replace(
            self,
            moment={level: B[:, columns] for level, B in self.moment.items()},
            n_targets={level: n[columns] for level, n in self.n_targets.items()},
        )


@dataclass(frozen=True)
class TargetSums:
    """Sums of weights and of weighted squares of targets, with the levels of `Sums`.

    Attributes
    ----------
    energy : dict of int to ndarray of shape (k,)
        By level of a target's magnitude, the sum of weighted squares.
    n_targets : dict of int to ndarray of int of shape (k,)
        By level and column of targets, the number of samples in `energy`.
    weight : float
        Sum of the weights.
    """

    energy: dict[int, FloatArray]
    n_targets: dict[int, IntArray]
    weight: float

    @classmethod
    def empty(cls) -> "TargetSums":
        """Return the sums of no samples."""
        return cls({}, {}, 0.0)

    def changed(self, Y: FloatArray, weights: FloatArray, sign: int) -> "TargetSums":
        """Add (sign 1) or subtract (-1) samples."""
        energy, n_targets = dict(self.energy), dict(self.n_targets)
        squares = Y**2 * weights[:, None]
        levels = _levels(np.sqrt(squares))
        for level in map(int, np.unique(levels)):
            chosen = levels == level
            count = _count(n_targets.get(level, 0) + sign * chosen.sum(axis=0))
            total = energy.get(level, 0.0) + sign * (squares * chosen).sum(axis=0)
            energy[level], n_targets[level] = np.where(count > 0, total, 0.0), count
        return TargetSums(energy, n_targets, self.weight + sign * float(weights.sum()))

    def total(self) -> Any:
        """Return the energy of each column of targets, an array of shape (k,)."""
        return sum(self.energy[level] for level in sorted(self.energy))

    def with_columns(self, columns: IntArray) -> "TargetSums":
        """Return the sums for some columns of the targets, which may be repeated."""
        return replace(
            self,
            energy={level: total[columns] for level, total in self.energy.items()},
            n_targets={level: n[columns] for level, n in self.n_targets.items()},
        )


def change_level(
    engine: RidgeEngine, before: EngineArray, after: EngineArray, Y: EngineArray
) -> BoolArray:
    """Return a mask of the samples whose level differs between two arrays of their features."""
    sizes, targets = [_magnitudes(engine, Z) for Z in (before, after)], abs(engine.to_numpy(Y))
    rows = np.not_equal(*map(_levels, sizes))
    return rows | np.not_equal(*(_levels(s[:, None] * targets) for s in sizes)).any(axis=1)


def _magnitudes(engine: RidgeEngine, Z: EngineArray) -> FloatArray:
    """Return the largest absolute value of each row."""
    return engine.to_numpy(abs(Z)).max(axis=1)


def _levels(magnitudes: FloatArray) -> IntArray:
    """Return orders of magnitude; zero has that of one.

    Rounding up the last bits gives features that differ by a rounding error the same level.
    """
    mantissas, exponents = np.frexp(np.where(magnitudes == 0.0, 1.0, magnitudes))
    return (exponents + (mantissas > 1.0 - 2.0**-20) + _LEVEL_OFFSET) // _LEVEL_BITS


def _count(number: Any) -> Any:
    if np.min(number) < 0:
        raise ValueError(NEVER_LEARNED)
    return number
