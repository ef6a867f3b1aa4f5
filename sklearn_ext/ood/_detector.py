"""Common base of the out-of-distribution detectors, and their threshold."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
import skorch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils import Tags
from sklearn.utils._param_validation import Interval
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, column_or_1d
from torch.utils.data import Dataset

from ..neural import (
    AnySamples,
    check_form,
    n_samples_of,
    select_samples,
    stacked,
    validate_input,
)
from ..utils._random import held_out_mask, local_random_state
from ..utils._typing import Array, BoolArray, FloatArray, IntArray, RandomState
from ..utils._validation import check_class_labels, named_as_in_fit
from ..utils.compat import CallbackSupportMixin
from ._classifier_outputs import pad_last_batch

_ROUNDING = 1 + 1e-12  # a product of a rate and a count may fall below the whole number it equals
_SLACK = 1e-6  # of scores that are computed in single precision


@dataclass(frozen=True)
class TrainingSamples:
    """The samples of a fit by their roles. Labels are None if the user gave none.

    Attributes
    ----------
    X : samples in the form that was given to `fit`
        In-distribution samples to learn from.
    y : ndarray of shape (n,) or None
    X_held_out : samples in the same form
        In-distribution samples for the threshold and for everything else that must not see its
        training samples.
    y_held_out : ndarray of shape (n_held_out,) or None
    X_outliers : samples in the same form
        Samples labeled as outliers; may be empty.
    """

    X: AnySamples
    y: Array | None
    X_held_out: AnySamples
    y_held_out: Array | None
    X_outliers: AnySamples

    @property
    def larger_part(self) -> AnySamples:
        """The training or the held-out samples, whichever are more."""
        is_larger = n_samples_of(self.X) >= n_samples_of(self.X_held_out)
        return self.X if is_larger else self.X_held_out


def _has_classes(detector: "BaseOODDetector") -> bool:
    # Before `fit`, calls must reach the check that raises NotFittedError.
    return getattr(detector, "classifier_", "unfitted") is not None


class BaseOODDetector(CallbackSupportMixin, OutlierMixin, BaseEstimator, ABC):
    """Base of the detectors: outlier detectors as in scikit-learn that also predict classes.

    A subclass defines ``fit`` and ``_score_samples``. Its ``fit`` calls ``_start_fit`` first and
    ``_set_offset`` last. In between, it sets ``classifier_`` and ``classes_``, or sets
    ``classifier_`` to None if there are no classes. With ``_takes_any_form`` set, samples may also
    be tensors, dicts and datasets, and integers stay integers.
    """

    _takes_any_form: ClassVar[bool] = False

    _parameter_constraints: dict[str, Any] = {
        "outlier_label": "no_validation",
        "id_rejection_rate": [Interval(Real, 0, 1, closed="neither")],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "random_state": ["random_state"],
    }
    classifier_: Any
    classes_: Array
    held_out_scores_: FloatArray

    def __init__(
        self,
        *,
        outlier_label: Any,
        id_rejection_rate: float,
        validation_fraction: float,
        random_state: RandomState,
    ) -> None:
        self.outlier_label = outlier_label
        self.id_rejection_rate = id_rejection_rate
        self.validation_fraction = validation_fraction
        self.random_state = random_state

    @abstractmethod
    def _score_samples(self, X: AnySamples) -> FloatArray:
        """Score validated samples: higher is more in-distribution.

        Parameters
        ----------
        X : ndarray of shape (n, ...), or samples in another form

        Returns
        -------
        ndarray of shape (n,)
        """

    def _needs_labels(self) -> bool:
        """Return whether `fit` needs y."""
        return True

    def _fewest_classes(self) -> int:
        """Return the smallest number of classes that y may have, if it is given."""
        return 2

    def _needs_training_samples(self) -> bool:
        """Return whether `fit` learns anything other than the threshold."""
        return True

    def _check_samples(self, X: AnySamples, y: Any = "no_validation", *, reset: bool) -> Any:
        """Validate X (and y); in a fit, store the shape of X."""
        return validate_input(self, X, y, reset=reset, any_form=self._takes_any_form)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = self._needs_labels()
        return tags

    @abstractmethod
    def fit(self, X: AnySamples, y: ArrayLike | None = None) -> Self:
        """Learn what in-distribution samples are like, and set the threshold.

        Parameters
        ----------
        X : array-like
            Training samples.
        y : array-like of shape (n_samples,), default=None
            Class labels. Samples labeled `outlier_label` are known outliers.

        Returns
        -------
        self : object
            The fitted detector.
        """

    def _start_fit(
        self, X: ArrayLike, y: ArrayLike | None
    ) -> tuple[TrainingSamples, np.random.RandomState]:
        """Validate the input of `fit`, and divide the samples by their roles.

        Parameters
        ----------
        X : array-like
        y : array-like of shape (n_samples,) or None

        Returns
        -------
        samples : TrainingSamples
        rng : RandomState
            Source of all randomness of the fit.

        Raises
        ------
        ValueError
            If the input is not finite or has a wrong shape, or if labels are missing or name too
            few classes.
        """
        check_form(X, any_form=self._takes_any_form)
        if y is None and not isinstance(X, Dataset):  # a dataset contains labels
            if self._needs_labels():
                raise ValueError(
                    f"{type(self).__name__} requires y to be passed, but the target y is None."
                )
            samples, labels = self._check_samples(X, reset=True), None
            codes: IntArray = np.zeros(n_samples_of(samples), dtype=np.intp)
            inside: BoolArray = np.ones(n_samples_of(samples), dtype=np.bool_)
        else:
            samples, labels = self._check_samples(X, y, reset=True)
            labels = column_or_1d(labels, warn=True)
            check_class_labels(labels)
            inside = ~is_outlier(labels, self.outlier_label)
            classes, codes = np.unique(labels[inside], return_inverse=True)
            fewest = self._fewest_classes()
            if len(classes) < fewest:
                found = "none" if len(classes) == 0 else f"one class: {classes.tolist()[0]!r}"
                raise ValueError(
                    f"{type(self).__name__} needs samples of at least {fewest} classes besides "
                    f"those labeled outlier_label={self.outlier_label!r}, got {found}."
                )
        rng = local_random_state(self.random_state)
        return self._split(samples, labels, inside, codes, rng), rng

    def _split(
        self,
        X: AnySamples,
        y: Array | None,
        inside: BoolArray,
        codes: IntArray,
        rng: np.random.RandomState,
    ) -> TrainingSamples:
        (inliers,) = np.nonzero(inside)
        if self._needs_training_samples():
            held_out = held_out_mask(codes, self.validation_fraction, rng)
        else:
            held_out = np.ones(len(inliers), dtype=bool)
        train, kept = inliers[~held_out], inliers[held_out]
        return TrainingSamples(
            X=select_samples(X, train),
            y=None if y is None else y[train],
            X_held_out=select_samples(X, kept),
            y_held_out=None if y is None else y[kept],
            X_outliers=select_samples(X, np.flatnonzero(~inside)),
        )

    def _set_offset(self, samples: TrainingSamples) -> Self:
        """Set the threshold from the scores of the held-out samples."""
        self.held_out_scores_ = np.sort(self._finite_scores(samples.X_held_out))
        self.offset_ = rejection_threshold(self.held_out_scores_, self.id_rejection_rate)
        return self

    def _finite_scores(self, X: AnySamples) -> FloatArray:
        scores = self._score_samples(pad_last_batch(X))[: n_samples_of(X)]
        scores = np.asarray(scores, dtype=np.float64)
        if not np.isfinite(scores).all():
            raise ValueError(
                f"Scores of {type(self).__name__} are not finite. Either outputs of the classifier "
                "overflow on these samples, or its training has diverged."
            )
        return scores

    def score_samples(self, X: AnySamples) -> FloatArray:
        """Score samples: higher is more in-distribution.

        Parameters
        ----------
        X : array-like
            Samples of the same shape as in `fit`, in any form that `fit` takes.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        check_is_fitted(self)
        return self._finite_scores(self._check_samples(X, reset=False))

    def decision_function(self, X: AnySamples) -> FloatArray:
        """Return the scores minus the threshold: negative for outliers.

        Parameters
        ----------
        X : array-like
            Samples of the same shape as in `fit`, in any form that `fit` takes.

        Returns
        -------
        ndarray of shape (n_samples,)
            ``score_samples(X) - offset_``.
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X: AnySamples, *, alpha: float | None = None) -> IntArray:
        """Tell inliers from outliers.

        Parameters
        ----------
        X : array-like
            Samples of the same shape as in `fit`, in any form that `fit` takes.
        alpha : float in (0, 1), default=None
            Rate at which new in-distribution samples may be rejected. By default, it is
            `id_rejection_rate`, for which `fit` has set ``offset_``.

        Returns
        -------
        ndarray of shape (n_samples,)
            1 for inliers, -1 for outliers. A new in-distribution sample gets -1 with a probability
            of at most `alpha`, on average over the held-out samples of the fit.

        Raises
        ------
        ValueError
            If `alpha` is below 1 / (n + 1), where n is the number of held-out samples. A lower rate
            needs more of them.
        """
        if alpha is None:
            return np.where(self.decision_function(X) >= 0.0, 1, -1)
        check_is_fitted(self)
        n = len(self.held_out_scores_)
        if not 1 / (n + 1) <= alpha < 1:
            raise ValueError(
                f"alpha must be at least 1 / {n + 1} = {1 / (n + 1):.3g} and below 1, because the "
                f"threshold rests on {n} held-out samples, got {alpha!r}. Smaller rates need more "
                "samples or a larger validation_fraction."
            )
        return np.where(self.predict_pvalue(X) <= alpha * _ROUNDING, -1, 1)

    def predict_pvalue(self, X: AnySamples) -> FloatArray:
        """Return conformal p-values: small for outliers.

        The p-value of a sample is the number of held-out samples that score at most as high, plus
        one, divided by their number plus one. For a new in-distribution sample, it is at most t
        with a probability of at most t, on average over the held-out samples of the fit.

        Parameters
        ----------
        X : array-like
            Samples of the same shape as in `fit`, in any form that `fit` takes.

        Returns
        -------
        ndarray of shape (n_samples,)
            Between 1 / (n + 1) and 1, with n held-out samples.

        See Also
        --------
        sklearn_ext.metrics.select_outliers : Outliers in a batch at a false discovery rate.
        """
        scores = self.score_samples(X)
        below = np.searchsorted(self.held_out_scores_, scores, side="right")
        return (below + 1) / (len(self.held_out_scores_) + 1)

    def fit_predict(self, X: AnySamples, y: ArrayLike | None = None) -> IntArray:
        """Fit the detector, and tell inliers from outliers among the same samples.

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

    @available_if(_has_classes)
    def predict_class(self, X: AnySamples) -> Array:
        """Predict the most probable class of each sample, whether it is an inlier or not.

        Parameters
        ----------
        X : array-like
            Samples of the same shape as in `fit`, in any form that `fit` takes.

        Returns
        -------
        ndarray of shape (n_samples,)
            Labels from ``classes_``.
        """
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    @available_if(_has_classes)
    def predict_proba(self, X: AnySamples) -> FloatArray:
        """Predict the probabilities of the classes, given that a sample is an inlier.

        Parameters
        ----------
        X : array-like
            Samples of the same shape as in `fit`, in any form that `fit` takes.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Columns are in the order of ``classes_``.
        """
        check_is_fitted(self)
        samples = self._check_samples(X, reset=False)
        if isinstance(samples, Dataset) and not isinstance(self.classifier_, skorch.NeuralNet):
            samples = stacked(samples).astype(np.float64)
        padded = named_as_in_fit(self.classifier_, pad_last_batch(samples))
        return self.classifier_.predict_proba(padded)[: n_samples_of(samples)]


def is_outlier(y: Array, outlier_label: Any) -> BoolArray:
    """Return the mask of labels that mark outliers.

    Parameters
    ----------
    y : ndarray of shape (n,)
    outlier_label : int or str

    Returns
    -------
    bool ndarray of shape (n,)
    """
    # In an array of strings, NumPy has converted a numeric outlier label into a string.
    mark = str(outlier_label) if y.dtype.kind in "US" else outlier_label
    return np.asarray(y == mark) & np.ones(len(y), dtype=bool)


def rejection_threshold(scores: FloatArray, rate: float) -> float:
    r"""Return the threshold below which new in-distribution samples fall at most at a given rate.

    The next of n exchangeable scores is below the :math:`k`-th smallest with probability
    :math:`k / (n + 1)` at most. The threshold is therefore the score at
    :math:`k = \lfloor \rho (n + 1) \rfloor`. If this is 0, there are too few scores for the rate,
    and the threshold is the smallest score, below which the next one falls with probability
    :math:`1 / (n + 1)`. It is then lowered by a millionth of its size. Otherwise, the score of a
    held-out sample could fall below it when it is computed again, in another batch or on other
    threads, and rounded differently.

    Parameters
    ----------
    scores : ndarray of shape (n,)
        Scores of in-distribution samples that the detector was not fitted on.
    rate : float in (0, 1)
        :math:`\rho`.

    Returns
    -------
    float
    """
    k = int(np.floor(rate * (len(scores) + 1) * _ROUNDING))
    threshold = float(np.sort(scores)[max(k, 1) - 1])
    return threshold - _SLACK * abs(threshold) if np.isfinite(threshold) else threshold
