"""Error of an imputer on entries that were hidden from it."""

from numbers import Real

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, clone
from sklearn.utils import check_array
from sklearn.utils._param_validation import HasMethods, Interval, validate_params

from ..utils._held_out import hide_entries
from ..utils._random import local_random_state


@validate_params(
    {
        "imputer": [HasMethods(["fit_transform"])],
        "X": ["array-like"],
        "y": ["array-like", None],
        "missing_fraction": [Interval(Real, 0, 1, closed="neither")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def imputation_score(
    imputer: BaseEstimator,
    X: ArrayLike,
    y: ArrayLike | None = None,
    *,
    missing_fraction: float = 0.2,
    random_state: int | np.random.RandomState | None = None,
) -> np.ndarray:
    """Hide observed entries, impute them, and compare.

    The error of a feature is the root mean squared error on its hidden entries over the standard
    deviation of its observed values: 0 is perfect, and the column mean has about 1. Lower is
    better.

    Parameters
    ----------
    imputer : estimator
        An imputer that takes NaN for holes; a clone of it is fitted, the imputer itself is not.
    X : array-like of shape (n_samples, n_features)
        Rows, complete or with holes (NaN).
    y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
        Labels, handed to ``fit_transform``.
    missing_fraction : float in (0, 1), default=0.2
        Share of the observed entries to hide. Two entries a feature stay.
    random_state : int, RandomState instance or None, default=None
        Seed of the hidden entries.

    Returns
    -------
    ndarray of shape (n_features,)
        Normalised error of each feature; NaN for one that does not vary or of which nothing is
        hidden.

    Raises
    ------
    ValueError
        If the imputer changes the number of features.

    See Also
    --------
    ImputationDisplay : Plot of the same entries.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.impute import SimpleImputer
    >>> from sklearn_ext import SupervisedKernelImputer
    >>> from sklearn_ext.metrics import imputation_score
    >>> X, y = load_iris(return_X_y=True)
    >>> imputation_score(SimpleImputer(), X, random_state=0).round(1)
    array([1.1, 1.1, 1. , 0.9])
    >>> imputer = SupervisedKernelImputer(random_state=0)
    >>> bool(imputation_score(imputer, X, y, random_state=0).mean() < 0.5)
    True
    """
    X = check_array(X, dtype=np.float64, ensure_all_finite="allow-nan")
    hidden = hide_entries(X, missing_fraction, local_random_state(random_state))
    with_holes = np.where(hidden, np.nan, X)
    filled = np.asarray(clone(imputer).fit_transform(with_holes, y), dtype=np.float64)
    if filled.shape != X.shape:
        raise ValueError(
            f"imputer must return the features of X, of shape {X.shape}, got {filled.shape}."
        )
    squares = np.where(hidden, (filled - X) ** 2, 0.0).sum(axis=0)
    observed = ~np.isnan(X)
    counts = observed.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(observed, X, 0.0).sum(axis=0) / counts
        variance = np.where(observed, (X - mean) ** 2, 0.0).sum(axis=0) / counts
        score = np.sqrt(squares / hidden.sum(axis=0) / variance)
    varies = np.fmax.reduce(X) > np.fmin.reduce(X)  # rounding alone gives a variance above zero
    return np.where(varies & np.isfinite(score), score, np.nan)
