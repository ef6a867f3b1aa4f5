"""Classification on random features that forgets samples exactly."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import softmax
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from ...utils._atomic import atomic_fit, working_copy
from ...utils._typing import Array, BoolArray, FloatArray, IntArray
from ...utils._validation import check_class_labels, own_constructor
from ...utils.compat import FitTasks, with_callbacks
from ._base import BaseRandomFeature, checked_magnitude
from ._training_samples import TrainingSamples
from .solutions import Solution


@own_constructor
class RandomFeatureClassifier(ClassifierMixin, BaseRandomFeature):
    r"""Kernel classification on random features that forgets samples exactly.

    The model is a :class:`RandomFeatureRegressor` with one column of targets per class: 1 for
    samples of the class and -1 for the others. It predicts the class with the largest value. After
    :meth:`forget`, the model equals, up to rounding, a fit without the forgotten samples. A class
    disappears when its last sample is forgotten.

    Parameters
    ----------
    n_components : int, default=1000
        Number of random frequencies. Each yields two features, a cosine and a sine.
    gamma : float or "auto", default="auto"
        Coefficient of the kernel :math:`\exp(-\gamma\lVert x - x'\rVert^2)`; "auto" means
        ``1 / n_features``. Do not estimate it, or a scaler, from samples that you may have to
        forget: both would retain information about them.
    alpha : float or array-like of float, default=1e-2
        Ridge penalty on the *sum* of squared errors. It applies to the intercept, too. With 1e-8,
        the model is practically the minimum-norm interpolant. Generalized cross-validation chooses
        one of several penalties, and chooses again after every request, so that the choice does not
        depend on forgotten samples either. Time of requests and memory grow with their number.
    feature_map : transformer, "identity" or None, default=None
        Features that replace the random ones: a transformer that does not depend on the training
        samples, or "identity" for the columns of X, which gives a plain ridge regression that
        forgets. An unfitted transformer is cloned and fitted to X. Forgetting is not exact if the
        transformer learns from X.
    fit_intercept : bool, default=True
        Whether to add a constant feature.
    solver : {"auto", "dual", "primal"}, default="auto"
        "dual" works with a matrix that has one row per sample, "primal" with one row per feature;
        "auto" chooses the smaller matrix.
    store : bool, "features" or "auto", default="auto"
        Whether the model stores its training samples, so that you can refer to them by index.
        "features" stores their features instead, which takes more memory but saves computing them
        in every request. "auto" stores nothing with the primal solver. The dual solver needs
        samples or features; "auto" then stores features if there are at most twice as many of
        them as samples.
    refresh_fraction : float, default=0.5
        Once more than this fraction of the samples in the last factorization has changed, the
        matrix is factored again, so that rounding errors cannot accumulate.
    device : str, torch.device or None, default=None
        None uses NumPy and SciPy on the CPU. The name of a device that supports float64, or "auto",
        uses torch on that device.
    random_state : int, RandomState instance or None, default=None
        Seed for drawing the frequencies.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Classes of the samples in the model.
    feature_coef_ : ndarray of shape (n_classes, n_features_out)
        Coefficients of the features: one row per class, even for two classes.
    intercept_ : ndarray of shape (n_classes,)
        Coefficients of the constant feature.
    alpha_ : float
        The ridge penalty in use.
    dual_coef_ : ndarray of shape (n_retained_, n_classes)
        Dual coefficients of the retained samples. Only with the dual solver.
    random_weights_ : ndarray of shape (n_features, n_components) or None
        Frequencies; None if `feature_map` is given.
    feature_map_ : transformer or None
        The fitted `feature_map`.
    retained_ : ndarray of bool of shape (n_seen,) or None
        Mask of the samples given to `fit` and `learn`: True for samples in the model, False for
        forgotten samples and those of weight zero. None if the model stores no samples.
    n_retained_ : int
        Number of samples in the model.
    solver_ : {"dual", "primal"}
        Solver in use.
    refitted_ : bool
        Whether the last call to `forget` or `learn` factored the matrix again instead of updating
        it, because much had changed or an update would have lost precision.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

    See Also
    --------
    RandomFeatureRegressor : The same model for numeric targets. Its notes on cost and exactness
        apply to this class, too.

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
    >>> bool(np.allclose(model.feature_coef_, retrained.feature_coef_, rtol=1e-9, atol=1e-9))
    True
    """

    @atomic_fit
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the coefficients.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training samples.
        y : array-like of shape (n_samples,)
            Class labels. If there is only one class, it is always predicted.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples. A weight of k has the effect of k copies.

        Returns
        -------
        self : RandomFeatureClassifier
            The fitted estimator.

        Raises
        ------
        ValueError
            If the input is not finite or has the wrong shape, if a parameter is out of range, if
            `alpha` is too small for the samples, or if `store` is False with the dual solver.
        """
        X, labels = self._validated_pair(X, y, reset=True)
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        self.classes_ = np.unique(labels[weights > 0])
        self._class_counts: IntArray = np.zeros(len(self.classes_), dtype=np.int64)
        tasks = FitTasks(self, None, X, labels, sample_weight)
        return self._fit_targets(X, self._target_columns(labels), weights, tasks)

    def learn(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Learn more samples, as if they had been given to `fit`.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_new, n_features)
            New samples.
        y : array-like of shape (n_new,)
            Labels of the new samples, which may belong to new classes.
        sample_weight : array-like of shape (n_new,), default=None
            Weights of the new samples.

        Returns
        -------
        self : RandomFeatureClassifier
            The model with the new samples, whose indices follow those of the earlier ones.

        Raises
        ------
        NotFittedError
            If the model is unfitted.
        ValueError
            If the input is not finite or has the wrong shape, or if the labels are numbers and
            those of the model are strings, or vice versa.
        """
        check_is_fitted(self)
        self._become(self._learning(X, y, sample_weight))
        return self

    def _learning(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        X, labels = self._validated_pair(X, y, reset=False)
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        kept = weights > 0
        if _are_strings(labels) != _are_strings(self.classes_):
            raise ValueError(
                "y must contain labels of the same type as the model's, such as "
                f"{self.classes_.tolist()[0]!r}, got {labels.tolist()[0]!r}."
            )
        changed = working_copy(self)
        columns = changed._add_classes(np.union1d(self.classes_, labels[kept]))
        added = TrainingSamples(X, _signs(labels, changed.classes_), weights)[kept]
        stored = self._samples
        if stored is not None:
            stored = stored.with_targets(stored.Y[:, columns])
        return changed._learn_targets(added, kept, self._solution.with_columns(columns), stored)

    def decision_function(self, X: Any) -> FloatArray:
        """Compute the scores of the classes: near 1 for the right class, near -1 for the others.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            With two classes, the score of ``classes_[1]``; with one class, its score.
        """
        scores = self._scores(X)
        return scores[:, -1] if scores.shape[1] <= 2 else scores

    def predict(self, X: Any) -> Array:
        """Predict class labels.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        scores = self._scores(X)
        return self.classes_[scores.argmax(axis=1)]

    def predict_proba(self, X: Any) -> FloatArray:
        """Predict probabilities of the classes: the softmax of their scores.

        Least squares does not estimate probabilities. The order of the values is right, but they
        are too close to each other.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Columns are in the order of ``classes_``.
        """
        return softmax(self._scores(X), axis=1)

    def _scores(self, X: Any) -> FloatArray:
        return self._outputs(self._values(X))

    def _validated_pair(self, X: Any, y: ArrayLike | None, reset: bool) -> tuple[Any, Array]:
        X, labels = validate_data(
            self, X, y, accept_sparse="csr", dtype=np.float64, order="C", reset=reset
        )
        check_class_labels(labels)
        return checked_magnitude(X), labels

    def _validated_targets(self, X: Any, y: ArrayLike | None) -> tuple[Any, FloatArray]:
        X, labels = self._validated_pair(X, y, reset=False)
        unknown = np.setdiff1d(labels, self.classes_)
        if len(unknown):
            raise ValueError(
                f"y contains the label {unknown.tolist()[0]!r}, but the model has only the classes "
                f"{self.classes_.tolist()}."
            )
        return X, self._target_columns(labels)

    def _target_columns(self, y: Array) -> FloatArray:
        return _signs(y, self.classes_)

    def _checked_samples(
        self, X: Any, y: ArrayLike | None, sample_weight: ArrayLike | None
    ) -> tuple[TrainingSamples, BoolArray]:
        samples, kept = super()._checked_samples(X, y, sample_weight)
        missing = _class_counts(samples) - self._class_counts
        if (missing > 0).any():
            label = self.classes_.tolist()[missing.argmax()]
            raise ValueError(
                f"y contains the label {label!r} more often than the model has learned it."
            )
        return samples, kept

    def _set_model(
        self,
        solution: Solution,
        stored: TrainingSamples | None,
        retained: BoolArray | None,
        changed: TrainingSamples,
        sign: int,
    ) -> None:
        counts = self._class_counts + sign * _class_counts(changed)
        present = counts > 0
        if not present.all():
            columns = np.append(np.flatnonzero(present), len(counts))
            solution = solution.with_columns(columns)
            if stored is not None:
                stored = stored.with_targets(stored.Y[:, columns])
        self.classes_, self._class_counts = self.classes_[present], counts[present]
        super()._set_model(solution, stored, retained, changed, sign)

    def _add_classes(self, classes: Array) -> IntArray:
        """Extend the classes; return the current column of targets from which each one starts.

        New classes start from the last column, which belongs to a class without samples.
        """
        columns = np.full(len(classes) + 1, len(self.classes_))
        columns[np.searchsorted(classes, self.classes_)] = np.arange(len(self.classes_))
        self._class_counts = np.append(self._class_counts, 0)[columns[:-1]]
        self.classes_ = classes
        return columns

    def _outputs(self, values: FloatArray) -> FloatArray:
        return values[:, :-1]


def _are_strings(labels: Array) -> bool:
    return labels.dtype.kind in "OUS"


def _signs(y: Array, classes: Array) -> FloatArray:
    """Return targets: 1 for the class of a sample, -1 for the others and for a last column."""
    return np.hstack((np.where(y[:, None] == classes, 1.0, -1.0), np.full((len(y), 1), -1.0)))


def _class_counts(samples: TrainingSamples) -> IntArray:
    return (samples.Y[:, :-1] > 0).sum(axis=0)
