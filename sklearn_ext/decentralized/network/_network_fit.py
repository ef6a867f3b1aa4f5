"""Fitting over a network: every node runs its program, and the results are put together."""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._simulation import FitResult
from ..maths._graphs import check_graph, diameter, make_graph
from ._communication import report, round_floats
from ._neighbors import Peers
from ._node import DecentralizedNode

MESSAGE_SOLVERS = ("auto", "chebyshev", "gauss_seidel", "jacobi")


def fit_over_network(engine, settings, rows, network, memories=None):
    """Run the nodes that this process holds.

    Parameters
    ----------
    engine : NumbaEngine or TorchEngine
    settings : Settings
    rows : dict of NodeRows, by number of the node
    network : InProcessNetwork, TorchDistributedNetwork or an object with their methods
    memories : dict of NodeMemory, by number of the node, default=None
        What the nodes kept of an earlier fit, to which the rows are added.

    Returns
    -------
    FitResult

    Raises
    ------
    ValueError
        If the settings ask for what cannot be done with messages between neighbours.
    """
    if settings.solver not in MESSAGE_SOLVERS:
        raise ValueError(
            f"solver must be one of {MESSAGE_SOLVERS} with a network, got {settings.solver!r}."
        )
    if isinstance(settings.consensus_weight, str):
        raise ValueError(
            "consensus_weight must be a number with a network, got "
            f"{settings.consensus_weight!r}; choose it with network=None."
        )
    if settings.solver in ("chebyshev", "gauss_seidel") and not network.in_step:
        raise ValueError(
            f"solver={settings.solver!r} needs rounds in step and without losses; use "
            "solver='jacobi' on this network."
        )
    programs = {
        rank: partial(_run_node, engine, settings, rank, part, network, (memories or {}).get(rank))
        for rank, part in rows.items()
    }
    results = {rank: result for rank, result in network.run(programs).items() if result is not None}
    return _put_together(settings, results, next(iter(rows.values())).Y.shape[1])


def _run_node(engine, settings, rank, rows, network, memory, transport):
    return DecentralizedNode(
        rank,
        settings,
        rows,
        engine,
        transport,
        asynchronous=network.asynchronous,
        timeout=network.timeout,
        memory=memory,
    ).run()


def _put_together(settings, results, n_outputs):
    maps, coefs = [None] * settings.n_nodes, [None] * settings.n_nodes
    setup = np.zeros((settings.n_nodes, settings.n_nodes), dtype=np.int64)
    rounds = setup.copy()
    for rank, result in results.items():
        for i, theta in result.neighbour_coefs.items():
            if i not in results:
                maps[i], coefs[i] = result.memory.neighbour_maps[i], theta
        maps[rank], coefs[rank] = result.memory.map, result.coef
        setup[rank], rounds[rank] = result.setup_sent, result.rounds_sent
    one_round = round_floats(settings, n_outputs)
    one_round[[j for j in range(settings.n_nodes) if j not in results]] = 0
    any_result = next(iter(results.values()))
    return FitResult(
        maps=maps,
        coefs=coefs,
        gamma=any_result.gamma,
        mean=any_result.mean,
        shift=any_result.memory.shift,
        memories={rank: result.memory for rank, result in results.items()},
        consensus_weight=settings.consensus_weight,
        n_iter=max(result.n_iter for result in results.values()),
        converged=all(result.converged for result in results.values()),
        objective_curve=_summed([result.objective_shares for result in results.values()]),
        gap_curve=np.sqrt(
            _summed([result.disagreement_shares for result in results.values()]).clip(min=0.0)
            / any_result.total_weight
        ),
        floats=report(setup, one_round, setup + rounds),
        failed=tuple(sorted({int(i) for result in results.values() for i in result.failed})),
    )


def _summed(shares):
    """Sum of the nodes' shares by round; a node that has left stays at its last one."""
    longest = max(map(len, shares))
    return sum(np.pad(share, (0, longest - len(share)), mode="edge") for share in shares)


def network_minmax(
    X: ArrayLike, *, network: Any, graph: Any = "circulant"
) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest value of every column over all nodes.

    Nodes that scale their inputs must scale them alike: agreement on predicted values means
    nothing otherwise. The extremes pass from neighbour to neighbour until all know them.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Rows of this process' node.
    network : TorchDistributedNetwork
        The network. Where one process holds all nodes, scale the whole table instead.
    graph : str, array-like, sparse matrix, list of pairs or networkx graph, default="circulant"
        As for the estimators.

    Returns
    -------
    minimum, maximum : ndarray of shape (n_features,)

    Raises
    ------
    ValueError
        If one process holds all nodes.

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
    ValueError: network must hold one node a process, got InProcessNetwork.
    """
    if network.holds_all:
        raise ValueError(f"network must hold one node a process, got {type(network).__name__}.")
    X = np.asarray(X, dtype=np.float64)
    (rank,) = network.ranks(1)
    n_nodes = network.size(1)
    adjacency = (
        make_graph(graph, n_nodes)
        if isinstance(graph, str)
        else check_graph(graph, np.arange(n_nodes))
    )
    own = np.concatenate((X.min(axis=0), X.max(axis=0)))

    def program(transport):
        peers = Peers(transport, np.flatnonzero(adjacency[rank]).tolist(), n_nodes)
        return peers.flood(rank, own, diameter(adjacency))

    known = network.run({rank: program})[rank]
    minimum, maximum = np.split(known, 2, axis=1)
    return np.nanmin(minimum, axis=0), np.nanmax(maximum, axis=0)
