"""The primal form of ridge regression, for more samples than features."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ....utils._typing import FloatArray, IntArray
from .._engine import EngineArray, RidgeEngine
from .._feature_map import FeatureMap
from .._ridge import primal_elimination, primal_fit, primal_update, refined, scaled_condition
from .._training_samples import Request, TrainingSamples
from ._errors import accumulated, relative_size
from ._sums import Sums, TargetSums, change_level

_SMALLEST_BLOCK = 512  # samples: each block makes one pass over the whole Gram matrix


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
    diagonal : ndarray of shape (p,)
        Diagonal of the Gram matrix plus the ridge.
    inverse : ndarray of shape (p, p)
        Inverse of the Gram matrix plus the ridge, in the lower triangle.
    coef : ndarray of shape (p, k)
        Coefficients.
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
    n_rescaled : int
        How often the features in the sums were rescaled.
    """

    sums: Sums
    ridge: float
    diagonal: FloatArray
    inverse: FloatArray
    coef: FloatArray
    n_samples: int
    n_factored: int
    error: FloatArray
    n_changed: int = 0
    pending: PrimalUpdate | None = None
    n_rescaled: int = 0

    name: ClassVar[str] = "primal"

    @classmethod
    def fit(cls, features: FeatureMap, samples: TrainingSamples, ridge: float) -> "PrimalSolution":
        """Fit to samples; parameters and errors as for `DualSolution.fit`."""
        engine, sums = features.engine, Sums.empty()
        for block in features.blocks(len(samples), _SMALLEST_BLOCK):
            sums = sums.changed(engine, *_weighted(features, samples[block]), 1.0, overwrite=True)
        shape = features.n_columns, samples.Y.shape[1]
        return cls.from_sums(engine, sums, ridge, shape, len(samples))

    @classmethod
    def from_sums(
        cls, engine: RidgeEngine, sums: Sums, ridge: float, shape: tuple[int, int], n_samples: int
    ) -> "PrimalSolution":
        """Factor the sums over some samples, for coefficients of a given shape."""
        gram, moment = sums.total(engine, ridge, *shape)
        diagonal = engine.to_numpy(engine.copy(gram.diagonal()))
        coef, inverse = primal_fit(engine, gram, moment, overwrite=True)
        return cls(
            sums,
            ridge,
            diagonal,
            engine.to_numpy(inverse),
            engine.to_numpy(coef),
            n_samples,
            n_factored=n_samples,
            error=np.zeros(shape[1]),
        )

    @property
    def matrices(self) -> list[FloatArray]:
        """Arrays that contain information about each sample, and that no attribute shares."""
        changed = [] if self.pending is None else [self.pending.Z, self.pending.V]
        return [self.inverse, *self.sums.gram.values(), *self.sums.moment.values(), *changed]

    @property
    def condition(self) -> float:
        """Condition number of the Gram matrix plus the ridge, as from `scaled_condition`."""
        return scaled_condition(self.diagonal, self._inverse_diagonal())

    def labels(self, features: FeatureMap, request: Request) -> FloatArray:
        """Predict samples with the model that excludes them, as `DualSolution.labels` does."""
        engine = features.engine
        Z, Y = _weighted(features, request.samples)
        _, coef = self._eliminated(engine, Z, Y, -1.0)
        accumulated(self.error, self.coef, engine.to_numpy(coef))
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
        engine = features.engine
        return self.apply_pending(engine)._changed(features, added, 1.0).apply_pending(engine)

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
        sums = self.apply_pending(engine).sums
        sums = sums.changed(engine, *_weighted(features, samples), sign)
        n_samples = self.n_samples + int(sign) * len(samples)
        return self.from_sums(engine, sums, self.ridge, self.coef.shape, n_samples)

    def rescaled(
        self,
        features: FeatureMap,
        before: TrainingSamples,
        after: TrainingSamples,
        scale: FloatArray,
        shift: FloatArray,
    ) -> "PrimalSolution":
        """Fit to changed features by changing the sums.

        Parameters
        ----------
        features : FeatureMap
            Maps samples to features, of which the last one is constant.
        before, after : TrainingSamples
            All samples in the model, before and after the change.
        scale, shift : ndarray of shape (p,)
            The features have changed from z to ``scale * z + shift``.

        Returns
        -------
        PrimalSolution

        Raises
        ------
        IllConditionedError
            If the matrix is singular in float64.
        """
        engine = features.engine
        (old, Y), (new, _) = _weighted(features, before), _weighted(features, after)
        # A sample must be found later among those of its magnitude.
        moved = np.flatnonzero(change_level(engine, old, new, Y))
        sums = self.apply_pending(engine).sums.changed(engine, old[moved], Y[moved], -1.0)
        sums = sums.rescaled(scale, shift).changed(engine, new[moved], Y[moved], 1.0)
        solution = self.from_sums(engine, sums, self.ridge, self.coef.shape, self.n_samples)
        return replace(solution, n_rescaled=self.n_rescaled + 1)

    def refined(
        self, features: FeatureMap, samples: TrainingSamples
    ) -> tuple["PrimalSolution", float]:
        """Refine the coefficients, as `DualSolution.refined` does."""
        engine = features.engine
        inverse = engine.asarray(self.inverse)

        def correction(coef: EngineArray) -> tuple[tuple[EngineArray], FloatArray]:
            gradient, scale = -self.ridge * coef, 0.0
            for block in features.blocks(len(samples)):
                Z, Y = _weighted(features, samples[block])
                predicted = Z @ coef
                gradient = gradient + Z.T @ (Y - predicted)
                scale = scale + (predicted**2).sum(0)
            change = engine.product(inverse, gradient)
            return (change,), relative_size(engine, (gradient * change).sum(0), scale)

        start = (engine.asarray(self.coef),)
        (coef,), error = refined(correction, start)
        return replace(self, coef=engine.to_numpy(coef)), error

    def with_columns(self, columns: IntArray) -> "PrimalSolution":
        """Return the solution for some columns of the targets, which may be repeated."""
        return replace(
            self,
            sums=self.sums.with_columns(columns),
            coef=self.coef[:, columns],
            error=self.error[columns],
        )

    def apply_pending(self, engine: RidgeEngine, sums: Sums | None = None) -> "PrimalSolution":
        """Return the solution with the pending change applied to the large matrices.

        `sums` are the changed sums if another solution has them already.
        """
        if self.pending is None:
            return self
        inverse, Z, V = map(engine.asarray, (self.inverse, self.pending.Z, self.pending.V))
        sums = self.sums.with_gram(engine, Z, self.pending.sign) if sums is None else sums
        inverse = primal_update(engine, inverse, V, self.pending.sign)
        return replace(self, sums=sums, inverse=engine.to_numpy(inverse), pending=None)

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
            diagonal=self.diagonal + sign * engine.to_numpy((Z**2).sum(0)),
            coef=coef,
            n_samples=self.n_samples + int(sign) * len(samples),
            error=accumulated(self.error, self.coef, coef),
            n_changed=self.n_changed + len(samples),
            pending=PrimalUpdate(engine.to_numpy(Z), engine.to_numpy(V), sign),
        )

    def _eliminated(
        self, engine: RidgeEngine, Z: EngineArray, Y: EngineArray, sign: float
    ) -> tuple[EngineArray, EngineArray]:
        inverse, coef = engine.asarray(self.inverse), engine.asarray(self.coef)
        condition = float(self.diagonal.sum()) * float(inverse.diagonal().max())
        return primal_elimination(engine, condition, inverse, coef, Z, Y, sign)

    def residual(self, targets: TargetSums) -> tuple[FloatArray, float]:
        """Return weighted squared errors on the training samples, and the effective parameters.

        Parameters
        ----------
        targets : TargetSums
            Sums over the targets of the samples that are left.

        Returns
        -------
        errors : ndarray of shape (k,)
        freedom : float
            Trace of the matrix that maps targets to predictions.
        """
        moment = sum(self.sums.moment[level] for level in sorted(self.sums.moment))
        errors = targets.total() - (self.coef * (moment + self.ridge * self.coef)).sum(axis=0)
        trace = float(self._inverse_diagonal().sum())
        return np.maximum(errors, 0.0), len(self.coef) - self.ridge * trace

    def _inverse_diagonal(self) -> FloatArray:
        diagonal = self.inverse.diagonal()
        if self.pending is None:
            return diagonal
        return diagonal - self.pending.sign * (self.pending.V**2).sum(axis=1)


def _weighted(features: FeatureMap, samples: TrainingSamples) -> tuple[EngineArray, EngineArray]:
    """Multiply features and targets by the square roots of the weights."""
    root = features.engine.asarray(np.sqrt(samples.weights)[:, None])
    return features(samples.X) * root, features.engine.asarray(samples.Y) * root
