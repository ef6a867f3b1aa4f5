"""Parallel work on a Dask cluster of processes gives the results of this process."""

import os

import numpy as np
import pytest
from joblib import Parallel, delayed, parallel_config
from sklearn.datasets import load_iris, make_friedman1
from sklearn.model_selection import GridSearchCV

from sklearn_ext import DecentralizedRFKRR, MEHLSoup, NetClassifier

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def cluster():
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
        parallel_config(backend="dask"),
    ):
        yield cluster


def test_work_runs_in_other_processes():
    pids = set(Parallel(n_jobs=-1)(delayed(os.getpid)() for _ in range(8)))
    assert os.getpid() not in pids


def test_a_search_runs_in_other_processes():
    X, y = make_friedman1(200, random_state=0)
    node = np.arange(200) % 4
    krr = DecentralizedRFKRR(n_components=20, random_state=0)
    grid = {"consensus_weight": [0.1, 0.5], "alpha": [1e-3, 1e-2]}
    here, there = (
        GridSearchCV(krr, grid, cv=3, n_jobs=n_jobs).fit(X, y, node=node) for n_jobs in (1, -1)
    )
    name = "mean_test_score"
    np.testing.assert_allclose(there.cv_results_[name], here.cv_results_[name], rtol=1e-12)


def test_work_on_shared_memory_stays_in_this_process():
    X, y = make_friedman1(200, random_state=0)
    here, there = (
        DecentralizedRFKRR(n_components=20, n_jobs=n_jobs, random_state=0)
        .fit(X, y, node=np.arange(200) % 4)
        .predict(X)
        for n_jobs in (1, 2)
    )
    np.testing.assert_allclose(there, here, rtol=1e-12)


def test_ingredients_are_trained_in_other_processes():
    X, y = load_iris(return_X_y=True)
    net = NetClassifier(max_epochs=2, random_state=0)
    here, there = (
        MEHLSoup(net, n_ingredients=3, random_state=0, n_jobs=n_jobs).fit(X, y).coef_
        for n_jobs in (1, -1)
    )
    np.testing.assert_allclose(there, here, rtol=1e-6)
