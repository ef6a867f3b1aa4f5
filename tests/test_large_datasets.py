"""Ten gigabytes of samples in a Dataset never lie in memory as a whole."""

import subprocess
import sys

import pytest

from sklearn_ext.ood._detector import BaseOODDetector
from sklearn_ext.unlearning.networks._base import BaseUnlearner
from sklearn_ext.utils import all_estimators

PROGRAM = """
import resource, sys, warnings
import numpy as np, torch
from sklearn.frozen import FrozenEstimator
from torch import nn
from torch.utils.data import Dataset, Subset
import sklearn_ext
from sklearn_ext.metrics import unlearning_report

warnings.simplefilter("ignore")
torch.set_num_threads(1)

class Large(Dataset):  # images of 1 MiB
    def __len__(self):
        return 10_240
    def __getitem__(self, k):
        image = torch.full((4, 256, 256), float(k % 2))
        image[:, ::64] += k / len(self) / 10
        return image, k % 2

class Thin(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(4, 8, 3), nn.Linear(8, 8), nn.Linear(8, 2)
    def forward(self, X):
        features = self.first(X[:, :, ::32, ::32]).mean((2, 3)).relu()
        return self.head(self.second(features).relu())

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10

def fit(name, net, X):
    few = {"max_epochs": 1, "max_iter": 5, "n_repair": 1, "batch_size": 16, "random_state": 0}
    Estimator = getattr(sklearn_ext, name)
    if name == "FlatLoRAClassifier":
        return Estimator(Thin, target_modules=["second"], max_epochs=1, random_state=0).fit(X)
    accepted = Estimator().get_params()
    model = Estimator(FrozenEstimator(net), **{k: v for k, v in few.items() if k in accepted})
    if "Unlearner" in name:
        forget = np.arange(0, len(X), 20)
        model.fit(X, forget=forget)
        return unlearning_report(model, X, None, forget, X_test=X, y_test=None)
    if name == "OrthLossOODDetector":
        return model.fit(X, outliers=Subset(Large(), range(len(X) // 2)))
    return model.fit(X)

net = sklearn_ext.NetClassifier(Thin, batch_size=16, max_epochs=1, lr=0.01, random_state=0)
name, small = sys.argv[1], Subset(Large(), range(40))
net.fit(small)
fit(name, net, small)
before = peak()
fit(name, net, Large())
print(peak() - before)
"""
NAMES = [
    name
    for name, Estimator in all_estimators()
    if issubclass(Estimator, (BaseUnlearner, BaseOODDetector)) and name != "DiffusionOODDetector"
]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NAMES, "FlatLoRAClassifier"])
def test_ten_gigabytes_never_lie_in_memory_as_a_whole(name):
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, name], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) < 200  # MiB
