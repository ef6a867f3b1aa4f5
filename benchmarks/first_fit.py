"""CPU seconds of the first import and fit in a new process, with an empty cache of numba.

Each line is a process of its own. It shows the CPU seconds of all threads until the end of the
import and until the end of the first fit, and those of a second fit. The last two lines are lower
bounds: importing the libraries, and one optimizer step of torch, which loads torch's compiler.
"""

import os
import subprocess
import sys
import tempfile

from ._report import ROOT

ESTIMATORS = (
    *("LABRidgelessRegressor", "LABRidgelessClassifier", "DecentralizedRFKRR"),
    *("DecentralizedRFClassifier", "SupervisedKernelImputer", "SupervisedKernelClassifier"),
    *("RandomFeatureRegressor", "RandomFeatureClassifier", "NetClassifier", "MUSOUnlearner"),
    *("SFRonUnlearner", "KNNOODDetector", "OrthLossOODDetector", "DiffusionOODDetector"),
    *("GreedySoup", "MEHLSoup"),
)
FIT = """
import time, warnings
from sklearn.datasets import load_diabetes, load_iris
import sklearn_ext
warnings.simplefilter("ignore")
Estimator = sklearn_ext.{name}
imported = time.process_time()
X, y = {data}(return_X_y=True)
Estimator().fit(X, y)
first = time.process_time()
Estimator().fit(X, y)
print(imported, first, time.process_time() - first)
"""
LIBRARIES = """
import time
import sklearn.linear_model, sklearn.neural_network
scikit_learn = time.process_time()
{rest}
print(scikit_learn, time.process_time(), 0.0)
"""
STEP = """
import torch, skorch
weight = torch.nn.Parameter(torch.ones(3))
optimizer = torch.optim.AdamW([weight])
weight.sum().backward()
optimizer.step()
"""


def seconds(program: str) -> tuple[float, float, float]:
    """Run a program with one thread and no compiled functions; return the numbers it prints."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {"NUMBA_CACHE_DIR": folder, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=os.environ | settings,
                             check=True, stdout=subprocess.PIPE, text=True)  # fmt: skip
    imported, first, second = map(float, run.stdout.split())
    return imported, first, second


def main() -> int:
    print(f"{'CPU seconds':34} {'import':>7} {'and first fit':>14} {'second fit':>11}")
    for name in ESTIMATORS:
        is_regressor = name.endswith(("Regressor", "KRR"))
        data = "load_diabetes" if is_regressor else "load_iris"
        imported, first, second = seconds(FIT.format(name=name, data=data))
        print(f"{name:34} {imported:7.2f} {first:14.2f} {second:11.2f}", flush=True)
    for name, rest in (("scikit-learn alone", ""), ("with torch, skorch and a step", STEP)):
        imported, first, _ = seconds(LIBRARIES.format(rest=rest))
        print(f"{name:34} {imported:7.2f} {first:14.2f} {'-':>11}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
