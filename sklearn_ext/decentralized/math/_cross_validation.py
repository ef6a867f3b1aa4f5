r"""Cross-validation of the ridge and the consensus weight without refitting on each fold.

A fit needs only sums over samples, so a fold is held out by subtracting its sums. The error on the
held-out samples needs no features either: in terms of the sums of the fold, the squared error of a
node is :math:`\theta^TG\theta - 2\theta^Tm + \lVert y \rVert^2`.
"""

from collections.abc import Callable, Iterable, Sequence
from numbers import Integral
from typing import Any

import numpy as np

from ...utils._typing import FloatArray, IntArray
from ._consensus import ConsensusSystem
from ._engine import EngineArray
from ._solvers import solve_jointly
from ._statistics import NodeStatistics, network_mean


def fold_numbers(cv: Any, index: IntArray, rng: np.random.Generator) -> IntArray:
    """Return the index of the fold that holds out each sample of a node.

    Parameters
    ----------
    cv : int, cross-validation splitter or iterable of (train, test)
        A number of random folds; a splitter, which is applied to the samples of the node in the
        order of the whole table; or splits of the whole table.
    index : ndarray of shape (n,)
        Positions of the samples in the whole table.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of int of shape (n,)

    Raises
    ------
    ValueError
        If the node has too few samples, or a sample is not held out exactly once.
    """
    n_samples = len(index)
    if isinstance(cv, Integral):
        n_folds = int(cv)
        if n_samples < n_folds:
            raise ValueError(
                "cv must be at most the number of distinct samples of each node, got "
                f"cv={n_folds} for a node with {n_samples} samples."
            )
        folds = np.empty(n_samples, dtype=int)
        folds[rng.permutation(n_samples)] = np.arange(n_samples) % n_folds
        return folds
    held_out = _held_out(cv, index)
    folds = np.full(n_samples, -1)
    for number, members in enumerate(held_out):
        folds[members] = number
    n_held_out, n_distinct = sum(map(len, held_out)), int((folds >= 0).sum())
    if n_held_out != n_samples or n_distinct != n_samples:
        raise ValueError(
            f"cv must hold out every sample exactly once, got {n_held_out} held-out samples, "
            f"{n_distinct} of them distinct, for a node with {n_samples} samples."
        )
    return folds


def _held_out(cv: Any, index: IntArray) -> list[IntArray]:
    if hasattr(cv, "split"):
        order = np.argsort(index)
        return [order[test] for _, test in cv.split(np.zeros((len(index), 1)))]
    splits: Iterable[Any] = cv
    return [np.flatnonzero(np.isin(index, test)) for _, test in splits]


def cross_validate(
    fold_statistics: Sequence[Sequence[NodeStatistics]],
    assemble: Callable[[Sequence[NodeStatistics], EngineArray], ConsensusSystem],
    candidates: Sequence[tuple[float, float]],
    *,
    fit_intercept: bool,
) -> FloatArray:
    """Compute the relative squared error of every candidate on every fold.

    Parameters
    ----------
    fold_statistics : list over folds of lists over nodes of NodeStatistics
    assemble : callable
        Called with the statistics of all nodes and the offset of the targets; returns the
        ConsensusSystem, whose ridge and consensus weight are replaced.
    candidates : sequence of (float, float)
        Ridges per sample of the network, and consensus weights.
    fit_intercept : bool
        Whether the offset is the mean over the samples that are not held out.

    Returns
    -------
    ndarray of shape (n_candidates, n_folds)
        Squared error on the samples of the fold, each predicted by its own node, divided by their
        variance.
    """
    totals = add_folds(fold_statistics)
    errors = np.empty((len(candidates), len(fold_statistics)))
    for fold, held_out in enumerate(fold_statistics):
        training = [total - part for total, part in zip(totals, held_out, strict=True)]
        mean = network_mean(training, fit_intercept)
        system = assemble(training, mean)
        spread = sum(part.energy(network_mean(held_out)) for part in held_out)
        samples_per_node = sum(part.weight for part in training) / len(training)
        for row, (alpha, c) in zip(errors, candidates, strict=True):
            coefs = solve_jointly(system.with_parameters(alpha * samples_per_node, c)).coefs
            error = sum(
                squared_error(part, theta, mean)
                for part, theta in zip(held_out, coefs, strict=True)
            )
            row[fold] = error / spread if spread > 0 else error
    return errors


def add_folds(fold_statistics: Sequence[Sequence[NodeStatistics]]) -> list[NodeStatistics]:
    """Add the statistics of all folds, node by node."""
    return [sum(parts[1:], start=parts[0]) for parts in zip(*fold_statistics, strict=True)]


def squared_error(held_out: NodeStatistics, theta: EngineArray, mean: EngineArray) -> float:
    """Return the squared error of coefficients on held-out samples, from their sums."""
    fit = float((theta * (held_out.gram @ theta - 2.0 * held_out.target(mean))).sum())
    return max(fit + held_out.energy(mean), 0.0)
