"""Threads that predict at once, and memory that comes back after many fits."""

import gc
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from joblib import Parallel, delayed
from sklearn.base import clone

from tests.instances import instances, responses, sample

STATM = Path("/proc/self/statm")
every_estimator = pytest.mark.parametrize(
    "estimator", [pytest.param(est, id=type(est).__name__) for est in instances()]
)


@every_estimator
def test_threads_that_predict_at_once_get_what_one_gets(estimator):
    X, y = sample(estimator)
    estimator = clone(estimator).fit(X, y)
    expected = responses(estimator, X)
    answers = Parallel(n_jobs=4, backend="threading")(
        delayed(responses)(estimator, X) for _ in range(8)
    )
    for answer in answers:
        for name in expected:
            np.testing.assert_array_equal(answer[name], expected[name], err_msg=name)


def resident_mib():
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


@pytest.mark.slow
@pytest.mark.skipif(not STATM.exists(), reason="needs the proc file system")
@every_estimator
def test_a_hundred_fits_keep_no_memory(estimator):
    X, y = sample(estimator, n_samples=30)

    def fit_and_answer(times):
        for _ in range(times):
            responses(clone(estimator).fit(X, y), X)
        gc.collect()
        return resident_mib()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        fit_and_answer(5)  # what is compiled and cached once
        before = fit_and_answer(5)
        after = fit_and_answer(100)
    # An array of one fit kept each time would be 100 of them; the allocator's slack is a few MiB.
    assert after - before < 10
