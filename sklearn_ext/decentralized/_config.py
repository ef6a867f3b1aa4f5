"""The parameters of one decentralized fit."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_array

from ..utils._typing import FloatArray, IntArray

ALPHAS = (1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3)
GAMMA_FACTORS = (4.0, 1.0, 1 / 4, 1 / 16, 1 / 64)
CONSENSUS_WEIGHTS = (0.0, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
_FIRST_ALPHA = 1e-6  # ridge per sample until one is chosen


@dataclass(frozen=True, eq=False)
class DeKRRConfig:
    """Parameters of a decentralized fit, which all nodes share.

    Parameters
    ----------
    adjacency : ndarray of shape (n_nodes, n_nodes)
        Symmetric matrix of edge weights, as returned by
        :func:`~sklearn_ext.decentralized.make_graph`.
    n_components : int or ndarray of shape (n_nodes,), default=100
        Number of random features of every node.
    gamma : {"median", "scale", "cv"} or float, default="median"
        Coefficient of the Gaussian kernel.
    gamma_grid : tuple of float, default=(4, 1, 1/4, 1/16, 1/64)
        Candidates for "cv", as multiples of the coefficient that the rule "median" gives.
    alpha : float or "cv", default=1e-6
        Ridge per sample of the network.
    alpha_grid : tuple of float, default=(1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3)
        Candidates for "cv".
    consensus_weight : float or "cv", default=0.5
        Weight of the disagreement with neighbors.
    consensus_weight_grid : tuple of float, default=(0, 0.05, 0.1, 0.25, 0.5, 1, 2, 4)
        Candidates for "cv".
    cv : int, cross-validation splitter or list of (train, test), default=5
        Folds for "cv".
    feature_selection : {"auto", "energy_pairs", "energy", "leverage", "plain"}, default="auto"
        How a node selects its features.
    oversampling : float, default=20
        Number of candidates per feature.
    anchors : {ndarray, CSR matrix} of shape (n_anchors, n_features), default=None
        Public inputs at which neighbors compare their functions.
    fit_intercept : bool, default=True
        Whether the mean of the targets over the network is subtracted.
    solver : {"auto", "direct", "cg", "jacobi", "gauss_seidel", "chebyshev"}, default="auto"
        Solver of the linear system.
    damping : float, default=0.0
        Weight of the term that keeps a node near its last function.
    max_iter : int, default=500
        Maximum number of rounds.
    tol : float, default=1e-6
        Estimated relative error at which the rounds stop.
    on_failure : {"freeze", "drop"}, default="freeze"
        How to treat a neighbor that fails.
    message_dtype : {"float64", "float32", "bfloat16"}, default="float64"
        Precision of the numbers in the messages of a network.
    censoring : float, default=0.0
        Change of a node's predictions, relative to the targets, below which it sends no update.
    censoring_decay : float, default=0.9
        Factor by which `censoring` shrinks in every round.

    See Also
    --------
    solve_dekrr : The algorithm that takes this configuration.
    DecentralizedRFKRR : The estimator, which documents the parameters in detail.

    Examples
    --------
    >>> from sklearn_ext.decentralized import DeKRRConfig, make_graph
    >>> config = DeKRRConfig(make_graph("ring", 4), n_components=[10, 10, 20, 20])
    >>> config.n_nodes, config.sizes.tolist()
    (4, [10, 10, 20, 20])
    """

    adjacency: FloatArray
    n_components: Any = 100
    gamma: float | str = "median"
    gamma_grid: tuple[float, ...] = GAMMA_FACTORS
    alpha: float | str = 1e-6
    alpha_grid: tuple[float, ...] = ALPHAS
    consensus_weight: float | str = 0.5
    consensus_weight_grid: tuple[float, ...] = CONSENSUS_WEIGHTS
    cv: Any = 5
    feature_selection: str = "auto"
    oversampling: float = 20
    anchors: Any = None
    fit_intercept: bool = True
    solver: str = "auto"
    damping: float = 0.0
    max_iter: int = 500
    tol: float = 1e-6
    on_failure: str = "freeze"
    message_dtype: str = "float64"
    censoring: float = 0.0
    censoring_decay: float = 0.9

    @property
    def setup_dtype(self) -> str:
        """Precision of maps and Gram blocks, which need more than the differences in rounds."""
        return "float64" if self.message_dtype == "float64" else "float32"

    @property
    def n_nodes(self) -> int:
        """Number of nodes, J."""
        return len(self.adjacency)

    @property
    def sizes(self) -> IntArray:
        """Number of features of every node."""
        return np.broadcast_to(self.n_components, self.n_nodes).astype(np.int64)

    @property
    def paired(self) -> bool:
        """Whether the features are pairs of a cosine and a sine."""
        return self.feature_selection in ("auto", "energy_pairs")

    @property
    def width_rule(self) -> float | str:
        """The coefficient of the kernel, or the rule that gives it or scales its candidates."""
        return "median" if self.gamma == "cv" else self.gamma

    @property
    def first_alpha(self) -> float:
        """Ridge per sample for selecting features."""
        return _FIRST_ALPHA if isinstance(self.alpha, str) else self.alpha

    @property
    def compares_selections(self) -> bool:
        """Whether the nodes compare selections on held-out samples first."""
        return self.feature_selection == "auto" and self.gamma in ("median", "scale")

    @property
    def cross_validates(self) -> bool:
        """Whether a parameter is chosen by cross-validation."""
        return "cv" in (self.gamma, self.alpha, self.consensus_weight)

    def neighbors(self, j: int) -> list[int]:
        """Return the neighbors of a node.

        Parameters
        ----------
        j : int
            Index of the node.

        Returns
        -------
        list of int
        """
        return [int(i) for i in np.flatnonzero(self.adjacency[j])]


def check_n_components(n_components: int | ArrayLike, n_nodes: int) -> IntArray:
    """Return the number of features of every node.

    Raises
    ------
    ValueError
        If the numbers are not positive integers, or not one for all nodes or one for each.
    """
    components = np.atleast_1d(n_components)
    if not np.issubdtype(components.dtype, np.integer) or (components < 1).any():
        raise ValueError(f"n_components must consist of positive integers, got {n_components!r}.")
    if components.shape not in ((1,), (n_nodes,)):
        raise ValueError(
            f"n_components must be one number, or one for each of the {n_nodes} nodes, got "
            f"{n_components!r}."
        )
    return np.broadcast_to(components, n_nodes).astype(np.int64)


def check_anchors(anchors: Any, n_features: int) -> Any:
    """Return the anchors in double precision, or None without anchors.

    Raises
    ------
    ValueError
        If the anchors do not have the features of X.
    """
    if anchors is None:
        return None
    checked = check_array(anchors, accept_sparse="csr", dtype=np.float64)
    if checked.shape[1] != n_features:
        raise ValueError(
            f"anchors must have {n_features} features, as X has, got {checked.shape[1]}."
        )
    return checked


def check_grid(name: str, grid: ArrayLike, is_positive: bool) -> tuple[float, ...]:
    """Return the candidates of a parameter.

    Raises
    ------
    ValueError
        If a candidate is not finite, negative, or zero in spite of `is_positive`.
    """
    values = np.asarray(grid, dtype=np.float64)
    allowed = np.isfinite(values) & ((values > 0) if is_positive else (values >= 0))
    if values.ndim != 1 or not len(values) or not allowed.all():
        raise ValueError(
            f"{name} must be a non-empty sequence of finite, "
            f"{'positive' if is_positive else 'non-negative'} numbers, got {grid!r}."
        )
    return tuple(values.tolist())


def node_generator(seed: int, j: int) -> np.random.Generator:
    """Return the random generator of node j, which is the same wherever the node runs."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(j,)))
