"""The settings of a LAB model, the stages of its training, and the result."""

import math
from dataclasses import dataclass

from ..utils._schedules import cosine_decay
from ..utils._typing import FloatArray, IntArray

_FINAL_RATE = 0.01  # fraction of the learning rate that is left at the end


@dataclass(frozen=True)
class LABConfig:
    """How a LAB model is built and trained.

    Parameters
    ----------
    n_support, kernel, gamma, locality, support_dropout, learn_targets, alpha, refit_alpha, \
            growth, n_warmup, n_growth_stages, growth_iter, max_iter, batch_size, learning_rate, \
            target_learning_rate, beta_2, standardize
        As in :class:`sklearn_ext.LABRidgelessRegressor`. :func:`select_lab` replaces "auto" in
        `kernel`, `alpha`, `refit_alpha` and `max_iter`. :func:`train_lab` understands "auto" in
        `alpha` too: the ridge with the smallest leave-one-out error of kernel ridge regression with
        the initial bandwidth on at most 500 samples, multiplied by the fraction of samples used,
        and at least 1e-3.
    scale_targets : bool, default=True
        Whether the columns of Y are scaled to variance 1. They are always centered.
    equal_bandwidths : bool, default=False
        If `n_support` is "all", whether all features have the same bandwidth instead of learned
        ones.

    Examples
    --------
    >>> from sklearn_ext.kernel_regression import LABConfig
    >>> LABConfig(n_warmup=10, growth=None, max_iter=50).n_iterations()
    60
    """

    n_support: int | float | str = "auto"
    kernel: str = "laplacian"
    gamma: float | str = "median"
    locality: float | str = "auto"
    support_dropout: float | str = "auto"
    learn_targets: bool = True
    alpha: float | str = "auto"
    refit_alpha: float | str | None = None
    growth: str | None = "random"
    n_warmup: int = 300
    n_growth_stages: int = 5
    growth_iter: int = 100
    max_iter: int | str = 2000
    batch_size: int | str = "auto"
    learning_rate: float = 1e-2
    target_learning_rate: float = 1e-3
    beta_2: float = 0.98
    standardize: bool = True
    scale_targets: bool = True
    equal_bandwidths: bool = False

    def n_iterations(self, *, warm_start: bool = False) -> int:
        """Return the number of training steps.

        Parameters
        ----------
        warm_start : bool, default=False
            Whether training continues from a model.

        Returns
        -------
        int
        """
        return sum(stage.n_iter for stage in plan_stages(self, 1, warm_start=warm_start))


@dataclass(frozen=True)
class LABExpansion:
    """A trained LAB model, in the units of the data.

    Parameters
    ----------
    support : ndarray of int, shape (n_support,)
        Indices of the support points in X; -1 for points that are not in X.
    support_vectors : ndarray of shape (n_support, n_features)
        The support points.
    support_targets : ndarray of shape (n_support, n_outputs)
        The targets that they interpolate, up to alpha times their coefficients.
    bandwidths : ndarray of shape (n_support, n_features)
        Bandwidths, which are the squares of theta.
    dual_coef : ndarray of shape (n_support, n_outputs)
        Coefficients of the kernel expansion.
    intercept : ndarray of shape (n_outputs,)
        Mean of the targets.
    alpha : float
        Ridge of the interpolation.
    feature_importances : ndarray of shape (n_features,)
        As in :class:`sklearn_ext.LABRidgelessRegressor`.
    loss_curve : ndarray of shape (n_iter,)
        Outer loss of the batch of each step.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext.kernel_regression import LABConfig, train_lab
    >>> X = np.linspace(0, 3, 50)[:, None]
    >>> config = LABConfig(n_support=6, n_warmup=5, growth=None, max_iter=5)
    >>> train_lab(X, np.sin(X), config, np.random.RandomState(0)).loss_curve.shape
    (10,)
    """

    support: IntArray
    support_vectors: FloatArray
    support_targets: FloatArray
    bandwidths: FloatArray
    dual_coef: FloatArray
    intercept: FloatArray
    alpha: float
    feature_importances: FloatArray
    loss_curve: FloatArray


@dataclass(frozen=True)
class Stage:
    """A number of training steps with a fixed set of centers.

    Attributes
    ----------
    n_iter : int
        Number of steps.
    n_support : int
        Number of centers; missing ones are added before the first step.
    shared : bool
        Whether only the shared row of the bandwidths is trained.
    decay : bool
        Whether the learning rate decays.
    """

    n_iter: int
    n_support: int
    shared: bool = False
    decay: bool = False

    def rate(self, t: int) -> float:
        """Return the factor that multiplies the learning rate at step t."""
        if not self.decay:
            return 1.0
        return cosine_decay(t, self.n_iter, floor=_FINAL_RATE)


def plan_stages(config: LABConfig, n_support: int, *, warm_start: bool = False) -> list[Stage]:
    """Plan the warm-up, growth and last stages that end with `n_support` centers."""
    last = Stage(int(config.max_iter), n_support, decay=True)
    if warm_start:
        return [last]
    n_grown = config.n_growth_stages if config.growth is not None else 0
    first = math.ceil(n_support / 3) if n_grown else n_support
    sizes = [first + (n_support - first) * k // max(n_grown, 1) for k in range(n_grown)]
    return [
        Stage(config.n_warmup, first, shared=True),
        *(Stage(config.growth_iter, size) for size in sizes),
        last,
    ]
