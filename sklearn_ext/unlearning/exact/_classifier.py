"""Classification on random features that forgets rows exactly."""

import numpy as np
from scipy.special import softmax
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from ...utils._atomic import atomic_fit
from ._base import BaseRandomFeature, checked_magnitude
from ._docs import with_random_feature_docs
from ._training_samples import TrainingRows


@with_random_feature_docs
class RandomFeatureClassifier(ClassifierMixin, BaseRandomFeature):
    r"""Kernel classification on random features that forgets rows exactly.

    :class:`RandomFeatureRegressor` on targets of 1 for the class of a row and -1 for the others,
    one column a class; the largest value wins. After :meth:`forget` the model is, up to rounding,
    that of a fit that never saw the rows; a class of which no row is left disappears.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Classes of the rows in the model.
    coef_ : ndarray of shape (n_classes, n_features_out)
        Coefficients of the features, also for two classes a row each.
    intercept_ : ndarray of shape (n_classes,)
        Coefficients of the constant feature.
    dual_coef_ : ndarray of shape (n_retained_, n_classes)
        Dual coefficients of the retained rows. Exists with the dual solver only.
    {state}
    {input_facts}

    See Also
    --------
    RandomFeatureRegressor : The same for numbers; its notes on cost and exactness hold here too.

    References
    ----------
    .. [1] R. Yang, M. He, Z. He, Y. Qiu, X. Huang, "MUSO: Achieving Exact Machine Unlearning in
       Over-Parameterized Regimes", arXiv:2410.08557, 2024.
    .. [2] A. Rahimi, B. Recht, "Random Features for Large-Scale Kernel Machines", NeurIPS 2007.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.base import clone
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ext import RandomFeatureClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X[:400] / 16
    >>> model = RandomFeatureClassifier(300, gamma=0.05, random_state=0).fit(X, y[:400])
    >>> model.forget(y[:400] == 3).classes_
    array([0, 1, 2, 4, 5, 6, 7, 8, 9])
    >>> retrained = clone(model).fit(X[model.retained_], y[:400][model.retained_])
    >>> bool(np.allclose(model.coef_, retrained.coef_, rtol=1e-9, atol=1e-9))
    True
    """

    @atomic_fit
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, sample_weight=None):
        """Fit the coefficients.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training rows.
        y : array-like of shape (n_samples,)
            Labels. Where all are the same, that one is predicted.
        sample_weight : array-like of shape (n_samples,), default=None
            A row of weight k counts like k copies, one of weight zero like none.

        Returns
        -------
        self : RandomFeatureClassifier
            The fitted estimator.

        Raises
        ------
        ValueError
            If the input is not finite or of the wrong shape, if a parameter is out of range, if
            `alpha` is too small for the rows, or if the dual solver may not keep them.
        """
        X, y = self._validated_pair(X, y, reset=True)
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        self.classes_ = np.unique(y[weights > 0])
        self._class_counts = np.zeros(len(self.classes_), dtype=np.int64)
        self._fit_rows(X, _signs(y, self.classes_), weights)
        return self

    @atomic_fit
    def learn(self, X, y, sample_weight=None):
        """Learn further rows, as if they had been there from the start.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_rows, n_features)
            Rows.
        y : array-like of shape (n_rows,)
            Labels; new classes are welcome.
        sample_weight : array-like of shape (n_rows,), default=None
            Weights of the rows.

        Returns
        -------
        self : RandomFeatureClassifier
            The model with the rows; their indices follow those of the rows before.

        Raises
        ------
        NotFittedError
            If there is no model.
        ValueError
            If the input is not finite or of the wrong shape, or if numbers are given to a model of
            names or the other way round.
        """
        check_is_fitted(self)
        X, y = self._validated_pair(X, y, reset=False)
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        kept = weights > 0
        if _are_names(y) != _are_names(self.classes_):
            raise ValueError(
                f"y must hold labels like those of the model, such as {self.classes_.tolist()[0]!r}"
                f", got {y.tolist()[0]!r}."
            )
        classes = np.union1d(self.classes_, y[kept])
        # The last column is that of a class without rows, which is what a new class starts from.
        columns = np.full(len(classes) + 1, len(self.classes_))
        columns[np.searchsorted(classes, self.classes_)] = np.arange(len(self.classes_))
        counts = np.append(self._class_counts, 0)[columns[:-1]]
        rows = self._rows and self._rows.with_targets(self._rows.Y[:, columns])
        self.classes_, self._class_counts = classes, counts
        added = TrainingRows(X, _signs(y, classes), weights)[kept]
        self._learn_rows(added, kept, self._solution.with_columns(columns), rows)
        return self

    def decision_function(self, X):
        """Scores of the classes: near 1 for the right one, near -1 for others.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            With two classes, the score of ``classes_[1]``; with one, its score.
        """
        scores = self._scores(X)
        return scores[:, -1] if scores.shape[1] <= 2 else scores

    def predict(self, X):
        """Predict labels.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        scores = self._scores(X)
        return self.classes_[scores.argmax(axis=1)]

    def predict_proba(self, X):
        """Probabilities of the classes, the softmax of their scores.

        Least squares is not made for probabilities: their order is right, their values are too
        even.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
        return softmax(self._scores(X), axis=1)

    def _scores(self, X):
        return self._public(self._values(X))

    def _validated_pair(self, X, y, reset):
        X, y = validate_data(
            self, X, y, accept_sparse="csr", dtype=np.float64, order="C", reset=reset
        )
        check_classification_targets(y)
        return checked_magnitude(X), y

    def _targets(self, X, y):
        X, y = self._validated_pair(X, y, reset=False)
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(
                f"y has the label {unknown.tolist()[0]!r}, which is none of the model's."
            )
        return X, _signs(y, self.classes_)

    def _given(self, X, y, sample_weight):
        given, kept = super()._given(X, y, sample_weight)
        missing = _class_counts(given) - self._class_counts
        if (missing > 0).any():
            label = self.classes_.tolist()[missing.argmax()]
            raise ValueError(f"y has the label {label!r} more often than the model has learned it.")
        return given, kept

    def _commit(self, solution, rows, changed, sign, **attributes):
        counts = self._class_counts + sign * _class_counts(changed)
        if (counts == 0).any():
            columns = np.append(np.flatnonzero(counts), len(counts))
            solution = solution.with_columns(columns)
            rows = rows and rows.with_targets(rows.Y[:, columns])
        attributes |= {"classes_": self.classes_[counts > 0], "_class_counts": counts[counts > 0]}
        super()._commit(solution, rows, changed, sign, **attributes)

    def _public(self, values):
        return values[:, :-1]


def _are_names(labels):
    return labels.dtype.kind in "OUS"


def _signs(y, classes):
    """Targets of 1 for a row's class and -1 for the others, and a column of -1 for no class."""
    return np.hstack((np.where(y[:, None] == classes, 1.0, -1.0), np.full((len(y), 1), -1.0)))


def _class_counts(rows):
    return (rows.Y[:, :-1] > 0).sum(axis=0)
