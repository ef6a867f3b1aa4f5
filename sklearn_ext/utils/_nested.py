"""Estimators inside other estimators."""

from sklearn.frozen import FrozenEstimator


def unfrozen(estimator):
    """Return the estimator inside a FrozenEstimator, or the estimator itself."""
    return estimator.estimator if isinstance(estimator, FrozenEstimator) else estimator


def named_as_in_fit(estimator, X):
    """Return rows as a table with the names of columns that an estimator was fitted with.

    A pipeline may choose its columns by name. An array comes back where there were no names, or
    where there is no pandas; then scikit-learn warns, or says what it misses.
    """
    names = getattr(estimator, "feature_names_in_", None)
    if names is None:
        return X
    try:
        import pandas as pd
    except ImportError:
        return X
    return pd.DataFrame(X, columns=names)
