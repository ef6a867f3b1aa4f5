"""Errors of imputers on entries that were hidden from them."""

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, clone
from sklearn.utils._param_validation import HasMethods, Interval, validate_params

from ..utils._random import draw_seed, hide_entries, local_random_state
from ..utils._typing import FloatArray, RandomState
from ._report import BaseReport
from ._tables import hide, read_table


class ImputationReport(BaseReport):
    """Errors of imputers on hidden entries: the result of :func:`imputation_report`.

    Parameters
    ----------
    scores : dict of str to dict of str to float
        Normalized error by the name of the imputer and of the feature, as
        :func:`imputation_score` computes it, and their mean under "mean".

    Examples
    --------
    >>> from sklearn_ext.metrics import ImputationReport
    >>> ImputationReport({"mean": {"age": 1.0, "mean": 1.0}, "ours": {"age": 0.5, "mean": 0.5}})
            age   mean
    mean  1.000  1.000
    ours  0.500  0.500
    """


@validate_params(
    {
        "imputers": [HasMethods(["fit_transform"]), dict],
        "X": ["array-like"],
        "y": ["array-like", None],
        "missing_fraction": [Interval(Real, 0, 1, closed="neither")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def imputation_report(
    imputers: Any,
    X: ArrayLike,
    y: ArrayLike | None = None,
    *,
    missing_fraction: float = 0.2,
    random_state: RandomState = None,
) -> ImputationReport:
    """Compare imputers on the same hidden entries.

    Parameters
    ----------
    imputers : estimator or dict of str to estimator
        One imputer that fills NaN, or several by name. They are cloned before they are fitted.
    X : array-like or data frame of shape (n_samples, n_features)
        Samples, complete or with missing values. A data frame is passed on as one, with its names
        and types.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
        Labels that are passed to ``fit_transform``.
    missing_fraction : float in (0, 1), default=0.2
        Fraction of the observed entries to hide. Two entries per feature are kept.
    random_state : int, RandomState instance or None, default=None
        Seed for the hidden entries, which are the same for every imputer.

    Returns
    -------
    ImputationReport
        Errors of each imputer, by the name of the feature, and their mean.

    Raises
    ------
    ValueError
        If an imputer changes the number of features.

    See Also
    --------
    imputation_score : The errors of one imputer as an array.
    sklearn_ext.ImputationDisplay : True against imputed values.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.impute import KNNImputer, SimpleImputer
    >>> from sklearn_ext.metrics import imputation_report
    >>> X, _ = load_iris(return_X_y=True)
    >>> imputers = {"column means": SimpleImputer(), "neighbors": KNNImputer()}
    >>> imputation_report(imputers, X, random_state=0)
                     x0     x1     x2     x3   mean
    column means  1.110  0.854  0.950  1.016  0.982
    neighbors     0.756  0.840  0.407  0.617  0.655
    """
    seed = draw_seed(random_state)
    given = imputers if isinstance(imputers, Mapping) else {type(imputers).__name__: imputers}
    if len(given) == 0:
        raise ValueError("imputers must contain at least one imputer, got an empty dict.")
    scores = {}
    for label, imputer in given.items():
        errors = imputation_score(
            imputer, X, y, missing_fraction=missing_fraction, random_state=seed
        )
        names = getattr(X, "columns", [f"x{k}" for k in range(len(errors))])
        row = dict(zip(map(str, names), errors.tolist(), strict=True))
        scores[label] = row | {"mean": float(np.nanmean(errors))}
    return ImputationReport(scores)


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
    random_state: RandomState = None,
) -> FloatArray:
    """Hide observed entries, impute them, and return the error of each feature.

    The error of a numeric feature is the root mean squared error on its hidden entries divided by
    the standard deviation of its observed values: 0 is perfect, and column means score about 1. The
    error of a feature of strings, categories or booleans is the fraction of wrong values divided by
    that of its most frequent value, which scores about 1.

    Parameters
    ----------
    imputer : estimator
        An imputer that fills NaN. It is cloned before it is fitted.
    X : array-like or data frame of shape (n_samples, n_features)
        Samples, complete or with missing values. A data frame is passed on as one, with its names
        and types.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
        Labels that are passed to ``fit_transform``.
    missing_fraction : float in (0, 1), default=0.2
        Fraction of the observed entries to hide. Two entries per feature are kept.
    random_state : int, RandomState instance or None, default=None
        Seed for the hidden entries.

    Returns
    -------
    ndarray of shape (n_features,)
        Normalized error of each feature; NaN for a feature that is constant or has no hidden
        entries.

    Raises
    ------
    ValueError
        If the imputer changes the number of features.

    See Also
    --------
    imputation_report : Several imputers in one table.
    sklearn_ext.ImputationDisplay : True against imputed values.

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
    >>> imputation_score(imputer, X, y, random_state=0).round(1)
    array([0.4, 0.7, 0.1, 0.2])
    """
    table, types = read_table(X)
    hidden = hide_entries(table, missing_fraction, local_random_state(random_state))
    filled = clone(imputer).fit_transform(hide(X, hidden), y)
    if np.shape(filled) != table.shape:
        raise ValueError(
            f"imputer must return the features of X, of shape {table.shape}, got "
            f"{np.shape(filled)}."
        )
    imputed, _ = read_table(filled, types)
    observed = ~np.isnan(table)
    score = np.full(len(types), np.nan)
    for p, kind in enumerate(types):
        known, at = table[observed[:, p], p], hidden[:, p]
        if not at.any() or known.max() == known.min():
            continue
        if kind.kind == "category":
            _, counts = np.unique(known, return_counts=True)
            wrong = np.mean(imputed[at, p] != table[at, p])
            score[p] = wrong / (1.0 - counts.max() / len(known))
        else:
            score[p] = np.sqrt(np.mean((imputed[at, p] - table[at, p]) ** 2)) / known.std()
    return score
