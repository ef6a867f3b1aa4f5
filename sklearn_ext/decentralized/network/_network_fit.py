"""The algorithm over a network: every node runs its program, and the results are combined."""

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_array

from ...utils._typing import FloatArray
from .._communication import byte_report, cost_report, round_floats
from .._config import DeKRRConfig
from .._node_samples import NodeSamples
from .._result import DeKRRResult, NodeMemory
from ..math._engine import DeKRREngine, make_engine
from ..math._graphs import check_graph, make_graph
from ._neighbors import Neighbors
from ._node import NodeResult, agree, run_node
from ._settings import check_settings, describe_graph
from ._transport import Network, NodeFailureError, Transport

MESSAGE_SOLVERS = ("auto", "chebyshev", "gauss_seidel", "jacobi")


def solve_dekrr_over_network(
    samples: Mapping[int, NodeSamples],
    config: DeKRRConfig,
    network: Network,
    *,
    seed: int = 0,
    memories: Mapping[int, NodeMemory] | None = None,
    engine: DeKRREngine | None = None,
    settings: Mapping[str, Any] | None = None,
    after_round: Callable[[], bool] = bool,
) -> DeKRRResult:
    """Fit the nodes that this process holds, with messages between neighbors.

    Parameters
    ----------
    samples : dict of int to NodeSamples
        Samples of the nodes that this process holds, by index of the node.
    config : DeKRRConfig
        Parameters of the fit, the same in every process.
    network : InProcessNetwork, TorchDistributedNetwork or an object with their methods
        The network.
    seed : int, default=0
        Seed of the random features. Every node has its own stream of random numbers.
    memories : dict of int to NodeMemory, default=None
        State of the nodes after an earlier fit, to which the samples are added.
    engine : DeKRREngine, default=None
        Engine for the computations; None means the numba engine.
    settings : dict of str to JSON values, default=None
        Settings that the nodes compare before the first message, in addition to `config`; for
        example, the names of the features.
    after_round : callable, default=bool
        Called after each round of the first node that this process holds. If it returns True, the
        nodes of this process stop after their round, and the others keep their last messages.

    Returns
    -------
    DeKRRResult
        Maps and coefficients that this process has, and the curves over the rounds.

    Raises
    ------
    ValueError
        If the configuration requires more than messages between neighbors, or if the nodes differ
        in their settings. In that case, every node raises the same error, which names the settings
        and the nodes that differ.
    NodeFailureError
        If this node was excluded because it was silent for too long, if a node failed before the
        sums over the network were known to all nodes that it connects, or if all nodes failed.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn_ext import InProcessNetwork
    >>> from sklearn_ext.decentralized import (
    ...     DeKRRConfig, NodeSamples, make_graph, solve_dekrr, solve_dekrr_over_network
    ... )
    >>> X, y = load_diabetes(return_X_y=True)
    >>> samples = [NodeSamples.from_arrays(X[k::4], y[k::4]) for k in range(4)]
    >>> config = DeKRRConfig(make_graph("ring", 4), n_components=20, alpha=1e-3)
    >>> network = InProcessNetwork()
    >>> talking = solve_dekrr_over_network(dict(enumerate(samples)), config, network)
    >>> joint = solve_dekrr(samples, config)
    >>> largest = abs(joint.coefs[0]).max()
    >>> bool(abs(talking.coefs[0] - joint.coefs[0]).max() < 1e-3 * largest)
    True
    """
    _check_messages_suffice(config, network)
    engine = make_engine() if engine is None else engine
    first, stop = min(samples), threading.Event()

    def report() -> bool:
        if after_round():
            stop.set()
        return stop.is_set()

    programs = {
        rank: partial(
            run_node,
            rank,
            part,
            config,
            seed=seed,
            engine=engine,
            asynchronous=network.asynchronous,
            timeout=network.timeout,
            memory=None if memories is None else memories[rank],
            settings=settings,
            after_round=report if rank == first else stop.is_set,
        )
        for rank, part in samples.items()
    }
    results = {rank: result for rank, result in network.run(programs).items() if result is not None}
    if not results:
        raise NodeFailureError(min(samples), f"All nodes have failed: {sorted(samples)}.")
    return _combine(results, config, next(iter(samples.values())).Y.shape[1])


def _check_messages_suffice(config: DeKRRConfig, network: Network) -> None:
    if config.solver not in MESSAGE_SOLVERS:
        raise ValueError(
            f"solver must be one of {MESSAGE_SOLVERS} with a network, got {config.solver!r}."
        )
    chosen = [
        name for name in ("gamma", "alpha", "consensus_weight") if getattr(config, name) == "cv"
    ]
    if chosen and not network.in_step:
        raise ValueError(
            f"{chosen[0]} must not be 'cv' on a network that is asynchronous or loses messages, "
            "because cross-validation needs synchronous rounds without losses."
        )
    if config.message_dtype != "float64" and not network.is_lossless:
        raise ValueError(
            "message_dtype must be 'float64' on a network that loses messages, got "
            f"{config.message_dtype!r}, which sends differences."
        )
    if config.solver in ("chebyshev", "gauss_seidel") and not network.in_step:
        raise ValueError(
            "solver must be 'jacobi' or 'auto' on a network that is asynchronous or loses "
            f"messages, got {config.solver!r}, which needs synchronous rounds without losses."
        )


def _combine(results: Mapping[int, NodeResult], config: DeKRRConfig, n_outputs: int) -> DeKRRResult:
    maps: list[Any] = [None] * config.n_nodes
    coefs: list[Any] = [None] * config.n_nodes
    setup = np.zeros((config.n_nodes, config.n_nodes), dtype=np.int64)
    rounds, setup_bytes, rounds_bytes = setup.copy(), setup.copy(), setup.copy()
    for rank, result in results.items():
        for i, theta in result.neighbor_coefs.items():
            if i not in results:
                maps[i], coefs[i] = result.memory.neighbor_maps[i], theta
        maps[rank], coefs[rank] = result.memory.map, result.coef
        setup[rank], rounds[rank] = result.setup_floats, result.rounds_floats
        setup_bytes[rank], rounds_bytes[rank] = result.setup_bytes, result.rounds_bytes
    one_round = round_floats(config, n_outputs)
    one_round[[j for j in range(config.n_nodes) if j not in results]] = 0
    any_result = next(iter(results.values()))
    disagreement = _sum_by_round([result.disagreement_parts for result in results.values()])
    return DeKRRResult(
        maps=maps,
        coefs=coefs,
        mean=any_result.mean,
        gamma=any_result.gamma,
        alpha=any_result.alpha,
        feature_selection=any_result.feature_selection,
        consensus_weight=any_result.consensus_weight,
        n_iter=max(result.n_iter for result in results.values()),
        converged=all(result.converged for result in results.values()),
        objective_curve=_sum_by_round([result.objective_parts for result in results.values()]),
        disagreement_curve=np.sqrt(disagreement.clip(min=0.0) / any_result.total_weight),
        communication=cost_report(setup, one_round, setup + rounds),
        bytes_sent=byte_report(setup_bytes, rounds_bytes),
        candidates=any_result.candidates,
        memories={rank: result.memory for rank, result in results.items()},
        failed=tuple(sorted({int(i) for result in results.values() for i in result.failed})),
    )


def _sum_by_round(parts: Sequence[Sequence[float]]) -> FloatArray:
    """Sum the parts of all nodes; a node that has stopped keeps its last part."""
    longest = max(map(len, parts))
    padded = [np.pad(part, (0, longest - len(part)), mode="edge") for part in parts]
    return sum(padded[1:], start=padded[0])


def network_minmax(
    X: ArrayLike, *, network: Network, graph: Any = "circulant"
) -> tuple[FloatArray, FloatArray]:
    """Compute the smallest and the largest value of every feature over all nodes.

    All nodes must scale their inputs in the same way, because agreement on predicted values is
    meaningless otherwise. The extremes pass from neighbor to neighbor until all nodes have them.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Samples of the node of this process.
    network : TorchDistributedNetwork
        The network. If one process holds all nodes, scale the whole table instead.
    graph : str, array-like, sparse matrix, list of pairs or networkx graph, default="circulant"
        Graph of the nodes, as in the estimators.

    Returns
    -------
    minimum, maximum : ndarray of shape (n_features,)

    Raises
    ------
    ValueError
        If one process holds all nodes, or if the nodes differ in the graph or in the number of
        features; every node raises the same error.
    NodeFailureError
        If this node was excluded because it was silent for too long, or if a failed node separates
        the others.

    Examples
    --------
    In a program under ``torchrun``::

        network = TorchDistributedNetwork()
        minimum, maximum = network_minmax(X, network=network, graph="ring")
        X = (X - minimum) / (maximum - minimum)

    >>> from sklearn_ext import InProcessNetwork
    >>> from sklearn_ext.decentralized import network_minmax
    >>> network_minmax([[1.0]], network=InProcessNetwork())
    Traceback (most recent call last):
        ...
    ValueError: network must hold one node per process, got InProcessNetwork.
    """
    if network.holds_all:
        raise ValueError(f"network must hold one node per process, got {type(network).__name__}.")
    samples = check_array(X, dtype=np.float64)
    (rank,) = network.ranks(1)
    n_nodes = network.size(1)
    adjacency = (
        make_graph(graph, n_nodes)
        if isinstance(graph, str)
        else check_graph(graph, np.arange(n_nodes))
    )
    own = np.concatenate((samples.min(axis=0), samples.max(axis=0)))

    def program(transport: Transport) -> FloatArray:
        members = np.flatnonzero(adjacency[rank]).tolist()
        with Neighbors(transport, rank, members, n_nodes, network.timeout) as neighbors:
            settings = {
                "method": "network_minmax",
                "number of features": samples.shape[1],
                "graph": describe_graph(adjacency),
            }
            check_settings(neighbors.introduce(settings))
            return agree(neighbors, rank, own, adjacency)

    known = network.run({rank: program})[rank]
    minimum, maximum = np.split(known, 2, axis=1)
    return np.nanmin(minimum, axis=0), np.nanmax(maximum, axis=0)
