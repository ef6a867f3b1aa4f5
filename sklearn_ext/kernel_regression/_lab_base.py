"""Parameters, progress reports and fitted attributes shared by the LAB estimators."""

from abc import ABC
from collections.abc import Callable
from dataclasses import fields, replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils._param_validation import Interval, RealNotInt, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from ..utils._typing import Array, FloatArray, IntArray, RandomState
from ..utils.compat import CallbackSupportMixin
from ._lab_config import LABConfig, LABExpansion
from ._lab_kernel import KERNELS
from ._lab_steps import LABTrainer
from .engines import evaluate_expansion, kernel_features, make_engine
from .selection import (
    HeldOutLoss,
    LABSelection,
    needs_selection,
    select_lab,
    without_selection,
)

if TYPE_CHECKING:
    import torch

_VERBOSE_EVERY = 100


class BaseLAB(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, CallbackSupportMixin, BaseEstimator, ABC
):
    """Kernel machine with learned, locally adaptive bandwidths."""

    _parameter_constraints = {
        "n_support": [
            StrOptions({"auto", "all"}),
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="neither"),
        ],
        "kernel": [StrOptions({"auto", *KERNELS})],
        "gamma": [StrOptions({"median"}), Interval(Real, 0, None, closed="neither")],
        "locality": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="both")],
        "support_dropout": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="left")],
        "learn_targets": ["boolean"],
        "alpha": [StrOptions({"auto", "learn"}), Interval(Real, 0, None, closed="left")],
        "refit_alpha": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither"), None],
        "growth": [StrOptions({"random", "error", "error_sampled"}), None],
        "n_warmup": [Interval(Integral, 0, None, closed="left")],
        "n_growth_stages": [Interval(Integral, 1, None, closed="left")],
        "growth_iter": [Interval(Integral, 0, None, closed="left")],
        "max_iter": [StrOptions({"auto"}), Interval(Integral, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "target_learning_rate": [Interval(Real, 0, None, closed="neither")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "standardize": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "engine": [StrOptions({"auto", "numba", "torch"})],
        "device": "no_validation",
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "warm_start": ["boolean"],
        "verbose": ["verbose"],
    }

    # Fitted attributes that `fit` sets, for type checkers.
    support_: np.ndarray
    support_vectors_: FloatArray
    support_targets_: FloatArray
    bandwidths_: FloatArray
    dual_coef_: FloatArray
    intercept_: Any
    alpha_: float
    refit_alpha_: float | None
    kernel_: str
    _chosen_support: dict[str, Any]
    max_iter_: int
    selection_: dict[str, Array] | None
    n_support_: int
    feature_importances_: FloatArray

    def __init__(
        self,
        *,
        n_support: int | float | str = "auto",
        kernel: str = "auto",
        gamma: float | str = "median",
        locality: float | str = "auto",
        support_dropout: float | str = "auto",
        learn_targets: bool = True,
        alpha: float | str = "auto",
        refit_alpha: float | str | None = "auto",
        growth: str | None = "random",
        n_warmup: int = 300,
        n_growth_stages: int = 5,
        growth_iter: int = 100,
        max_iter: int | str = "auto",
        batch_size: int | str = "auto",
        learning_rate: float = 1e-2,
        target_learning_rate: float = 1e-3,
        beta_2: float = 0.98,
        standardize: bool = True,
        validation_fraction: float = 0.2,
        engine: str = "auto",
        device: "str | torch.device | None" = None,
        n_jobs: int | None = None,
        random_state: RandomState = None,
        warm_start: bool = False,
        verbose: int = 0,
    ) -> None:
        self.n_support = n_support
        self.kernel = kernel
        self.gamma = gamma
        self.locality = locality
        self.support_dropout = support_dropout
        self.learn_targets = learn_targets
        self.alpha = alpha
        self.refit_alpha = refit_alpha
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
        self.validation_fraction = validation_fraction
        self.engine = engine
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose

    @classmethod
    def from_paper(cls, **params: Any) -> Self:
        """Return an estimator with the settings of the published experiments [1]_.

        All bandwidths are free from the start, support points keep their observed targets and are
        added where the error is largest, and the ridge is 1e-3. Adam uses its usual moments on
        batches of 128 samples. Features and targets should be scaled to [-1, 1] beforehand, as in
        the paper.

        Parameters
        ----------
        **params
            Parameters of the constructor, which take precedence.

        Returns
        -------
        estimator
            An unfitted estimator.

        References
        ----------
        .. [1] F. He, M. He, L. Shi, X. Huang, J. Suykens, "Enhancing Kernel Flexibility via
           Learning Asymmetric Locally-Adaptive Kernels", arXiv:2310.05236, 2023.

        Examples
        --------
        >>> from sklearn_ext import LABRidgelessRegressor
        >>> LABRidgelessRegressor.from_paper(kernel="exponential").learn_targets
        False
        """
        published = {
            "n_support": 350,
            "kernel": "rbf",
            "locality": 1.0,
            "support_dropout": 0.0,
            "learn_targets": False,
            "alpha": 1e-3,
            "refit_alpha": None,
            "growth": "error",
            "n_warmup": 0,
            "n_growth_stages": 13,
            "growth_iter": 500,
            "max_iter": 5500,
            "batch_size": 128,
            "beta_2": 0.999,
            "standardize": False,
        }
        return cls(**{**published, **params})

    def transform(self, X: ArrayLike) -> FloatArray:
        """Return the kernels between samples and support points as learned features.

        A linear model on these features has the form of the fitted model, whose values are
        ``transform(X) @ dual_coef_ + intercept_``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        ndarray of shape (n_samples, n_support_)
            Values between 0 and 1, in float32 if X is float32, and in float64 otherwise.
        """
        check_is_fitted(self, "dual_coef_")
        points = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return kernel_features(
            make_engine(self.engine, self.device),
            self.kernel_,
            points,
            self.support_vectors_,
            self.bandwidths_,
        )

    @property
    def _n_features_out(self) -> int:
        return self.n_support_

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _config(self, *, scale_targets: bool, continues: bool) -> LABConfig:
        names = (field.name for field in fields(LABConfig) if hasattr(self, field.name))
        config = LABConfig(
            **{name: getattr(self, name) for name in names}, scale_targets=scale_targets
        )
        if needs_selection(config) and not continues:
            return config
        if continues:
            chosen = ("kernel", "alpha", "refit_alpha")
            left = [name for name in chosen if getattr(config, name) == "auto"]
            config = replace(config, **{name: getattr(self, f"{name}_") for name in left})
            if config.n_support == "auto":
                config = replace(config, **self._chosen_support)
        return without_selection(config)

    def _model_to_continue(self) -> LABExpansion | None:
        """Return the fitted model if `fit` should continue from it."""
        if not (self.warm_start and hasattr(self, "support_vectors_")):
            return None
        return LABExpansion(
            support=self.support_,
            support_vectors=self.support_vectors_,
            support_targets=self.support_targets_.reshape(self.n_support_, -1),
            bandwidths=self.bandwidths_,
            dual_coef=self.dual_coef_.reshape(self.n_support_, -1),
            intercept=np.atleast_1d(self.intercept_),
            alpha=self.alpha_,
            feature_importances=self.feature_importances_,
            loss_curve=np.empty(0),
        )

    def _select(
        self,
        X: FloatArray,
        Y: FloatArray,
        config: LABConfig,
        rng: np.random.RandomState,
        *,
        samples: IntArray,
        weights: FloatArray,
        loss: HeldOutLoss,
        strata: IntArray | None = None,
        refit_alphas: tuple[float, ...] = (),
        min_gain_of_all: float = 0.03,
    ) -> LABSelection | None:
        """Choose the settings that are left to "auto"; return None if there are none."""
        if not needs_selection(config):
            return None
        return select_lab(
            X,
            Y,
            config,
            rng,
            samples=samples,
            weights=weights,
            loss=loss,
            make_engine=lambda: make_engine(self.engine, self.device),
            strata=strata,
            refit_alphas=refit_alphas,
            min_gain_of_all=min_gain_of_all,
            validation_fraction=self.validation_fraction,
            n_jobs=self.n_jobs,
        )

    def _evaluate(
        self, X: FloatArray, model: LABExpansion | None = None, kernel: str | None = None
    ) -> FloatArray:
        """Return the values of a model (n_samples, n_outputs), by default of the fitted one."""
        if model is None:
            centers, bandwidths, coef = self.support_vectors_, self.bandwidths_, self.dual_coef_
            coef, intercept = coef.reshape(len(centers), -1), np.atleast_1d(self.intercept_)
        else:
            centers, bandwidths = model.support_vectors, model.bandwidths
            coef, intercept = model.dual_coef, model.intercept
        engine = make_engine(self.engine, self.device)
        kernel = self.kernel_ if kernel is None else kernel
        return evaluate_expansion(engine, kernel, X, centers, bandwidths, coef, intercept)


def fitted_attributes(
    model: LABExpansion, config: LABConfig, selection: LABSelection | None
) -> dict[str, Any]:
    """Return the fitted attributes of a model, with two-dimensional targets and coefficients."""
    return {
        "_chosen_support": {
            "n_support": config.n_support,
            "equal_bandwidths": config.equal_bandwidths,
        },
        "kernel_": config.kernel,
        "refit_alpha_": config.refit_alpha,
        "max_iter_": config.max_iter,
        "selection_": (selection.table or None) if selection is not None else None,
        "support_": model.support,
        "support_vectors_": model.support_vectors,
        "support_targets_": model.support_targets,
        "bandwidths_": model.bandwidths,
        "dual_coef_": model.dual_coef,
        "intercept_": model.intercept,
        "alpha_": model.alpha if isinstance(config.alpha, str) else float(config.alpha),
        "n_support_": len(model.support),
        "feature_importances_": model.feature_importances,
        "loss_curve_": model.loss_curve,
        "n_iter_": len(model.loss_curve),
    }


class FitProgress:
    """Reports the steps of a fit to scikit-learn's callbacks, and prints them if `verbose` is set.

    Parameters
    ----------
    estimator : BaseLAB
    n_iter : int
        Number of steps to come.
    attributes : callable
        Returns the fitted attributes of a model.
    X, y, sample_weight : array-like
        Training data as `fit` received them.
    """

    def __init__(
        self,
        estimator: BaseLAB,
        n_iter: int,
        attributes: Callable[[LABExpansion], dict[str, Any]],
        X: Any,
        y: Any,
        sample_weight: Any,
    ) -> None:
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self._data = {"X": X, "y": y, "metadata": metadata}
        self._estimator = estimator
        self._n_iter = n_iter
        self._attributes = attributes
        self._context = estimator._init_callback_context(max_subtasks=n_iter)
        self._context.call_on_fit_task_begin(estimator=estimator, **self._data)

    def step(self, trainer: LABTrainer, losses: list[float]) -> bool:
        """Report a step, and return whether a callback asks to stop."""
        if self._estimator.verbose and (
            len(losses) % _VERBOSE_EVERY == 0 or len(losses) == self._n_iter
        ):
            recent = np.mean(losses[-_VERBOSE_EVERY:])
            print(
                f"[{type(self._estimator).__name__}] iteration {len(losses)}/{self._n_iter}, "
                f"{len(trainer.support)} support points, loss {recent:.3e}"
            )
        step = self._context.subcontext("iteration")
        step.call_on_fit_task_begin(estimator=self._estimator)
        return step.call_on_fit_task_end(
            estimator=self._estimator,
            reconstruction_attributes=lambda: self._attributes(trainer.expansion(losses)),
            **self._data,
        )

    def end(self, fitted: dict[str, Any]) -> None:
        """Report the end of the fit."""
        self._context.call_on_fit_task_end(
            estimator=self._estimator, reconstruction_attributes=lambda: fitted, **self._data
        )
