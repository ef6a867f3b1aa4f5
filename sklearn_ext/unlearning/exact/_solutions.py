"""Fitted dual and primal ridge regressions, and their updates for forgotten and learned samples.

A solution contains only NumPy arrays, so it can be stored regardless of the engine. Its methods
return a new solution, except that `apply_pending` overwrites the large matrices, because copies
would take several times as long as the arithmetic.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeAlias, TypeVar

import numpy as np

from ...utils._typing import FloatArray, IntArray
from ._engine import EngineArray, IllConditionedError, RidgeEngine
from ._feature_map import FeatureMap
from ._ridge import (
    EPSILON,
    dual_bordering,
    dual_downdate,
    dual_elimination,
    dual_fit,
    primal_elimination,
    primal_fit,
    primal_update,
)
from ._training_samples import Request, TrainingSamples, complement

T = TypeVar("T")

_SMALLEST_BLOCK = 512  # samples: each block makes one pass over the whole Gram matrix
_TOLERANCE = (
    1e-12  # of the largest coefficient: estimated error at which a matrix is factored again
)
NEVER_LEARNED = (
    "The samples cannot be removed from the model. Check that X, y and sample_weight are those of "
    "samples that the model has learned and not yet forgotten."
)
_LEVEL_BITS = 8  # samples of one level differ by less than 2**8 in magnitude
_LEVEL_OFFSET = 4  # level 0 spans magnitudes from 2**-4 to 2**4


def _accumulated(error: FloatArray, before: FloatArray, after: FloatArray) -> FloatArray:
    """Add the rounding error of an update to the estimated error of coefficients.

    The error is proportional to the coefficients `before`, of shape (n, k), and one target that
    dwarfs all others makes them so large that those `after` have no correct digits.

    Returns
    -------
    ndarray of shape (k,)

    Raises
    ------
    IllConditionedError
        If the error is too large for the coefficients `after`.
    """
    error = error + EPSILON * abs(before).max(axis=0)
    if not (error <= _TOLERANCE * abs(after).max(axis=0, initial=0.0)).all():
        raise IllConditionedError("An update would lose too much precision.")
    return error


@dataclass(frozen=True)
class DualSolution:
    """A ridge regression in the dual form, for fewer samples than features.

    Attributes
    ----------
    alpha : ndarray of shape (n, k)
        Dual coefficients.
    inverse : ndarray of shape (n, n)
        Inverse of the regularized Gram matrix, in the lower triangle. It still includes the
        samples in `pending`.
    coef : ndarray of shape (p, k)
        Primal coefficients.
    ridge : float
        Penalty.
    condition : float
        Estimate of the condition number of the last matrix that was factored.
    n_factored : int
        Number of samples in that matrix.
    error : ndarray of shape (k,)
        Estimate of the errors of `alpha` that updates have added since then.
    n_changed : int
        Number of samples forgotten or learned since then.
    pending : ndarray of int or None
        Positions of forgotten samples that have not yet been removed from `inverse`.
    """

    alpha: FloatArray
    inverse: FloatArray
    coef: FloatArray
    ridge: float
    condition: float
    n_factored: int
    error: FloatArray
    n_changed: int = 0
    pending: IntArray | None = None

    name: ClassVar[str] = "dual"

    @property
    def n_samples(self) -> int:
        """Number of samples in the model."""
        return len(self.alpha)

    @classmethod
    def fit(cls, features: FeatureMap, samples: TrainingSamples, ridge: float) -> "DualSolution":
        """Fit to samples.

        Parameters
        ----------
        features : FeatureMap
            Maps samples to features.
        samples : TrainingSamples
            Training samples.
        ridge : float
            Ridge penalty.

        Returns
        -------
        DualSolution

        Raises
        ------
        IllConditionedError
            If the matrix is singular in float64.
        """
        engine = features.engine
        Z, Y = features.matrix(samples.X), engine.asarray(samples.Y)
        alpha, G, condition = dual_fit(engine, Z, Y, engine.asarray(ridge / samples.weights))
        alpha, G, coef = map(engine.to_numpy, (alpha, G, Z.T @ alpha))
        error = np.zeros(alpha.shape[1])
        return cls(alpha, G, coef, ridge, condition, n_factored=len(samples), error=error)

    def labels(self, features: FeatureMap, request: Request) -> FloatArray:
        """Predict samples with the model that excludes them.

        Parameters
        ----------
        features : FeatureMap
            Maps samples to features.
        request : Request
            The samples to predict, with their positions.

        Returns
        -------
        ndarray of shape (m, k)

        Raises
        ------
        IllConditionedError
            If the formula would lose too much precision.
        """
        engine = features.engine
        positions = _required(request.positions, "positions")
        V, c, S = dual_elimination(engine, *self._arrays(engine), positions)
        retained = np.delete(self.alpha - engine.to_numpy(V @ c), positions, axis=0)
        _accumulated(self.error, self.alpha, retained)
        return request.samples.Y - engine.to_numpy(S)

    def forget(
        self, features: FeatureMap, request: Request, stored: TrainingSamples | None
    ) -> "DualSolution":
        """Forget samples, which stay pending in the inverse.

        Parameters
        ----------
        features : FeatureMap
            Maps samples to features.
        request : Request
            The samples to forget, with their positions.
        stored : TrainingSamples
            All samples in the model.

        Returns
        -------
        DualSolution

        Raises
        ------
        IllConditionedError
            If the update would lose too much precision.
        """
        engine = features.engine
        positions = _required(request.positions, "positions")
        V, c, _ = dual_elimination(engine, *self._arrays(engine), positions)
        alpha = engine.asarray(self.alpha) - V @ c
        alpha[positions] = 0.0
        retained = engine.to_numpy(alpha[complement(positions, len(alpha))])
        return replace(
            self,
            alpha=retained,
            error=_accumulated(self.error, self.alpha, retained),
            coef=engine.to_numpy(features.expansion(_required(stored, "stored").X, alpha)),
            n_changed=self.n_changed + len(positions),
            pending=positions,
        )

    def learn(
        self, features: FeatureMap, added: TrainingSamples, stored: TrainingSamples | None
    ) -> "DualSolution":
        """Learn the samples `added` in addition to `stored`; raises the same error as `forget`."""
        engine, samples = features.engine, _required(stored, "stored")
        if self.pending is not None:  # work on a copy: if this fails, the solution stays valid
            copied = replace(self, inverse=self.inverse.copy()).apply_pending(engine)
            return copied.learn(features, added, stored)
        Z = features.matrix(added.X)
        cross = engine.zeros(len(samples), len(added))
        for block in features.blocks(len(samples)):
            cross[block] = features(samples.X[block]) @ Z.T
        own = Z @ Z.T
        own.reshape(-1)[:: len(own) + 1] += engine.asarray(self.ridge / added.weights)
        alpha, inverse = dual_bordering(
            engine, *self._arrays(engine), cross, own, engine.asarray(added.Y)
        )
        extended = engine.to_numpy(alpha)
        return replace(
            self,
            alpha=extended,
            error=_accumulated(self.error, self.alpha, extended),
            inverse=engine.to_numpy(inverse),
            coef=engine.to_numpy(features.expansion(samples.extended(added).X, alpha)),
            n_changed=self.n_changed + len(added),
        )

    def with_columns(self, columns: IntArray) -> "DualSolution":
        """Return the solution for some columns of the targets, which may be repeated."""
        return replace(
            self,
            alpha=self.alpha[:, columns],
            coef=self.coef[:, columns],
            error=self.error[columns],
        )

    def apply_pending(self, engine: RidgeEngine) -> "DualSolution":
        """Remove pending samples from the inverse.

        The result uses the memory of this solution, which must not be used again.
        """
        if self.pending is None:
            return self
        inverse = engine.asarray(self.inverse)
        V, *_ = dual_elimination(engine, inverse, inverse[:, :0], self.pending)
        inverse = dual_downdate(engine, inverse, V, complement(self.pending, len(inverse)))
        return replace(self, inverse=engine.to_numpy(inverse), pending=None)

    def _arrays(self, engine: RidgeEngine) -> tuple[EngineArray, EngineArray]:
        return engine.asarray(self.inverse), engine.asarray(self.alpha)


@dataclass(frozen=True)
class Sums:
    """Sums over samples that lose no digits of small samples to large ones.

    A sample's level is its order of magnitude, and each level has its own sums. Forgetting a sample
    therefore disturbs no sums but those of samples of its size, and sums of no sample are zero.

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
        for level in sorted(self.gram):  # from small to large, so that no digits are lost
            gram += engine.asarray(self.gram[level])
        gram.reshape(-1)[:: p + 1] += ridge
        for level in sorted(self.moment):
            moment += engine.asarray(self.moment[level])
        return gram, moment

    def changed(self, engine: RidgeEngine, Z: Any, Y: Any, sign: float) -> "Sums":
        """Add (sign 1) or subtract (-1) samples; the Gram matrices change in their own memory.

        Raises
        ------
        ValueError
            If samples are subtracted that cannot be in the sums.
        """
        return self.with_moment(engine, Z, Y, sign).with_gram(engine, Z, sign)

    def with_moment(self, engine: RidgeEngine, Z: Any, Y: Any, sign: float) -> "Sums":
        """Change the moments, in new memory, and the numbers of samples.

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

    def with_gram(self, engine: RidgeEngine, Z: Any, sign: float) -> "Sums":
        """Change the Gram matrices, in their own memory; they lose levels without samples."""
        gram, levels = dict(self.gram), _levels(_magnitudes(engine, Z))
        for level in map(int, np.unique(levels)):
            if level not in self.n_rows:
                _erase(gram.pop(level))
                continue
            rows = np.flatnonzero(levels == level)
            part = Z if len(rows) == len(levels) else Z[rows]
            if level not in gram:
                gram[level] = engine.to_numpy(engine.zeros(Z.shape[1], Z.shape[1]))
            square = engine.add_square(engine.asarray(gram[level]), part.T, sign)
            gram[level] = engine.to_numpy(square)
        return replace(self, gram=gram)

    def with_columns(self, columns: IntArray) -> "Sums":
        """Return the sums for some columns of the targets, which may be repeated."""
        return replace(
            self,
            moment={level: B[:, columns] for level, B in self.moment.items()},
            n_targets={level: n[columns] for level, n in self.n_targets.items()},
        )

    def copy(self) -> "Sums":
        """Return the same sums in new memory."""
        return replace(self, gram={level: A.copy() for level, A in self.gram.items()})


@dataclass(frozen=True)
class PrimalUpdate:
    """Change of the large matrices that has not yet been applied.

    Attributes
    ----------
    Z : ndarray of shape (m, p)
        Features of the changed samples, multiplied by the square roots of their weights. The Gram
        matrix changes by ``sign * Z.T @ Z``.
    V : ndarray of shape (p, m)
        `inverse` changes by ``-sign * V @ V.T``.
    sign : {1.0, -1.0}
        1 if the samples were learned, -1 if they were forgotten.
    """

    Z: FloatArray
    V: FloatArray
    sign: float


@dataclass(frozen=True)
class PrimalSolution:
    """A ridge regression in the primal form, for more samples than features. It stores no samples.

    Attributes
    ----------
    sums : Sums
        Sums of the products of features with each other and with targets.
    ridge : float
        Penalty.
    trace : float
        Trace of the Gram matrix plus the ridge.
    inverse : ndarray of shape (p, p)
        Inverse of the Gram matrix plus the ridge, in the lower triangle.
    coef : ndarray of shape (p, k)
        Coefficients.
    condition : float
        Estimate of the condition number of the last matrix that was factored.
    n_samples : int
        Number of samples in the model.
    n_factored : int
        Number of samples in the last factorization.
    error : ndarray of shape (k,)
        Estimate of the errors of `coef` that updates have added since then.
    n_changed : int
        Number of samples forgotten or learned since then.
    pending : PrimalUpdate or None
        Change that has not yet been applied to the Gram matrices and to `inverse`.
    """

    sums: Sums
    ridge: float
    trace: float
    inverse: FloatArray
    coef: FloatArray
    condition: float
    n_samples: int
    n_factored: int
    error: FloatArray
    n_changed: int = 0
    pending: PrimalUpdate | None = None

    name: ClassVar[str] = "primal"

    @classmethod
    def fit(cls, features: FeatureMap, samples: TrainingSamples, ridge: float) -> "PrimalSolution":
        """Fit to samples; parameters and errors as for `DualSolution.fit`."""
        engine, sums = features.engine, Sums.empty()
        for block in features.blocks(len(samples), _SMALLEST_BLOCK):
            sums = sums.changed(engine, *_weighted(features, samples[block]), 1.0)
        shape = features.n_columns, samples.Y.shape[1]
        return cls._from_sums(engine, sums, ridge, shape, len(samples))

    @classmethod
    def _from_sums(
        cls, engine: RidgeEngine, sums: Sums, ridge: float, shape: tuple[int, int], n_samples: int
    ) -> "PrimalSolution":
        gram, moment = sums.total(engine, ridge, *shape)
        trace = float(gram.diagonal().sum())
        coef, inverse, condition = primal_fit(engine, gram, moment, overwrite=True)
        return cls(
            sums,
            ridge,
            trace,
            engine.to_numpy(inverse),
            engine.to_numpy(coef),
            condition,
            n_samples,
            n_factored=n_samples,
            error=np.zeros(shape[1]),
        )

    def labels(self, features: FeatureMap, request: Request) -> FloatArray:
        """Predict samples by the model without them; parameters as for `DualSolution.labels`."""
        engine = features.engine
        Z, Y = _weighted(features, request.samples)
        _, coef = self._eliminated(engine, Z, Y, -1.0)
        _accumulated(self.error, self.coef, engine.to_numpy(coef))
        return engine.to_numpy(features(request.samples.X) @ coef)

    def forget(
        self, features: FeatureMap, request: Request, stored: TrainingSamples | None = None
    ) -> "PrimalSolution":
        """Forget samples; raises the same error as `DualSolution.forget`. `stored` is ignored."""
        return self._changed(features, request.samples, -1.0)

    def learn(
        self, features: FeatureMap, added: TrainingSamples, stored: TrainingSamples | None = None
    ) -> "PrimalSolution":
        """Learn samples; raises the same error as `DualSolution.forget`. `stored` is ignored."""
        engine = features.engine  # work on copies: if this fails, the solution stays valid
        return self._current_copy(engine)._changed(features, added, 1.0)._current_copy(engine)

    def refactored(
        self, features: FeatureMap, samples: TrainingSamples, sign: float
    ) -> "PrimalSolution":
        """Learn (sign 1) or forget (-1) samples, and factor the sums again.

        Raises
        ------
        IllConditionedError
            If the matrix is singular in float64.
        ValueError
            If the samples cannot have been in the model.
        """
        engine = features.engine
        sums = self._current_copy(engine).sums.copy()
        sums = sums.changed(engine, *_weighted(features, samples), sign)
        n_samples = self.n_samples + int(sign) * len(samples)
        return self._from_sums(engine, sums, self.ridge, self.coef.shape, n_samples)

    def with_columns(self, columns: IntArray) -> "PrimalSolution":
        """Return the solution for some columns of the targets, which may be repeated."""
        return replace(
            self,
            sums=self.sums.with_columns(columns),
            coef=self.coef[:, columns],
            error=self.error[columns],
        )

    def apply_pending(self, engine: RidgeEngine) -> "PrimalSolution":
        """Apply the pending change to the large matrices.

        The result uses the memory of this solution, which must not be used again.
        """
        if self.pending is None:
            return self
        inverse, Z, V = map(engine.asarray, (self.inverse, self.pending.Z, self.pending.V))
        sums = self.sums.with_gram(engine, Z, self.pending.sign)
        inverse = primal_update(engine, inverse, V, self.pending.sign)
        return replace(self, sums=sums, inverse=engine.to_numpy(inverse), pending=None)

    def _current_copy(self, engine: RidgeEngine) -> "PrimalSolution":
        """Return a solution without pending changes, and keep this one valid."""
        if self.pending is None:
            return self
        copied = replace(self, sums=self.sums.copy(), inverse=self.inverse.copy())
        return copied.apply_pending(engine)

    def _changed(
        self, features: FeatureMap, samples: TrainingSamples, sign: float
    ) -> "PrimalSolution":
        if 3 * len(samples) > len(self.coef):
            return self.refactored(features, samples, sign)  # takes fewer operations
        engine = features.engine
        Z, Y = _weighted(features, samples)
        V, native = self._eliminated(engine, Z, Y, sign)
        coef = engine.to_numpy(native)
        return replace(
            self,
            sums=self.sums.with_moment(engine, Z, Y, sign),
            trace=self.trace + sign * float((Z**2).sum()),
            coef=coef,
            n_samples=self.n_samples + int(sign) * len(samples),
            error=_accumulated(self.error, self.coef, coef),
            n_changed=self.n_changed + len(samples),
            pending=PrimalUpdate(engine.to_numpy(Z), engine.to_numpy(V), sign),
        )

    def _eliminated(
        self, engine: RidgeEngine, Z: EngineArray, Y: EngineArray, sign: float
    ) -> tuple[EngineArray, EngineArray]:
        inverse, coef = engine.asarray(self.inverse), engine.asarray(self.coef)
        condition = self.trace * float(inverse.diagonal().max())
        return primal_elimination(engine, condition, inverse, coef, Z, Y, sign)


Solution: TypeAlias = DualSolution | PrimalSolution


def _required(value: T | None, name: str) -> T:
    if value is None:
        raise ValueError(f"{name} must be given for a dual solution, got None.")
    return value


def _weighted(features: FeatureMap, samples: TrainingSamples) -> tuple[EngineArray, EngineArray]:
    """Multiply features and targets by the square roots of the weights."""
    root = features.engine.asarray(np.sqrt(samples.weights)[:, None])
    return features(samples.X) * root, features.engine.asarray(samples.Y) * root


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


def _erase(A: FloatArray) -> None:
    """Overwrite the memory of sums that are no longer needed."""
    if A.flags.writeable:
        A[...] = 0.0
