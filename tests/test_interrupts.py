"""Ctrl-C in the middle of a fit: every estimator that trains networks raises and stays unfitted."""

import inspect

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted
from torch import nn

from sklearn_ext.utils import all_estimators
from tests.instances import instance, sample

QUICK = ("NetClassifier", "FineTuneUnlearner", "UniformSoup", "MSPOODDetector")
TORCH_FOLDERS = ("generative", "lora", "neural", "ood", "soup", "unlearning")
ESTIMATORS = {
    name: Estimator
    for name, Estimator in all_estimators()
    if Estimator.__module__.split(".")[1] in TORCH_FOLDERS
}


class Calls:
    """Counts the passes through linear layers, and presses Ctrl-C in one of them."""

    def __init__(self, monkeypatch):
        self.n, self.last = 0, None
        forward = nn.Linear.forward

        def counted(layer, *args):
            self.n += 1
            if self.n == self.last:
                raise KeyboardInterrupt
            return forward(layer, *args)

        monkeypatch.setattr(nn.Linear, "forward", counted)

    def interrupt_after(self, n):
        self.n, self.last = 0, n


def fit(estimator, X, y):
    requests = {"forget": np.arange(5), "forget_class": 0}
    names = inspect.signature(estimator.fit).parameters
    return estimator.fit(X, y, **{name: v for name, v in requests.items() if name in names})


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name in sorted(ESTIMATORS)
    ],
)
def test_an_interrupted_estimator_is_not_fitted(name, monkeypatch, tmp_path):
    estimator = instance(ESTIMATORS[name])
    caches = "cache_dir" in estimator.get_params(deep=False)
    X, y = sample(estimator, 60)
    calls = Calls(monkeypatch)
    fit(instance(ESTIMATORS[name]), X, y)
    total = calls.n
    if total == 0:
        pytest.skip("passes nothing through linear layers")
    for fraction in (0.0, 0.5, 0.98):
        if caches:  # otherwise a fit would continue from what the one before has kept
            estimator.set_params(cache_dir=tmp_path / str(fraction))
        calls.interrupt_after(1 + int(fraction * (total - 1)))
        with pytest.raises(KeyboardInterrupt):
            fit(estimator, X, y)
        with pytest.raises(NotFittedError):
            check_is_fitted(estimator)
    assert torch.is_grad_enabled()
