r"""
=================================
The same search on a Dask cluster
=================================

All parallel work goes through joblib, so you can use another backend without changing an estimator.
In this example, the folds of a search run on the workers of a Dask cluster. The workers here are
two threads of this machine; ``Client("tcp://scheduler:8786")`` would use a cluster of any size.
"""

# %%
# Run the search twice
# --------------------

import numpy as np
from distributed import Client
from joblib import parallel_config
from sklearn.datasets import load_diabetes
from sklearn.model_selection import GridSearchCV

from sklearn_ext import DecentralizedRFKRR

X, y = load_diabetes(return_X_y=True)
search = GridSearchCV(
    DecentralizedRFKRR(n_components=30, n_nodes=4, random_state=0),
    {"consensus_weight": [0.1, 0.5, 2.0], "alpha": [1e-3, 1e-2]},
    cv=3,
)
here = search.fit(X, y).cv_results_["mean_test_score"]

with Client(processes=False, n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
    print(len(client.scheduler_info()["workers"]), "workers")
    with parallel_config(backend="dask"):
        there = search.set_params(n_jobs=-1).fit(X, y).cv_results_["mean_test_score"]

# %%
# Both runs give the same scores.

print(search.best_params_)
print("largest difference:", np.abs(here - there).max())
assert np.allclose(here, there, rtol=1e-9, atol=0)
