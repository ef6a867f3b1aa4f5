"""Decentralised random-feature kernel ridge regression."""

import numpy as np
from sklearn.base import MultiOutputMixin, RegressorMixin, _fit_context
from sklearn.metrics import r2_score
from sklearn.utils.validation import _check_sample_weight, validate_data

from ..utils._atomic import atomic_fit
from ..utils._validation import check_magnitude
from ._base import BaseDecentralizedRF
from ._docs import with_common_docs


@with_common_docs
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
    {parameters}

    Attributes
    ----------
    {network}
    node_coef_ : list of ndarray of shape (D_j,) or (D_j, n_outputs)
        Coefficients of every node; None for a node that this process does not know.
    {features}
    intercept_ : float or ndarray of shape (n_outputs,)
        What was subtracted from the targets.
    {course}
    {input_facts}

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
    .. [1] R. Yang, F. He, M. He, J. Yang, X. Huang, "Decentralized Kernel Ridge Regression Based on
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
