"""Rubin's rules: estimates and predictions pooled over several draws of the missing values."""

from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t as student
from sklearn.base import clone, is_classifier
from sklearn.utils import _safe_indexing
from sklearn.utils._param_validation import HasMethods, Interval, validate_params
from sklearn.utils.validation import _num_samples

from ..utils._random import local_random_state
from ..utils._typing import Array, FloatArray, RandomState


@dataclass(frozen=True, kw_only=True, eq=False)
class PooledEstimates:
    """Estimates pooled over completed tables: the result of :func:`pool_estimates`.

    Parameters
    ----------
    names : list of str
        Names of the estimates: features of coefficients, and "intercept".
    estimate : ndarray of shape (n_estimates,)
        Means of the estimates over the draws.
    within : ndarray of shape (n_estimates,)
        Mean over the draws of the sampling variance of each estimate.
    between : ndarray of shape (n_estimates,)
        Variance of the estimates over the draws.
    n_draws : int
        Number of draws m.
    models : list of estimator
        The fitted model of each draw.
    imputers : list of estimator
        The fitted imputer of each draw.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext.impute import PooledEstimates
    >>> pooled = PooledEstimates(
    ...     names=["age"], estimate=np.array([2.0]), within=np.array([0.25]),
    ...     between=np.array([0.5]), n_draws=4, models=[], imputers=[],
    ... )
    >>> pooled.std_error.round(3)
    array([0.935])
    """

    names: list[str]
    estimate: FloatArray
    within: FloatArray
    between: FloatArray
    n_draws: int
    models: list[Any]
    imputers: list[Any]

    @property
    def std_error(self) -> FloatArray:
        """Standard errors: the root of within + (1 + 1 / m) between."""
        total: FloatArray = np.sqrt(self.within + (1.0 + 1.0 / self.n_draws) * self.between)
        return total

    @property
    def degrees_of_freedom(self) -> FloatArray:
        """Degrees of freedom of the t distribution of an estimate."""
        spread = (1.0 + 1.0 / self.n_draws) * self.between
        with np.errstate(divide="ignore"):
            ratio = self.within / spread
        return (self.n_draws - 1.0) * (1.0 + ratio) ** 2

    @property
    def fraction_missing(self) -> FloatArray:
        """Fraction of the variance of an estimate that is due to missing values."""
        spread = (1.0 + 1.0 / self.n_draws) * self.between
        return spread / np.maximum(self.within + spread, np.finfo(float).tiny)

    def interval(self, level: float = 0.95) -> FloatArray:
        """Return confidence intervals.

        Parameters
        ----------
        level : float, default=0.95
            Confidence level.

        Returns
        -------
        ndarray of shape (n_estimates, 2)
            Lower and upper limits.
        """
        width = student.ppf((1.0 + level) / 2.0, self.degrees_of_freedom) * self.std_error
        return np.column_stack((self.estimate - width, self.estimate + width))

    def predict(self, X: ArrayLike, *, return_std: bool = False) -> Any:
        """Predict new samples by the mean over the models of all draws.

        Each model predicts the samples with missing values drawn by its own imputer.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Samples, possibly with missing values.
        return_std : bool, default=False
            Whether to also return the standard deviation of the predictions over the draws, which
            is due to missing values.

        Returns
        -------
        mean : ndarray of shape (n_samples,) or (n_samples, n_classes)
            Predicted targets, or class probabilities.
        std : ndarray of the same shape
            Standard deviation over the draws. Only if `return_std` is True.
        """
        draws = []
        for model, imputer in zip(self.models, self.imputers, strict=True):
            completed = imputer.transform(X)
            respond = model.predict_proba if is_classifier(model) else model.predict
            draws.append(respond(completed))
        mean = np.mean(draws, axis=0)
        return (mean, np.std(draws, axis=0, ddof=1)) if return_std else mean

    def to_frame(self) -> Any:
        """Return a pandas data frame with one row per estimate."""
        import pandas as pd

        low, high = self.interval().T
        return pd.DataFrame(
            {
                "estimate": self.estimate,
                "std_error": self.std_error,
                "low": low,
                "high": high,
                "fraction_missing": self.fraction_missing,
            },
            index=self.names,
        )

    def __repr__(self) -> str:
        low, high = self.interval().T
        width = max(map(len, [*self.names, "estimate"]))
        heads = ("estimate", "std_error", "low", "high", "fraction_missing")
        lines = [" " * width + "".join(f"{head:>18}" for head in heads)]
        columns = (self.estimate, self.std_error, low, high, self.fraction_missing)
        for name, *values in zip(self.names, *columns, strict=True):
            lines.append(name.ljust(width) + "".join(f"{value:>18.4g}" for value in values))
        return "\n".join(lines)


@validate_params(
    {
        "estimator": [HasMethods(["fit", "predict"])],
        "imputer": [HasMethods(["fit_transform", "set_params"])],
        "X": "no_validation",
        "y": ["array-like"],
        "n_draws": [Interval(Integral, 2, None, closed="left")],
        "n_resamples": [Interval(Integral, 2, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def pool_estimates(
    estimator: Any,
    imputer: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    n_draws: int = 20,
    n_resamples: int = 25,
    random_state: RandomState = None,
) -> PooledEstimates:
    r"""Fit a linear model to several draws of the missing values, and pool by Rubin's rules.

    A single imputation treats imputed values as observed and understates standard errors. With
    draws :math:`k = 1, \dots, m`, estimates :math:`q_k` and their sampling variances :math:`u_k`,
    the pooled estimate and its variance are

    .. math::
        \bar q = \tfrac1m \sum_k q_k, \qquad
        \tfrac1m \sum_k u_k + \Bigl(1 + \tfrac1m\Bigr) \tfrac{1}{m - 1} \sum_k (q_k - \bar q)^2 .

    For each draw, an imputer is fitted to a bootstrap sample of the rows, so that the draws reflect
    the uncertainty of its parameters. It then draws the missing values of all samples given their
    labels. Sampling variances come from bootstrap samples of the completed table.

    Parameters
    ----------
    estimator : estimator
        A linear regressor or classifier with ``coef_`` and ``intercept_``. It is cloned. Its
        coefficients refer to the columns of the completed table; scale these yourself if needed.
    imputer : estimator
        An imputer with the parameters ``sample_posterior`` and ``random_state``, such as
        :class:`~sklearn_ext.SupervisedKernelImputer`. Its clones draw missing values.
    X : array-like or data frame of shape (n_samples, n_features)
        Samples with missing values.
    y : array-like of shape (n_samples,)
        Targets or class labels.
    n_draws : int, default=20
        Number of draws m.
    n_resamples : int, default=25
        Number of bootstrap samples of each completed table that estimate the sampling variance.
    random_state : int, RandomState instance or None, default=None
        Seed of bootstrap samples and draws.

    Returns
    -------
    PooledEstimates
        Estimates with standard errors, intervals, and pooled predictions.

    Raises
    ------
    ValueError
        If the imputer cannot draw, if the estimator has no ``coef_``, or if X and y differ in
        length.

    References
    ----------
    .. [1] D. B. Rubin, "Multiple Imputation for Nonresponse in Surveys", Wiley, 1987.
    .. [2] J. Honaker, G. King, "What to Do about Missing Values in Time-Series Cross-Section Data",
       American Journal of Political Science 54, 2010.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LinearRegression
    >>> from sklearn_ext import SupervisedKernelImputer
    >>> from sklearn_ext.impute import pool_estimates
    >>> rng = np.random.RandomState(0)
    >>> X = rng.standard_normal((200, 2))
    >>> y = X @ [1.0, -2.0] + rng.standard_normal(200)
    >>> X[rng.rand(200, 2) < 0.3] = np.nan
    >>> pooled = pool_estimates(
    ...     LinearRegression(), SupervisedKernelImputer(), X, y, n_draws=5, random_state=0
    ... )
    >>> pooled.estimate.round(1)
    array([ 1.1, -1.9, -0.2])
    """
    parameters = imputer.get_params()
    if not {"sample_posterior", "random_state"} <= parameters.keys():
        raise ValueError(
            "imputer must have the parameters sample_posterior and random_state, got "
            f"{type(imputer).__name__}."
        )
    rng = local_random_state(random_state)
    labels = np.asarray(y)
    n = _num_samples(X)
    if len(labels) != n:
        raise ValueError(f"y must have one label per sample, got {len(labels)} for {n} samples.")
    estimates, variances, models, imputers = [], [], [], []
    for _ in range(n_draws):
        drawing = clone(imputer).set_params(
            sample_posterior=True, random_state=int(rng.randint(2**31 - 1))
        )
        rows = rng.randint(n, size=n)
        completed = _draw(drawing, X, labels, rows)
        model = clone(estimator).fit(completed, labels)
        estimates.append(_coefficients(model))
        variances.append(_bootstrap_variance(estimator, completed, labels, n_resamples, rng))
        models.append(model)
        imputers.append(drawing)
    return PooledEstimates(
        names=_names(models[0], imputers[0], len(estimates[0])),
        estimate=np.mean(estimates, axis=0),
        within=np.mean(variances, axis=0),
        between=np.var(estimates, axis=0, ddof=1),
        n_draws=n_draws,
        models=models,
        imputers=imputers,
    )


def _draw(imputer: Any, X: ArrayLike, y: Array, rows: Array) -> Any:
    """Fit to a bootstrap sample, and draw the missing values of all samples given their labels."""
    if hasattr(imputer, "impute_labeled"):
        imputer.fit(_safe_indexing(X, rows), y[rows])
        return imputer.impute_labeled(X, y)
    return imputer.fit_transform(X, y)


def _last_step(model: Any) -> Any:
    return model[-1] if hasattr(model, "steps") else model


def _coefficients(model: Any) -> FloatArray:
    """Return coefficients, one output after the other, and then intercepts."""
    linear = _last_step(model)
    if not hasattr(linear, "coef_"):
        raise ValueError(
            f"estimator must be a linear model with coef_, got {type(linear).__name__}."
        )
    parts = [np.ravel(linear.coef_)]
    if getattr(linear, "fit_intercept", True):
        parts.append(np.ravel(linear.intercept_))
    return np.concatenate(parts)


def _names(model: Any, imputer: Any, n_estimates: int) -> list[str]:
    linear = _last_step(model)
    coef = np.atleast_2d(linear.coef_)
    numbered = [f"x{k}" for k in range(coef.shape[1])]
    if linear is model:  # its features are those of the imputer
        numbered = list(imputer.get_feature_names_out())
    features = getattr(linear, "feature_names_in_", numbered)
    classes = getattr(linear, "classes_", range(len(coef)))
    outputs = [""] if len(coef) == 1 else [f"{c}: " for c in classes]
    names = [f"{output}{feature}" for output in outputs for feature in features]
    return [*names, *(f"{output}intercept" for output in outputs)][:n_estimates]


def _bootstrap_variance(
    estimator: Any, X: Any, y: Array, n_resamples: int, rng: np.random.RandomState
) -> FloatArray:
    n = len(y)
    found: list[FloatArray] = []
    while len(found) < n_resamples:
        rows = rng.randint(n, size=n)
        # A bootstrap sample that lacks a class would give other coefficients.
        if is_classifier(estimator) and len(np.unique(y[rows])) < len(np.unique(y)):
            continue
        model = clone(estimator).fit(_safe_indexing(X, rows), y[rows])
        found.append(_coefficients(model))
    variance: FloatArray = np.var(found, axis=0, ddof=1)
    return variance
