"""What the LAB regressor and classifier share: parameters, training, the kernel expansion."""

from abc import ABC
from numbers import Integral, Real

import numpy as np
from scipy.linalg import LinAlgError
from sklearn.base import BaseEstimator
from sklearn.callback import CallbackSupportMixin
from sklearn.utils import gen_batches
from sklearn.utils._param_validation import Interval, RealNotInt, StrOptions
from threadpoolctl import threadpool_limits

from ._lab_auto import (
    auto_alpha,
    auto_batch_size,
    auto_locality,
    auto_support_dropout,
    resolve_n_support,
)
from ._lab_data import TrainingRows
from ._lab_engine import make_engine
from ._lab_kernel import KERNELS
from ._lab_training import LABTrainer, Stage, TrainingOptions, median_theta, plan_stages

_PREDICTION_CHUNK = 4096
_N_PAIRS = 500  # pairs of rows behind the median exponent
_FIRST_LEARNED_ALPHA = 1e-3
_VERBOSE_EVERY = 100


class BaseLAB(CallbackSupportMixin, BaseEstimator, ABC):
    """Kernel machine on learned, locally adaptive bandwidths."""

    _parameter_constraints = {
        "n_support": [
            StrOptions({"auto"}),
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="neither"),
        ],
        "kernel": [StrOptions(set(KERNELS))],
        "gamma": [StrOptions({"median"}), Interval(Real, 0, None, closed="neither")],
        "locality": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="both")],
        "support_dropout": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="left")],
        "learn_targets": ["boolean"],
        "alpha": [StrOptions({"auto", "learn"}), Interval(Real, 0, None, closed="left")],
        "growth": [StrOptions({"random", "error", "error_sampled"}), None],
        "n_warmup": [Interval(Integral, 0, None, closed="left")],
        "n_growth_stages": [Interval(Integral, 1, None, closed="left")],
        "growth_iter": [Interval(Integral, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "target_learning_rate": [Interval(Real, 0, None, closed="neither")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "standardize": ["boolean"],
        "engine": [StrOptions({"auto", "numba", "torch"})],
        "device": "no_validation",
        "random_state": ["random_state"],
        "warm_start": ["boolean"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        *,
        n_support="auto",
        kernel="laplacian",
        gamma="median",
        locality="auto",
        support_dropout="auto",
        learn_targets=True,
        alpha="auto",
        growth="random",
        n_warmup=300,
        n_growth_stages=5,
        growth_iter=100,
        max_iter=2000,
        batch_size="auto",
        learning_rate=1e-2,
        target_learning_rate=1e-3,
        beta_2=0.98,
        standardize=True,
        engine="auto",
        device=None,
        random_state=None,
        warm_start=False,
        verbose=0,
    ):
        self.n_support = n_support
        self.kernel = kernel
        self.gamma = gamma
        self.locality = locality
        self.support_dropout = support_dropout
        self.learn_targets = learn_targets
        self.alpha = alpha
        self.growth = growth
        self.n_warmup = n_warmup
        self.n_growth_stages = n_growth_stages
        self.growth_iter = growth_iter
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.target_learning_rate = target_learning_rate
        self.beta_2 = beta_2
        self.standardize = standardize
        self.engine = engine
        self.device = device
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose

    def _fit_expansion(self, X, Y, rows, weights, rng, *, scale_targets, finish, callback_data):
        """Learn the expansion and return the fitted attributes, without setting any.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
        Y : ndarray of shape (n_samples, n_outputs)
        rows, weights : ndarrays of shape (n_distinct,)
            The rows to learn from, and their weights.
        rng : RandomState
        scale_targets : bool
            Whether the columns of Y are brought to a common scale.
        finish : callable
            Takes the dict of attributes, with two-dimensional targets and coefficients, and
            returns the dict that the public estimator shows.
        callback_data : dict
            X, y and metadata as callbacks get them.
        """
        engine = make_engine(self.engine, self.device)
        data = TrainingRows(
            X, Y, rows, weights, standardize=self.standardize, scale_targets=scale_targets
        )
        losses = []

        def attributes():
            return finish(self._expansion_attributes(trainer, losses))

        # Factorising a few hundred rows thousands of times is fastest, and reproducible, on one
        # thread of BLAS; threads are better spent on fits side by side.
        with threadpool_limits(limits=1, user_api="blas"):
            trainer, stages = self._prepare_training(engine, data, rng)
            n_iter = sum(stage.n_iter for stage in stages)
            context = self._init_callback_context(max_subtasks=n_iter)
            context.call_on_fit_task_begin(estimator=self, **callback_data)
            try:
                for loss in trainer.run(stages):
                    losses.append(loss)
                    self._print_progress(losses, n_iter, len(trainer.rows))
                    step = context.subcontext("iteration").call_on_fit_task_begin(estimator=self)
                    if step.call_on_fit_task_end(
                        estimator=self, reconstruction_attributes=attributes, **callback_data
                    ):
                        break
                fitted = attributes()
            except FloatingPointError as error:
                raise ValueError(
                    f"Training diverged at iteration {len(losses)}: {error}. Lower learning_rate "
                    f"(got {self.learning_rate!r}) or raise alpha (got {self.alpha!r})."
                ) from error
            except LinAlgError as error:
                raise ValueError(
                    f"At iteration {len(losses)}, {error}: alpha must be larger, "
                    f"got {self.alpha!r}."
                ) from error
        context.call_on_fit_task_end(
            estimator=self, reconstruction_attributes=lambda: fitted, **callback_data
        )
        return fitted

    def _prepare_training(self, engine, data, rng):
        """Trainer and stages, from scratch or from the fitted state."""
        n_rows, n_features = len(data), data.X.shape[1]
        n_support = resolve_n_support(self.n_support, n_rows)
        if self.gamma == "median":
            theta = median_theta(data.features(rng.randint(n_rows, size=2 * _N_PAIRS)), self.kernel)
        else:
            theta = np.sqrt(self.gamma)
        if self.alpha == "auto":
            alpha = auto_alpha(engine, self.kernel, data, theta, rng)
        elif self.alpha == "learn":
            alpha = self.alpha_ if self._goes_on() else _FIRST_LEARNED_ALPHA
        else:
            alpha = self.alpha
        locality = auto_locality(alpha) if self.locality == "auto" else self.locality
        batch_size = auto_batch_size(n_rows) if self.batch_size == "auto" else self.batch_size
        support_dropout = self.support_dropout
        if support_dropout == "auto":
            support_dropout = auto_support_dropout(n_support, n_features, n_rows)
        trainer = LABTrainer(
            engine,
            data,
            TrainingOptions(
                kernel=self.kernel,
                pull=np.inf if locality == 0.0 else 1.0 / locality - 1.0,
                support_dropout=support_dropout,
                learn_targets=self.learn_targets,
                learn_alpha=self.alpha == "learn",
                growth=self.growth,
                batch_size=batch_size,
                learning_rate=self.learning_rate,
                target_learning_rate=self.target_learning_rate,
                beta_2=self.beta_2,
            ),
            theta=np.full((1, n_features), theta),
            alpha=alpha,
            rng=rng,
        )
        if not self._goes_on():
            return trainer, plan_stages(
                n_support,
                growth=self.growth,
                n_warmup=self.n_warmup,
                n_growth_stages=self.n_growth_stages,
                growth_iter=self.growth_iter,
                max_iter=self.max_iter,
            )

        targets = self.support_targets_.reshape(self.n_support_, -1)
        fitted_shape = (self.support_vectors_.shape[1], targets.shape[1])
        if fitted_shape != (n_features, data.Y.shape[1]):
            raise ValueError(
                f"warm_start=True needs the {fitted_shape[0]} features and {fitted_shape[1]} "
                f"outputs of the call before, got {n_features} and {data.Y.shape[1]}."
            )
        trainer.resume(
            rows=self.support_,
            vectors=self.support_vectors_.astype(data.X.dtype),
            targets=(targets - data.y_mean) / data.y_scale,
            theta=np.sqrt(self.bandwidths_ * data.x_scale ** _power(self.kernel)),
        )
        return trainer, [Stage(self.max_iter, n_support, decay=True)]

    def _goes_on(self):
        return self.warm_start and hasattr(self, "support_vectors_")

    def _expansion_attributes(self, trainer, losses):
        """Fitted attributes in the user's units."""
        data, engine = trainer.data, trainer.engine
        power = _power(self.kernel)
        bandwidths = engine.to_numpy(trainer.theta) ** 2 / data.x_scale**power
        dual_coef = engine.to_numpy(trainer.coefficients()) * data.y_scale
        return {
            "support_": trainer.rows,
            "support_vectors_": trainer.vectors.astype(np.float64),
            "support_targets_": engine.to_numpy(trainer.targets) * data.y_scale + data.y_mean,
            "bandwidths_": bandwidths,
            "dual_coef_": dual_coef,
            "intercept_": data.y_mean,
            "alpha_": trainer.alpha,
            "n_support_": len(trainer.rows),
            "feature_importances_": _importances(dual_coef, bandwidths * data.x_std**power),
            "loss_curve_": np.array(losses),
            "n_iter_": len(losses),
        }

    def _print_progress(self, losses, n_iter, n_support):
        if self.verbose and (len(losses) % _VERBOSE_EVERY == 0 or len(losses) == n_iter):
            recent = np.mean(losses[-_VERBOSE_EVERY:])
            print(
                f"[{type(self).__name__}] iteration {len(losses)}/{n_iter}, "
                f"{n_support} support points, loss {recent:.3e}"
            )

    def _expand(self, X, fitted):
        """Values of the expansion with the given fitted attributes, (n_samples, n_outputs)."""
        engine = make_engine(self.engine, self.device)
        # Only differences of points count: around the centres' mean they survive float32.
        shift = fitted["support_vectors_"].mean(axis=0)
        centers = engine.asarray(fitted["support_vectors_"] - shift)
        theta = engine.asarray(np.sqrt(fitted["bandwidths_"]))
        coef = engine.asarray(fitted["dual_coef_"].reshape(len(centers), -1))
        intercept = engine.asarray(np.atleast_1d(fitted["intercept_"]))
        out = np.empty((X.shape[0], coef.shape[1]), dtype=X.dtype)
        for chunk in gen_batches(X.shape[0], _PREDICTION_CHUNK):
            points = engine.asarray(X[chunk] - shift)
            out[chunk] = engine.to_numpy(
                engine.predict(self.kernel, points, centers, theta, coef, intercept)
            )
        return out


def callback_arguments(X, y, sample_weight):
    """Training data as the hooks of scikit-learn's callbacks take them."""
    metadata = None if sample_weight is None else {"sample_weight": sample_weight}
    return {"X": X, "y": y, "metadata": metadata}


def _power(kernel):
    """Power of a difference that a bandwidth multiplies."""
    return 1 if kernel == "laplacian" else 2


def _importances(dual_coef, sensitivities):
    totals = np.abs(dual_coef).sum(axis=1) @ sensitivities
    return totals / totals.sum() if totals.sum() > 0 else totals
