import inspect

from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClusterMixin,
    OutlierMixin,
    RegressorMixin,
    TransformerMixin,
)

_TYPES = {
    "classifier": ClassifierMixin,
    "cluster": ClusterMixin,
    "outlier_detector": OutlierMixin,
    "regressor": RegressorMixin,
    "transformer": TransformerMixin,
}


def all_estimators(type_filter: str | None = None) -> list[tuple[str, type]]:
    """List the estimators of the package.

    Parameters
    ----------
    type_filter : {"classifier", "cluster", "outlier_detector", "regressor", "transformer"} or \
            None, default=None
        Keep only estimators of this type; None keeps all.

    Returns
    -------
    list of (str, type)
        Name and class of every public estimator, sorted by name.

    Raises
    ------
    ValueError
        If `type_filter` is none of the allowed values.

    Examples
    --------
    >>> from sklearn_ext.utils import all_estimators
    >>> [name for name, _ in all_estimators("regressor") if name.startswith("LAB")]
    ['LABRidgelessRegressor']
    """
    import sklearn_ext

    if type_filter is not None and type_filter not in _TYPES:
        raise ValueError(
            f"type_filter must be None or one of {sorted(_TYPES)}, got {type_filter!r}."
        )
    base = BaseEstimator if type_filter is None else _TYPES[type_filter]
    public = ((name, getattr(sklearn_ext, name)) for name in sklearn_ext.__all__)
    return sorted(
        (name, obj)
        for name, obj in public
        if inspect.isclass(obj) and issubclass(obj, BaseEstimator) and issubclass(obj, base)
    )
