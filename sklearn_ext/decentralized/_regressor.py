"""Decentralised random-feature kernel ridge regression."""

import numpy as np
from sklearn.base import MultiOutputMixin, RegressorMixin, _fit_context
from sklearn.metrics import r2_score
from sklearn.utils.validation import _check_sample_weight, validate_data

from ..utils._atomic import atomic_fit
from ..utils._magnitudes import check_magnitude
from ._base import BaseDecentralizedRF


class DecentralizedRFKRR(MultiOutputMixin, RegressorMixin, BaseDecentralizedRF):
    r"""Kernel ridge regression at nodes that keep their rows and talk to neighbours.

    Every node (a hospital, a sensor, a site) chooses random features on its own rows and fits
    ridge regression on them, while neighbours in a graph are drawn to agree on predicted values:

    .. math::
        \min_\theta \sum_j \lVert f_j(X_j) - y_j \rVert^2 + \kappa\lVert\theta_j\rVert^2
        + \frac{c}{d_j} \sum_{i \in N_j} \lVert f_j(X_j) - f_i(X_j) \rVert^2, \qquad
        f_j(x) = z_j(x)^T\theta_j .

    The problem is one convex quadratic. In one process it is solved at once; over a network,
    rounds of messages between neighbours lead to the same answer.

    Parameters
    ----------
    n_components : int or array-like of shape (n_nodes,), default=100
        Random features of a node. An odd number of ``"energy_pairs"`` has one cosine without its
        sine.
    gamma : {"median", "scale"} or float, default="median"
        Width of the kernel :math:`\exp(-\gamma\lVert x - x'\rVert^2)`. "median" is
        :math:`1/(2\sigma^2)` with the median distance between a node's rows, averaged over
        nodes; "scale" is 1 / (n_features * X.var()), likewise.
    alpha : float, default=1e-6
        Ridge, times the number of rows of the network and shared out evenly among the nodes.
    consensus_weight : float or "cv", default=0.5
        Weight of the disagreement with neighbours. **Too much of it shrinks every function to
        zero**, because functions of different maps agree only there. "cv" chooses from
        `consensus_weight_grid`.
    consensus_weight_grid : array-like of float, default=(0, 0.05, 0.1, 0.25, 0.5, 1, 2, 4)
        Candidates of "cv".
    cv : int, cross-validation splitter or iterable of (train, test), default=5
        Folds of "cv". All nodes hold out their part of a fold at once, and every row is predicted
        by its own node. Features are chosen once, on all rows.
    n_nodes : int, default=10
        Number of nodes where `node` is None. With `node`, the labels decide.
    graph : str, array-like, sparse matrix, list of pairs or networkx graph, default="circulant"
        Which nodes are joined: "circulant" (a node to four others), "complete", "grid", "path",
        "random", "ring" or "star", see :func:`~sklearn_ext.decentralized.make_graph`, or a graph
        of the nodes' labels, see :func:`~sklearn_ext.decentralized.check_graph`.
    feature_selection : {"energy_pairs", "energy", "leverage", "plain"}, default="energy_pairs"
        How a node chooses its features on its own rows: pairs of cosine and sine whose
        frequencies carry most of the targets' energy; the paper's rule, which scores cosines with
        phases that are then drawn anew; by ridge leverage; or not at all.
    oversampling : float, default=20
        Candidates drawn for every feature kept.
    anchors : {array-like, sparse matrix} of shape (n_anchors, n_features), default=None
        Public inputs at which neighbours compare their functions. Nothing else is then exchanged.
        They must be distributed like the rows: off-distribution anchors are worse than no
        exchange. None compares at the nodes' own rows, which takes an exchange of Gram blocks.
    solver : {"auto", "direct", "cg", "jacobi", "gauss_seidel", "chebyshev"}, default="auto"
        "direct" and "cg" are fast in one process and need all blocks in one place; "auto" takes
        the first up to 6000 features in total. The other three exchange messages between
        neighbours only; over a network, "auto" is "jacobi".
    damping : float, default=0.0
        Weight of a term that holds a node near its last function. Convergence does not need it;
        5 gives the paper's iteration.
    max_iter : int, default=500
        Rounds at most.
    tol : float, default=1e-6
        Estimated error at the training rows, relative to the targets, at which rounds end.
    fit_intercept : bool, default=True
        Whether the network's mean of the targets is subtracted first.
    network : InProcessNetwork, TorchDistributedNetwork or None, default=None
        What carries messages. None computes the network's answer in this process without any.
    on_failure : {"freeze", "drop"}, default="freeze"
        What happens to a neighbour that is gone: its last function stays in place, or its terms
        are taken out.
    aggregate : {"mean", "neighborhood"}, default="mean"
        What `predict` averages: all nodes, unless one is named; or a node and its neighbours.
    engine : {"auto", "numba", "torch"}, default="auto"
        What does the arithmetic; "auto" is numba on the CPU and torch on any other device.
    device : str, torch.device or None, default=None
        Device of the torch engine; None is the CPU.
    n_jobs : int, default=None
        Threads for nodes side by side where `network` is None. The result does not depend on it.
    random_state : int, RandomState instance or None, default=None
        Seed of the features and of the dealing of rows. Every process of a network must get the
        same integer where `graph` is "random".

    Attributes
    ----------
    nodes_ : ndarray of shape (n_nodes,)
        Labels of the nodes, sorted.
    local_nodes_ : ndarray
        Labels of the nodes whose rows this process held.
    failed_nodes_ : ndarray
        Labels of nodes that fell silent during the fit.
    adjacency_ : ndarray of shape (n_nodes, n_nodes)
        Weights of the edges.
    node_coef_ : list of ndarray of shape (D_j,) or (D_j, n_outputs)
        Coefficients of every node; None for a node that this process does not know.
    node_frequencies_ : list of ndarray of shape (n_features, D_j)
        Frequencies of every node.
    node_phases_ : list of ndarray of shape (D_j,)
        Phases: node j's features are ``sqrt(2 / D_j) * cos(x @ node_frequencies_[j] +
        node_phases_[j])``.
    gamma_ : float
        Width of the kernel.
    intercept_ : float or ndarray of shape (n_outputs,)
        What was subtracted from the targets.
    consensus_weight_ : float
        Weight in use.
    consensus_weight_scores_ : ndarray of shape (n_candidates, n_folds) or None
        With "cv", the squared error on held-out rows over their variance.
    consensus_error_ : float
        Root mean square, over training rows, of the disagreement of a node with its neighbours,
        in units of the targets. Small also where all functions are shrunk: read it beside the
        training score.
    consensus_curve_ : ndarray of shape (n_rounds + 1,)
        The same before every round and at the end.
    objective_curve_ : ndarray of shape (n_rounds + 1,)
        Objective before every round and at the end. A process that holds one node has that
        node's share of it.
    n_floats_sent_ : dict
        Floats that messages take: "setup", "round" and "total" over the network, and
        "setup_by_edge" and "round_by_edge", arrays of shape (n_nodes, n_nodes) from the row's node
        to the column's. A process that holds one node counts what that node sends. Without a
        network, these are the messages that one would carry; "direct" counts as one round.
    n_iter_ : int
        Rounds; 1 for "direct".
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, where X has names.

    See Also
    --------
    DecentralizedRFClassifier : Classification.
    InProcessNetwork : Messages between threads, with faults on request.
    TorchDistributedNetwork : One process a node.

    Notes
    -----
    **What a neighbour learns.** Rows and labels stay at their node, which does not make them
    private: a node's rows can be reconstructed from the Gram blocks that it sends, by plain least
    squares. With `anchors`, neighbours see the node's function at the anchors and nothing else.

    Inputs must be scaled alike at all nodes, see
    :func:`~sklearn_ext.decentralized.network_minmax`; a scaler a node makes agreement on values
    meaningless.

    References
    ----------
    R. Yang, F. He, M. He, J. Yang, X. Huang, "Decentralized Kernel Ridge Regression Based on
    Data-Dependent Random Feature", IEEE Transactions on Neural Networks and Learning Systems
    36(5), 2025, arXiv:2405.07791.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import make_friedman1
    >>> from sklearn_ext import DecentralizedRFKRR
    >>> X, y = make_friedman1(2000, random_state=0)
    >>> site = np.arange(2000) % 5
    >>> krr = DecentralizedRFKRR(alpha=1e-4, graph="ring", random_state=0)
    >>> krr.fit(X[:1000], y[:1000], node=site[:1000])
    DecentralizedRFKRR(alpha=0.0001, graph='ring', random_state=0)
    >>> alone = DecentralizedRFKRR(alpha=1e-4, graph="ring", consensus_weight=0, random_state=0)
    >>> alone.fit(X[:1000], y[:1000], node=site[:1000]).score(
    ...     X[1000:], y[1000:], node=site[1000:]
    ... ) < krr.score(X[1000:], y[1000:], node=site[1000:])
    True
    """

    @atomic_fit
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, *, node=None, sample_weight=None):
        """Fit the nodes of the network.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training rows of all nodes; with a network of processes, those of this process.
            Columns should be on scales that are the same at all nodes.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        node : array-like of shape (n_samples,), default=None
            Label of the node that holds the row. None deals the rows to `n_nodes` nodes at
            random.
        sample_weight : array-like of shape (n_samples,), default=None
            A row of weight k counts like k copies.

        Returns
        -------
        self : DecentralizedRFKRR
            The fitted estimator.

        Raises
        ------
        ValueError
            If input is not finite or of the wrong shape, a parameter is out of range, the graph
            does not fit the nodes, or a node has no row.
        """
        vars(self).update(self._public(self._fit_nodes(*self._inputs(X, y, sample_weight), node)))
        return self

    @atomic_fit
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, *, node=None, sample_weight=None):
        """Add rows to the nodes and solve again; their maps stay as they are.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            New rows.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        node : array-like of shape (n_samples,), default=None
            Labels of the nodes; after the first call, of known ones. None deals the rows.
        sample_weight : array-like of shape (n_samples,), default=None
            A row of weight k counts like k copies.

        Returns
        -------
        self : DecentralizedRFKRR
            The fitted estimator.

        Raises
        ------
        ValueError
            As in `fit`, if a label is unknown, or if a node fell silent during the fit.
        """
        first = not hasattr(self, "node_coef_")
        inputs = self._inputs(X, y, sample_weight, reset=first)
        if not first and inputs[1].shape[1] != len(self._intercepts()):
            raise ValueError(
                f"y must have {len(self._intercepts())} outputs as before, got "
                f"{inputs[1].shape[1]}."
            )
        update = self._fit_nodes if first else self._update_nodes
        vars(self).update(self._public(update(*inputs, node)))
        return self

    def _inputs(self, X, y, sample_weight, reset=True):
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse="csr",
            dtype=[np.float64, np.float32],
            multi_output=True,
            y_numeric=True,
            reset=reset,
        )
        check_magnitude(y)
        if reset:
            self._single_output = y.ndim == 1
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        return X, y.astype(np.float64).reshape(len(y), -1), weights

    def _public(self, fitted):
        if self._single_output:
            fitted["node_coef_"] = [
                None if theta is None else theta[:, 0] for theta in fitted["node_coef_"]
            ]
            fitted["intercept_"] = float(fitted["intercept_"][0])
        return fitted

    def predict(self, X, *, node=None):
        """Predict targets.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        node : label or array-like of shape (n_samples,), default=None
            With ``aggregate="mean"``: the node, or the node of each row, whose function is
            taken; None takes the mean over all nodes. With ``aggregate="neighborhood"``: the
            node whose function is averaged with those of its neighbours; None is the node whose
            rows this process held.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Predictions, in float32 if X is float32, else in float64.

        Raises
        ------
        ValueError
            If a label is unknown, or a function that is needed is not known to this process.
        """
        X = self._validated(X)
        values = self._values(X, node).astype(X.dtype, copy=False)
        return values[:, 0] if self._single_output else values

    def predict_nodes(self, X):
        """Predict targets with every node's function.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_nodes, n_samples) or (n_nodes, n_samples, n_outputs)
            In the order of `nodes_`; NaN for a node whose function this process does not know.
        """
        X = self._validated(X)
        values = self._values_of_nodes(X).astype(X.dtype, copy=False)
        return values[..., 0] if self._single_output else values

    def score(self, X, y, sample_weight=None, *, node=None):
        """Coefficient of determination of the predictions.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            True targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.
        node : label or array-like of shape (n_samples,), default=None
            As in `predict`.

        Returns
        -------
        float
        """
        return r2_score(y, self.predict(X, node=node), sample_weight=sample_weight)
