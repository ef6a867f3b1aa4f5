"""What a method's module declares, and what the runner hands to it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Task:
    """One split of one data set: all that a fit and its judgement need."""

    data: str
    split: int
    X_train: Any
    y_train: Any
    X_test: Any
    y_test: Any
    fit_params: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(
        default_factory=dict
    )  # whatever the metrics need beyond y_test


# An unfitted estimator for a task. Libraries are imported inside, so that one that is not
# installed is skipped by name.
Factory = Callable[[Task, int, int], Any]  # (task, seed, n_threads)


def score_predictions(model, output, task):
    """R2 and root mean squared error."""
    error = np.asarray(output) - task.y_test
    r2 = 1.0 - (error**2).sum() / ((task.y_test - task.y_test.mean(axis=0)) ** 2).sum()
    return {"R2": r2, "RMSE": np.sqrt((error**2).mean())}


def warm_up_on_few_rows(model, task):
    """Fit 100 rows, so that imports and compilation are not timed."""
    rows = slice(100)
    model.fit(task.X_train[rows], task.y_train[rows])


@dataclass(frozen=True)
class Benchmark:
    """A method's benchmark: every `benchmarks/<method>.py` holds one, named BENCHMARK."""

    datasets: tuple[str, ...]
    quick: tuple[str, ...]  # runs without downloads
    load: Callable[[str, int], Task]  # (name of a data set, number of a split)
    ours: Mapping[str, Factory]
    peers: Mapping[str, Factory]
    splits: tuple[int, ...] = (0,)
    response: str = "predict"  # the timed method of the fitted estimator
    metrics: Callable[[Any, Any, Task], Mapping[str, float]] = score_predictions
    higher_is_better: bool = True  # of the first metric, which the plot shows
    warm_up: Callable[[Any, Task], None] = warm_up_on_few_rows
    notes: Iterable[str] = ()

    @property
    def contenders(self):
        return {**self.ours, **self.peers}
