"""The algorithm: fit the steps of a pipeline, and let them forget and learn samples."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ...utils._typing import Array, FloatArray, IntArray
from ..exact import IllConditionedError, overwrite_memory
from ._samples import StoredSamples
from ._steps import (
    affine_change,
    can_update,
    change_step,
    fitted_step,
    kind_of,
    seeded,
    transformed,
)

Steps = list[tuple[str, Any]]


@dataclass(frozen=True)
class PipelineConfig:
    """Settings of `fit`, which later requests follow even if parameters have changed since.

    Parameters
    ----------
    steps : list of (str, estimator)
        Unfitted or frozen steps.
    pin : {"features", "preprocessing"}
        Steps that are fitted to the pinned samples and then frozen.
    on_pinned : {"raise", "relearn"}
        Whether a request that names a pinned sample is refused, or fits everything again.
    seed : int
        Seed of the steps that have none.
    """

    steps: Steps
    pin: Literal["features", "preprocessing"]
    on_pinned: Literal["raise", "relearn"]
    seed: int

    @property
    def n_pinned(self) -> int:
        """Number of first steps that are fitted to pinned samples, or precede one that is."""
        frozen = ("learned", "forgetting") if self.pin == "preprocessing" else ("learned",)
        kinds = [kind_of(step) for _, step in self.steps[:-1]]
        return max((i + 1 for i, kind in enumerate(kinds) if kind in frozen), default=0)

    @property
    def n_stored(self) -> int:
        """Number of first steps whose output is stored instead of the samples."""
        return self.n_pinned if self.on_pinned == "raise" else 0

    @property
    def n_constant(self) -> int:
        """Number of first steps that a request for samples that are not pinned never changes."""
        n = self.n_pinned
        while n < len(self.steps) - 1 and kind_of(self.steps[n][1]) == "fixed":
            n += 1
        return n

    def new_step(self, position: int) -> Any:
        """Return an unfitted step that draws the same random numbers in every fit."""
        return seeded(self.steps[position][1], self.seed)


@dataclass(frozen=True)
class PipelineModel:
    """Fitted steps, and the samples to which they were fitted, in their stored form.

    Parameters
    ----------
    steps : list of (str, estimator)
        Fitted steps.
    samples : StoredSamples
        Samples after the first ``config.n_stored`` steps.
    """

    steps: Steps
    samples: StoredSamples

    @property
    def head(self) -> Any:
        """The last step."""
        return self.steps[-1][1]


def fit_pipeline(
    samples: StoredSamples,
    config: PipelineConfig,
    pinned_steps: Sequence[tuple[str, Any]] = (),
    after_step: Callable[[], object] = bool,
) -> PipelineModel:
    """Fit all steps, or those that follow `pinned_steps`.

    Parameters
    ----------
    samples : StoredSamples
        Samples of the user. With `pinned_steps`, samples as they are stored.
    config : PipelineConfig
        Settings of the pipeline.
    pinned_steps : list of (str, estimator), default=()
        All steps fitted to pinned samples, if they are known.
    after_step : callable, default=bool
        Called after each step that is fitted.

    Returns
    -------
    PipelineModel
    """
    fitted, n_pinned, n_stored = [*pinned_steps], config.n_pinned, config.n_stored
    rows = np.flatnonzero(samples.pinned)
    X, y, weights = samples.take(rows), samples.y[rows], samples.weights[rows]
    for k in range(len(fitted), n_pinned):
        fitted.append((config.steps[k][0], fitted_step(config.new_step(k), X, y, weights)))
        after_step()
        X = transformed(fitted[-1][1], X)
    for _, step in fitted[len(pinned_steps) : n_stored]:
        samples.X = transformed(step, samples.X)
    X = samples.X
    for _, step in fitted[n_stored:]:
        X = transformed(step, X)
    for k in range(n_pinned, len(config.steps)):
        fitted.append(
            (config.steps[k][0], fitted_step(config.new_step(k), X, samples.y, samples.weights))
        )
        after_step()
        if k < len(config.steps) - 1:
            X = transformed(fitted[-1][1], X)
    samples.head_index = np.arange(len(samples.alive))
    return PipelineModel(fitted, samples)


def forget_positions(
    model: PipelineModel, positions: IntArray, config: PipelineConfig
) -> tuple[PipelineModel, list[str]]:
    """Forget samples, of which none is pinned.

    Parameters
    ----------
    model : PipelineModel
        The model of all samples, which stays valid until `overwrite_replaced`.
    positions : ndarray of int
        Positions of the samples to forget.
    config : PipelineConfig
        Settings of the pipeline.

    Returns
    -------
    model : PipelineModel
        The model of the samples that are left.
    work : list of str
        The steps that were updated or fitted again.
    """
    samples = model.samples
    y, weights = samples.y[positions], samples.weights[positions]
    X, steps, work, first = _changed_steps(
        model, samples.take(positions), weights, "forget", config
    )
    head = model.head
    if first is not None:
        left = samples.without(positions)
        if first == len(steps) - 1 and head.retained_ is None:
            Z = transformed(model.steps[first - 1][1], X)
            rescaled = _rescaled_head(
                head._forgetting(head._request(None, Z, y, weights)), model, steps, left, config
            )
            if rescaled is not None:
                return _with_head(steps, rescaled, left, work)
        return _refitted_from(first, steps, left, work, config), work
    if head.retained_ is None:
        request = head._request(None, X, y, weights)
    else:
        request = head._request(samples.head_index[positions], None, None, None)
    left = samples.deleted(positions)
    steps[-1] = (steps[-1][0], _refined_head(head._forgetting(request), steps, left, config))
    return PipelineModel(steps, left), [*work, _head_work(steps)]


def relearn(
    model: PipelineModel, positions: IntArray, config: PipelineConfig
) -> tuple[PipelineModel, list[str]]:
    """Forget samples of which some are pinned: fit everything again without them."""
    fresh = fit_pipeline(model.samples.without(positions), config)
    n, n_pinned = len(fresh.samples), fresh.samples.pinned.sum()
    work = [
        f"{name}: fitted again to {f'{n_pinned} pinned' if k < config.n_pinned else n} samples"
        for k, (name, step) in enumerate(config.steps)
        if kind_of(step) != "fixed"
    ]
    return fresh, work


def learn_samples(
    model: PipelineModel,
    X: Any,
    y: Array,
    weights: FloatArray,
    ids: Array,
    config: PipelineConfig,
) -> tuple[PipelineModel, list[str]]:
    """Learn samples of the user; returns a model and the work, as `forget_positions` does."""
    for _, step in model.steps[: config.n_stored]:
        X = transformed(step, X)
    added = StoredSamples(X, y, weights, ids, np.zeros(len(ids), dtype=bool))
    Z, steps, work, first = _changed_steps(model, X, weights, "learn", config)
    head = model.head
    if first is not None:
        extended = model.samples.extended(added)
        if first == len(steps) - 1 and head.retained_ is None:
            rescaled = _rescaled_head(head, model, steps, model.samples.compressed(), config)
            if rescaled is not None:
                Z = transformed(steps[first - 1][1], Z)
                learned = rescaled._learning(Z, y, weights)
                return _with_head(
                    steps, _refined_head(learned, steps, extended, config), extended, work
                )
        return _refitted_from(first, steps, extended, work, config), work
    n_seen = 0 if head.retained_ is None else len(head.retained_)
    added.head_index = n_seen + np.arange(len(ids))
    extended = model.samples.extended(added)
    steps[-1] = (
        steps[-1][0],
        _refined_head(head._learning(Z, y, weights), steps, extended, config),
    )
    return PipelineModel(steps, extended), [*work, _head_work(steps)]


def overwrite_replaced(before: PipelineModel, after: PipelineModel) -> None:
    """Fill the memory that a request has replaced with zeros; `before` is then invalid."""
    overwrite_memory(before.head._matrices(), after.head._matrices())
    before.samples.overwrite_replaced(after.samples)


def _changed_steps(
    model: PipelineModel,
    X: Any,
    weights: FloatArray,
    verb: Literal["forget", "learn"],
    config: PipelineConfig,
) -> tuple[Any, Steps, list[str], int | None]:
    """Let copies of the forgetting steps forget or learn samples, given as they are stored.

    Returns the input of the last step, the steps, the work that was done, and the first step that
    must be fitted to all samples again, or None.
    """
    work: list[str] = []
    steps = list(model.steps)
    n_stored, n_pinned = config.n_stored, config.n_pinned
    for i, (name, step) in enumerate(model.steps[n_stored:-1], n_stored):
        if i >= n_pinned and kind_of(step) == "forgetting":
            if not can_update(step):
                return X, steps, work, i
            step = copy.deepcopy(step)
            steps[i] = (name, step)
            work.append(f"{name}: updated")
            if change_step(step, X, weights, verb):
                return X, steps, work, i + 1
        X = transformed(step, X)
    return X, steps, work, None


def _rescaled_head(
    head: Any, model: PipelineModel, steps: Steps, samples: StoredSamples, config: PipelineConfig
) -> Any:
    """Fit the last step again from its sums, because the step before rescales its output.

    `head` knows `samples` through the steps of `model`; `steps` are the new ones. Returns None if
    the last step must be fitted to the samples.
    """
    before, after = model.steps[-2][1], steps[-2][1]
    change = affine_change(before, after)
    if change is None:
        return None
    X = samples.X
    for _, step in steps[config.n_stored : -2]:
        X = transformed(step, X)
    old, new = transformed(before, X), transformed(after, X)
    return head._rescaling(old, new, samples.y, samples.weights, *change)


def _refined_head(head: Any, steps: Steps, samples: StoredSamples, config: PipelineConfig) -> Any:
    """Refine a last step that stores no samples, if rounding has changed it noticeably."""
    if not head._needs_refinement():
        return head
    left = samples.rows()
    if config.n_stored == len(steps) - 1 and isinstance(samples.X, np.ndarray):
        # Deleted samples stay, with a weight of zero and the target of another one: no copy of X.
        rows = np.where(samples.alive, np.arange(len(samples.alive)), left[0])
        X, weights = samples.X, np.where(samples.alive, samples.weights, 0.0)
    else:
        rows, X, weights = left, samples.take(left), samples.weights[left]
    for _, step in steps[config.n_stored : -1]:
        X = transformed(step, X)
    try:
        return head._refining(X, samples.y[rows], weights)
    except IllConditionedError:
        kept = weights > 0
        samples.head_index = np.cumsum(samples.alive) - 1  # in case the new fit stores samples
        return fitted_step(config.new_step(-1), X[kept], samples.y[rows][kept], weights[kept])


def _with_head(
    steps: Steps, head: Any, samples: StoredSamples, work: list[str]
) -> tuple[PipelineModel, list[str]]:
    name = steps[-1][0]
    work.append(f"{name}: fitted again from sums, because its input has changed")
    return PipelineModel([*steps[:-1], (name, head)], samples), work


def _refitted_from(
    first: int, steps: Steps, samples: StoredSamples, work: list[str], config: PipelineConfig
) -> PipelineModel:
    """Fit steps again, because the output of the step before has changed for all samples."""
    X = samples.X
    for _, step in steps[config.n_stored : first]:
        X = transformed(step, X)
    for k in range(first, len(steps)):
        name, step = config.steps[k]
        steps[k] = (name, fitted_step(config.new_step(k), X, samples.y, samples.weights))
        if k < len(steps) - 1:
            X = transformed(steps[k][1], X)
        if kind_of(step) != "fixed":
            work.append(f"{name}: fitted again to {len(samples)} samples")
    work[-1] += ", because its input has changed"
    samples.head_index = np.arange(len(samples))
    return PipelineModel(steps, samples)


def _head_work(steps: Steps) -> str:
    name, head = steps[-1]
    factored = "factored again, because an update would be slower or lose digits"
    return f"{name}: {factored if head.refitted_ else 'updated'}"
