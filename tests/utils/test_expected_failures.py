import torch
from sklearn.linear_model import Ridge
from sklearn.utils.estimator_checks import estimator_checks_generator

from sklearn_ext.generative import DiffusionModel, linear_levels
from sklearn_ext.utils import expected_failed_checks
from sklearn_ext.utils._estimators import EXPECTED_FAILED_CHECKS
from tests.instances import instances


def test_an_estimator_without_entry_must_pass_everything():
    assert expected_failed_checks(Ridge()) == {}


def test_the_table_names_estimators_checks_and_reasons():
    wrapped = DiffusionModel(
        torch.nn.Identity(), schedule=linear_levels(10), sample_range=None, null_label=1000
    )
    checks = {
        type(estimator).__name__: {
            check.func.__name__ for _, check in estimator_checks_generator(estimator)
        }
        for estimator in [*instances(), wrapped]
    }
    for name, expected in EXPECTED_FAILED_CHECKS.items():
        assert set(expected) <= checks[name]
        assert all(len(reason.split()) >= 4 for reason in expected.values())
