"""Which of scikit-learn's checks are slow tests."""

import re

import pytest

# Each of these runs again on read-only memory, which asks for more.
REPEATED = re.compile(
    r"check_(classifiers_train|estimators_pickle|outliers_train|regressors_train"
    r"|transformer_general)\]$"
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if item.name.startswith("test_scikit_learn_conventions") and REPEATED.search(item.name):
            item.add_marker(pytest.mark.slow)
