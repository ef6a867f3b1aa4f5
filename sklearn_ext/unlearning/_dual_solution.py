"""A fitted ridge regression in the dual form, for fewer rows than features."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ._exact_forgetting import dual_downdate, dual_elimination, dual_fit, dual_learn


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
        *_, S = self.settled(features)._elimination(features.engine, positions)
        return rows.Y - features.engine.to_numpy(S)

    def forget(self, features, forgotten, retained, positions, *, lazy):
        """Forget rows.

        Parameters
        ----------
        features : RowFeatures
        forgotten, retained : TrainingRows
        positions : ndarray of int of shape (m,)
            Positions of the forgotten rows among all rows.
        lazy : bool
            Whether to leave the rows in `inverse` until it is needed.

        Returns
        -------
        DualSolution

        Raises
        ------
        IllConditionedError
        """
        engine, now = features.engine, self.settled(features)
        V, c, _ = now._elimination(engine, positions)
        keep = _others(positions, len(now.alpha))
        alpha = (engine.asarray(now.alpha) - V @ c)[keep]
        changed = replace(
            now,
            alpha=engine.to_numpy(alpha),
            coef=engine.to_numpy(features.expansion(retained.X, alpha)),
            n_changed=now.n_changed + len(positions),
        )
        if lazy:
            return replace(changed, pending=positions)
        inverse = dual_downdate(engine, engine.asarray(now.inverse), V, keep)
        return replace(changed, inverse=engine.to_numpy(inverse))

    def learn(self, features, added, rows):
        """Learn the rows `added` to `rows`; parameters and errors as for `forget`."""
        engine, now = features.engine, self.settled(features)
        Z = features.matrix(added.X)
        cross = engine.zeros(len(rows), len(added))
        for block in features.blocks(len(rows)):
            cross[block] = features(rows.X[block]) @ Z.T
        own = Z @ Z.T
        own.reshape(-1)[:: len(own) + 1] += engine.asarray(self.ridge / added.weights)
        alpha, inverse = dual_learn(
            engine, *now._arrays(engine), cross, own, engine.asarray(added.Y)
        )
        return replace(
            now,
            alpha=engine.to_numpy(alpha),
            inverse=engine.to_numpy(inverse),
            coef=engine.to_numpy(features.expansion(rows.extended(added).X, alpha)),
            n_changed=now.n_changed + len(added),
        )

    def with_columns(self, columns):
        """Return the solution for some columns of the targets, which may be repeated."""
        return replace(self, alpha=self.alpha[:, columns], coef=self.coef[:, columns])

    def settled(self, features):
        """Return the solution with an inverse that has no forgotten row."""
        if self.pending is None:
            return self
        engine = features.engine
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
