"""Decentralized random-feature classification."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.metrics import accuracy_score

from ..utils._atomic import atomic_fit
from ..utils._typing import Array, FloatArray, RandomState
from ..utils._validation import check_class_labels
from ..utils.compat import FitTasks, with_callbacks
from ._base import BaseDecentralizedRF
from ._config import ALPHAS, CONSENSUS_WEIGHTS, GAMMA_FACTORS
from ._private import GaussianRelease
from .network._transport import Network


class DecentralizedRFClassifier(ClassifierMixin, BaseDecentralizedRF):
    r"""Classification at nodes that keep their samples and exchange messages.

    A :class:`DecentralizedRFKRR` is fitted to targets of -1 and 1, with one output for each class
    (a single output for two classes), and the class with the largest value is predicted. A node may
    lack samples of some classes.

    Parameters
    ----------
    n_components : int or array-like of shape (n_nodes,), default=100
        Number of random features of each node. If it is odd with ``"energy_pairs"``, one cosine has
        no matching sine.
    gamma : {"median", "scale", "cv"} or float, default="median"
        Coefficient of the kernel :math:`\exp(-\gamma\lVert x - x'\rVert^2)`. "median" is
        :math:`1/(2\sigma^2)`, where :math:`\sigma` is the median distance between the samples of a
        node, averaged over nodes; "scale" is 1 / (n_features * X.var()), with the same average.
        ``feature_selection="auto"`` may make the kernel wider. "cv" chooses from `gamma_grid`, and
        with ``feature_selection="auto"`` also between "energy_pairs" and "plain".
    gamma_grid : array-like of float, default=(4, 1, 1/4, 1/16, 1/64)
        Candidates for ``gamma="cv"``, as multiples of the coefficient that "median" gives.
    alpha : float or "cv", default=1e-6
        Ridge per sample. The ridge of a node is `alpha` times the number of samples of the network,
        divided by the number of nodes. "cv" chooses it from `alpha_grid`.
    alpha_grid : array-like of float, default=(1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3)
        Candidates for ``alpha="cv"``.
    consensus_weight : float or "cv", default=0.5
        Weight of the disagreement with neighbors. **A weight that is too large shrinks every
        function to zero**, because functions of different maps agree only there. "cv" chooses it
        from `consensus_weight_grid`.
    consensus_weight_grid : array-like of float, default=(0, 0.05, 0.1, 0.25, 0.5, 1, 2, 4)
        Candidates for "cv".
    cv : int, cross-validation splitter or list of (train, test), default=5
        Folds for "cv". All nodes hold out their part of a fold at the same time, and every sample
        is predicted by its own node. Features are selected on all samples, once for each candidate
        of `gamma`. Width and ridge are chosen together, with a consensus weight of 0.5 if it is
        "cv", too; the consensus weight is chosen afterward.
    n_nodes : int, default=10
        Number of nodes if `node` is None. Otherwise, the nodes are the labels in `node`.
    graph : str, array-like, sparse matrix, list of pairs or networkx graph, default="circulant"
        Which nodes are neighbors: "circulant" (every node has four neighbors), "complete", "grid",
        "path", "random", "ring" or "star" (see :func:`~sklearn_ext.decentralized.make_graph`), or a
        graph of the nodes' labels (see :func:`~sklearn_ext.decentralized.check_graph`).
    feature_selection : str, default="auto"
        How a node selects its features on its own samples: "auto", "energy_pairs", "energy",
        "leverage" or "plain". "energy_pairs" takes pairs of cosine and sine whose frequencies carry
        most of the targets' energy. "energy", the rule of the paper, scores cosines with random
        phases and then draws new phases. "leverage" samples by ridge leverage, and "plain" does not
        select. "auto" is "energy_pairs", unless `gamma` is a rule and the nodes find on held-out
        samples that plain features of a kernel 2 to 16 times as wide are clearly better, as with
        heavy tails.
    oversampling : float, default=20
        Number of candidates drawn per feature.
    anchors : {array-like, sparse matrix} of shape (n_anchors, n_features), default=None
        Public inputs at which neighbors compare their functions; nothing else is exchanged. They
        must be distributed like the samples: anchors from another distribution are worse than no
        exchange. None compares the functions at the nodes' own samples, for which nodes exchange
        Gram blocks.
    solver : {"auto", "direct", "cg", "jacobi", "gauss_seidel", "chebyshev"}, default="auto"
        "direct" and "cg" are fast in one process and need all blocks in one place; "auto" is
        "direct" with up to 6,000 features in total, and "cg" beyond that. The other three need only
        messages between neighbors; over a network, "auto" is "jacobi".
    damping : float, default=0.0
        Weight of a term that keeps a node near its last function. The rounds converge without it; 5
        gives the iteration of the paper.
    max_iter : int, default=500
        Maximum number of rounds.
    tol : float, default=1e-6
        The rounds stop when the estimated error at the training samples, relative to the targets,
        is below this value.
    fit_intercept : bool, default=True
        Whether the mean of the targets over the network is subtracted first.
    network : InProcessNetwork, TorchDistributedNetwork or None, default=None
        Network that carries the messages. None computes the solution in this process without
        messages.
    on_failure : {"freeze", "drop"}, default="freeze"
        How to treat a neighbor that fails: "freeze" keeps its last function, and "drop" removes its
        terms.
    message_dtype : {"float64", "float32", "bfloat16"}, default="float64"
        Precision of the messages of a network. With less than "float64", rounds carry differences
        from the values that the neighbors have, and converge to the same solution; maps and Gram
        blocks are then "float32".
    censoring : float, default=0.0
        Over a network, a node sends an update only if its predictions have changed by more than
        this fraction of the targets since its last update. The fraction shrinks in every round, so
        that the solution is the same.
    censoring_decay : float, default=0.9
        Factor by which `censoring` shrinks in every round.
    privacy : GaussianRelease or None, default=None
        With a :class:`~sklearn_ext.decentralized.GaussianRelease`, every node releases noisy sums
        once, with a guarantee of (epsilon, delta)-differential privacy, and nothing else leaves it:
        see :func:`~sklearn_ext.decentralized.solve_dekrr_privately`. All nodes then share one
        random map; `gamma` must be a number, and the parameters of selection, consensus and rounds
        have no effect.
    aggregate : {"mean", "neighborhood"}, default="mean"
        How `predict` combines the functions of the nodes. "mean" averages over all nodes, or uses
        only the one given by `node`; "neighborhood" averages over a node and its neighbors.
    engine : {"auto", "numba", "torch"}, default="auto"
        Library for the computations; "auto" means numba on the CPU and torch on other devices.
    device : str, torch.device or None, default=None
        Device of the torch engine; None means the CPU.
    n_jobs : int, default=None
        Number of threads that process nodes in parallel if `network` is None. It does not affect
        the result.
    random_state : int, RandomState instance or None, default=None
        Seeds the features and the assignment of samples to nodes. If `graph` is "random", every
        process of a network must get the same integer.
    classes : array-like, default=None
        All classes, which you must pass if no process has the samples of all nodes. None uses the
        classes in y.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Sorted class labels.
    nodes_ : ndarray of shape (n_nodes,)
        Sorted labels of the nodes.
    local_nodes_ : ndarray
        Labels of the nodes whose samples this process holds.
    failed_nodes_ : ndarray
        Labels of the nodes that failed during the fit.
    adjacency_ : ndarray of shape (n_nodes, n_nodes)
        Weights of the edges.
    node_coef_ : list of ndarray of shape (D_j,) or (D_j, n_outputs)
        Coefficients of every node; None for a node whose coefficients this process does not have.
    node_frequencies_ : list of ndarray of shape (n_features, D_j)
        Frequencies of every node.
    node_phases_ : list of ndarray of shape (D_j,)
        Phases of every node. The features of node j are ``sqrt(2 / D_j) * cos(x @
        node_frequencies_[j] + node_phases_[j])``.
    gamma_ : float
        Coefficient of the kernel.
    alpha_ : float
        Ridge per sample.
    feature_selection_ : str
        How the nodes selected their features.
    intercept_ : float or ndarray of shape (n_outputs,)
        Mean that was subtracted from the targets; zero without `fit_intercept`.
    consensus_weight_ : float
        Weight of the disagreement.
    consensus_weight_scores_ : ndarray of shape (n_candidates, n_folds) or None
        With ``consensus_weight="cv"``, the squared error on held-out samples divided by their
        variance.
    cv_results_ : dict of str to ndarray, or None
        With "cv", one entry per candidate: its "feature_selection", "gamma", "alpha" and
        "consensus_weight"; the "errors" of shape (n_candidates, n_folds), which are squared errors
        on held-out samples divided by their variance; and the "mean_error" over the folds.
    consensus_error_ : float
        Root mean square, over training samples, of the difference between a node and its neighbors,
        in units of the targets. It is also small if all functions are shrunk, so compare it with
        the training score.
    consensus_curve_ : ndarray of shape (n_rounds + 1,)
        Values of `consensus_error_` before every round and at the end.
    objective_curve_ : ndarray of shape (n_rounds + 1,)
        Objective before every round and at the end. If a process holds one node, its curve is that
        node's part of the objective.
    n_floats_sent_ : dict
        Communication cost in floats: "setup", "round" and "total" over the network, and
        "setup_by_edge" and "round_by_edge", arrays of shape (n_nodes, n_nodes) from the node of the
        row to the node of the column. A process that holds one node counts what that node sends.
        Without a network, the counts are those of the messages that a network would carry, except
        those for "cv"; "direct" counts as one round.
    communication_cost_ : dict or None
        Bytes that the network has carried, measured at the transport with headers and all control
        messages: "setup", "rounds", "total", and "by_edge", an array of shape (n_nodes, n_nodes)
        from the node of the row to the node of the column. None without a network.
    n_iter_ : int
        Number of rounds; 1 for "direct".
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

    See Also
    --------
    DecentralizedRFKRR : Regression.

    Notes
    -----
    **What a neighbor can learn.** Samples and labels stay at their node, but this does not make
    them private: the samples of a node can be reconstructed from the Gram blocks that it sends, by
    plain least squares. With `anchors`, neighbors receive the values of the node's function at the
    anchors and nothing else.

    All nodes must scale their inputs in the same way (see
    :func:`~sklearn_ext.decentralized.network_minmax`). If every node has its own scaler, agreement
    on values is meaningless.

    References
    ----------
    .. [1] R. Yang, F. He, M. He, J. Yang, X. Huang, "Decentralized Kernel Ridge Regression Based on
       Data-Dependent Random Feature", IEEE Transactions on Neural Networks and Learning Systems
       36(5), 2025, arXiv:2405.07791.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext import DecentralizedRFClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = DecentralizedRFClassifier(n_nodes=5, alpha=1e-3, random_state=0)
    >>> print(f"{classifier.fit(X, y).score(X, y):.2f}")
    0.98
    """

    __metadata_request__decision_function = {"node": True}

    _parameter_constraints = {
        **BaseDecentralizedRF._parameter_constraints,
        "classes": ["array-like", None],
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
        classes: ArrayLike | None = None,
    ):
        super().__init__(
            n_components=n_components,
            gamma=gamma,
            gamma_grid=gamma_grid,
            alpha=alpha,
            alpha_grid=alpha_grid,
            consensus_weight=consensus_weight,
            consensus_weight_grid=consensus_weight_grid,
            cv=cv,
            n_nodes=n_nodes,
            graph=graph,
            feature_selection=feature_selection,
            oversampling=oversampling,
            anchors=anchors,
            solver=solver,
            damping=damping,
            max_iter=max_iter,
            tol=tol,
            fit_intercept=fit_intercept,
            network=network,
            on_failure=on_failure,
            message_dtype=message_dtype,
            censoring=censoring,
            censoring_decay=censoring_decay,
            privacy=privacy,
            aggregate=aggregate,
            engine=engine,
            device=device,
            n_jobs=n_jobs,
            random_state=random_state,
        )
        self.classes = classes

    @atomic_fit
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: ArrayLike,
        *,
        node: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Fit the nodes of the network.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training samples of all nodes, or of this process if the network consists of processes.
            Scale the features in the same way at all nodes.
        y : array-like of shape (n_samples,)
            Labels.
        node : array-like of shape (n_samples,), default=None
            Label of the node that holds each sample; none may be missing. None splits the samples
            into `n_nodes` nodes at random, with a warning.
        sample_weight : array-like of shape (n_samples,), default=None
            A sample of weight k counts like k copies.

        Returns
        -------
        self : DecentralizedRFClassifier
            The fitted estimator.

        Raises
        ------
        ValueError
            If the input is not finite or has the wrong shape, a parameter is out of range, the
            graph does not match the nodes, a node has no sample, or there are fewer than two
            classes.
        """
        X, y, weights = self._check_input(X, y, sample_weight, reset=True)
        self.classes_ = self._all_classes(y[weights > 0])
        tasks = FitTasks(self, None, X, y, sample_weight)
        Y, squeeze = self._signs(y, weights), len(self.classes_) == 2
        self._fit_nodes(X, Y, weights, node, tasks, update=False, squeeze=squeeze)
        return self

    @atomic_fit
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self,
        X: Any,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        *,
        node: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Add samples to the nodes and solve again with the same random features.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            New samples.
        y : array-like of shape (n_samples,)
            Labels.
        classes : array-like, default=None
            All classes, for the first call; None uses the parameter `classes`, or the labels in y.
        node : array-like of shape (n_samples,), default=None
            Label of the node that holds each sample. After the first call, only the labels of the
            first call are allowed. None assigns the samples at random.
        sample_weight : array-like of shape (n_samples,), default=None
            A sample of weight k counts like k copies.

        Returns
        -------
        self : DecentralizedRFClassifier
            The fitted estimator.

        Raises
        ------
        ValueError
            As in `fit`; also if a label is unknown or a node failed during the fit.
        """
        update = hasattr(self, "classes_")
        X, y, weights = self._check_input(X, y, sample_weight, reset=not update)
        if not update:
            self.classes_ = self._all_classes(y[weights > 0], classes)
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(
                f"classes must be {self.classes_.tolist()} as in the first call, got {classes!r}."
            )
        tasks = FitTasks(self, None, X, y, sample_weight)
        Y, squeeze = self._signs(y, weights), len(self.classes_) == 2
        self._fit_nodes(X, Y, weights, node, tasks, update=update, squeeze=squeeze)
        return self

    def _check_input(
        self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None, reset: bool
    ) -> tuple[Any, Array, FloatArray]:
        X, labels, weights = self._check_fit_input(X, y, sample_weight, reset=reset)
        check_class_labels(labels)
        return X, labels, weights

    def _all_classes(self, y: Array, classes: ArrayLike | None = None) -> Array:
        given = self.classes if classes is None else classes
        if given is None and self.network is not None and not self.network.holds_all:
            raise ValueError(
                "classes must be given if no process has the samples of all nodes, got None."
            )
        found = np.unique(y if given is None else given)
        if len(found) < 2:
            name = "y" if given is None else "classes"
            shown = f"one class: {found.tolist()[0]!r}" if len(found) else "none"
            raise ValueError(f"{name} must contain at least two classes, got {shown}.")
        return found

    def _shared_settings(self) -> dict[str, Any]:
        return super()._shared_settings() | {"classes": self.classes_.tolist()}

    def _signs(self, y: Array, weights: FloatArray) -> FloatArray:
        """Return targets of 1 for the class of a sample and -1 for the others.

        Samples of weight zero are not used in the fit, so their labels may be unknown.
        """
        unknown = np.setdiff1d(y[weights > 0], self.classes_)
        if len(unknown):
            raise ValueError(
                f"y must contain only labels in {self.classes_.tolist()}, got "
                f"{unknown.tolist()[0]!r}."
            )
        Y = np.where(y[:, None] == self.classes_, 1.0, -1.0)
        return Y[:, 1:] if len(self.classes_) == 2 else Y

    def decision_function(self, X: Any, *, node: Any = None) -> FloatArray:
        """Return one value per class, of which the largest determines the prediction.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.
        node : label or array-like of shape (n_samples,), default=None
            With ``aggregate="mean"``, the node whose function is used, or one node per sample; None
            uses the mean over all nodes. With ``aggregate="neighborhood"``, the node whose function
            is averaged with those of its neighbors; None means the node whose samples this process
            holds.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            For two classes, one value that is positive for the second class.

        Raises
        ------
        ValueError
            If a label is unknown, or if this process lacks a function that is needed.
        """
        X = self._check_predict_input(X)
        values = self._values(X, node).astype(X.dtype, copy=False)
        return values[:, 0] if len(self.classes_) == 2 else values

    def predict(self, X: Any, *, node: Any = None) -> Array:
        """Predict labels.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.
        node : label or array-like of shape (n_samples,), default=None
            As in `decision_function`.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        return self._labels(self.decision_function(X, node=node))

    def predict_nodes(self, X: Any) -> Array:
        """Predict labels with the function of every node.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        ndarray of shape (n_nodes, n_samples)
            Labels in the order of `nodes_`.

        Raises
        ------
        ValueError
            If this process does not have the function of a node.
        """
        X = self._check_predict_input(X)
        known = list(self._functions().known)
        if len(known) < len(self.nodes_):
            raise ValueError(
                "predict_nodes needs the functions of all nodes, but this process has only those "
                f"of {self.nodes_[known].tolist()}."
            )
        values = self._values_of_nodes(X)
        return self._labels(values[..., 0] if len(self.classes_) == 2 else values)

    def _labels(self, values: FloatArray) -> Array:
        if len(self.classes_) == 2:
            return self.classes_[(values > 0).astype(int)]
        return self.classes_[values.argmax(axis=-1)]

    def score(
        self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None, *, node: Any = None
    ) -> float:
        """Return the accuracy of the predictions.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.
        y : array-like of shape (n_samples,)
            True labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.
        node : label or array-like of shape (n_samples,), default=None
            As in `decision_function`.

        Returns
        -------
        float
        """
        return float(accuracy_score(y, self.predict(X, node=node), sample_weight=sample_weight))
