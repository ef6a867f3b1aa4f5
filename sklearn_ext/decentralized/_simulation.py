"""The algorithm in one process, which computes the network's solution without messages."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from joblib import Parallel, delayed

from ..utils._typing import FloatArray, IntArray
from ..utils.compat import never_stop
from ._communication import simulated_cost
from ._config import DeKRRConfig, node_generator
from ._node_samples import (
    SELECTION_CANDIDATES,
    NodeSamples,
    announce,
    select_node_map,
    sum_over_samples,
    summarize_network,
)
from ._parameter_choice import Candidate, choose_parameters
from ._result import DeKRRResult, NodeMemory
from .math._consensus import ConsensusSystem, consensus_system
from .math._cross_validation import add_folds, cross_validate, fold_numbers
from .math._engine import DeKRREngine, EngineArray, make_engine
from .math._random_features import FeatureMap, map_features
from .math._solvers import SOLVERS
from .math._statistics import NodeStatistics, network_mean


def solve_dekrr(
    samples: Sequence[NodeSamples],
    config: DeKRRConfig,
    *,
    seed: int = 0,
    memories: Mapping[int, NodeMemory] | None = None,
    engine: DeKRREngine | None = None,
    n_jobs: int | None = None,
    after_task: Callable[[str], bool] = never_stop,
) -> DeKRRResult:
    """Fit the nodes of a network in one process.

    Every node selects random features on its own samples. The sums over the samples of all nodes
    then give one linear system (see :func:`~sklearn_ext.decentralized.consensus_system`), whose
    solution contains the coefficients of all nodes.

    Parameters
    ----------
    samples : list of NodeSamples
        Samples of every node.
    config : DeKRRConfig
        Parameters of the fit.
    seed : int, default=0
        Seed of the random features. Every node has its own stream of random numbers.
    memories : dict of int to NodeMemory, default=None
        State of the nodes after an earlier fit. The samples are added to this state, and the random
        features do not change. `gamma`, `alpha` and `consensus_weight` must then be numbers.
    engine : DeKRREngine, default=None
        Engine for the computations; None uses the numba engine.
    n_jobs : int, default=None
        Number of threads that process nodes in parallel. It does not affect the result.
    after_task : callable, default=never_stop
        Called with "trial" after each width and kind of features that cross-validation compares,
        and with "round" after each round of the solver. If it returns True, no further trials or
        rounds follow.

    Returns
    -------
    DeKRRResult
        Maps, coefficients and curves of the solver.

    Raises
    ------
    ValueError
        If `cv` does not hold out every sample exactly once.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn_ext.decentralized import DeKRRConfig, NodeSamples, make_graph, solve_dekrr
    >>> X, y = load_diabetes(return_X_y=True)
    >>> samples = [NodeSamples.from_arrays(X[k::4], y[k::4]) for k in range(4)]
    >>> config = DeKRRConfig(make_graph("ring", 4), n_components=20, alpha=1e-3)
    >>> result = solve_dekrr(samples, config)
    >>> [theta.shape for theta in result.coefs]
    [(20, 1), (20, 1), (20, 1), (20, 1)]
    >>> result.mean
    array([152.13348416])
    """
    engine = make_engine() if engine is None else engine
    parallel = Parallel(n_jobs=n_jobs, require="sharedmem")
    n_announced = 4 + len(SELECTION_CANDIDATES) * (config.compares_selections and memories is None)
    candidates: list[Candidate] = []
    if memories is None:
        config, state, candidates = _set_up(
            samples, config, seed, engine, parallel, partial(after_task, "trial")
        )
    else:
        state = _add_samples(samples, config, memories, engine, parallel)
    statistics = state.statistics
    mean = network_mean(statistics, config.fit_intercept)
    system = consensus_system(
        statistics,
        config.adjacency,
        ridge=config.first_alpha * sum(part.weight for part in statistics) / config.n_nodes,
        consensus_weight=float(config.consensus_weight),
        mean=mean,
        anchors=_anchor_features(state.maps, config, engine),
        engine=engine,
    )
    solution = SOLVERS[config.solver](
        system,
        tol=config.tol,
        max_iter=config.max_iter,
        damping=config.damping,
        after_round=partial(after_task, "round"),
    )
    return DeKRRResult(
        maps=list(state.maps),
        coefs=[engine.to_numpy(theta) for theta in solution.coefs],
        mean=state.shift + engine.to_numpy(mean),
        gamma=float(config.gamma),
        alpha=float(config.alpha),
        feature_selection=config.feature_selection,
        consensus_weight=float(config.consensus_weight),
        n_iter=solution.n_iter,
        converged=solution.converged,
        objective_curve=np.array(solution.objective_curve),
        disagreement_curve=np.array(solution.disagreement_curve),
        communication=simulated_cost(
            config, samples[0].X.shape[1], samples[0].Y.shape[1], solution.n_iter, n_announced
        ),
        memories={
            j: NodeMemory(state.maps[j], part.convert(engine.to_numpy), state.shift)
            for j, part in enumerate(statistics)
        },
        candidates=candidates,
    )


class _NetworkState(NamedTuple):
    """Maps and sums of all nodes; with "cv", also the sums of every fold."""

    maps: list[FeatureMap]
    statistics: list[NodeStatistics]
    shift: FloatArray
    folds: list[list[NodeStatistics]]


def _set_up(
    samples: Sequence[NodeSamples],
    config: DeKRRConfig,
    seed: int,
    engine: DeKRREngine,
    parallel: Parallel,
    after_trial: Callable[[], bool],
) -> tuple[DeKRRConfig, _NetworkState, list[Candidate]]:
    """Select a map at every node, sum over the samples, and choose parameters set to "cv"."""
    rngs = [node_generator(seed, j) for j in range(config.n_nodes)]
    announced = parallel(
        delayed(announce)(part, config, j, rngs[j], engine) for j, part in enumerate(samples)
    )
    summary, config = summarize_network(np.array(announced), config, samples[0].Y.shape[1])
    samples = [part.minus(summary.mean) for part in samples]
    fold_of_samples: list[IntArray] = []

    def prepare(trial: DeKRRConfig) -> _NetworkState:
        maps = parallel(
            delayed(select_node_map)(part, trial, j, float(trial.gamma), rngs[j], engine)
            for j, part in enumerate(samples)
        )
        if not config.cross_validates:
            statistics = _sum_over_samples(samples, maps, trial, engine, parallel)
            return _NetworkState(maps, statistics, summary.mean, [])
        if not fold_of_samples:
            for part, rng in zip(samples, rngs, strict=True):
                fold_of_samples.append(fold_numbers(trial.cv, part.index, rng))
        folds = []
        for fold in range(1 + max(map(max, fold_of_samples))):
            members = [
                part.take(np.flatnonzero(own == fold))
                for part, own in zip(samples, fold_of_samples, strict=True)
            ]
            folds.append(_sum_over_samples(members, maps, trial, engine, parallel))
        return _NetworkState(maps, add_folds(folds), summary.mean, folds)

    def score(state: _NetworkState, pairs: Sequence[tuple[float, float]]) -> FloatArray:
        anchors = _anchor_features(state.maps, config, engine)

        def assemble(training: Sequence[NodeStatistics], mean: EngineArray) -> ConsensusSystem:
            return consensus_system(
                training,
                config.adjacency,
                ridge=0.0,
                consensus_weight=0.0,
                mean=mean,
                anchors=anchors,
                engine=engine,
            )

        return cross_validate(state.folds, assemble, pairs, fit_intercept=config.fit_intercept)

    return choose_parameters(config, summary.gamma, prepare, score, after_trial=after_trial)


def _anchor_features(
    maps: Sequence[FeatureMap], config: DeKRRConfig, engine: DeKRREngine
) -> list[EngineArray] | None:
    if config.anchors is None:
        return None
    return [map_features(config.anchors, z, engine) for z in maps]


def _add_samples(
    samples: Sequence[NodeSamples],
    config: DeKRRConfig,
    memories: Mapping[int, NodeMemory],
    engine: DeKRREngine,
    parallel: Parallel,
) -> _NetworkState:
    """Add the sums over new samples to those of an earlier fit, and keep its maps."""
    maps = [memories[j].map for j in range(config.n_nodes)]
    shift = memories[0].shift
    new = _sum_over_samples([part.minus(shift) for part in samples], maps, config, engine, parallel)
    statistics = [
        memories[j].statistics.convert(engine.asarray) + part for j, part in enumerate(new)
    ]
    return _NetworkState(maps, statistics, shift, [])


def _sum_over_samples(
    samples: Sequence[NodeSamples],
    maps: Sequence[FeatureMap],
    config: DeKRRConfig,
    engine: DeKRREngine,
    parallel: Parallel,
) -> list[NodeStatistics]:
    return parallel(
        delayed(sum_over_samples)(
            part,
            maps[j],
            {i: maps[i] for i in (config.neighbors(j) if config.anchors is None else [])},
            engine,
        )
        for j, part in enumerate(samples)
    )
