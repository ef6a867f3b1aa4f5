"""Concurrent threads, killed workers, and memory after many fits."""

import gc
import os
import signal
import warnings
from multiprocessing import parent_process
from pathlib import Path

import numpy as np
import pytest
from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError

from sklearn_ext import NetClassifier, UniformSoup
from sklearn_ext.neural import MLP
from tests.instances import fitted, instances, responses, sample

STATM = Path("/proc/self/statm")
every_estimator = pytest.mark.parametrize(
    "estimator", [pytest.param(est, id=type(est).__name__) for est in instances()]
)


@every_estimator
def test_concurrent_threads_predict_what_one_thread_predicts(estimator):
    shared, expected = fitted(type(estimator))
    X, _ = sample(estimator)
    answers = Parallel(n_jobs=4, backend="threading")(
        delayed(responses)(shared, X) for _ in range(8)
    )
    for answer in answers:
        for name in expected:
            np.testing.assert_array_equal(answer[name], expected[name], err_msg=name)


@every_estimator
def test_concurrent_threads_fit_what_one_thread_fits(estimator):
    X, y = sample(estimator)
    expected = fitted(type(estimator))[1]
    fits = Parallel(n_jobs=3, backend="threading")(
        delayed(clone(estimator).fit)(X, y) for _ in range(3)
    )
    for each in fits:
        answer = responses(each, X)
        for name in expected:
            np.testing.assert_array_equal(answer[name], expected[name], err_msg=name)


class DeadlyMLP(MLP):
    """A network that kills the worker process in which it is trained."""

    def forward(self, X):
        if self.training and parent_process() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(X)


def test_a_killed_worker_raises_an_error():
    X, y = load_digits(return_X_y=True)
    net = NetClassifier(DeadlyMLP(64, 10, (8,)), max_epochs=1, random_state=0)
    soup = UniformSoup(net, n_ingredients=2, n_jobs=2, random_state=0)
    with pytest.raises(TerminatedWorkerError):
        soup.fit(X[:100], y[:100])
    with pytest.raises(NotFittedError):
        soup.predict(X[:3])


def resident_mib():
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


@pytest.mark.slow
@pytest.mark.skipif(not STATM.exists(), reason="needs the proc file system")
@every_estimator
def test_a_hundred_fits_leak_no_memory(estimator):
    X, y = sample(estimator, n_samples=30)

    def fit_and_predict(times):
        for _ in range(times):
            responses(clone(estimator).fit(X, y), X)
        gc.collect()
        return resident_mib()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        fit_and_predict(30)  # compilation and caches
        sizes = [fit_and_predict(35) for _ in range(5)]
    # A leak grows in every round, the arenas of the allocator only now and then.
    assert np.diff(sizes).min() < 3.5
