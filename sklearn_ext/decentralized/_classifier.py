"""Decentralised random-feature classification."""

import numpy as np
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.metrics import accuracy_score
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, validate_data

from ..utils._atomic import atomic_fit
from ._base import CONSENSUS_WEIGHTS, BaseDecentralizedRF
from ._docs import with_common_docs


@with_common_docs
class DecentralizedRFClassifier(ClassifierMixin, BaseDecentralizedRF):
    r"""Classification at nodes that keep their rows and talk to neighbours.

    :class:`DecentralizedRFKRR` on targets of -1 and 1, one a class (one in all for two classes);
    the largest value wins. Nodes may miss classes.

    Parameters
    ----------
    {parameters}
    classes : array-like, default=None
        All classes, where no process sees the rows of all nodes. None takes those of y.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes.
    {network}
    node_coef_ : list of ndarray of shape (D_j,) or (D_j, n_classes)
        Coefficients of every node; None for a node that this process does not know.
    {features}
    intercept_ : float or ndarray of shape (n_classes,)
        What was subtracted from the targets.
    {course}
    {input_facts}

    See Also
    --------
    DecentralizedRFKRR : Regression.

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
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext import DecentralizedRFClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = DecentralizedRFClassifier(n_nodes=5, alpha=1e-3, random_state=0)
    >>> classifier.fit(X, y).score(X, y) > 0.9
    True
    """

    __metadata_request__decision_function = {"node": True}

    _parameter_constraints = {
        **BaseDecentralizedRF._parameter_constraints,
        "classes": ["array-like", None],
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
        classes=None,
    ):
        super().__init__(
            n_components=n_components,
            gamma=gamma,
            alpha=alpha,
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
            aggregate=aggregate,
            engine=engine,
            device=device,
            n_jobs=n_jobs,
            random_state=random_state,
        )
        self.classes = classes

    @atomic_fit
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, *, node=None, sample_weight=None):
        """Fit the nodes of the network.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training rows of all nodes; with a network of processes, those of this process.
            Columns should be on scales that are the same at all nodes.
        y : array-like of shape (n_samples,)
            Labels.
        node : array-like of shape (n_samples,), default=None
            Label of the node that holds the row. None deals the rows to `n_nodes` nodes at
            random.
        sample_weight : array-like of shape (n_samples,), default=None
            A row of weight k counts like k copies.

        Returns
        -------
        self : DecentralizedRFClassifier
            The fitted estimator.

        Raises
        ------
        ValueError
            If input is not finite or of the wrong shape, a parameter is out of range, the graph
            does not fit the nodes, a node has no row, or there are fewer than two classes.
        """
        X, y, weights = self._inputs(X, y, sample_weight)
        classes = self._all_classes(y[weights > 0])
        fitted = self._fit_nodes(X, _signs(y, classes), weights, node)
        vars(self).update(_public(fitted), classes_=classes)
        return self

    @atomic_fit
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, classes=None, *, node=None, sample_weight=None):
        """Add rows to the nodes and solve again; their maps stay as they are.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            New rows.
        y : array-like of shape (n_samples,)
            Labels.
        classes : array-like, default=None
            All classes, for the first call; None takes the parameter of the same name, or the
            labels in y.
        node : array-like of shape (n_samples,), default=None
            Labels of the nodes; after the first call, of known ones. None deals the rows.
        sample_weight : array-like of shape (n_samples,), default=None
            A row of weight k counts like k copies.

        Returns
        -------
        self : DecentralizedRFClassifier
            The fitted estimator.

        Raises
        ------
        ValueError
            As in `fit`, if a label is unknown, or if a node fell silent during the fit.
        """
        first = not hasattr(self, "classes_")
        X, y, weights = self._inputs(X, y, sample_weight, reset=first)
        known = self._all_classes(y[weights > 0], classes) if first else self.classes_
        if not first and classes is not None and not np.array_equal(np.unique(classes), known):
            raise ValueError(f"classes must be {known.tolist()} as before, got {classes!r}.")
        update = self._fit_nodes if first else self._update_nodes
        fitted = update(X, _signs(y, known), weights, node)
        vars(self).update(_public(fitted), classes_=known)
        return self

    def _inputs(self, X, y, sample_weight, reset=True):
        X, y = validate_data(
            self, X, y, accept_sparse="csr", dtype=[np.float64, np.float32], reset=reset
        )
        check_classification_targets(y)
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        return X, y, weights

    def _all_classes(self, y, classes=None):
        given = self.classes if classes is None else classes
        if given is None and self.network is not None and not self.network.holds_all:
            raise ValueError(
                "classes must be given where no process sees the rows of all nodes, got None."
            )
        found = np.unique(y if given is None else given)
        if len(found) < 2:
            raise ValueError(
                f"y must have at least 2 classes, got {len(found)} class: {found.tolist()}."
            )
        return found

    def decision_function(self, X, *, node=None):
        """Values whose largest one decides.

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
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            For two classes, one value that is positive for the second class.

        Raises
        ------
        ValueError
            If a label is unknown, or a function that is needed is not known to this process.
        """
        X = self._validated(X)
        values = self._values(X, node).astype(X.dtype, copy=False)
        return values[:, 0] if len(self.classes_) == 2 else values

    def predict(self, X, *, node=None):
        """Predict labels.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        node : label or array-like of shape (n_samples,), default=None
            As in `decision_function`.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        return self._winners(self.decision_function(X, node=node))

    def predict_nodes(self, X):
        """Predict labels with every node's function.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_nodes, n_samples)
            In the order of `nodes_`.

        Raises
        ------
        ValueError
            If the function of a node is not known to this process.
        """
        X = self._validated(X)
        unknown = [self.nodes_[j].item() for j in range(len(self.nodes_)) if j not in self._known()]
        if unknown:
            raise ValueError(f"the functions of nodes {unknown} are not known here.")
        values = self._values_of_nodes(X)
        return self._winners(values[..., 0] if len(self.classes_) == 2 else values)

    def _winners(self, values):
        if len(self.classes_) == 2:
            return self.classes_[(values > 0).astype(int)]
        return self.classes_[values.argmax(axis=-1)]

    def score(self, X, y, sample_weight=None, *, node=None):
        """Share of rows whose label is predicted.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,)
            True labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.
        node : label or array-like of shape (n_samples,), default=None
            As in `decision_function`.

        Returns
        -------
        float
        """
        return float(accuracy_score(y, self.predict(X, node=node), sample_weight=sample_weight))


def _signs(y, classes):
    """Targets of 1 for a row's class and -1 for the others; one column for two classes."""
    unknown = np.setdiff1d(y, classes)
    if len(unknown):
        raise ValueError(f"y has label {unknown.tolist()[0]!r}, not one of {classes.tolist()}.")
    Y = np.where(y[:, None] == classes, 1.0, -1.0)
    return Y[:, 1:] if len(classes) == 2 else Y


def _public(fitted):
    """Drop the second dimension of coefficients, and the intercept's, where there is one output."""
    if len(fitted["intercept_"]) > 1:
        return fitted
    coefs = [None if theta is None else theta[:, 0] for theta in fitted["node_coef_"]]
    return fitted | {"node_coef_": coefs, "intercept_": float(fitted["intercept_"][0])}
