r"""Learning the bandwidths, targets and (on request) the ridge of a LAB model with Adam.

The order of events: a warm-up on one bandwidth row shared by all centres, stages that add
centres, and a long last stage in which the learning rate decays along a cosine to one percent.

Bandwidth rows are written :math:`\theta_i = s + \delta_i`: a shared row and deviations from it,
which decay by :math:`\delta_i \leftarrow (1 - \eta \rho) \delta_i` in every step. With an
infinite pull :math:`\rho` the deviations are never made, and one kernel with a bandwidth a
feature is left.
"""

import math
from dataclasses import dataclass

import numpy as np
from sklearn.utils import gen_batches

from ..utils._rows import row_keys
from ._adam import Adam
from ._lab_kernel import dual_coefficients, outer_loss

_MAX_GRADIENT_NORM = 10.0  # of the bandwidths' gradient
_BETA_1 = 0.9  # decay of Adam's first moment
_FINAL_RATE = 0.01  # share of the learning rate that is left at the end
MEDIAN_EXPONENT = 4.0
_PREDICTION_CHUNK = 4096


@dataclass(frozen=True)
class Stage:
    """Some steps on a fixed set of centres.

    Attributes
    ----------
    n_iter : int
        Number of steps.
    n_support : int
        Number of centres; those that are missing are added before the first step.
    shared : bool
        Whether all centres move as one, on the mean row of the bandwidths.
    decay : bool
        Whether the learning rate decays.
    """

    n_iter: int
    n_support: int
    shared: bool = False
    decay: bool = False

    def rate(self, t):
        """Share of the learning rate at step t."""
        if not self.decay:
            return 1.0
        return _FINAL_RATE + (1.0 - _FINAL_RATE) * 0.5 * (1.0 + math.cos(math.pi * t / self.n_iter))


def plan_stages(n_support, *, growth, n_warmup, n_growth_stages, growth_iter, max_iter):
    """Lay out warm-up, growth and the last stage for ``n_support`` centres in the end."""
    n_grown = n_growth_stages if growth is not None else 0
    start = math.ceil(n_support / 3) if n_grown else n_support
    sizes = [start + (n_support - start) * k // max(n_grown, 1) for k in range(n_grown)]
    return [
        Stage(n_warmup, start, shared=True),
        *(Stage(growth_iter, size) for size in sizes),
        Stage(max_iter, n_support, decay=True),
    ]


def median_theta(X, kernel):
    r"""Bandwidth for which the median exponent over the pairs (X[0], X[1]), ... is a constant.

    The starting scale must follow the number of features: :math:`\theta = 1` serves eight
    features and is hopeless for a hundred.
    """
    gaps = np.abs(X[::2] - X[1::2])
    if kernel == "laplacian":
        exponent = np.median(gaps.sum(axis=1))
    else:
        exponent = np.median((gaps**2).sum(axis=1))
    if exponent == 0.0:
        return 1.0
    if kernel == "exponential":
        return MEDIAN_EXPONENT / math.sqrt(exponent)
    return math.sqrt(MEDIAN_EXPONENT / exponent)


@dataclass(frozen=True)
class TrainingOptions:
    """How a LAB model learns; names and meanings are those of the estimators' parameters.

    Attributes
    ----------
    pull : float
        Rate at which deviations from the shared bandwidth row decay, as a multiple of the
        learning rate; infinity ties all rows together.
    """

    kernel: str
    pull: float
    support_dropout: float
    learn_targets: bool
    learn_alpha: bool
    growth: str | None
    batch_size: int
    learning_rate: float
    target_learning_rate: float
    beta_2: float


class LABTrainer:
    """The learned state of a LAB model and the steps that change it.

    Parameters
    ----------
    engine : NumbaEngine or TorchEngine
    data : TrainingRows
    options : TrainingOptions
    theta : ndarray of shape (1, d)
        Bandwidths of the first support points.
    alpha : float
        Ridge to begin with.
    rng : RandomState

    Attributes
    ----------
    rows : ndarray of shape (m,)
        Indices of the support points in the data's X.
    vectors : ndarray of shape (m, d)
        The support points as they stand in X.
    centers, targets : arrays of the engine, of shapes (m, d), (m, q)
        Standardised support points and their learned targets.
    shared, deviations : arrays of the engine, of shapes (1, d), (m, d)
        The parts of the bandwidth rows.
    """

    def __init__(self, engine, data, options, *, theta, alpha, rng):
        self.engine = engine
        self.data = data
        self.options = options
        self.rng = rng
        self.log_alpha = np.log([alpha]) if alpha > 0 else np.array([-np.inf])
        self.shared = engine.asarray(theta)
        self._batches = data.batches(options.batch_size, rng)
        self._shared_adam, self._deviations_adam, self._targets_adam, self._alpha_adam = (
            Adam(betas=(_BETA_1, options.beta_2)) for _ in range(4)
        )
        self._set_support(
            rows=np.empty(0, dtype=np.intp),
            vectors=data.X[:0],
            targets=data.Y[:0],
            deviations=np.empty((0, data.X.shape[1])),
        )

    def resume(self, *, rows, vectors, targets, theta):
        """Go on from given support points and bandwidth rows."""
        mean_row = theta.mean(axis=0, keepdims=True)
        self.shared = self.engine.asarray(mean_row)
        self._set_support(rows, vectors, targets, theta - mean_row)

    def _set_support(self, rows, vectors, targets, deviations):
        self.rows = rows
        self.vectors = vectors
        self.centers = self.engine.asarray(self.data.standardize(vectors))
        self.targets = self.engine.asarray(targets)
        self.deviations = self.engine.asarray(deviations)
        self._known = set(row_keys(vectors))

    @property
    def theta(self):
        return self.shared + self.deviations

    @property
    def alpha(self):
        return float(np.exp(self.log_alpha[0]))

    def coefficients(self):
        """Dual coefficients of the present state."""
        return dual_coefficients(
            self.engine, self.options.kernel, self.centers, self.theta, self.targets, self.alpha
        )

    def run(self, stages):
        """Yield the outer loss of every step of the stages, in turn."""
        for stage in stages:
            self._grow(stage.n_support - len(self.rows))
            for t in range(stage.n_iter):
                yield self._step(stage.rate(t), stage.shared)

    def _step(self, decay, shared):
        engine, data, options = self.engine, self.data, self.options
        rate = decay * options.learning_rate
        batch = next(self._batches)
        kept = self._sample_centers()
        loss = outer_loss(
            engine,
            options.kernel,
            engine.asarray(data.features(batch)),
            engine.asarray(data.Y[batch]),
            engine.asarray(data.weights[batch]),
            self.centers[kept],
            self.targets[kept],
            self.theta[kept],
            self.alpha,
        )
        if not math.isfinite(loss.value):
            raise FloatingPointError("the outer loss is not finite")

        gradient = loss.theta * min(1.0, _MAX_GRADIENT_NORM / max(engine.norm(loss.theta), 1e-300))
        self.shared -= rate * self._shared_adam.direction(gradient.sum(0)[None, :])
        if not shared and math.isfinite(options.pull):
            gradient = self._scatter(gradient, kept)
            self.deviations -= rate * self._deviations_adam.direction(gradient)
            self.deviations *= max(0.0, 1.0 - rate * options.pull)
        if options.learn_targets:
            direction = self._targets_adam.direction(self._scatter(loss.targets, kept))
            self.targets -= decay * options.target_learning_rate * direction
        if options.learn_alpha:
            self.log_alpha -= rate * self._alpha_adam.direction(np.array([loss.alpha * self.alpha]))
        return loss.value

    def _sample_centers(self):
        """Centres that take part in a step: a slice of all, or an array of indices."""
        n_support = len(self.rows)
        n_kept = max(1, round(n_support * (1.0 - self.options.support_dropout)))
        if n_kept == n_support:
            return slice(None)
        return np.sort(self.rng.permutation(n_support)[:n_kept])

    def _scatter(self, gradient, kept):
        """Gradient of all centres: zero for those that took no part."""
        if isinstance(kept, slice):
            return gradient
        full = self.engine.zeros(len(self.rows), gradient.shape[1])
        full[kept] = gradient
        return full

    def _grow(self, n_new):
        """Add support points; their bandwidths begin at the mean row of those present."""
        if n_new <= 0:
            return
        engine, data = self.engine, self.data
        new = self._choose_rows(n_new)
        vectors = data.X[data.rows[new]]
        self.rows = np.concatenate((self.rows, data.rows[new]))
        self.vectors = np.concatenate((self.vectors, vectors))
        self.centers = engine.vstack(self.centers, engine.asarray(data.standardize(vectors)))
        self.targets = engine.vstack(self.targets, engine.asarray(data.Y[new]))
        added = engine.zeros(len(new), data.X.shape[1])
        if len(self.deviations):
            added += self.deviations.mean(0)
        self.deviations = engine.vstack(self.deviations, added)
        self._deviations_adam.extend(engine, len(new))
        self._targets_adam.extend(engine, len(new))

    def _choose_rows(self, n_new):
        """Rows for the support, none with the features of a point that is there already."""
        new = []
        for row in self._candidates():
            (key,) = row_keys(self.data.X[self.data.rows[row : row + 1]])
            if key not in self._known:
                self._known.add(key)
                new.append(row)
                if len(new) == n_new:
                    break
        return np.array(new, dtype=np.intp)

    def _candidates(self):
        """All rows of the data, the most wanted first."""
        if len(self.rows) == 0 or self.options.growth in (None, "random"):
            return self.rng.permutation(len(self.data))
        errors = self._absolute_errors()
        if self.options.growth == "error":
            return np.argsort(-errors, kind="stable")
        # Exponential clocks that tick at the rate of the errors go off in the order in which
        # draws without replacement, with odds proportional to the errors, would come.
        return np.argsort(self.rng.exponential(size=len(errors)) / np.maximum(errors, 1e-300))

    def _absolute_errors(self):
        coef = self.coefficients()
        errors = np.empty(len(self.data))
        for chunk in gen_batches(len(self.data), _PREDICTION_CHUNK):
            fitted = self.engine.predict(
                self.options.kernel,
                self.engine.asarray(self.data.features(chunk)),
                self.centers,
                self.theta,
                coef,
                self.engine.zeros(coef.shape[1]),
            )
            errors[chunk] = np.abs(self.engine.to_numpy(fitted) - self.data.Y[chunk]).sum(axis=1)
        return errors
