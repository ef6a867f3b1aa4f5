"""A fitted ridge regression in the primal form, for more rows than features."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ._exact_forgetting import primal_elimination, primal_fit, primal_update

_LEAST_BLOCK = 512  # rows: every block passes over the whole of the sums


@dataclass(frozen=True)
class PrimalSolution:
    """Coefficients and what changes of the rows need, as numpy arrays. No row is kept.

    Attributes
    ----------
    gram : ndarray of shape (p, p)
        Sum over rows of the outer products of their features, plus the ridge, in the lower
        triangle.
    moment : ndarray of shape (p, k)
        Sum over rows of features times targets.
    inverse : ndarray of shape (p, p)
        Inverse of `gram`, in the lower triangle.
    coef : ndarray of shape (p, k)
        Coefficients.
    condition : float
        Estimate of the condition number of the last `gram` that was factored.
    n_rows : int
        Rows in the model.
    n_factored, n_changed : int
        Rows in the last factorisation, and rows forgotten or learned since.
    """

    gram: np.ndarray
    moment: np.ndarray
    inverse: np.ndarray
    coef: np.ndarray
    condition: float
    n_rows: int
    n_factored: int
    n_changed: int = 0

    name: ClassVar[str] = "primal"
    is_settled: ClassVar[bool] = True  # nothing is ever postponed here

    @classmethod
    def fit(cls, features, rows, ridge):
        """Fit anew; parameters as for :meth:`DualSolution.fit`."""
        engine, p = features.engine, features.n_columns
        gram, moment = engine.zeros(p, p), engine.zeros(p, rows.Y.shape[1])
        gram.reshape(-1)[:: p + 1] += ridge
        for block in features.blocks(len(rows), _LEAST_BLOCK):
            gram, moment = _sums(engine, gram, moment, *_weighted(features, rows[block]))
        return cls._factored(engine, gram, moment, len(rows))

    @classmethod
    def _factored(cls, engine, gram, moment, n_rows):
        coef, inverse, condition = primal_fit(engine, gram, moment)
        arrays = map(engine.to_numpy, (gram, moment, inverse, coef))
        return cls(*arrays, condition, n_rows=n_rows, n_factored=n_rows)

    def labels(self, features, rows, positions):
        """Predictions for some rows by the model without them, as :meth:`DualSolution.labels`."""
        _, coef = self._elimination(features, *_weighted(features, rows), -1.0)
        return features.engine.to_numpy(features(rows.X) @ coef)

    def forget(self, features, forgotten, rows, positions):
        """Forget rows; parameters as for :meth:`DualSolution.forget`, few of which matter here."""
        return self._changed(features, forgotten, -1.0)

    def learn(self, features, added, rows):
        """Learn rows; parameters as for :meth:`DualSolution.learn`."""
        return self._changed(features, added, 1.0)

    def refactored(self, features, rows, sign):
        """Learn (sign 1) or forget (-1) rows, and factor the sums anew."""
        engine = features.engine
        sums = self._changed_sums(engine, *_weighted(features, rows), sign)
        return self._factored(engine, *sums, self.n_rows + int(sign) * len(rows))

    def with_columns(self, columns):
        """Return the solution for some columns of the targets, which may be repeated."""
        return replace(self, moment=self.moment[:, columns], coef=self.coef[:, columns])

    def settled(self, engine):
        """Return the solution as it is."""
        return self

    def _changed(self, features, rows, sign):
        if 3 * len(rows) > len(self.gram):
            return self.refactored(features, rows, sign)  # takes fewer operations
        engine = features.engine
        Z, Y = _weighted(features, rows)
        V, coef = self._elimination(features, Z, Y, sign)
        inverse = primal_update(engine, engine.asarray(self.inverse), V, sign)
        gram, moment = self._changed_sums(engine, Z, Y, sign)
        return PrimalSolution(
            *map(engine.to_numpy, (gram, moment, inverse, coef)),
            condition=self.condition,
            n_rows=self.n_rows + int(sign) * len(rows),
            n_factored=self.n_factored,
            n_changed=self.n_changed + len(rows),
        )

    def _elimination(self, features, Z, Y, sign):
        state = map(features.engine.asarray, (self.gram, self.inverse, self.coef))
        return primal_elimination(features.engine, *state, Z, Y, sign)

    def _changed_sums(self, engine, Z, Y, sign):
        gram = engine.copy(engine.asarray(self.gram))
        return _sums(engine, gram, engine.asarray(self.moment), Z, Y, sign)


def _weighted(features, rows):
    """Features and targets, times the roots of the weights."""
    root = features.engine.asarray(np.sqrt(rows.weights)[:, None])
    return features(rows.X) * root, features.engine.asarray(rows.Y) * root


def _sums(engine, gram, moment, Z, Y, sign=1.0):
    return engine.add_square(gram, Z.T, sign), moment + sign * (Z.T @ Y)
