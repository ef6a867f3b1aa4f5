"""The interface between the runner and the benchmark of a method."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Task:
    """One split of one data set: everything that a fit and its evaluation need."""

    data: str
    split: int
    X_train: Any
    y_train: Any
    X_test: Any
    y_test: Any
    fit_params: Mapping[str, Any] = field(default_factory=dict)
    # Whatever the metrics need in addition to y_test.
    extra: Mapping[str, Any] = field(default_factory=dict)


# Called with the task, the seed and the number of threads; returns an unfitted estimator. It
# imports its library itself, so that a missing library skips only this contender.
Factory: TypeAlias = Callable[[Task, int, int], Any]


def score_predictions(model: Any, output: ArrayLike, task: Task) -> dict[str, float]:
    """Return R2 and the root mean squared error."""
    error = np.asarray(output) - task.y_test
    r2 = 1.0 - (error**2).sum() / ((task.y_test - task.y_test.mean(axis=0)) ** 2).sum()
    return {"R2": r2, "RMSE": np.sqrt((error**2).mean())}


def warm_up_on_few_samples(model: Any, task: Task) -> None:
    """Fit 100 samples, so that the timing excludes imports and compilation."""
    few = slice(100)
    model.fit(task.X_train[few], task.y_train[few])


@dataclass(frozen=True)
class Benchmark:
    """The benchmark of a method; `benchmarks/<method>.py` defines it as BENCHMARK."""

    datasets: tuple[str, ...]
    quick: tuple[str, ...]  # data sets that need no download
    load: Callable[[str, int], Task]  # (name of a data set, index of a split)
    ours: Mapping[str, Factory]
    peers: Mapping[str, Factory]
    splits: tuple[int, ...] = (0,)
    response: str = "predict"  # the method of the fitted estimator that is timed
    metrics: Callable[[Any, Any, Task], Mapping[str, float]] = score_predictions
    higher_is_better: bool = True  # refers to the first metric, which the plot shows
    warm_up: Callable[[Any, Task], None] = warm_up_on_few_samples
    notes: Iterable[str] = ()

    @property
    def contenders(self) -> dict[str, Factory]:
        return {**self.ours, **self.peers}
