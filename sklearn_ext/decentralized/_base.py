"""Parameters, fitting and prediction that the decentralized regressor and classifier share."""

from dataclasses import replace
from functools import partial
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import KFold
from sklearn.utils import Tags
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
from threadpoolctl import threadpool_limits

from ..utils._random import draw_seed, local_random_state
from ..utils._typing import Array, FloatArray, RandomState
from ..utils._warnings import warn_caller
from ..utils.compat import CallbackSupportMixin, FitTasks
from ._config import (
    ALPHAS,
    CONSENSUS_WEIGHTS,
    GAMMA_FACTORS,
    DeKRRConfig,
    check_anchors,
    check_grid,
    check_n_components,
)
from ._node_samples import NodeSamples, check_labels, deal_samples, encode_nodes, group_by_node
from ._parameter_choice import Candidate
from ._private import GaussianRelease, solve_dekrr_privately
from ._result import DeKRRResult, NodeFunctions, NodeMemory
from ._simulation import solve_dekrr
from .math._engine import make_engine
from .math._graphs import GRAPHS, check_graph, connected_parts, make_graph
from .math._random_features import SELECTIONS, FeatureMap
from .math._solvers import SOLVERS
from .network._network_fit import solve_dekrr_over_network
from .network._transport import DTYPES, Network

PAPER_CONSENSUS_WEIGHTS = (0.5, 1.0, 2.0, 4.0, 8.0)


class BaseDecentralizedRF(CallbackSupportMixin, BaseEstimator):
    """Random-feature ridge regression at the nodes of a network."""

    # Cross-validation and pipelines route node labels without a metadata request by the user.
    __metadata_request__fit = {"node": True}
    __metadata_request__partial_fit = {"node": True}
    __metadata_request__predict = {"node": True}
    __metadata_request__score = {"node": True}

    _parameter_constraints: dict[str, Any] = {
        "n_components": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "gamma": [StrOptions({"median", "scale", "cv"}), Interval(Real, 0, None, closed="neither")],
        "gamma_grid": ["array-like"],
        "alpha": [StrOptions({"cv"}), Interval(Real, 0, None, closed="neither")],
        "alpha_grid": ["array-like"],
        "consensus_weight": [StrOptions({"cv"}), Interval(Real, 0, None, closed="left")],
        "consensus_weight_grid": ["array-like"],
        "cv": [Interval(Integral, 2, None, closed="left"), HasMethods(["split"]), "array-like"],
        "n_nodes": [Interval(Integral, 1, None, closed="left")],
        "graph": "no_validation",
        "feature_selection": [StrOptions({"auto", *SELECTIONS})],
        "oversampling": [Interval(Real, 1, None, closed="left")],
        "anchors": ["array-like", "sparse matrix", None],
        "solver": [StrOptions(set(SOLVERS))],
        "damping": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "fit_intercept": ["boolean"],
        "network": [HasMethods(["ranks", "run", "size"]), None],
        "on_failure": [StrOptions({"freeze", "drop"})],
        "message_dtype": [StrOptions(set(DTYPES))],
        "censoring": [Interval(Real, 0, None, closed="left")],
        "censoring_decay": [Interval(Real, 0, 1, closed="neither")],
        "privacy": [GaussianRelease, None],
        "aggregate": [StrOptions({"mean", "neighborhood"})],
        "engine": [StrOptions({"auto", "numba", "torch"})],
        "device": "no_validation",
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        *,
        n_components: int | ArrayLike = 100,
        gamma: float | str = "median",
        gamma_grid: ArrayLike = GAMMA_FACTORS,
        alpha: float | str = 1e-6,
        alpha_grid: ArrayLike = ALPHAS,
        consensus_weight: float | str = 0.5,
        consensus_weight_grid: ArrayLike = CONSENSUS_WEIGHTS,
        cv: Any = 5,
        n_nodes: int = 10,
        graph: Any = "circulant",
        feature_selection: str = "auto",
        oversampling: float = 20,
        anchors: Any = None,
        solver: str = "auto",
        damping: float = 0.0,
        max_iter: int = 500,
        tol: float = 1e-6,
        fit_intercept: bool = True,
        network: Network | None = None,
        on_failure: str = "freeze",
        message_dtype: str = "float64",
        censoring: float = 0.0,
        censoring_decay: float = 0.9,
        privacy: GaussianRelease | None = None,
        aggregate: str = "mean",
        engine: str = "auto",
        device: Any = None,
        n_jobs: int | None = None,
        random_state: RandomState = None,
    ):
        self.n_components = n_components
        self.gamma = gamma
        self.gamma_grid = gamma_grid
        self.alpha = alpha
        self.alpha_grid = alpha_grid
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
        self.message_dtype = message_dtype
        self.censoring = censoring
        self.censoring_decay = censoring_decay
        self.privacy = privacy
        self.aggregate = aggregate
        self.engine = engine
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state

    @classmethod
    def from_paper(cls, **parameters: Any) -> Self:
        r"""Create the estimator with the settings of the paper.

        This sets ``feature_selection="energy"`` with ``oversampling=20`` (candidates scored by
        :math:`\lvert \sum_n y_n \cos(\omega^T x_n + \beta) \rvert`, after which new phases are
        drawn), ``fit_intercept=False``, ``consensus_weight="cv"`` with the candidates 0.5, 1, 2, 4
        and 8 on five contiguous folds, and the paper's iteration, ``solver="jacobi"`` with
        ``damping=5`` and ``max_iter=1500``:

        .. math::
            \theta_j \leftarrow \Big(A_{jj} + 5 \frac{c}{d_j} G_{jj}\Big)^{-1}
            \Big(r_j - \sum_{i \ne j} A_{ji}\theta_i + 5 \frac{c}{d_j} G_{jj}\theta_j\Big) .

        The paper chooses `gamma` and `alpha` for each data set, with inputs scaled to [0, 1] and
        targets scaled to [-1, 1]: ``gamma=8`` (a width of 0.25) and ``alpha=1e-6`` on its
        air-quality and houses data, ``gamma=0.125`` and ``alpha=1e-8`` on its energy data. Here,
        they keep the defaults of the estimator; pass your own values.

        Parameters
        ----------
        **parameters
            Other parameters of the estimator, which take precedence over those of the paper.

        Returns
        -------
        DecentralizedRFKRR or DecentralizedRFClassifier
            The unfitted estimator.

        Examples
        --------
        >>> from sklearn_ext import DecentralizedRFKRR
        >>> krr = DecentralizedRFKRR.from_paper(gamma=8.0, random_state=0)
        >>> krr.feature_selection, krr.damping
        ('energy', 5.0)
        """
        paper = {
            "feature_selection": "energy",
            "oversampling": 20,
            "fit_intercept": False,
            "consensus_weight": "cv",
            "consensus_weight_grid": PAPER_CONSENSUS_WEIGHTS,
            "cv": KFold(5),
            "solver": "jacobi",
            "damping": 5.0,
            "max_iter": 1500,
        }
        return cls(**paper | parameters)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _check_fit_input(
        self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None, **options: Any
    ) -> tuple[Any, Array, FloatArray]:
        X, targets = validate_data(
            self, X, y, accept_sparse="csr", dtype=[np.float64, np.float32], **options
        )
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        return X, targets, weights

    def _fit_nodes(
        self,
        X: Any,
        Y: FloatArray,
        weights: FloatArray,
        node: ArrayLike | None,
        tasks: FitTasks,
        *,
        update: bool,
        squeeze: bool,
    ) -> None:
        """Fit the nodes that this process holds, and set the fitted attributes.

        Parameters
        ----------
        X, Y, weights, node
            Validated samples, with targets of shape (n, k).
        tasks : FitTasks
            Takes the reports to callbacks.
        update : bool
            Whether the samples are added to fitted nodes, whose maps do not change.
        squeeze : bool
            Whether to remove the output dimension of the coefficients and the intercept.
        """
        if self.privacy is not None and not np.isin(weights, (0.0, 1.0)).all():
            raise ValueError(
                "sample_weight must be None with privacy, because the guarantee bounds the "
                f"influence of a sample of weight 1, got {weights.max()}."
            )
        engine = make_engine(self.engine, self.device)
        rng = local_random_state(self.random_state)
        seed, memories = 0, None
        if update:
            self._check_update()
            memories = self._memories
        else:
            seed = draw_seed(rng)
        nodes, samples = self._assign_samples(X, Y, weights, node, rng, update)
        config = self._config(nodes, X.shape[1], seed, update)
        # Threads process nodes in parallel. BLAS uses one thread so that the result does not depend
        # on their number.
        with threadpool_limits(limits=1, user_api="blas"):
            if self.privacy is not None:
                result = solve_dekrr_privately(
                    samples,
                    config,
                    self.privacy,
                    network=self.network,
                    seed=seed,
                    settings=self._shared_settings(),
                )
            elif self.network is None:
                result = solve_dekrr(
                    list(samples.values()),
                    config,
                    seed=seed,
                    memories=memories,
                    engine=engine,
                    n_jobs=self.n_jobs,
                    after_task=tasks,
                )
            else:
                result = solve_dekrr_over_network(
                    samples,
                    config,
                    self.network,
                    seed=seed,
                    memories=memories,
                    engine=engine,
                    settings=self._shared_settings(),
                    after_round=partial(tasks, "round"),
                )
        if not update:
            self._set_scores(result.candidates)
        self._set_fitted(result, nodes, list(samples), config.adjacency, squeeze)
        self._warn(result)
        tasks.end()

    def _shared_settings(self) -> dict[str, Any]:
        """Return the settings that nodes must share besides the configuration."""
        names, seed = getattr(self, "feature_names_in_", None), self.random_state
        return {
            "feature names": None if names is None else names.tolist(),
            "random_state": int(seed) if isinstance(seed, Integral) else None,
        }

    def _check_update(self) -> None:
        if self.privacy is not None:
            raise ValueError(
                "privacy must be None for partial_fit, because every release adds to the privacy "
                f"loss, got {self.privacy!r}."
            )
        if (self.network is None) != self._fitted_without_network:
            raise ValueError(
                "network must be set for partial_fit if and only if it was set for fit, got "
                f"{self.network!r}."
            )
        if len(self.failed_nodes_):
            raise ValueError(
                "partial_fit needs all nodes, but the nodes "
                f"{self.failed_nodes_.tolist()} failed during the fit. Call fit instead."
            )

    def _assign_samples(
        self,
        X: Any,
        Y: FloatArray,
        weights: FloatArray,
        node: ArrayLike | None,
        rng: np.random.RandomState,
        update: bool,
    ) -> tuple[Array, dict[int, NodeSamples]]:
        """Return the labels of all nodes, and the samples of this process's nodes by index."""
        if self.network is not None and not self.network.holds_all:
            if node is not None:
                raise ValueError(
                    "node must be None if every process holds the samples of one node, got "
                    f"{type(node).__name__}: the samples belong to the rank of the process."
                )
            (rank,) = self.network.ranks(self.n_nodes)
            codes = np.zeros(len(Y), dtype=int)
            (own,) = group_by_node(X, Y, weights, codes, [rank], keep_empty=update)
            nodes = self.nodes_ if update else np.arange(self.network.size(self.n_nodes))
            return nodes, {rank: own}
        if node is None:
            n_nodes = len(self.nodes_) if update else self.n_nodes
            samples = deal_samples(X, Y, weights, n_nodes, rng, keep_empty=update)
            if len(samples) < n_nodes:
                warn_caller(
                    f"n_nodes={n_nodes} is more than the number of distinct samples; "
                    f"{len(samples)} nodes are used."
                )
            elif n_nodes > 1 and not update:
                warn_caller(
                    f"node is None: the samples are split into n_nodes={n_nodes} nodes at random. "
                    "Pass node, with one label per sample, if they come from several sites."
                )
            return self.nodes_ if update else np.arange(len(samples)), dict(enumerate(samples))
        if update:
            nodes, codes = self.nodes_, encode_nodes(node, len(Y), self.nodes_)
        else:
            nodes, codes = np.unique(check_labels(node, len(Y)), return_inverse=True)
        samples = group_by_node(X, Y, weights, codes, nodes.tolist(), keep_empty=update)
        return nodes, dict(enumerate(samples))

    def _config(self, nodes: Array, n_features: int, seed: int, update: bool) -> DeKRRConfig:
        config = DeKRRConfig(
            adjacency=self.adjacency_ if update else self._check_graph(nodes, seed),
            n_components=check_n_components(self.n_components, len(nodes)),
            gamma=self.gamma,
            gamma_grid=self._check_grid("gamma", GAMMA_FACTORS),
            alpha=self.alpha,
            alpha_grid=self._check_grid("alpha", ALPHAS),
            consensus_weight=self.consensus_weight,
            consensus_weight_grid=self._check_grid("consensus_weight", CONSENSUS_WEIGHTS),
            cv=self.cv,
            feature_selection=self.feature_selection,
            oversampling=self.oversampling,
            anchors=check_anchors(self.anchors, n_features),
            fit_intercept=self.fit_intercept,
            solver=self.solver,
            damping=self.damping,
            max_iter=self.max_iter,
            tol=self.tol,
            on_failure=self.on_failure,
            message_dtype=self.message_dtype,
            censoring=float(self.censoring),
            censoring_decay=float(self.censoring_decay),
        )
        if update:
            config = replace(
                config,
                gamma=self.gamma_,
                alpha=self.alpha_,
                feature_selection=self.feature_selection_,
                consensus_weight=self.consensus_weight_,
            )
        return config

    def _check_graph(self, nodes: Array, seed: int) -> FloatArray:
        if not isinstance(self.graph, str):
            return check_graph(self.graph, nodes)
        if self.graph not in GRAPHS:
            raise ValueError(
                f"graph must be one of {GRAPHS}, a matrix, a list of pairs or a networkx graph, "
                f"got {self.graph!r}."
            )
        return make_graph(self.graph, len(nodes), random_state=seed)

    def _check_grid(self, name: str, default: tuple[float, ...]) -> tuple[float, ...]:
        """Return the candidates of a parameter, which are checked only if they are used."""
        if getattr(self, name) != "cv":
            return default
        return check_grid(f"{name}_grid", getattr(self, f"{name}_grid"), name != "consensus_weight")

    def _set_scores(self, candidates: list[Candidate]) -> None:
        """Set the errors of cross-validation."""
        self.cv_results_ = None
        self.consensus_weight_scores_ = None
        if not candidates:
            return
        selections, *numbers, errors = zip(*candidates, strict=True)
        gammas, alphas, weights = map(np.array, numbers)
        self.cv_results_ = {
            "feature_selection": np.array(selections),
            "gamma": gammas,
            "alpha": alphas,
            "consensus_weight": weights,
            "errors": np.array(errors),
            "mean_error": np.mean(errors, axis=1),
        }
        if self.consensus_weight == "cv":  # its candidates come last
            n_last = len(np.atleast_1d(self.consensus_weight_grid))
            self.consensus_weight_scores_ = self.cv_results_["errors"][-n_last:]

    def _set_fitted(
        self,
        result: DeKRRResult,
        nodes: Array,
        local: list[int],
        adjacency: FloatArray,
        squeeze: bool,
    ) -> None:
        coefs = result.coefs
        if squeeze:
            coefs = [None if theta is None else theta[:, 0] for theta in coefs]
        self.nodes_ = nodes
        self.local_nodes_ = nodes[local]
        self.failed_nodes_ = nodes[list(result.failed)]
        self.adjacency_ = adjacency
        self.node_frequencies_ = [None if z is None else z.frequencies for z in result.maps]
        self.node_phases_ = [None if z is None else z.phases for z in result.maps]
        self.node_coef_ = coefs
        self.gamma_ = float(result.gamma)
        self.alpha_ = float(result.alpha)
        self.feature_selection_ = result.feature_selection
        self.intercept_ = float(result.mean[0]) if squeeze else result.mean
        self.consensus_weight_ = result.consensus_weight
        self.consensus_error_ = float(result.disagreement_curve[-1])
        self.consensus_curve_ = result.disagreement_curve
        self.objective_curve_ = result.objective_curve
        self.n_floats_sent_ = result.communication
        self.communication_cost_ = result.bytes_sent
        self.n_iter_ = result.n_iter
        self._memories: dict[int, NodeMemory] = result.memories
        self._fitted_without_network = self.network is None

    def _warn(self, result: DeKRRResult) -> None:
        n_parts = connected_parts(self.adjacency_)
        if n_parts > 1:
            warn_caller(
                f"graph is disconnected: its {n_parts} components cannot exchange messages."
            )
        if result.failed:
            warn_caller(
                f"The nodes {self.failed_nodes_.tolist()} failed during the fit, which applied "
                f"on_failure={self.on_failure!r}.",
                ConvergenceWarning,
            )
        if not result.converged and result.n_iter == self.max_iter:  # and no callback stopped it
            warn_caller(
                f"The nodes have not converged to tol={self.tol} within max_iter={self.max_iter} "
                "rounds.",
                ConvergenceWarning,
            )

    def _check_predict_input(self, X: Any) -> Any:
        check_is_fitted(self)
        return validate_data(
            self, X, accept_sparse="csr", dtype=[np.float64, np.float32], reset=False
        )

    def _values(self, X: Any, node: Any) -> FloatArray:
        """Return the values (n, k) for validated samples, according to `aggregate` and `node`."""
        return self._functions().values(X, node, self.aggregate)

    def _values_of_nodes(self, X: Any) -> FloatArray:
        """Return the values of every node's function, (J, n, k); NaN for unknown nodes."""
        return self._functions().values_of_nodes(X)

    @property
    def _n_outputs(self) -> int:
        return np.size(self.intercept_)

    def _functions(self) -> NodeFunctions:
        parts = zip(self.node_frequencies_, self.node_phases_, self.node_coef_, strict=True)
        return NodeFunctions(
            nodes=self.nodes_,
            known={
                j: (FeatureMap(frequencies, phases), theta.reshape(len(theta), -1))
                for j, (frequencies, phases, theta) in enumerate(parts)
                if frequencies is not None and phases is not None and theta is not None
            },
            adjacency=self.adjacency_,
            local=self.local_nodes_,
            failed=self.failed_nodes_,
            intercept=np.atleast_1d(self.intercept_),
            engine=make_engine(self.engine, self.device),
        )
