"""Fingerprints distinguish all settings that change a training."""

import functools
import threading

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from sklearn_ext.neural.files import fingerprint


def scaled(factor):
    class Scaled(nn.Linear):
        def forward(self, X):
            return super().forward(X) * factor

    return Scaled


def with_attribute(module, **attributes):
    for name, value in attributes.items():
        setattr(module, name, value)
    return module


def hooked(hook):
    module = nn.Identity()
    module.register_forward_hook(hook)
    return module


LISTS = [[1, 2], (1, 2), {1, 2}, {1: 2}, [2, 1], [[1, 2]], ["1", 2], [1.0, 2], [True, 2]]
DIFFERENT = {
    "lists": LISTS,
    "arrays": [np.zeros(3), np.zeros((3, 1)), np.zeros(3, np.float32), np.ones(3)],
    "tensors": [torch.zeros(3), torch.zeros(3, dtype=torch.bfloat16), torch.ones(3)],
    "criteria": [nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.9), nn.NLLLoss()],
    "functions": [lambda X: X, lambda X: X + 1, lambda X, a=1: X, lambda X, a=2: X],
    "cached functions": [functools.cache(lambda X: X), functools.cache(lambda X: X + 1)],
    "closures of a library": [get_ema_multi_avg_fn(0.9), get_ema_multi_avg_fn(0.99)],
    "partials": [functools.partial(np.add, 1), functools.partial(np.add, 2)],
    "classes": [scaled(1), scaled(2), nn.Linear],
    "attributes": [
        nn.Identity(),
        with_attribute(nn.Identity(), scale=2),
        with_attribute(nn.Identity(), scale=3),
        nn.Identity().eval(),
    ],
    "hooks": [hooked(lambda *args: None), hooked(lambda *args: args[-1] * 2)],
    "states": [np.random.RandomState(0), np.random.RandomState(1)],
}


@pytest.mark.parametrize("kind", DIFFERENT)
def test_different_values_have_different_fingerprints(kind):
    values = DIFFERENT[kind]
    assert len({fingerprint(value) for value in values}) == len(values)


def test_equal_values_have_equal_fingerprints():
    shared = (0.9, 0.999)
    assert fingerprint([shared, shared]) == fingerprint([shared, tuple(iter([0.9, 0.999]))])
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint(scaled(2)) == fingerprint(scaled(2))
    assert fingerprint(nn.Dropout(0.2)) == fingerprint(nn.Dropout(0.2))
    circle = []
    circle.append(circle)
    assert fingerprint(circle) == fingerprint(circle)


def test_objects_without_a_state_are_refused(tmp_path):
    with (tmp_path / "file").open("w") as file:
        for value in (file, threading.Lock(), {"log": [file]}):
            with pytest.raises(ValueError, match="has no state that can be compared"):
                fingerprint(value)
