"""What all detectors of out-of-distribution rows share."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from numbers import Real

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin, _fit_context
from sklearn.utils._param_validation import Interval
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from ..neural import validate_input
from ..utils._atomic import atomic_fit
from ..utils._held_out import held_out_mask
from ..utils._nested import named_as_in_fit
from ..utils._random import local_random_state
from ._network import with_few_more_rows
from ._outlier_batches import is_outlier
from ._threshold import rejection_threshold


@dataclass(frozen=True)
class TrainingRows:
    """The rows of a fit by their roles; labels are None where the user gave none.

    Attributes
    ----------
    X : ndarray of shape (n, ...)
        In-distribution rows to learn from.
    y : ndarray of shape (n,) or None
    X_held_out : ndarray of shape (n_held_out, ...)
        In-distribution rows kept for the threshold, and for what else must not see its training
        rows.
    y_held_out : ndarray of shape (n_held_out,) or None
    X_outliers : ndarray of shape (n_outliers, ...)
        Rows that were labelled as outliers, perhaps none.
    """

    X: np.ndarray
    y: np.ndarray | None
    X_held_out: np.ndarray
    y_held_out: np.ndarray | None
    X_outliers: np.ndarray


def _knows_classes(detector):
    return vars(detector).get("classifier_", True) is not None


class BaseOODDetector(OutlierMixin, BaseEstimator, ABC):
    """Contract of the detectors: scikit-learn's outlier detectors that also know classes.

    A subclass defines ``_fit_detector`` and ``_score_rows``; it sets ``classifier_`` (and
    ``classes_`` with it), or sets it to None where there are no classes.
    """

    _parameter_constraints: dict = {
        "outlier_label": "no_validation",
        "id_rejection_rate": [Interval(Real, 0, 1, closed="neither")],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "random_state": ["random_state"],
    }

    def __init__(self, *, outlier_label, id_rejection_rate, validation_fraction, random_state):
        self.outlier_label = outlier_label
        self.id_rejection_rate = id_rejection_rate
        self.validation_fraction = validation_fraction
        self.random_state = random_state

    @abstractmethod
    def _fit_detector(self, rows, rng):
        """Learn from the rows.

        Parameters
        ----------
        rows : TrainingRows
        rng : RandomState
            Source of all randomness of the fit.
        """

    @abstractmethod
    def _score_rows(self, X):
        """Score checked rows: higher is more in-distribution.

        Parameters
        ----------
        X : ndarray of shape (n, ...)

        Returns
        -------
        ndarray of shape (n,)
        """

    def _needs_labels(self):
        """Whether `fit` must be given y."""
        return True

    def _fewest_classes(self):
        """How many classes y must have, if it is given."""
        return 2

    def _needs_training_rows(self):
        """Whether there is anything to learn but the threshold."""
        return True

    def _check_rows(self, X, y="no_validation", *, reset):
        """Check X (and y), remember the shape of X in a fit."""
        return validate_input(self, X, y, reset=reset)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = self._needs_labels()
        return tags

    @atomic_fit
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None):
        """Learn what in-distribution rows are like, and the threshold.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, height, width) or \
                (n_samples, channels, height, width)
            Training rows.
        y : array-like of shape (n_samples,), default=None
            Classes. Rows labelled `outlier_label` are known outliers. None only where the detector
            needs no classes.

        Returns
        -------
        self : object
            The fitted detector.

        Raises
        ------
        ValueError
            If the input is not finite or of a wrong shape, labels are missing or of too few
            classes, or a parameter is out of range.
        """
        if y is None:
            if self._needs_labels():
                raise ValueError(
                    f"{type(self).__name__} requires y to be passed, but the target y is None."
                )
            X, codes = self._check_rows(X, reset=True), np.zeros(len(X), dtype=np.intp)
            inside = np.ones(len(X), dtype=bool)
        else:
            X, y = self._check_rows(X, y, reset=True)
            y = column_or_1d(y, warn=True)
            check_classification_targets(y)
            inside = ~is_outlier(y, self.outlier_label)
            classes, codes = np.unique(y[inside], return_inverse=True)
            fewest = self._fewest_classes()
            if len(classes) < fewest:
                found = "none" if len(classes) == 0 else f"one class: {classes.tolist()[0]!r}"
                raise ValueError(
                    f"{type(self).__name__} needs rows of at least {fewest} classes beside those "
                    f"labelled outlier_label={self.outlier_label!r}, got {found}."
                )
        rng = local_random_state(self.random_state)
        rows = self._split(X, y, inside, codes, rng)
        self._fit_detector(rows, rng)
        self.offset_ = rejection_threshold(
            self._finite_scores(rows.X_held_out), self.id_rejection_rate
        )
        return self

    def _split(self, X, y, inside, codes, rng):
        (inliers,) = np.nonzero(inside)
        if self._needs_training_rows():
            held_out = held_out_mask(codes, self.validation_fraction, rng)
        else:
            held_out = np.ones(len(inliers), dtype=bool)
        train, kept = inliers[~held_out], inliers[held_out]
        return TrainingRows(
            X=X[train],
            y=None if y is None else y[train],
            X_held_out=X[kept],
            y_held_out=None if y is None else y[kept],
            X_outliers=X[~inside],
        )

    def _finite_scores(self, X):
        scores = self._score_rows(with_few_more_rows(X))[: len(X)]
        scores = np.asarray(scores, dtype=np.float64)
        if not np.isfinite(scores).all():
            raise ValueError(
                f"Scores of {type(self).__name__} are not finite: outputs of the classifier "
                "overflow on these rows, or its training has diverged."
            )
        return scores

    def score_samples(self, X):
        """Score rows: higher is more in-distribution.

        Parameters
        ----------
        X : array-like
            Rows shaped as in `fit`.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        check_is_fitted(self)
        return self._finite_scores(self._check_rows(X, reset=False))

    def decision_function(self, X):
        """Scores less the threshold: negative for outliers.

        Parameters
        ----------
        X : array-like
            Rows shaped as in `fit`.

        Returns
        -------
        ndarray of shape (n_samples,)
            ``score_samples(X) - offset_``.
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X):
        """Tell inliers from outliers.

        Parameters
        ----------
        X : array-like
            Rows shaped as in `fit`.

        Returns
        -------
        ndarray of shape (n_samples,)
            1 for inliers, -1 for outliers. About `id_rejection_rate` of new in-distribution rows
            get -1.
        """
        return np.where(self.decision_function(X) >= 0.0, 1, -1)

    def fit_predict(self, X, y=None):
        """Fit, and tell inliers from outliers among the same rows.

        Parameters
        ----------
        X : array-like
            As in `fit`.
        y : array-like of shape (n_samples,), default=None
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_samples,)
            1 for inliers, -1 for outliers.
        """
        return self.fit(X, y).predict(X)

    @available_if(_knows_classes)
    def predict_class(self, X):
        """Most probable class of each row, whether it is an inlier or not.

        Parameters
        ----------
        X : array-like
            Rows shaped as in `fit`.

        Returns
        -------
        ndarray of shape (n_samples,)
            Labels out of ``classes_``.
        """
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    @available_if(_knows_classes)
    def predict_proba(self, X):
        """Probabilities of the classes, given that a row is an inlier.

        Parameters
        ----------
        X : array-like
            Rows shaped as in `fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
        check_is_fitted(self)
        X = self._check_rows(X, reset=False)
        rows = named_as_in_fit(self.classifier_, with_few_more_rows(X))
        return self.classifier_.predict_proba(rows)[: len(X)]
