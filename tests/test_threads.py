"""Results on one and on two threads: equal bit for bit, or up to rounding in a few estimators."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import is_regressor
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits

from sklearn_ext.neural import MLP, seeded
from sklearn_ext.utils import all_estimators
from tests.instances import instance, responses

QUICK = ("KNNOODDetector", "NetClassifier", "RandomFeatureRegressor", "ViMOODDetector")
# BLAS and LAPACK divide the work of these among their threads: they factorize matrices in double
# precision, or train coefficients through products of single precision.
ROUNDED = {
    "ForgettingPipeline",
    "FusedOODDetector",
    "LearnedSoup",
    "MEHLSoup",
    "MahalanobisOODDetector",
    "OrthLossOODDetector",
    "RandomFeatureClassifier",
    "RandomFeatureRegressor",
    "RegMean",
    "SupervisedKernelClassifier",
    "SupervisedKernelImputer",
    "ViMOODDetector",
}
ESTIMATORS = dict(all_estimators())


def test_the_guide_names_the_estimators_that_round():
    page = (Path(__file__).parents[1] / "docs" / "scale.rst").read_text()
    section = page.partition("- **Threads**")[2].partition("What does not scale")[0]
    assert set(re.findall(r":class:`(\w+)`", section)) == ROUNDED


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:500] / 16, y[:500] % 3


def answers(name, n_threads, X, y):
    estimator = instance(ESTIMATORS[name])
    params = estimator.get_params(deep=False)
    if "pretrained" in params:
        with seeded(0):
            module = MLP(64, 3, hidden_sizes=(16, 16))
        estimator.set_params(pretrained=module.state_dict())
    with warnings.catch_warnings(), threadpool_limits(n_threads):
        warnings.simplefilter("ignore")
        before = torch.get_num_threads()
        torch.set_num_threads(n_threads)
        try:
            estimator.fit(X, y + X[:, 20] if is_regressor(estimator) else y)
            return responses(estimator, X)
        finally:
            torch.set_num_threads(before)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name in sorted(ESTIMATORS)
    ],
)
def test_two_threads_give_the_result_of_one(name, digits):
    one, two = answers(name, 1, *digits), answers(name, 2, *digits)
    assert one.keys() == two.keys()
    for response, expected in one.items():
        if name in ROUNDED and expected.dtype.kind == "f":
            rounding = 1e-9 if expected.dtype == np.float64 else 1e-6
            atol = rounding * np.abs(expected).max()
            np.testing.assert_allclose(two[response], expected, rtol=0, atol=atol)
        else:
            np.testing.assert_array_equal(two[response], expected, err_msg=response)
