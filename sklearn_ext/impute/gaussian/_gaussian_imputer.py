"""Imputation by a joint Gaussian of features and labels, with smoothed residuals."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ...utils._random import hide_entries
from ...utils._typing import FloatArray, IntArray
from ...utils.compat import never_stop
from ._em import choose_shrinkage, fit_gaussian, observed_moments
from ._engine import GaussianEngine, make_engine
from ._factor_model import (
    FactorCovariance,
    choose_factors,
    factor_leave_one_out,
    factor_posterior,
    fit_factors,
)
from ._missing_patterns import work_per_iteration
from ._residual_smoothing import Anchors, Smoothing, choose_smoothing, make_anchors, smooth

_HIDDEN_FRACTION = 0.2
_FIT_SAMPLES = 20_000  # more samples do not improve the covariances noticeably
_CHOICE_SAMPLES = 2_000
_PRIOR_ERRORS = 10.0  # number of average errors that stabilize the error ratio of a column
_MOST_COLUMNS = 100  # with more columns, the covariance has few factors if it pays
_MOST_WORK = 2e8  # multiplications in an iteration with a full covariance


@dataclass(frozen=True, kw_only=True)
class GaussianImputerConfig:
    """Settings of :func:`fit_gaussian_imputer`.

    Parameters
    ----------
    shrinkage : float in [0, 1) or "auto", default="auto"
        Fraction by which covariances are shrunk. "auto" chooses it by predicting hidden entries.
    residual_smoothing : bool, default=True
        Whether smoothed residuals may be added. They are added if this lowers the error on hidden
        entries by two percent.
    max_landmarks : int, default=1000
        Number of samples used by kernels and residual smoothing.
    max_iter : int, default=30
        Maximum number of iterations of a fit.
    tol : float, default=1e-3
        Iterations stop when the covariance changes by less than this fraction of the largest
        variance.

    Examples
    --------
    >>> from sklearn_ext.impute import GaussianImputerConfig
    >>> GaussianImputerConfig(shrinkage=0.2).max_iter
    30
    """

    shrinkage: float | str = "auto"
    residual_smoothing: bool = True
    max_landmarks: int = 1000
    max_iter: int = 30
    tol: float = 1e-3


class Completion(NamedTuple):
    """Samples completed by a Gaussian model.

    Attributes
    ----------
    columns : ndarray of shape (n, d) or (n, d + q)
        Conditional means or draws of the features, and of the label columns if they were used or
        requested. Observed entries are unchanged.
    variances : ndarray of shape (n, d)
        Conditional variances of missing features, 0 at observed entries.
    shift : ndarray of shape (n, d) or float
        Smoothed residuals to add to the features.
    """

    columns: FloatArray
    variances: FloatArray
    shift: FloatArray | float


@dataclass(frozen=True, kw_only=True, eq=False)
class GaussianImputation:
    """A fitted Gaussian model, in the columns of the samples that it was fitted to.

    Parameters
    ----------
    mean : ndarray of shape (d + q,)
        Mean of features and standardized label columns.
    cov : ndarray of shape (d + q, d + q), or FactorCovariance
        Covariance of features and standardized label columns.
    shrinkage : float
        Fraction by which covariances are shrunk.
    changes : list of float
        Relative change of the covariance by iteration.
    label_mean, label_scale : ndarray of shape (q,)
        Mean and standard deviation of the label columns.
    units : ndarray of shape (d,)
        Range of each feature column.
    landmarks : ndarray of shape (m, d + q)
        Samples that kernels are computed on, with their missing values.
    landmark_indices : ndarray of shape (m,)
        Indices of the landmarks among the training samples.
    smoothing : Smoothing or None
        Residual smoothing; None if it does not help.
    anchors, labeled_anchors : Anchors or None
        Landmarks used by the smoothing, without and with their labels.
    spread : ndarray of shape (d,)
        Factor of the conditional standard deviations of each feature.
    """

    mean: FloatArray
    cov: FloatArray | FactorCovariance
    shrinkage: float
    changes: list[float]
    label_mean: FloatArray
    label_scale: FloatArray
    units: FloatArray
    landmarks: FloatArray
    landmark_indices: IntArray
    smoothing: Smoothing | None
    anchors: Anchors | None
    labeled_anchors: Anchors | None
    spread: FloatArray

    @property
    def n_noise(self) -> int:
        """Number of random numbers for drawing a sample."""
        if isinstance(self.cov, FactorCovariance):
            return len(self.mean) + self.cov.loadings.shape[1]
        return len(self.mean)

    def dense_covariance(self) -> FloatArray:
        """Return the covariance as a matrix of shape (d + q, d + q)."""
        return self.cov.dense() if isinstance(self.cov, FactorCovariance) else self.cov

    def transform(
        self,
        X: FloatArray,
        labels: FloatArray | None = None,
        *,
        noise: FloatArray | None = None,
        engine: GaussianEngine | None = None,
    ) -> tuple[FloatArray, FloatArray]:
        """Complete samples from their observed entries, and from their labels if given.

        Parameters
        ----------
        X : ndarray of shape (n, d)
            Missing values are NaN.
        labels : ndarray of shape (n, q), default=None
            Label columns. None conditions on features only.
        noise : ndarray of shape (n, n_noise), default=None
            Standard normal numbers. If given, missing values are drawn instead of set to means.
        engine : GaussianEngine, default=None
            None means the numba engine.

        Returns
        -------
        Z : ndarray of shape (n, d)
            Completed samples.
        V : ndarray of shape (n, d)
            Conditional variances of missing values, 0 at observed entries.
        """
        done = self.complete(X, labels, noise=noise, engine=engine)
        return done.columns[:, : X.shape[1]] + done.shift, done.variances

    def complete(
        self,
        X: FloatArray,
        labels: FloatArray | None = None,
        *,
        predict_labels: bool = False,
        noise: FloatArray | None = None,
        engine: GaussianEngine | None = None,
    ) -> Completion:
        """Complete samples, and keep label columns and smoothed residuals apart.

        Parameters
        ----------
        X, labels, noise, engine
            As for :meth:`transform`.
        predict_labels : bool, default=False
            Whether to complete label columns even if no labels are given.

        Returns
        -------
        Completion
        """
        engine = make_engine() if engine is None else engine
        n, d = X.shape
        columns, size, anchors = X, d, self.anchors
        if labels is not None:
            columns = np.hstack((X, (labels - self.label_mean) / self.label_scale))
            size, anchors = len(self.mean), self.labeled_anchors
        elif predict_labels:
            columns = np.hstack((X, np.full((n, len(self.label_mean)), np.nan)))
            size = len(self.mean)
        mean = self.mean[:size]
        if isinstance(self.cov, FactorCovariance):
            cov = self.cov.leading(size)
            Z, V = factor_posterior(columns, mean, cov)
            drawn = Z if noise is None else factor_posterior(columns, mean, cov, noise)[0]
            return Completion(self._scaled(drawn, Z), V[:, :d] * self.spread**2, 0.0)
        block = self.cov[:size, :size]
        table = engine.table(columns)
        Z, V = engine.posterior(table, mean, block)
        shift: float | FloatArray = 0.0
        if self.smoothing is not None and anchors is not None:
            missing = np.isnan(X)
            shift = smooth(engine, Z[:, :d], V[:, :d], missing, anchors, self.smoothing, self.units)
        drawn = Z if noise is None else engine.draw(table, mean, block, noise)
        return Completion(self._scaled(drawn, Z), V[:, :d] * self.spread**2, shift)

    def _scaled(self, drawn: FloatArray, mean: FloatArray) -> FloatArray:
        """Scale the deviations of draws of features from their means."""
        if drawn is mean:
            return mean
        d = len(self.spread)
        deviations = (drawn - mean)[:, :d] * self.spread
        return np.hstack((mean[:, :d] + deviations, drawn[:, d:]))

    def leave_one_out(
        self, X: FloatArray, *, engine: GaussianEngine | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """Predict each observed entry from the other features of its sample.

        Parameters
        ----------
        X : ndarray of shape (n, d)
            Missing values are NaN.
        engine : GaussianEngine, default=None
            None means the numba engine.

        Returns
        -------
        mean, variance : ndarray of shape (n, d)
            Predictions and their variances, NaN at missing values.
        """
        engine = make_engine() if engine is None else engine
        d = X.shape[1]
        if isinstance(self.cov, FactorCovariance):
            return factor_leave_one_out(X, self.mean[:d], self.cov.leading(d))
        return engine.leave_one_out(engine.table(X), self.mean[:d], self.cov[:d, :d])


def fit_gaussian_imputer(
    X: FloatArray,
    labels: FloatArray | None,
    config: GaussianImputerConfig,
    rng: np.random.RandomState,
    *,
    strata: IntArray | None = None,
    units: FloatArray | None = None,
    reliability: FloatArray | None = None,
    engine: GaussianEngine | None = None,
    after_task: Callable[[str], bool] = never_stop,
) -> GaussianImputation:
    r"""Fit a joint Gaussian of features and labels to samples with missing values.

    Expectation maximization alternates between the conditional distribution of the missing values,
    computed by :func:`conditional_gaussian`, and the moments of the completed samples, whose
    covariances are divided by :math:`1 + \nu`. The shrinkage :math:`\nu` and the smoothing of
    residuals are chosen by predicting entries that are hidden from the fit. This is the algorithm
    of :class:`~sklearn_ext.SupervisedKernelImputer` and of
    :class:`~sklearn_ext.SupervisedKernelClassifier`.

    With more than 100 columns, and fewer samples than columns or much work, the covariance is that
    of a factor model, :math:`W W^T + \mathrm{diag}(\psi)`, with at most 32 factors, and residuals
    are not smoothed. Its cost is linear in the number of columns instead of cubic.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Columns of mean 0 and variance 1. Missing values are NaN.
    labels : ndarray of shape (n, q) or None
        Label columns: indicators of all classes but one, or targets. Missing labels are NaN.
    config : GaussianImputerConfig
        Settings of the fit.
    rng : RandomState
        Random state for the hidden entries and random subsets of samples.
    strata : int ndarray of shape (n,), default=None
        Classes by which landmarks are stratified. None draws them uniformly.
    units : ndarray of shape (d,), default=None
        Range of each feature, the unit of distances between samples. None uses the observed range.
    reliability : ndarray of shape (d,), default=None
        Factor in [0, 1] by which the covariances of each column are multiplied before they are
        shrunk, for columns that few samples determine. None means 1. A factor model ignores it.
    engine : GaussianEngine, default=None
        Engine that does the computations. None means the numba engine.
    after_task : callable, default=never_stop
        Called with "candidate" after each shrinkage or number of factors that is compared, with
        "iteration" after each iteration of the final fit, and with "smoothing" after the choice of
        the smoothing. If it returns True, no further candidates or iterations follow.

    Returns
    -------
    GaussianImputation
        The fitted model. Its method ``transform(X, labels=None)`` returns completed samples and
        conditional variances; ``mean``, ``cov`` and ``shrinkage`` are its parameters.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext.impute import GaussianImputerConfig, fit_gaussian_imputer
    >>> rng = np.random.RandomState(0)
    >>> x = rng.standard_normal(200)
    >>> X = np.column_stack((x, -x))
    >>> X[::2, 1] = np.nan
    >>> imputation = fit_gaussian_imputer(X, None, GaussianImputerConfig(), rng)
    >>> Z, V = imputation.transform(np.array([[0.5, np.nan]]))
    >>> Z.round(2)
    array([[ 0.5, -0.5]])
    """
    engine = make_engine() if engine is None else engine
    d = X.shape[1]
    labels = np.empty((len(X), 0)) if labels is None else labels
    strata = np.zeros(len(X), dtype=int) if strata is None else strata
    units = np.nanmax(X, axis=0) - np.nanmin(X, axis=0) if units is None else units
    label_mean, label_variance = observed_moments(labels)
    label_scale = np.sqrt(label_variance)
    samples = np.hstack((X, (labels - label_mean) / label_scale))

    indices = _stratified_sample(strata, config.max_landmarks, rng)
    landmarks = samples[indices]
    fit_samples = samples[_uniform_sample(len(samples), _FIT_SAMPLES, rng)]
    first = hide_entries(landmarks[:, :d], _HIDDEN_FRACTION, rng)
    second = hide_entries(landmarks[:, :d], _HIDDEN_FRACTION, rng)

    shared: dict[str, Any] = {
        "label_mean": label_mean,
        "label_scale": label_scale,
        "units": units,
        "landmarks": landmarks,
        "landmark_indices": indices,
    }
    after_candidate = partial(after_task, "candidate")
    after_iteration = partial(after_task, "iteration")
    stopping: dict[str, Any] = {"max_iter": config.max_iter, "tol": config.tol}
    given = None
    if not isinstance(config.shrinkage, str):
        given = config.shrinkage / (1.0 - config.shrinkage)
    if _is_wide(fit_samples):
        rank, nu = choose_factors(
            landmarks, first, given, tol=config.tol, after_candidate=after_candidate
        )
        factors = fit_factors(fit_samples, rank, **stopping, after_iteration=after_iteration)
        return GaussianImputation(
            mean=factors.mean,
            cov=factors.cov.shrunk(nu),
            shrinkage=nu / (1.0 + nu),
            changes=factors.changes,
            smoothing=None,
            anchors=None,
            labeled_anchors=None,
            spread=np.ones(d),
            **shared,
        )

    if reliability is not None:
        reliability = np.append(reliability, np.ones(labels.shape[1]))
    options = stopping | {"reliability": reliability}
    of_hidden = None
    if given is None:
        choice, hidden = landmarks, first
        if len(samples) > len(landmarks):
            choice = samples[_uniform_sample(len(samples), _CHOICE_SAMPLES, rng)]
            hidden = hide_entries(choice[:, :d], _HIDDEN_FRACTION, rng)
        nu, of_hidden = choose_shrinkage(
            engine, choice, hidden, **options, after_candidate=after_candidate
        )
    else:
        nu = given
    fit = fit_gaussian(engine, fit_samples, nu, **options, after_iteration=after_iteration)

    smoothing = anchors = labeled_anchors = None
    if config.residual_smoothing and first.any() and second.any():
        smoothing = choose_smoothing(engine, landmarks, nu, (first, second), units, **options)
        after_task("smoothing")
    if smoothing is not None:
        anchors = labeled_anchors = make_anchors(
            engine, landmarks[:, :d], fit.mean[:d], fit.cov[:d, :d], units
        )
        if labels.shape[1] > 0:
            labeled_anchors = make_anchors(engine, landmarks, fit.mean, fit.cov, units)
    table = engine.table(landmarks[:, :d])
    left_out = engine.leave_one_out(table, fit.mean[:d], fit.cov[:d, :d])
    spread = _error_ratios(landmarks[:, :d], left_out, of_hidden)
    if smoothing is not None:
        spread = spread * smoothing.error_ratio
    return GaussianImputation(
        mean=fit.mean,
        cov=fit.cov,
        shrinkage=nu / (1.0 + nu),
        changes=fit.changes,
        smoothing=smoothing,
        anchors=anchors,
        labeled_anchors=labeled_anchors,
        spread=spread,
        **shared,
    )


def _error_ratios(
    X: FloatArray, left_out: tuple[FloatArray, FloatArray], of_hidden: float | None = None
) -> FloatArray:
    """Return the ratio of errors to standard deviations of each column.

    The errors of entries that are left out one by one give the ratios of the columns relative to
    each other. These errors are a little too small, because the entries were part of the fit. The
    errors of hidden entries are a little too large, because their fit lacked a fifth of the
    entries. The ratio over all columns is the geometric mean of the two.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    left_out : tuple of two ndarrays of shape (n, d)
        Means and variances of entries given the others of their sample.
    of_hidden : float or None
        Root mean square over all columns of errors of hidden entries in standard deviations.
    """
    mean, variance = left_out
    observed = ~np.isnan(X)
    squares = np.where(observed, (X - mean) ** 2 / np.where(observed, variance, 1.0), 0.0)
    n = observed.sum(axis=0)
    total = np.sqrt(squares.sum() / max(n.sum(), 1))
    prior = _PRIOR_ERRORS * total**2
    ratio: FloatArray = np.sqrt((squares.sum(axis=0) + prior) / (n + _PRIOR_ERRORS))
    if total == 0.0:
        return np.ones(len(n))
    return ratio if of_hidden is None else ratio * np.sqrt(of_hidden / total)


def _is_wide(samples: FloatArray) -> bool:
    """Return whether a factor model replaces the full covariance."""
    n, n_columns = samples.shape
    if n_columns <= _MOST_COLUMNS:
        return False
    return n < n_columns or work_per_iteration(samples) > _MOST_WORK


def _uniform_sample(n: int, size: int, rng: np.random.RandomState) -> IntArray:
    """Draw sorted indices of at most `size` of n samples."""
    return np.arange(n) if n <= size else np.sort(rng.choice(n, size, replace=False))


def _stratified_sample(strata: IntArray, size: int, rng: np.random.RandomState) -> IntArray:
    """Draw sorted indices of at most `size` samples, in proportion to the strata."""
    n = len(strata)
    if n <= size:
        return np.arange(n)
    # Samples are in random order within contiguous strata, so every k-th sample is drawn.
    shuffled = rng.permutation(n)
    by_stratum = shuffled[np.argsort(strata[shuffled], kind="stable")]
    return np.sort(by_stratum[(np.arange(size) * n) // size])
