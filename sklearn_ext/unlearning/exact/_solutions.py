"""A fitted ridge regression in the dual form, for fewer rows than features."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ._ridge import dual_downdate, dual_elimination, dual_fit, dual_learn


@dataclass(frozen=True)
class DualSolution:
    """Coefficients and what changes of the rows need, as numpy arrays.

    Attributes
    ----------
    alpha : ndarray of shape (n, k)
        Dual coefficients.
    inverse : ndarray of shape (n, n)
        Inverse of the regularised Gram matrix, in the lower triangle. It still has the rows that
        are `pending`.
    coef : ndarray of shape (p, k)
        Primal coefficients.
    ridge : float
    condition : float
        Estimate of the condition number of the last matrix that was factored.
    n_factored : int
        Rows in that matrix.
    n_changed : int
        Rows forgotten or learned since.
    pending : ndarray of int or None
        Rows of `inverse` that are forgotten and still to be taken out of it.
    """

    alpha: np.ndarray
    inverse: np.ndarray
    coef: np.ndarray
    ridge: float
    condition: float
    n_factored: int
    n_changed: int = 0
    pending: np.ndarray | None = None

    name: ClassVar[str] = "dual"

    @classmethod
    def fit(cls, features, rows, ridge):
        """Fit anew.

        Parameters
        ----------
        features : RowFeatures
        rows : TrainingRows
        ridge : float

        Returns
        -------
        DualSolution
        """
        engine = features.engine
        Z, Y = features.matrix(rows.X), engine.asarray(rows.Y)
        alpha, inverse, condition = dual_fit(engine, Z, Y, engine.asarray(ridge / rows.weights))
        arrays = map(engine.to_numpy, (alpha, inverse, Z.T @ alpha))
        return cls(*arrays, ridge, condition, n_factored=len(rows))

    def labels(self, features, rows, positions):
        """Predictions for some rows by the model without them.

        Parameters
        ----------
        features : RowFeatures
        rows : TrainingRows
            These rows.
        positions : ndarray of int of shape (m,)
            Their positions among all rows.

        Returns
        -------
        ndarray of shape (m, k)
        """
        *_, S = self._elimination(features.engine, positions)
        return rows.Y - features.engine.to_numpy(S)

    def forget(self, features, forgotten, rows, positions):
        """Forget rows, which stay pending in the inverse.

        Parameters
        ----------
        features : RowFeatures
        forgotten, rows : TrainingRows
            The rows to forget, and all rows with them.
        positions : ndarray of int of shape (m,)
            Positions of the former among the latter.

        Returns
        -------
        DualSolution

        Raises
        ------
        IllConditionedError
        """
        engine = features.engine
        V, c, _ = self._elimination(engine, positions)
        alpha = engine.asarray(self.alpha) - V @ c
        alpha[positions] = 0.0
        return replace(
            self,
            alpha=engine.to_numpy(alpha[_others(positions, len(alpha))]),
            coef=engine.to_numpy(features.expansion(rows.X, alpha)),
            n_changed=self.n_changed + len(positions),
            pending=positions,
        )

    def learn(self, features, added, rows):
        """Learn the rows `added` to `rows`; parameters and errors as for `forget`."""
        engine = features.engine
        if self.pending is not None:  # what fails here leaves this solution as it is
            copy = replace(self, inverse=self.inverse.copy()).settled(engine)
            return copy.learn(features, added, rows)
        Z = features.matrix(added.X)
        cross = engine.zeros(len(rows), len(added))
        for block in features.blocks(len(rows)):
            cross[block] = features(rows.X[block]) @ Z.T
        own = Z @ Z.T
        own.reshape(-1)[:: len(own) + 1] += engine.asarray(self.ridge / added.weights)
        alpha, inverse = dual_learn(
            engine, *self._arrays(engine), cross, own, engine.asarray(added.Y)
        )
        return replace(
            self,
            alpha=engine.to_numpy(alpha),
            inverse=engine.to_numpy(inverse),
            coef=engine.to_numpy(features.expansion(rows.extended(added).X, alpha)),
            n_changed=self.n_changed + len(added),
        )

    def with_columns(self, columns):
        """Return the solution for some columns of the targets, which may be repeated."""
        return replace(self, alpha=self.alpha[:, columns], coef=self.coef[:, columns])

    @property
    def is_settled(self):
        """Whether the inverse has no row that is forgotten."""
        return self.pending is None

    def settled(self, engine):
        """Return the solution with an inverse that has no forgotten row, made from this one's.

        It is the memory of this solution's inverse, which must not be used again.
        """
        if self.is_settled:
            return self
        inverse = engine.asarray(self.inverse)
        V, *_ = dual_elimination(engine, inverse, inverse[:, :0], self.pending)
        inverse = dual_downdate(engine, inverse, V, _others(self.pending, len(inverse)))
        return replace(self, inverse=engine.to_numpy(inverse), pending=None)

    def _arrays(self, engine):
        return engine.asarray(self.inverse), engine.asarray(self.alpha)

    def _elimination(self, engine, positions):
        return dual_elimination(engine, *self._arrays(engine), positions)


def _others(positions, n):
    return np.setdiff1d(np.arange(n), positions, assume_unique=True)
