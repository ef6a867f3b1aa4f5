"""What the decentralised regressor and classifier share: parameters, fitting, the nodes' values."""

import warnings
from abc import ABC
from dataclasses import replace
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data
from threadpoolctl import threadpool_limits

from ..utils._random import local_random_state
from ._config import Settings
from ._node_samples import check_labels, deal_rows, encode_nodes, rows_by_label
from ._simulation import add_rows, simulate
from .maths._engine import make_engine
from .maths._feature_maps import FeatureMap, evaluate, mean_values
from .maths._graphs import GRAPHS, check_graph, make_graph, n_components
from .maths._random_features import SELECTIONS
from .maths._solvers import SOLVERS
from .network._network_fit import fit_over_network

CONSENSUS_WEIGHTS = (0.0, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
_ENTROPY_BOUND = 2**31 - 1


class BaseDecentralizedRF(BaseEstimator, ABC):
    """Random-feature ridge regression at the nodes of a network."""

    # Cross-validation and pipelines hand labels of nodes on without being asked.
    __metadata_request__fit = {"node": True}
    __metadata_request__partial_fit = {"node": True}
    __metadata_request__predict = {"node": True}
    __metadata_request__score = {"node": True}

    _parameter_constraints = {
        "n_components": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "gamma": [StrOptions({"median", "scale"}), Interval(Real, 0, None, closed="neither")],
        "alpha": [Interval(Real, 0, None, closed="neither")],
        "consensus_weight": [StrOptions({"cv"}), Interval(Real, 0, None, closed="left")],
        "consensus_weight_grid": ["array-like"],
        "cv": [Interval(Integral, 2, None, closed="left"), HasMethods(["split"]), "array-like"],
        "n_nodes": [Interval(Integral, 1, None, closed="left")],
        "graph": "no_validation",
        "feature_selection": [StrOptions(set(SELECTIONS))],
        "oversampling": [Interval(Real, 1, None, closed="left")],
        "anchors": ["array-like", "sparse matrix", None],
        "solver": [StrOptions(set(SOLVERS))],
        "damping": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "fit_intercept": ["boolean"],
        "network": [HasMethods(["ranks", "run", "size"]), None],
        "on_failure": [StrOptions({"freeze", "drop"})],
        "aggregate": [StrOptions({"mean", "neighborhood"})],
        "engine": [StrOptions({"auto", "numba", "torch"})],
        "device": "no_validation",
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        *,
        n_components=100,
        gamma="median",
        alpha=1e-6,
        consensus_weight=0.5,
        consensus_weight_grid=CONSENSUS_WEIGHTS,
        cv=5,
        n_nodes=10,
        graph="circulant",
        feature_selection="energy_pairs",
        oversampling=20,
        anchors=None,
        solver="auto",
        damping=0.0,
        max_iter=500,
        tol=1e-6,
        fit_intercept=True,
        network=None,
        on_failure="freeze",
        aggregate="mean",
        engine="auto",
        device=None,
        n_jobs=None,
        random_state=None,
    ):
        self.n_components = n_components
        self.gamma = gamma
        self.alpha = alpha
        self.consensus_weight = consensus_weight
        self.consensus_weight_grid = consensus_weight_grid
        self.cv = cv
        self.n_nodes = n_nodes
        self.graph = graph
        self.feature_selection = feature_selection
        self.oversampling = oversampling
        self.anchors = anchors
        self.solver = solver
        self.damping = damping
        self.max_iter = max_iter
        self.tol = tol
        self.fit_intercept = fit_intercept
        self.network = network
        self.on_failure = on_failure
        self.aggregate = aggregate
        self.engine = engine
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _fit_nodes(self, X, Y, weights, node):
        """Fit the nodes that this process holds and return the fitted attributes."""
        engine = make_engine(self.engine, self.device)
        rng = local_random_state(self.random_state)
        entropy = int(rng.randint(_ENTROPY_BOUND))
        nodes, rows = self._rows_by_node(X, Y, weights, node, rng)
        settings = self._settings(nodes, X, entropy)
        # Threads are better spent on nodes side by side, and one thread of BLAS makes the result
        # independent of their number.
        with threadpool_limits(limits=1, user_api="blas"):
            if self.network is None:
                result = simulate(
                    engine,
                    settings,
                    list(rows.values()),
                    candidates=self._candidates(),
                    cv=self.cv,
                    n_jobs=self.n_jobs,
                )
            else:
                result = fit_over_network(engine, settings, rows, self.network)
        self._warn(result, nodes, settings.adjacency)
        return self._attributes(result, nodes, list(rows), settings)

    def _rows_by_node(self, X, Y, weights, node, rng):
        """Labels of all nodes, and by number the rows of those that this process holds."""
        if self.network is not None and not self.network.holds_all:
            self._refuse_labels(node)
            (rank,) = self.network.ranks(self.n_nodes)
            (own,) = rows_by_label(X, Y, weights, np.zeros(len(Y), dtype=int), [rank])
            return np.arange(self.network.size(self.n_nodes)), {rank: own}
        if node is not None:
            nodes, codes = np.unique(check_labels(node, len(Y)), return_inverse=True)
            rows = rows_by_label(X, Y, weights, codes, nodes.tolist())
        else:
            rows = deal_rows(X, Y, weights, self.n_nodes, rng)
            nodes = np.arange(len(rows))
            if len(rows) < self.n_nodes:
                warnings.warn(
                    f"n_nodes={self.n_nodes} is more than the number of distinct rows; "
                    f"{len(rows)} nodes are used.",
                    UserWarning,
                    stacklevel=6,
                )
        return nodes, dict(enumerate(rows))

    def _settings(self, nodes, X, entropy):
        n_nodes = len(nodes)
        if isinstance(self.graph, str):
            if self.graph not in GRAPHS:
                raise ValueError(
                    f"graph must be one of {GRAPHS}, a matrix, a list of pairs or a networkx "
                    f"graph, got {self.graph!r}."
                )
            adjacency = make_graph(self.graph, n_nodes, random_state=entropy)
        else:
            adjacency = check_graph(self.graph, nodes)
        anchors = self.anchors
        if anchors is not None:
            anchors = check_array(anchors, accept_sparse="csr", dtype=np.float64)
            if anchors.shape[1] != X.shape[1]:
                raise ValueError(
                    f"anchors must have {X.shape[1]} columns as X has, got {anchors.shape[1]}."
                )
        return Settings(
            adjacency=adjacency,
            n_components=self._components(n_nodes),
            gamma=self.gamma,
            alpha=self.alpha,
            consensus_weight=self.consensus_weight,
            feature_selection=self.feature_selection,
            oversampling=self.oversampling,
            anchors=anchors,
            fit_intercept=self.fit_intercept,
            solver=self.solver,
            damping=self.damping,
            max_iter=self.max_iter,
            tol=self.tol,
            on_failure=self.on_failure,
            entropy=entropy,
        )

    def _components(self, n_nodes):
        components = np.atleast_1d(self.n_components)
        if not np.issubdtype(components.dtype, np.integer) or (components < 1).any():
            raise ValueError(f"n_components must be positive integers, got {self.n_components!r}.")
        if components.shape not in ((1,), (n_nodes,)):
            raise ValueError(
                f"n_components must be one number or one for each of {n_nodes} nodes, got "
                f"{self.n_components!r}."
            )
        return np.broadcast_to(components, n_nodes).astype(np.int64)

    def _candidates(self):
        """Consensus weights to choose from, or None where the user has chosen."""
        if self.consensus_weight != "cv":
            return None
        grid = np.asarray(self.consensus_weight_grid, dtype=np.float64)
        if grid.ndim != 1 or not len(grid) or not (np.isfinite(grid) & (grid >= 0)).all():
            raise ValueError(
                "consensus_weight_grid must be a sequence of finite numbers from 0, got "
                f"{self.consensus_weight_grid!r}."
            )
        return grid

    def _warn(self, result, nodes, adjacency):
        pieces = n_components(adjacency)
        if pieces > 1:
            warnings.warn(
                f"graph has {pieces} components that do not hear of each other.",
                UserWarning,
                stacklevel=6,
            )
        if result.failed:
            names = ", ".join(repr(nodes[j].item()) for j in result.failed)
            warnings.warn(
                f"No more was heard of node {names} during the fit (on_failure="
                f"{self.on_failure!r} applied).",
                ConvergenceWarning,
                stacklevel=6,
            )
        if not result.converged:
            warnings.warn(
                f"No consensus within tol={self.tol} in max_iter={self.max_iter} rounds.",
                ConvergenceWarning,
                stacklevel=6,
            )

    def _attributes(self, result, nodes, held, settings):
        """Fitted attributes, with two-dimensional coefficients and a one-dimensional intercept."""
        return {
            "nodes_": nodes,
            "local_nodes_": nodes[held],
            "failed_nodes_": nodes[list(result.failed)],
            "adjacency_": settings.adjacency,
            "node_frequencies_": [None if z is None else z.frequencies for z in result.maps],
            "node_phases_": [None if z is None else z.phases for z in result.maps],
            "node_coef_": result.coefs,
            "gamma_": float(result.gamma),
            "intercept_": result.mean,
            "consensus_weight_": float(result.consensus_weight),
            "consensus_weight_scores_": result.scores,
            "consensus_error_": float(result.gap_curve[-1]),
            "consensus_curve_": result.gap_curve,
            "objective_curve_": result.objective_curve,
            "n_floats_sent_": result.floats,
            "n_iter_": result.n_iter,
            "_statistics": result.statistics,
            "_memories": result.memories,
            "_shift": result.shift,
        }

    def _update_nodes(self, X, Y, weights, node):
        """Add rows to the fitted nodes, whose maps stay, and return the changed attributes."""
        if (self.network is None) != (self._memories is None):
            raise ValueError(
                f"network must be given to partial_fit as it was to fit, got {self.network!r}."
            )
        if len(self.failed_nodes_):
            raise ValueError(
                f"partial_fit needs all nodes, but {self.failed_nodes_.tolist()} fell silent "
                "during the fit; fit anew."
            )
        engine = make_engine(self.engine, self.device)
        rows = self._more_rows_by_node(X, Y, weights, node)
        settings = replace(
            self._settings(self.nodes_, X, 0),
            adjacency=self.adjacency_,
            consensus_weight=self.consensus_weight_,
            gamma=self.gamma_,
        )
        with threadpool_limits(limits=1, user_api="blas"):
            if self.network is None:
                result = add_rows(
                    engine,
                    settings,
                    list(rows.values()),
                    maps=self._maps(rows),
                    statistics=self._statistics,
                    shift=self._shift,
                    n_jobs=self.n_jobs,
                )
            else:
                result = fit_over_network(engine, settings, rows, self.network, self._memories)
        self._warn(result, self.nodes_, self.adjacency_)
        changed = self._attributes(result, self.nodes_, list(rows), settings)
        return changed | {"consensus_weight_scores_": self.consensus_weight_scores_}

    def _more_rows_by_node(self, X, Y, weights, node):
        """By number, the new rows of the nodes that this process holds; some may have none."""
        if self.network is not None and not self.network.holds_all:
            self._refuse_labels(node)
            (rank,) = self.network.ranks(self.n_nodes)
            codes = np.zeros(len(Y), dtype=int)
            (own,) = rows_by_label(X, Y, weights, codes, [rank], keep_empty=True)
            return {rank: own}
        if node is None:
            rng = local_random_state(self.random_state)
            rows = deal_rows(X, Y, weights, len(self.nodes_), rng, keep_empty=True)
        else:
            codes = encode_nodes(node, len(Y), self.nodes_)
            rows = rows_by_label(X, Y, weights, codes, self.nodes_.tolist(), keep_empty=True)
        return dict(enumerate(rows))

    @staticmethod
    def _refuse_labels(node):
        if node is not None:
            raise ValueError(
                "node must be None where every process holds the rows of one node: they belong to "
                "its rank."
            )

    def _maps(self, numbers):
        return [FeatureMap(self.node_frequencies_[j], self.node_phases_[j]) for j in numbers]

    def _coefs(self, numbers):
        coefs = (self.node_coef_[j] for j in numbers)
        return [theta.reshape(len(theta), -1) for theta in coefs]

    def _validated(self, X):
        check_is_fitted(self)
        return validate_data(
            self, X, accept_sparse="csr", dtype=[np.float64, np.float32], reset=False
        )

    def _values(self, X, node):
        """Values for validated rows, (n, k), as `aggregate` and `node` say."""
        engine = make_engine(self.engine, self.device)
        alone = len(self.local_nodes_) == 1
        if self.aggregate == "mean" and node is None:
            gone = np.isin(self.nodes_, self.failed_nodes_)
            known = np.array([theta is not None for theta in self.node_coef_])
            if not (known | gone).all():
                raise ValueError(
                    "aggregate='mean' needs the functions of all nodes, and this process holds "
                    "those of its neighbourhood only; set aggregate='neighborhood' or pass node "
                    f"to predict, for example node={self.local_nodes_[0]!r}."
                )
            return self._mean_over(engine, X, np.flatnonzero(known))
        if node is None:
            if not alone:
                raise ValueError(
                    "aggregate='neighborhood' needs to know whose neighbourhood: pass node to "
                    "predict."
                )
            node = self.local_nodes_[0]
        codes = encode_nodes(node, X.shape[0], self.nodes_)
        out = np.empty((X.shape[0], len(self._intercepts())))
        for j in np.unique(codes):
            rows = codes == j
            members = [j]
            if self.aggregate == "neighborhood":
                others = np.flatnonzero(self.adjacency_[j])
                members += [i for i in others if self.node_coef_[i] is not None]
            if self.node_coef_[j] is None:
                raise ValueError(
                    f"the function of node {self.nodes_[j].item()!r} is not known here; known are "
                    f"{[self.nodes_[i].item() for i in self._known()]}."
                )
            out[rows] = self._mean_over(engine, X[rows], members)
        return out

    def _known(self):
        return [j for j, theta in enumerate(self.node_coef_) if theta is not None]

    def _intercepts(self):
        return np.atleast_1d(self.intercept_)

    def _mean_over(self, engine, X, numbers):
        values = mean_values(engine, X, self._maps(numbers), self._coefs(numbers))
        return values + self._intercepts()

    def _values_of_nodes(self, X):
        """Values of every known node's function, (J, n, k); NaN where a node is not known."""
        engine = make_engine(self.engine, self.device)
        known = self._known()
        out = np.full((len(self.nodes_), X.shape[0], len(self._intercepts())), np.nan)
        out[known] = evaluate(engine, X, self._maps(known), self._coefs(known)) + self._intercepts()
        return out
