r"""Ridge regressions with several penalties, of which generalized cross-validation chooses one.

With the errors :math:`e_i` on the n training samples and the matrix H that maps targets to
predictions, the choice minimizes

.. math:: \frac{n \sum_i e_i^2}{(n - \operatorname{tr} H)^2} ,

summed over the columns of targets. Requests update both parts anyway, so the choice is made again
after every request, at no cost beyond the updates of all candidates.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from ....utils._typing import FloatArray, IntArray
from .._engine import RidgeEngine
from .._feature_map import FeatureMap
from .._training_samples import Request, TrainingSamples
from ._dual import DualSolution
from ._primal import PrimalSolution
from ._sums import Sums, TargetSums

OneRidge: TypeAlias = DualSolution | PrimalSolution


@dataclass(frozen=True)
class RidgePath:
    """Solutions for several ridge penalties.

    Attributes
    ----------
    candidates : tuple of DualSolution or PrimalSolution
        Solutions by ascending penalty. In the primal form, only the first one has sums.
    known : ndarray of shape (n,) or TargetSums
        Other data of the criterion: weights of the samples in the dual form, sums over targets in
        the primal form.
    best : int
        The chosen candidate.
    """

    candidates: tuple[Any, ...]
    known: FloatArray | TargetSums
    best: int

    @classmethod
    def fit(
        cls,
        form: type[OneRidge],
        features: FeatureMap,
        samples: TrainingSamples,
        ridges: Sequence[float],
    ) -> "RidgePath":
        """Fit to samples; errors as for `DualSolution.fit`."""
        engine, first = features.engine, form.fit(features, samples, ridges[0])
        if isinstance(first, PrimalSolution):
            targets = TargetSums.empty().changed(samples.Y, samples.weights, 1)
            primal = [_with_ridge(engine, first, ridge) for ridge in ridges[1:]]
            return cls._chosen(engine, (first, *primal), targets)
        dual = [form.fit(features, samples, ridge) for ridge in ridges[1:]]
        return cls._chosen(engine, (first, *dual), samples.weights.copy())

    @classmethod
    def _chosen(
        cls, engine: RidgeEngine, candidates: Sequence[Any], known: FloatArray | TargetSums
    ) -> "RidgePath":
        """Choose among candidates that have sums, and remove the sums of all but the first."""
        if isinstance(known, TargetSums):
            n = known.weight
            residuals = [candidate.residual(known) for candidate in candidates]
            candidates = (candidates[0], *(replace(c, sums=Sums.empty()) for c in candidates[1:]))
        else:
            n = float(known.sum())
            residuals = [candidate.residual(engine, known) for candidate in candidates]
        criteria = [
            errors.sum() / (n - freedom) ** 2 if freedom < n else np.inf
            for errors, freedom in residuals
        ]
        # The largest penalty wins a tie.
        best = len(criteria) - 1 - int(np.argmin(criteria[::-1]))
        return cls(tuple(candidates), known, best)

    @property
    def chosen(self) -> OneRidge:
        """The solution with the chosen penalty; it may lack sums."""
        return self.candidates[self.best]

    @property
    def name(self) -> str:
        """Form of the solutions."""
        return self.chosen.name

    @property
    def coef(self) -> FloatArray:
        """Coefficients, of shape (p, k)."""
        return self.chosen.coef

    @property
    def ridge(self) -> float:
        """The chosen penalty."""
        return self.chosen.ridge

    @property
    def condition(self) -> float:
        """Condition number of the matrix of the chosen solution."""
        return self.chosen.condition

    @property
    def n_samples(self) -> int:
        """Number of samples in the model."""
        return self.chosen.n_samples

    @property
    def n_factored(self) -> int:
        """Number of samples in the last factorization."""
        return self.chosen.n_factored

    @property
    def n_changed(self) -> int:
        """Number of samples forgotten or learned since then."""
        return self.chosen.n_changed

    @property
    def matrices(self) -> list[FloatArray]:
        """Arrays that contain information about each sample, and that no attribute shares."""
        return [matrix for candidate in self.candidates for matrix in candidate.matrices]

    @property
    def pending(self) -> Any:
        """Changes that have not yet been applied to the large matrices."""
        return self.chosen.pending

    def forget(
        self, features: FeatureMap, request: Request, stored: TrainingSamples | None
    ) -> "RidgePath":
        """Forget samples; parameters and errors as for `DualSolution.forget`."""
        changed = self._changed("forget", features, request, stored)
        known, positions = self.known, request.positions
        if isinstance(known, TargetSums):
            known = known.changed(request.samples.Y, request.samples.weights, -1)
        elif positions is not None:
            known = np.delete(known, positions)
        return self._chosen(features.engine, changed, known)

    def learn(
        self, features: FeatureMap, added: TrainingSamples, stored: TrainingSamples | None
    ) -> "RidgePath":
        """Learn samples; parameters and errors as for `DualSolution.learn`."""
        changed = self._changed("learn", features, added, stored)
        known = self.known
        if isinstance(known, TargetSums):
            known = known.changed(added.Y, added.weights, 1)
        else:
            known = np.concatenate((known, added.weights))
        return self._chosen(features.engine, changed, known)

    def refactored(
        self, features: FeatureMap, samples: TrainingSamples, sign: float
    ) -> "RidgePath":
        """Learn (sign 1) or forget (-1) samples in the primal form, and factor the sums again."""
        engine, known = features.engine, self.known
        if not isinstance(known, TargetSums):
            raise ValueError("stored must be given for a dual solution, got None.")
        first = self.candidates[0].refactored(features, samples, sign)
        others = [_with_ridge(engine, first, c.ridge) for c in self.candidates[1:]]
        known = known.changed(samples.Y, samples.weights, int(sign))
        return self._chosen(engine, (first, *others), known)

    def refined(self, features: FeatureMap, samples: TrainingSamples) -> tuple["RidgePath", float]:
        """Refine the chosen solution, as `DualSolution.refined` does."""
        chosen, error = self.chosen.refined(features, samples)
        candidates = tuple(chosen if c is self.chosen else c for c in self.candidates)
        return replace(self, candidates=candidates), error

    @property
    def n_rescaled(self) -> int:
        """How often the features in the sums were rescaled."""
        return self.candidates[0].n_rescaled

    def rescaled(
        self,
        features: FeatureMap,
        before: TrainingSamples,
        after: TrainingSamples,
        scale: FloatArray,
        shift: FloatArray,
    ) -> "RidgePath":
        """Fit to changed features; parameters and errors as for `PrimalSolution.rescaled`."""
        engine = features.engine
        first = self.candidates[0].rescaled(features, before, after, scale, shift)
        others = [_with_ridge(engine, first, c.ridge) for c in self.candidates[1:]]
        return self._chosen(engine, (first, *others), self.known)

    def with_columns(self, columns: IntArray) -> "RidgePath":
        """Return the solution for some columns of the targets, which may be repeated.

        The choice stays; it is made again with the next request.
        """
        known = self.known
        if isinstance(known, TargetSums):
            known = known.with_columns(columns)
        candidates = tuple(c.with_columns(columns) for c in self.candidates)
        return replace(self, candidates=candidates, known=known)

    def apply_pending(self, engine: RidgeEngine) -> "RidgePath":
        """Return the candidates with their pending changes applied to the large matrices."""
        first = self.candidates[0].apply_pending(engine)
        if isinstance(first, PrimalSolution):
            others = [c.apply_pending(engine, Sums.empty()) for c in self.candidates[1:]]
        else:
            others = [c.apply_pending(engine) for c in self.candidates[1:]]
        return replace(self, candidates=(first, *others))

    def _changed(self, verb: str, features: FeatureMap, changed: Any, stored: Any) -> list[Any]:
        """Change all candidates, which then share the sums of the first one."""
        first = getattr(self.candidates[0], verb)(features, changed, stored)
        if not isinstance(first, PrimalSolution):
            others = [getattr(c, verb)(features, changed, stored) for c in self.candidates[1:]]
        elif first.n_changed == 0:
            others = [_with_ridge(features.engine, first, c.ridge) for c in self.candidates[1:]]
        else:
            before = self.candidates[0].sums
            complete = [replace(c, sums=before) for c in self.candidates[1:]]
            others = [getattr(c, verb)(features, changed, stored) for c in complete]
            others = [replace(c, sums=first.sums) for c in others]
        return [first, *others]


def _with_ridge(engine: RidgeEngine, solution: PrimalSolution, ridge: float) -> PrimalSolution:
    shape = solution.coef.shape
    return PrimalSolution.from_sums(engine, solution.sums, ridge, shape, solution.n_samples)
