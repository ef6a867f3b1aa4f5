"""The mathematics of decentralized kernel regression, as pure functions of arrays."""

from ._consensus import (
    ConsensusSystem,
    NodeSystem,
    anchored_node_system,
    consensus_system,
    node_system,
)
from ._cross_validation import cross_validate, fold_numbers
from ._engine import DeKRREngine, make_engine
from ._graphs import GRAPHS, check_graph, connected_parts, diameter, make_graph
from ._privacy import gaussian_delta, gaussian_noise_scale, release_sums, shared_map
from ._random_features import SELECTIONS, FeatureMap, evaluate, mean_values, select_map
from ._solvers import (
    SOLVERS,
    Solution,
    greedy_colors,
    solve_cg,
    solve_chebyshev,
    solve_direct,
    solve_gauss_seidel,
    solve_jacobi,
    solve_jointly,
)
from ._statistics import NodeStatistics, network_mean, node_statistics

__all__ = [
    "GRAPHS",
    "SELECTIONS",
    "SOLVERS",
    "ConsensusSystem",
    "DeKRREngine",
    "FeatureMap",
    "NodeStatistics",
    "NodeSystem",
    "Solution",
    "anchored_node_system",
    "check_graph",
    "connected_parts",
    "consensus_system",
    "cross_validate",
    "diameter",
    "evaluate",
    "fold_numbers",
    "gaussian_delta",
    "gaussian_noise_scale",
    "greedy_colors",
    "make_engine",
    "make_graph",
    "mean_values",
    "network_mean",
    "node_statistics",
    "node_system",
    "release_sums",
    "select_map",
    "shared_map",
    "solve_cg",
    "solve_chebyshev",
    "solve_direct",
    "solve_gauss_seidel",
    "solve_jacobi",
    "solve_jointly",
]
