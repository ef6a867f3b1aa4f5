from sklearn.frozen import FrozenEstimator


def unfrozen(estimator):
    """Return the estimator inside a FrozenEstimator, or the estimator itself."""
    return estimator.estimator if isinstance(estimator, FrozenEstimator) else estimator
