import pytest
from sklearn.base import BaseEstimator, is_classifier, is_regressor

import sklearn_ext
from sklearn_ext.utils import all_estimators
from tests.instances import instance


def test_finds_each_public_estimator_once_in_order():
    names = [name for name, _ in all_estimators()]
    assert names == sorted(set(names))
    public = {
        name
        for name in sklearn_ext.__all__
        if isinstance(obj := getattr(sklearn_ext, name), type) and issubclass(obj, BaseEstimator)
    }
    assert set(names) == public


def test_names_are_those_of_the_classes():
    assert all(name == cls.__name__ for name, cls in all_estimators())


def test_types_filter():
    classifiers, regressors = all_estimators("classifier"), all_estimators("regressor")
    assert all(is_classifier(instance(cls)) for _, cls in classifiers)
    assert all(is_regressor(instance(cls)) for _, cls in regressors)
    assert not set(classifiers) & set(regressors)
    assert set(classifiers) | set(regressors) <= set(all_estimators())


def test_an_unknown_type_error_lists_the_allowed_types():
    with pytest.raises(ValueError, match=r"type_filter.*'regressor'.*got 'regression'"):
        all_estimators("regression")
