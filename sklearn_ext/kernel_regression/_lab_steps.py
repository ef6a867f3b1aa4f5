r"""The state of a LAB model in training, and the steps of Adam that change it.

Rows of bandwidths are written :math:`\theta_i = s + \delta_i`: a shared row, and deviations from
it that decay by :math:`\delta_i \leftarrow (1 - \eta \rho) \delta_i` in every step. With an
infinite pull :math:`\rho`, all deviations are zero, and the model is a kernel with one bandwidth
per feature.
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import gen_batches

from ..utils._rows import find_rows, row_keys
from ..utils._typing import FloatArray, IntArray
from ._lab_config import LABConfig, LABExpansion
from ._lab_data import CHUNK_SIZE, TrainingSet
from ._lab_kernel import dual_coefficients, outer_loss
from ._lab_refit import (
    ALL_RIDGES,
    HeldOutFit,
    SharedKernel,
    choose_ridge,
    choose_shared_kernel,
    normal_equations,
    ridge_coefficients,
    shared_kernel_coefficients,
)
from .engines import EngineArray, LABEngine

_MAX_GRADIENT_NORM = 10.0  # of the gradient in theta
_BETA_1 = 0.9  # decay of Adam's first moment
MANY = 1000  # more support points than this share the mean bandwidths of the learned ones
N_LEARNED = 200  # support points with bandwidths of their own if there are many
_AUTO_MANY = 2000  # largest number of support points with "auto"
_MIN_SAMPLES_FOR_MANY = 5000  # with fewer distinct samples, "auto" does not try many
_MAX_PRODUCTS = 2e11  # multiplications in a Gram matrix with "auto": at most a few seconds
_MIN_GAIN = 0.1  # relative fall of the squared error of held-out samples for which "auto" grows
_N_TRIAL = 10_000  # samples of the least-squares fit that decides
_MAX_HELD_OUT = 4000
_N_LEFT_OUT = 250  # samples that are left out one by one to choose the kernel of all samples
_SINGLE_PRECISION_ALPHA = 1e-3  # with at least this ridge, rounding to float32 does no harm
_SINGLE_PRECISION_THETA = 1e12  # features in extreme units would leave the range of float32


class Adam:
    """Adam step directions, for NumPy arrays and torch tensors alike.

    Parameters
    ----------
    betas : tuple of two floats
        Decay of the first and the second moment.
    eps : float
        Added to the root of the second moment.

    Notes
    -----
    Source: D. Kingma, J. Ba, "Adam: A Method for Stochastic Optimization", arXiv:1412.6980.
    """

    def __init__(self, betas: tuple[float, float], eps: float = 1e-8) -> None:
        self.betas = betas
        self.eps = eps
        self.n_calls = 0
        self.mean: EngineArray = None
        self.square: EngineArray = None

    def direction(self, gradient: EngineArray) -> EngineArray:
        r"""Update the moments and return :math:`\hat m / (\sqrt{\hat v} + \epsilon)`."""
        if self.n_calls == 0:
            self.mean, self.square = 0.0 * gradient, 0.0 * gradient
        self.n_calls += 1
        b1, b2 = self.betas
        self.mean *= b1
        self.mean += (1.0 - b1) * gradient
        self.square *= b2
        self.square += (1.0 - b2) * gradient**2
        scale = (self.square / (1.0 - b2**self.n_calls)) ** 0.5
        scale += self.eps
        return self.mean / (scale * (1.0 - b1**self.n_calls))

    def extend(self, engine: LABEngine, n_rows: int) -> None:
        """Append moments for new rows: zero momentum, and the mean second moment of the others."""
        if self.n_calls == 0:
            return
        mean_square = self.square.mean(0)[None, :]
        blank = engine.repeat_row(mean_square, n_rows)
        self.mean = engine.vstack(self.mean, 0.0 * blank)
        self.square = engine.vstack(self.square, blank)


class LABTrainer:
    """The state of a LAB model in training, and the steps that change it.

    Parameters
    ----------
    engine : LABEngine
    data : TrainingSet
    config : LABConfig
        Numbers replace "auto", except in `alpha` and `n_support`.
    theta : ndarray of shape (1, n_features)
        Square roots of the bandwidths of the first support points.
    alpha : float
        Initial ridge.
    rng : RandomState

    Attributes
    ----------
    support : ndarray of shape (m,)
        Indices of the support points in ``data.X``.
    vectors : ndarray of shape (m, d)
        The support points in the units of X.
    centers, targets : arrays of the engine, of shapes (m, d), (m, q)
        Standardized support points and their learned targets.
    first_theta : array of the engine, of shape (1, d)
        Initial square roots of the bandwidths.
    shared, deviations : arrays of the engine, of shapes (1, d), (m, d)
        Shared row of theta, and the deviations from it.
    """

    def __init__(
        self,
        engine: LABEngine,
        data: TrainingSet,
        config: LABConfig,
        *,
        theta: FloatArray,
        alpha: float,
        rng: np.random.RandomState,
    ) -> None:
        self.engine = engine
        is_safe = (
            config.alpha != "learn"
            and alpha >= _SINGLE_PRECISION_ALPHA
            and 1 / _SINGLE_PRECISION_THETA < np.max(theta) < _SINGLE_PRECISION_THETA
        )
        self._step_engine = engine.in_single_precision() if is_safe else engine
        self.data = data
        self.config = config
        self.rng = rng
        locality = float(config.locality)
        self.pull = math.inf if locality == 0.0 else 1.0 / locality - 1.0
        self.log_alpha = np.log([alpha]) if alpha > 0 else np.array([-np.inf])
        self.shared = engine.asarray(theta)
        self.first_theta = self.shared + 0.0
        self._batches = data.batches(int(config.batch_size), rng)
        self._shared_adam, self._deviations_adam, self._targets_adam, self._alpha_adam = (
            Adam(betas=(_BETA_1, config.beta_2)) for _ in range(4)
        )
        self._set_support(
            support=np.empty(0, dtype=np.intp),
            vectors=data.X[:0],
            targets=data.Y[:0],
            deviations=np.empty((0, data.X.shape[1])),
        )

    def resume(self, model: LABExpansion) -> None:
        """Continue from the support points and bandwidths of a model.

        Raises
        ------
        ValueError
            If the model and the data differ in the number of features or outputs.
        """
        data = self.data
        given = (model.support_vectors.shape[1], model.support_targets.shape[1])
        if given != (data.X.shape[1], data.Y.shape[1]):
            raise ValueError(
                f"warm_start=True needs the {given[0]} features and {given[1]} outputs of the "
                f"previous call, got {data.X.shape[1]} and {data.Y.shape[1]}."
            )
        # Many support points are added again; only the first have learned bandwidths.
        limit = N_LEARNED if isinstance(self.config.n_support, str) else MANY
        learned = slice(None if len(model.support) <= limit else N_LEARNED)
        theta = np.sqrt(model.bandwidths[learned] * data.x_scale**self._power)
        mean_row = theta.mean(axis=0, keepdims=True)
        self.shared = self.engine.asarray(mean_row)
        vectors = model.support_vectors[learned].astype(data.X.dtype)
        self._set_support(
            find_rows(data.X, vectors),
            vectors,
            (model.support_targets[learned] - data.y_mean) / data.y_scale,
            theta - mean_row,
        )

    def _set_support(
        self, support: IntArray, vectors: FloatArray, targets: ArrayLike, deviations: ArrayLike
    ) -> None:
        self.support = support
        self.vectors = vectors
        self.centers = self.engine.asarray(self.data.standardize(vectors))
        self.targets = self.engine.asarray(targets)
        self.deviations = self.engine.asarray(deviations)
        self._present = set(row_keys(vectors))
        self._coef: EngineArray = None

    @property
    def theta(self) -> EngineArray:
        """Square roots of the bandwidths, of shape (m, d)."""
        return self.shared + self.deviations

    @property
    def alpha(self) -> float:
        """The current ridge."""
        return float(np.exp(self.log_alpha[0]))

    @property
    def _power(self) -> int:
        """Power of a difference of features that a bandwidth multiplies."""
        return 1 if self.config.kernel == "laplacian" else 2

    def coefficients(self) -> EngineArray:
        """Return the current dual coefficients."""
        if self._coef is not None:
            return self._coef
        return dual_coefficients(
            self.engine, self.config.kernel, self.centers, self.theta, self.targets, self.alpha
        )

    def expansion(self, losses: list[float]) -> LABExpansion:
        """Return the current model in the units of the data."""
        data, engine = self.data, self.engine
        bandwidths = engine.to_numpy(self.theta) ** 2 / data.x_scale**self._power
        dual_coef = engine.to_numpy(self.coefficients()) * data.y_scale
        return LABExpansion(
            support=self.support,
            support_vectors=self.vectors.astype(np.float64),
            support_targets=engine.to_numpy(self.targets) * data.y_scale + data.y_mean,
            bandwidths=bandwidths,
            dual_coef=dual_coef,
            intercept=data.y_mean,
            alpha=self.alpha,
            feature_importances=_importances(dual_coef, bandwidths * data.x_std**self._power),
            loss_curve=np.array(losses),
        )

    def step(self, rate: float, *, shared: bool) -> float:
        """Take one Adam step on a batch and return its outer loss.

        Parameters
        ----------
        rate : float
            Factor that multiplies the learning rates.
        shared : bool
            Whether only the shared row of the bandwidths is trained.

        Raises
        ------
        FloatingPointError
            If the bandwidths or the loss are not finite.
        """
        self._coef = None
        engine, data, config = self._step_engine, self.data, self.config
        batch = next(self._batches)
        kept = self._sample_centers()
        theta = engine.asarray(self.theta[kept])
        if not math.isfinite(engine.norm(theta)):
            raise FloatingPointError("the bandwidths are not finite")
        # BLAS may report invalid values where the result has none; the check below decides.
        with np.errstate(invalid="ignore", over="ignore"):
            loss = outer_loss(
                engine,
                config.kernel,
                engine.asarray(data.features(batch)),
                engine.asarray(data.Y[batch]),
                engine.asarray(data.weights[batch]),
                engine.asarray(self.centers[kept]),
                engine.asarray(self.targets[kept]),
                theta,
                self.alpha,
            )
        if not math.isfinite(loss.value):
            raise FloatingPointError("the outer loss is not finite")

        step_size = rate * config.learning_rate
        gradient = self.engine.asarray(loss.theta)
        gradient *= min(1.0, _MAX_GRADIENT_NORM / max(engine.norm(loss.theta), 1e-300))
        self.shared -= step_size * self._shared_adam.direction(gradient.sum(0)[None, :])
        if not shared and math.isfinite(self.pull):
            gradient = self._scatter(gradient, kept)
            self.deviations -= step_size * self._deviations_adam.direction(gradient)
            self.deviations *= max(0.0, 1.0 - step_size * self.pull)
        if config.learn_targets:
            gradient = self._scatter(self.engine.asarray(loss.targets), kept)
            direction = self._targets_adam.direction(gradient)
            self.targets -= rate * config.target_learning_rate * direction
        if config.alpha == "learn":
            gradient = np.array([loss.alpha * self.alpha])
            self.log_alpha -= step_size * self._alpha_adam.direction(gradient)
        return loss.value

    def refit(self) -> None:
        """Set the targets to those of a least-squares fit of the coefficients to all samples."""
        ridge = self.config.refit_alpha
        if ridge is None:
            return
        equations = self._normal_equations(np.arange(len(self.data)))
        self._set_coefficients(ridge_coefficients(*equations, float(ridge)))

    def _set_coefficients(self, coef: FloatArray) -> None:
        """Set the coefficients, and the targets that go with them."""
        self._coef = self.engine.asarray(coef)
        K, _ = self.engine.kernel(self.config.kernel, self.centers, self.centers, self.theta)
        self.targets = K @ self._coef + self.alpha * self._coef

    def _sample_centers(self) -> slice | IntArray:
        """Return the centers used in a step: a slice of all, or indices."""
        n_support = len(self.support)
        n_kept = max(1, round(n_support * (1.0 - float(self.config.support_dropout))))
        if n_kept == n_support:
            return slice(None)
        return np.sort(self.rng.permutation(n_support)[:n_kept])

    def _scatter(self, gradient: EngineArray, kept: slice | IntArray) -> EngineArray:
        """Return the gradient for all centers: zero for those that were left out."""
        if isinstance(kept, slice):
            return gradient
        full = self.engine.zeros(len(self.support), gradient.shape[1])
        full[kept] = gradient
        return full

    def grow(self, n_support: int) -> None:
        """Add support points up to a number; their theta starts at the mean of the current ones."""
        n_new = n_support - len(self.support)
        if n_new <= 0:
            return
        engine, data = self.engine, self.data
        new = self._choose_samples(n_new)
        vectors = data.X[data.samples[new]]
        self.support = np.concatenate((self.support, data.samples[new]))
        self.vectors = np.concatenate((self.vectors, vectors))
        self.centers = engine.vstack(self.centers, engine.asarray(data.standardize(vectors)))
        self.targets = engine.vstack(self.targets, engine.asarray(data.Y[new]))
        added = engine.zeros(len(new), data.X.shape[1])
        if len(self.deviations):
            added += self.deviations.mean(0)
        self.deviations = engine.vstack(self.deviations, added)
        self._coef = None
        self._deviations_adam.extend(engine, len(new))
        self._targets_adam.extend(engine, len(new))

    def add_many(self, n_support: int) -> None:
        """Add support points with mean bandwidths, and fit all coefficients by least squares.

        With learned targets, the best coefficients for given bandwidths solve a linear problem over
        all samples. Held-out samples choose its ridge, and the last fit includes them.
        """
        self.grow(n_support)
        order = self.rng.permutation(len(self.data))
        held_out, rest = np.split(order, [min(_MAX_HELD_OUT, len(order) // 5)])
        trained, held = self._normal_equations(rest), self._normal_equations(held_out)
        ridge = self._choose_ridge(*trained, held_out).ridge
        share = float(self.data.weights[held_out].sum() / self.data.weights.sum())
        gram, moments = ((1.0 - share) * a + share * b for a, b in zip(trained, held, strict=True))
        self._set_coefficients(ridge_coefficients(gram, moments, ridge))

    def add_many_if_they_pay(self) -> bool:
        """Add many support points if a first fit with them predicts held-out samples better.

        The comparison is conservative: only the trained model has seen the held-out targets.
        """
        data, config = self.data, self.config
        if config.n_support != "auto" or not config.learn_targets:
            return False
        n_many = min(_AUTO_MANY, int(math.sqrt(_MAX_PRODUCTS / len(data))))
        if n_many < MANY or len(data) < _MIN_SAMPLES_FOR_MANY:
            return False
        order = self.rng.permutation(len(data))
        n_held_out = min(_MAX_HELD_OUT, len(order) // 5)
        held_out, rest = order[:n_held_out], order[n_held_out : n_held_out + _N_TRIAL]
        learned = self.support, self.vectors, self.targets, self.deviations
        K = self._kernel_rows(held_out)
        errors = self.engine.to_numpy(K @ self.coefficients()) - data.Y[held_out]
        errors = (errors**2).sum(axis=1)
        self.grow(MANY)
        fit = self._choose_ridge(*self._normal_equations(rest), held_out)
        weights = data.weights[held_out, 0]
        gains = weights * (errors - fit.errors) / weights.mean()
        noise = 2.0 * gains.std() / math.sqrt(n_held_out)
        if gains.mean() > max(noise, _MIN_GAIN * np.average(errors, weights=weights)):
            self.add_many(n_many)
            return True
        self._set_support(*learned)
        return False

    def shared_kernel(self, theta: EngineArray, alphas: tuple[float, ...]) -> SharedKernel:
        """Return the kernel for all samples, given theta up to a factor, of shape (1, d)."""
        data = self.data
        drawn = self.rng.permutation(len(data))[:_N_LEFT_OUT]
        return choose_shared_kernel(
            self.engine,
            self.config.kernel,
            data.features(drawn),
            data.Y[drawn],
            data.weights[drawn],
            theta,
            alphas,
        )

    def add_all(self) -> None:
        """Make all samples support points with the mean bandwidths, and solve for their targets."""
        data = self.data
        alphas = ALL_RIDGES if self.config.alpha == "auto" else (self.alpha,)
        is_learned = not self.config.equal_bandwidths
        theta = self.theta.mean(0)[None, :] if is_learned else self.first_theta
        shared = self.shared_kernel(theta, alphas)
        vectors = data.X[data.samples]
        points = data.standardize(vectors)
        coef = shared_kernel_coefficients(
            self.engine, self.config.kernel, points, data.Y, data.weights, shared
        )
        self.shared, self.log_alpha = shared.theta, np.log([shared.alpha])
        self._set_support(data.samples, vectors, data.Y, np.zeros_like(points))
        self._set_coefficients(coef)

    def _kernel_rows(self, indices: IntArray) -> EngineArray:
        points = self.engine.asarray(self.data.features(indices))
        return self.engine.kernel(self.config.kernel, points, self.centers, self.theta)[0]

    def _normal_equations(self, indices: IntArray) -> tuple[FloatArray, FloatArray]:
        return normal_equations(
            self.engine,
            self.config.kernel,
            self.data.chunks(indices),
            self.centers,
            self.theta,
            self.data.Y.shape[1],
        )

    def _choose_ridge(
        self, gram: FloatArray, moments: FloatArray, held_out: IntArray
    ) -> HeldOutFit:
        K = self.engine.to_numpy(self._kernel_rows(held_out))
        return choose_ridge(gram, moments, K, self.data.Y[held_out], self.data.weights[held_out])

    def _choose_samples(self, n_new: int) -> IntArray:
        """Choose new support points whose features differ from those of all current ones."""
        new = []
        for sample in self._candidates():
            (key,) = row_keys(self.data.X[self.data.samples[sample : sample + 1]])
            if key not in self._present:
                self._present.add(key)
                new.append(sample)
                if len(new) == n_new:
                    break
        return np.array(new, dtype=np.intp)

    def _candidates(self) -> IntArray:
        """Return all training samples, in order of preference."""
        growth = self.config.growth
        if len(self.support) == 0 or growth in (None, "random"):
            return self.rng.permutation(len(self.data))
        errors = self._absolute_errors()
        if growth == "error":
            return np.argsort(-errors, kind="stable")
        # Exponential clocks whose rates are the errors ring in the order of draws without
        # replacement with probabilities proportional to the errors.
        return np.argsort(self.rng.exponential(size=len(errors)) / np.maximum(errors, 1e-300))

    def _absolute_errors(self) -> FloatArray:
        coef = self.coefficients()
        errors = np.empty(len(self.data))
        for chunk in gen_batches(len(self.data), CHUNK_SIZE):
            points = self.engine.asarray(self.data.features(chunk))
            K, _ = self.engine.kernel(self.config.kernel, points, self.centers, self.theta)
            fitted = self.engine.to_numpy(K @ coef)
            errors[chunk] = np.abs(fitted - self.data.Y[chunk]).sum(axis=1)
        return errors


def _importances(dual_coef: FloatArray, sensitivities: FloatArray) -> FloatArray:
    totals = np.abs(dual_coef).sum(axis=1) @ sensitivities
    return totals / totals.sum() if totals.sum() > 0 else totals
