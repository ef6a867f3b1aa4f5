"""The dual form of ridge regression, for fewer samples than features."""

from dataclasses import dataclass, replace
from typing import ClassVar, TypeVar

import numpy as np

from ....utils._typing import FloatArray, IntArray
from .._engine import EngineArray, RidgeEngine
from .._feature_map import FeatureMap
from .._ridge import (
    dual_bordering,
    dual_downdate,
    dual_elimination,
    dual_fit,
    refined,
    scaled_condition,
)
from .._training_samples import Request, TrainingSamples, complement
from ._errors import accumulated, relative_size

T = TypeVar("T")


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
    diagonal : ndarray of shape (n,)
        Diagonal of the regularized Gram matrix, of the samples in `inverse`.
    n_factored : int
        Number of samples in the last matrix that was factored.
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
    diagonal: FloatArray
    n_factored: int
    error: FloatArray
    n_changed: int = 0
    pending: IntArray | None = None

    name: ClassVar[str] = "dual"

    @property
    def n_samples(self) -> int:
        """Number of samples in the model."""
        return len(self.alpha)

    @property
    def matrices(self) -> list[FloatArray]:
        """Arrays that contain information about each sample, and that no attribute shares."""
        return [self.inverse]

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
        ridges = ridge / samples.weights
        alpha, G = dual_fit(engine, Z, Y, engine.asarray(ridges))
        alpha, G, coef = map(engine.to_numpy, (alpha, G, Z.T @ alpha))
        diagonal = engine.to_numpy((Z**2).sum(1)) + ridges
        error = np.zeros(alpha.shape[1])
        return cls(alpha, G, coef, ridge, diagonal, n_factored=len(samples), error=error)

    @property
    def condition(self) -> float:
        """Condition number of the regularized Gram matrix, as from `scaled_condition`.

        Pending samples are included.
        """
        return scaled_condition(self.diagonal, self.inverse.diagonal())

    def refined(
        self, features: FeatureMap, samples: TrainingSamples
    ) -> tuple["DualSolution", float]:
        """Refine the coefficients of a solution without a pending change.

        Parameters
        ----------
        features : FeatureMap
            Maps samples to features.
        samples : TrainingSamples
            All samples in the model.

        Returns
        -------
        solution : DualSolution
        error : float
            Estimate of the errors that are left, relative to the predictions.
        """
        engine = features.engine
        inverse, Y = engine.asarray(self.inverse), engine.asarray(samples.Y)
        ridge = engine.asarray((self.ridge / samples.weights)[:, None])

        def correction(
            alpha: EngineArray, coef: EngineArray
        ) -> tuple[tuple[EngineArray, EngineArray], FloatArray]:
            residual = Y - ridge * alpha
            for block in features.blocks(len(samples)):
                residual[block] -= features(samples.X[block]) @ coef
            change = engine.product(inverse, residual)
            predicted = residual - ridge * change, Y - ridge * alpha  # changes and predictions
            size = relative_size(engine, *((each**2).sum(0) for each in predicted))
            return (change, features.expansion(samples.X, change)), size

        start = engine.asarray(self.alpha), engine.asarray(self.coef)
        (alpha, coef), error = refined(correction, start)
        return replace(self, alpha=engine.to_numpy(alpha), coef=engine.to_numpy(coef)), error

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
        accumulated(self.error, self.alpha, retained)
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
            error=accumulated(self.error, self.alpha, retained),
            coef=engine.to_numpy(features.expansion(_required(stored, "stored").X, alpha)),
            n_changed=self.n_changed + len(positions),
            pending=positions,
        )

    def learn(
        self, features: FeatureMap, added: TrainingSamples, stored: TrainingSamples | None
    ) -> "DualSolution":
        """Learn the samples `added` in addition to `stored`; raises the same error as `forget`."""
        engine, samples = features.engine, _required(stored, "stored")
        if self.pending is not None:
            return self.apply_pending(engine).learn(features, added, stored)
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
            error=accumulated(self.error, self.alpha, extended),
            diagonal=np.append(self.diagonal, engine.to_numpy(own.diagonal())),
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
        """Return the solution whose inverse excludes the pending samples."""
        if self.pending is None:
            return self
        inverse = engine.asarray(self.inverse)
        V, *_ = dual_elimination(engine, inverse, inverse[:, :0], self.pending)
        retained = complement(self.pending, len(inverse))
        return replace(
            self,
            diagonal=self.diagonal[retained],
            inverse=engine.to_numpy(dual_downdate(engine, inverse, V, retained)),
            pending=None,
        )

    def _arrays(self, engine: RidgeEngine) -> tuple[EngineArray, EngineArray]:
        return engine.asarray(self.inverse), engine.asarray(self.alpha)

    def residual(self, engine: RidgeEngine, weights: FloatArray) -> tuple[FloatArray, float]:
        """Return weighted squared errors on the training samples, and the effective parameters.

        Parameters
        ----------
        engine : RidgeEngine
        weights : ndarray of shape (n,)
            Weights of the samples that are left.

        Returns
        -------
        errors : ndarray of shape (k,)
        freedom : float
            Trace of the matrix that maps targets to predictions.
        """
        diagonal = np.array(self.inverse.diagonal())
        if self.pending is not None:
            inverse = engine.asarray(self.inverse)
            V, *_ = dual_elimination(engine, inverse, inverse[:, :0], self.pending)
            diagonal -= (engine.to_numpy(V) ** 2).sum(axis=1)
            diagonal = np.delete(diagonal, self.pending)
        ridge = self.ridge / weights
        errors = self.ridge * (self.alpha**2 * ridge[:, None]).sum(axis=0)
        return errors, float((1.0 - ridge * diagonal).sum())


def _required(value: T | None, name: str) -> T:
    if value is None:
        raise ValueError(f"{name} must be given for a dual solution, got None.")
    return value
