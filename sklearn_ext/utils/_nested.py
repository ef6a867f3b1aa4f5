"""Estimators inside other estimators."""

from typing import Any

from sklearn.frozen import FrozenEstimator


def unfrozen(estimator: Any) -> Any:
    """Return the estimator inside a FrozenEstimator, or the estimator itself."""
    return estimator.estimator if isinstance(estimator, FrozenEstimator) else estimator


def named_as_in_fit(estimator: Any, X: Any) -> Any:
    """Return samples as a data frame with the feature names that an estimator was fitted with.

    A pipeline may select its columns by name. Without feature names, or without pandas, X is
    returned as it is; scikit-learn then warns or raises an error.
    """
    names = getattr(estimator, "feature_names_in_", None)
    if names is None:
        return X
    try:
        import pandas as pd
    except ImportError:
        return X
    return pd.DataFrame(X, columns=names)
