"""A fitted ridge regression in the primal form, for more rows than features."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ._ridge import primal_elimination, primal_fit, primal_update

_LEAST_BLOCK = 512  # rows: every block passes over the whole of the sums


@dataclass(frozen=True)
class PrimalUpdate:
    """What the large matrices lack after rows have come (sign 1) or gone (sign -1).

    Attributes
    ----------
    Z : ndarray of shape (m, p)
        Features of the rows, times the roots of their weights: `gram` lacks their square.
    V : ndarray of shape (p, m)
        `inverse` lacks its square, with the other sign.
    sign : {1.0, -1.0}
    """

    Z: np.ndarray
    V: np.ndarray
    sign: float


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
    pending : PrimalUpdate or None
        What is still to be added to `gram` and `inverse`.
    """

    gram: np.ndarray
    moment: np.ndarray
    inverse: np.ndarray
    coef: np.ndarray
    condition: float
    n_rows: int
    n_factored: int
    n_changed: int = 0
    pending: PrimalUpdate | None = None

    name: ClassVar[str] = "primal"

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
        engine = features.engine  # what fails here leaves this solution as it is
        return self._settled_copy(engine)._changed(features, added, 1.0)._settled_copy(engine)

    def refactored(self, features, rows, sign):
        """Learn (sign 1) or forget (-1) rows, and factor the sums anew."""
        engine = features.engine
        gram = engine.copy(engine.asarray(self._settled_copy(engine).gram))
        moment = engine.asarray(self.moment)
        sums = _sums(engine, gram, moment, *_weighted(features, rows), sign)
        return self._factored(engine, *sums, self.n_rows + int(sign) * len(rows))

    def with_columns(self, columns):
        """Return the solution for some columns of the targets, which may be repeated."""
        return replace(self, moment=self.moment[:, columns], coef=self.coef[:, columns])

    @property
    def is_settled(self):
        """Whether the large matrices are up to date."""
        return self.pending is None

    def settled(self, engine):
        """Return the solution with large matrices that are up to date, made from this one's.

        They are the memory of this solution's, which must not be used again.
        """
        if self.is_settled:
            return self
        gram, inverse, Z, V = map(
            engine.asarray, (self.gram, self.inverse, self.pending.Z, self.pending.V)
        )
        gram = engine.add_square(gram, Z.T, self.pending.sign)
        inverse = primal_update(engine, inverse, V, self.pending.sign)
        return replace(
            self, gram=engine.to_numpy(gram), inverse=engine.to_numpy(inverse), pending=None
        )

    def _settled_copy(self, engine):
        if self.is_settled:
            return self
        copies = {"gram": self.gram.copy(), "inverse": self.inverse.copy()}
        return replace(self, **copies).settled(engine)

    def _changed(self, features, rows, sign):
        if 3 * len(rows) > len(self.gram):
            return self.refactored(features, rows, sign)  # takes fewer operations
        engine = features.engine
        Z, Y = _weighted(features, rows)
        V, coef = self._elimination(features, Z, Y, sign)
        moment = engine.asarray(self.moment) + sign * (Z.T @ Y)
        return replace(
            self,
            moment=engine.to_numpy(moment),
            coef=engine.to_numpy(coef),
            n_rows=self.n_rows + int(sign) * len(rows),
            n_changed=self.n_changed + len(rows),
            pending=PrimalUpdate(engine.to_numpy(Z), engine.to_numpy(V), sign),
        )

    def _elimination(self, features, Z, Y, sign):
        state = map(features.engine.asarray, (self.gram, self.inverse, self.coef))
        return primal_elimination(features.engine, *state, Z, Y, sign)


def _weighted(features, rows):
    """Features and targets, times the roots of the weights."""
    root = features.engine.asarray(np.sqrt(rows.weights)[:, None])
    return features(rows.X) * root, features.engine.asarray(rows.Y) * root


def _sums(engine, gram, moment, Z, Y, sign=1.0):
    return engine.add_square(gram, Z.T, sign), moment + sign * (Z.T @ Y)
