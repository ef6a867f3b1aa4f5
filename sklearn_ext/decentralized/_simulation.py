"""All nodes in one process, without messages: the fastest way to the network's answer."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from joblib import Parallel, delayed

from ._config import announcement, summarize
from .maths._consensus import anchored_consensus_system, consensus_system
from .maths._cross_validation import cross_validate, fold_numbers, network_mean
from .maths._random_features import select_map
from .maths._solvers import SOLVERS
from .maths._statistics import node_statistics
from .network._communication import report, round_floats, setup_floats


@dataclass(frozen=True)
class FitResult:
    """What a fit leaves, wherever it ran; None stands for a node that is not known here."""

    maps: list
    coefs: list
    gamma: float
    mean: np.ndarray
    shift: np.ndarray
    consensus_weight: float
    n_iter: int
    converged: bool
    objective_curve: np.ndarray
    gap_curve: np.ndarray
    floats: dict
    statistics: list | None = None
    memories: dict | None = None
    scores: np.ndarray | None = None
    failed: tuple = ()


def simulate(engine, settings, rows, *, candidates, cv, n_jobs):
    """Fit all nodes.

    Parameters
    ----------
    engine : NumbaEngine or TorchEngine
    settings : Settings
    rows : list of NodeRows
    candidates : sequence of float or None
        Consensus weights to choose from by cross-validation; None takes that of the settings.
    cv : int, cross-validation splitter or iterable of splits
    n_jobs : int or None

    Returns
    -------
    FitResult
    """
    nodes = range(settings.n_nodes)
    streams = [settings.stream(j) for j in nodes]
    announced = np.array([announcement(settings, rows[j], streams[j]) for j in nodes])
    summary = summarize(settings, announced)
    rows = [part._replace(Y=part.Y - summary.mean) for part in rows]
    parallel = Parallel(n_jobs=n_jobs, prefer="threads")
    select = partial(
        select_map,
        settings.feature_selection,
        engine,
        gamma=summary.gamma,
        oversampling=settings.oversampling,
    )
    maps = parallel(
        delayed(select)(
            rows[j].X,
            rows[j].Y,
            rows[j].weights,
            n_components=int(settings.n_components[j]),
            ridge=settings.alpha * rows[j].weights.sum(),
            rng=streams[j],
        )
        for j in nodes
    )
    scores = None
    if candidates is None:
        statistics = parallel(sums(engine, settings, rows, maps, j) for j in nodes)
    else:
        folds = [fold_numbers(cv, rows[j], streams[j]) for j in nodes]
        n_folds = 1 + max(map(max, folds))
        parts = [
            [rows[j].take(np.flatnonzero(folds[j] == number)) for j in nodes]
            for number in range(n_folds)
        ]
        fold_statistics = [
            parallel(sums(engine, settings, part, maps, j) for j in nodes) for part in parts
        ]
        statistics = [sum(of[1:], start=of[0]) for of in zip(*fold_statistics, strict=True)]
        scores = cross_validate(
            fold_statistics,
            partial(assemble, engine, settings, maps),
            candidates,
            fit_intercept=settings.fit_intercept,
        )
        best = int(np.argmin(scores.mean(axis=1)))
        settings = replace(settings, consensus_weight=float(candidates[best]))
    return solve(
        engine,
        settings,
        maps,
        statistics,
        gamma=summary.gamma,
        shift=summary.mean,
        scores=scores,
        n_features=rows[0].X.shape[1],
    )


def add_rows(engine, settings, rows, *, maps, statistics, shift, n_jobs):
    """Add rows to fitted nodes, whose maps stay, and solve again.

    Parameters
    ----------
    engine : NumbaEngine or TorchEngine
    settings : Settings
    rows : list of NodeRows
    maps : list of FeatureMap
    statistics : list of NodeStatistics
        Sums over the rows that the nodes have had.
    shift : ndarray of shape (k,)
        What was subtracted from the targets in `statistics`.
    n_jobs : int or None

    Returns
    -------
    FitResult
    """
    rows = [part._replace(Y=part.Y - shift) for part in rows]
    parallel = Parallel(n_jobs=n_jobs, prefer="threads")
    new = parallel(sums(engine, settings, rows, maps, j) for j in range(settings.n_nodes))
    statistics = [
        old.convert(engine.asarray) + part for old, part in zip(statistics, new, strict=True)
    ]
    return solve(
        engine,
        settings,
        maps,
        statistics,
        gamma=settings.gamma,
        shift=shift,
        n_features=rows[0].X.shape[1],
    )


def sums(engine, settings, rows, maps, j):
    """Delayed sums over the rows of node j."""
    others = settings.neighbours(j) if settings.anchors is None else []
    part = rows[j]
    return delayed(node_statistics)(
        engine, part.X, part.Y, part.weights, maps[j], {i: maps[i] for i in others}
    )


def assemble(engine, settings, maps, statistics, mean):
    """Assemble the network's quadratic, for targets less `mean`."""
    total = sum(part.weight for part in statistics)
    parameters = {
        "mean": mean,
        "ridge": settings.alpha * total / settings.n_nodes,
        "consensus_weight": settings.consensus_weight,
    }
    if settings.anchors is None:
        return consensus_system(engine, statistics, settings.adjacency, **parameters)
    anchors = [anchor_features(engine, settings.anchors, z) for z in maps]
    return anchored_consensus_system(engine, statistics, anchors, settings.adjacency, **parameters)


def anchor_features(engine, anchors, z):
    """Features of the anchors in float64, (m, D)."""
    frequencies, phases = engine.asarray(z.frequencies), engine.asarray(z.phases)
    return engine.asarray(engine.features(engine.rows(anchors), frequencies, phases))


def solve(engine, settings, maps, statistics, *, gamma, shift, n_features, scores=None):
    """Solve for the coefficients, from sums over rows whose targets were shifted."""
    mean = network_mean(statistics) if settings.fit_intercept else 0.0 * statistics[0].y_sum
    system = assemble(engine, settings, maps, statistics, mean)
    solution = SOLVERS[settings.solver](
        system, tol=settings.tol, max_iter=settings.max_iter, damping=settings.damping
    )
    n_outputs = statistics[0].moment.shape[1]
    setup = setup_floats(settings, n_features, n_outputs)
    one_round = round_floats(settings, n_outputs)
    return FitResult(
        maps=maps,
        coefs=[engine.to_numpy(theta) for theta in solution.coefs],
        gamma=gamma,
        mean=shift + engine.to_numpy(mean),
        shift=shift,
        consensus_weight=settings.consensus_weight,
        n_iter=solution.n_iter,
        converged=solution.converged,
        objective_curve=np.array(solution.objective_curve),
        gap_curve=np.array(solution.gap_curve),
        floats=report(setup, one_round, setup + solution.n_iter * one_round),
        statistics=[part.convert(engine.to_numpy) for part in statistics],
        scores=scores,
    )
