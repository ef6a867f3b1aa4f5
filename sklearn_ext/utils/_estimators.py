"""The estimators of the package: their list, their expected failures, and their short reprs."""

import inspect
from collections.abc import Mapping
from typing import Any

from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClusterMixin,
    OutlierMixin,
    RegressorMixin,
    TransformerMixin,
)
from sklearn.frozen import FrozenEstimator

_TYPES = {
    "classifier": ClassifierMixin,
    "cluster": ClusterMixin,
    "outlier_detector": OutlierMixin,
    "regressor": RegressorMixin,
    "transformer": TransformerMixin,
}

_MOST_SHOWN = 3  # items of a list in a repr
_LONGEST_VALUE = 60  # characters of a parameter in a repr


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
        If `type_filter` is not one of the allowed values.

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


# The documentation shows this table, whose form is {estimator name: {check name: reason}}.
_SKORCH_NET = {
    "check_no_attributes_set_in_init": "skorch sets attributes of its own in the constructor",
}
_SKORCH_REGRESSOR = {
    **_SKORCH_NET,
    "check_regressors_no_decision_function": "every skorch net has a predict_proba method",
}
_FIT_WITHOUT_LABELS = dict.fromkeys(
    ("check_outliers_fit_predict", "check_outliers_train"),
    "the check fits without y, but the detector needs class labels",
)
EXPECTED_FAILED_CHECKS: dict[str, dict[str, str]] = {
    "ASHOODDetector": _FIT_WITHOUT_LABELS,
    "DiffusionModel": {
        "check_estimators_overwrite_params": "joblib hashes equal copies of a module differently",
    },
    "EnergyOODDetector": _FIT_WITHOUT_LABELS,
    "FDBDOODDetector": _FIT_WITHOUT_LABELS,
    "FlatLoRAClassifier": _SKORCH_NET,
    "FlatLoRARegressor": _SKORCH_REGRESSOR,
    "FusedOODDetector": _FIT_WITHOUT_LABELS,
    "GENOODDetector": _FIT_WITHOUT_LABELS,
    "KNNOODDetector": _FIT_WITHOUT_LABELS,
    "MahalanobisOODDetector": _FIT_WITHOUT_LABELS,
    "MaxLogitOODDetector": _FIT_WITHOUT_LABELS,
    "MSPOODDetector": _FIT_WITHOUT_LABELS,
    "NNGuideOODDetector": _FIT_WITHOUT_LABELS,
    "NetClassifier": _SKORCH_NET,
    "NetRegressor": _SKORCH_REGRESSOR,
    "OrthLossOODDetector": _FIT_WITHOUT_LABELS,
    "ReActOODDetector": _FIT_WITHOUT_LABELS,
    "SCALEOODDetector": _FIT_WITHOUT_LABELS,
    "SFRonUnlearner": {
        "check_non_transformer_estimators_n_iter": "``n_iter_`` is 0 if nothing is forgotten",
    },
    "SeparationNet": {
        **_SKORCH_NET,
        "check_classifiers_classes": "the check uses the labels -1 and 1, but -1 marks outliers",
    },
    "ViMOODDetector": _FIT_WITHOUT_LABELS,
}


def expected_failed_checks(estimator: Any) -> dict[str, str]:
    """Return the common checks that an estimator is expected to fail.

    Parameters
    ----------
    estimator : estimator instance
        An estimator of this package.

    Returns
    -------
    dict of str to str
        Names of the checks and reasons, for the parameter of the same name of
        :func:`sklearn.utils.estimator_checks.check_estimator`.

    Examples
    --------
    >>> from sklearn_ext import LABRidgelessRegressor
    >>> from sklearn_ext.utils import expected_failed_checks
    >>> expected_failed_checks(LABRidgelessRegressor())
    {}
    """
    return EXPECTED_FAILED_CHECKS.get(type(estimator).__name__, {})


def one_line(estimator: Any, longest: int) -> str:
    """Return the class of an estimator and the parameters that differ from their defaults.

    Networks are shown as the names of their classes, because their own reprs take many lines.
    """
    defaults = inspect.signature(type(estimator)).parameters
    shown = [
        f"{name}={_brief(getattr(estimator, name))}"
        for name, parameter in defaults.items()
        if getattr(estimator, name) is not parameter.default
    ]
    line = f"{type(estimator).__name__}({', '.join(shown)})"
    return line if len(line) <= longest else f"{line[: longest - 3]}..."


def _brief(value: Any) -> str:
    """Return a parameter as a few words on one line."""
    if _is_a(value, "skorch.NeuralNet", "torch.Module"):
        return type(value).__name__
    if isinstance(value, FrozenEstimator):
        return f"FrozenEstimator({_brief(value.estimator)})"
    if isinstance(value, (list, tuple)) and len(value) > _MOST_SHOWN:
        return f"<{len(value)} of {_brief(value[0])}>"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_brief, value))}]"
    if isinstance(value, Mapping) and any(_is_a(v, "torch.Tensor") for v in value.values()):
        return f"<{len(value)} tensors>"
    text = " ".join(repr(value).split())
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def _is_a(value: Any, *names: str) -> bool:
    # This module must not import torch.
    classes = type(value).__mro__
    return any(f"{cls.__module__.partition('.')[0]}.{cls.__name__}" in names for cls in classes)
