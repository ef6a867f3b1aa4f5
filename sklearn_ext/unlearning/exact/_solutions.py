"""Fitted dual and primal ridge regressions, and their updates for forgotten and learned samples.

A solution contains only NumPy arrays, so it can be stored regardless of the engine. Its methods
return a new solution, except that `apply_pending` overwrites the large matrices, because copies
would take several times as long as the arithmetic.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, TypeAlias, TypeVar

import numpy as np

from ...utils._typing import FloatArray, IntArray
from ._engine import EngineArray, RidgeEngine
from ._feature_map import FeatureMap
from ._ridge import (
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
        return cls(alpha, G, coef, ridge, condition, n_factored=len(samples))

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
        """
        engine = features.engine
        positions = _required(request.positions, "positions")
        *_, S = dual_elimination(engine, *self._arrays(engine), positions)
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
        return replace(
            self,
            alpha=engine.to_numpy(alpha[complement(positions, len(alpha))]),
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
        return replace(
            self,
            alpha=engine.to_numpy(alpha),
            inverse=engine.to_numpy(inverse),
            coef=engine.to_numpy(features.expansion(samples.extended(added).X, alpha)),
            n_changed=self.n_changed + len(added),
        )

    def with_columns(self, columns: IntArray) -> "DualSolution":
        """Return the solution for some columns of the targets, which may be repeated."""
        return replace(self, alpha=self.alpha[:, columns], coef=self.coef[:, columns])

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
class PrimalUpdate:
    """Change of the large matrices that has not yet been applied.

    Attributes
    ----------
    Z : ndarray of shape (m, p)
        Features of the changed samples, multiplied by the square roots of their weights. `gram`
        changes by ``sign * Z.T @ Z``.
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
    gram : ndarray of shape (p, p)
        Sum over samples of the outer products of their features, plus the ridge, in the lower
        triangle.
    moment : ndarray of shape (p, k)
        Sum over samples of features times targets.
    inverse : ndarray of shape (p, p)
        Inverse of `gram`, in the lower triangle.
    coef : ndarray of shape (p, k)
        Coefficients.
    condition : float
        Estimate of the condition number of the last `gram` that was factored.
    n_samples : int
        Number of samples in the model.
    n_factored : int
        Number of samples in the last factorization.
    n_changed : int
        Number of samples forgotten or learned since then.
    pending : PrimalUpdate or None
        Change that has not yet been applied to `gram` and `inverse`.
    """

    gram: FloatArray
    moment: FloatArray
    inverse: FloatArray
    coef: FloatArray
    condition: float
    n_samples: int
    n_factored: int
    n_changed: int = 0
    pending: PrimalUpdate | None = None

    name: ClassVar[str] = "primal"

    @classmethod
    def fit(cls, features: FeatureMap, samples: TrainingSamples, ridge: float) -> "PrimalSolution":
        """Fit to samples; parameters and errors as for `DualSolution.fit`."""
        engine, p = features.engine, features.n_columns
        gram, moment = engine.zeros(p, p), engine.zeros(p, samples.Y.shape[1])
        gram.reshape(-1)[:: p + 1] += ridge
        for block in features.blocks(len(samples), _SMALLEST_BLOCK):
            gram, moment = _sums(engine, gram, moment, *_weighted(features, samples[block]))
        fitted = primal_fit(engine, gram, moment)
        return cls._from_arrays(engine, gram, moment, *fitted, len(samples))

    @classmethod
    def _from_arrays(
        cls,
        engine: RidgeEngine,
        gram: EngineArray,
        moment: EngineArray,
        coef: EngineArray,
        inverse: EngineArray,
        condition: float,
        n_samples: int,
    ) -> "PrimalSolution":
        gram, moment, inverse, coef = map(engine.to_numpy, (gram, moment, inverse, coef))
        return cls(gram, moment, inverse, coef, condition, n_samples, n_factored=n_samples)

    def labels(self, features: FeatureMap, request: Request) -> FloatArray:
        """Predict samples by the model without them; parameters as for `DualSolution.labels`."""
        engine = features.engine
        Z, Y = _weighted(features, request.samples)
        _, coef = primal_elimination(engine, *self._arrays(engine), Z, Y, -1.0)
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
        """Learn (sign 1) or forget (-1) samples, and factor the sums again."""
        engine = features.engine
        gram = engine.copy(engine.asarray(self._current_copy(engine).gram))
        moment = engine.asarray(self.moment)
        gram, moment = _sums(engine, gram, moment, *_weighted(features, samples), sign)
        fitted = primal_fit(engine, gram, moment)
        n_samples = self.n_samples + int(sign) * len(samples)
        return self._from_arrays(engine, gram, moment, *fitted, n_samples)

    def with_columns(self, columns: IntArray) -> "PrimalSolution":
        """Return the solution for some columns of the targets, which may be repeated."""
        return replace(self, moment=self.moment[:, columns], coef=self.coef[:, columns])

    def apply_pending(self, engine: RidgeEngine) -> "PrimalSolution":
        """Apply the pending change to the large matrices.

        The result uses the memory of this solution, which must not be used again.
        """
        if self.pending is None:
            return self
        gram, inverse, Z, V = map(
            engine.asarray, (self.gram, self.inverse, self.pending.Z, self.pending.V)
        )
        gram = engine.add_square(gram, Z.T, self.pending.sign)
        inverse = primal_update(engine, inverse, V, self.pending.sign)
        return replace(
            self, gram=engine.to_numpy(gram), inverse=engine.to_numpy(inverse), pending=None
        )

    def _current_copy(self, engine: RidgeEngine) -> "PrimalSolution":
        """Return a solution without pending changes, and keep this one valid."""
        if self.pending is None:
            return self
        copied = replace(self, gram=self.gram.copy(), inverse=self.inverse.copy())
        return copied.apply_pending(engine)

    def _changed(
        self, features: FeatureMap, samples: TrainingSamples, sign: float
    ) -> "PrimalSolution":
        if 3 * len(samples) > len(self.gram):
            return self.refactored(features, samples, sign)  # takes fewer operations
        engine = features.engine
        Z, Y = _weighted(features, samples)
        V, coef = primal_elimination(engine, *self._arrays(engine), Z, Y, sign)
        moment = engine.asarray(self.moment) + sign * (Z.T @ Y)
        return replace(
            self,
            moment=engine.to_numpy(moment),
            coef=engine.to_numpy(coef),
            n_samples=self.n_samples + int(sign) * len(samples),
            n_changed=self.n_changed + len(samples),
            pending=PrimalUpdate(engine.to_numpy(Z), engine.to_numpy(V), sign),
        )

    def _arrays(self, engine: RidgeEngine) -> tuple[EngineArray, EngineArray, EngineArray]:
        return engine.asarray(self.gram), engine.asarray(self.inverse), engine.asarray(self.coef)


Solution: TypeAlias = DualSolution | PrimalSolution


def _required(value: T | None, name: str) -> T:
    if value is None:
        raise ValueError(f"{name} must be given for a dual solution, got None.")
    return value


def _weighted(features: FeatureMap, samples: TrainingSamples) -> tuple[EngineArray, EngineArray]:
    """Multiply features and targets by the square roots of the weights."""
    root = features.engine.asarray(np.sqrt(samples.weights)[:, None])
    return features(samples.X) * root, features.engine.asarray(samples.Y) * root


def _sums(
    engine: RidgeEngine,
    gram: EngineArray,
    moment: EngineArray,
    Z: EngineArray,
    Y: EngineArray,
    sign: float = 1.0,
) -> tuple[EngineArray, EngineArray]:
    return engine.add_square(gram, Z.T, sign), moment + sign * (Z.T @ Y)
