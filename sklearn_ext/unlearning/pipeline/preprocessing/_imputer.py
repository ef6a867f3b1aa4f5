"""Imputation that forgets samples: its statistics are exact sums."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted, validate_data

from ....utils._atomic import atomic_fit
from ....utils._typing import Array, FloatArray
from ....utils._warnings import warn_caller
from ._checks import checked_weights, n_left, plain_objects, validated_numbers
from ._exact_sums import changed_moments, empty_moments, mean_and_variance

_UNITS = 2**1074  # the number one in units of the smallest positive float


class ForgettingImputer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Imputation by the mean or the most frequent value that forgets samples exactly.

    Parameters
    ----------
    strategy : {"mean", "most_frequent"}, default="mean"
        Value that replaces missing ones. A median is not available: it is not a function of sums,
        so it cannot be updated without all values.

    Attributes
    ----------
    statistics_ : ndarray of shape (n_features,)
        Value that replaces missing values of each feature. Zero, or the empty string, for a feature
        without any value.
    n_retained_ : int
        Number of samples in the sums.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

    See Also
    --------
    sklearn.impute.SimpleImputer : The same imputation, without forgetting.

    Notes
    -----
    Means are exact, as in :class:`ForgettingScaler`. The most frequent value is the smallest one
    among ties. Missing values are NaN or None.

    References
    ----------
    .. [1] U. W. Kulisch, "Advanced Arithmetic for the Digital Computer", Springer, 2002 (exact
       accumulation in a register of fixed point).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext import ForgettingImputer
    >>> X = np.array([[1.0], [2.0], [np.nan], [6.0]])
    >>> imputer = ForgettingImputer().fit(X)
    >>> imputer.statistics_, imputer.forget(X[[3]]).statistics_
    (array([3.]), array([1.5]))
    """

    _parameter_constraints: dict[str, Any] = {"strategy": [StrOptions({"mean", "most_frequent"})]}

    _sums: Any

    def __init__(self, *, strategy: str = "mean") -> None:
        self.strategy = strategy

    @atomic_fit
    def fit(
        self, X: ArrayLike, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Compute the replacements.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples; missing values are NaN or None.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples.

        Returns
        -------
        self : ForgettingImputer
            The fitted imputer.

        Raises
        ------
        ValueError
            If X is infinite or has the wrong shape, or if `strategy` needs quantiles.
        """
        if self.strategy == "median":
            raise ValueError(
                "strategy must be 'mean' or 'most_frequent', got 'median': a median cannot be "
                "updated from sums when samples are forgotten. Use the mean, or a SimpleImputer "
                "that is fitted to pinned samples."
            )
        self._validate_params()
        values = self._validated(X, reset=True)
        d = values.shape[1]
        empty: Any = empty_moments(d) if self.strategy == "mean" else [{} for _ in range(d)]
        self._set(empty, values, checked_weights(sample_weight, values), 0, 1)
        is_empty = [bool(_is_missing(column).all()) for column in values.T]
        if any(is_empty):
            names = _check_feature_names_in(self, None)[is_empty]
            warn_caller(
                f"Features without any observed values: {names}. Their missing values are filled "
                f"with {0 if values.dtype.kind in 'biuf' else ''!r} until `learn` gets some."
            )
        return self

    @atomic_fit
    def forget(self, X: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Forget samples: become the imputer that never saw them.

        Parameters
        ----------
        X : array-like of shape (n_forget, n_features)
            Samples that were learned.
        sample_weight : array-like of shape (n_forget,), default=None
            Weights with which the samples were learned.

        Returns
        -------
        self : ForgettingImputer
            The imputer without the samples.

        Raises
        ------
        NotFittedError
            If the imputer is unfitted.
        ValueError
            If no sample would be left, or if the samples cannot have been learned.
        """
        return self._change(X, sample_weight, -1)

    @atomic_fit
    def learn(self, X: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Learn more samples, as if they had been given to `fit`.

        Parameters
        ----------
        X : array-like of shape (n_new, n_features)
            New samples.
        sample_weight : array-like of shape (n_new,), default=None
            Weights of the new samples.

        Returns
        -------
        self : ForgettingImputer
            The imputer with the new samples.

        Raises
        ------
        NotFittedError
            If the imputer is unfitted.
        ValueError
            If X is infinite or has the wrong shape.
        """
        return self._change(X, sample_weight, 1)

    def transform(self, X: ArrayLike) -> Array:
        """Replace missing values.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
        """
        check_is_fitted(self)
        values = self._validated(X, reset=False).copy()
        for j in range(values.shape[1]):
            values[_is_missing(values[:, j]), j] = self.statistics_[j]
        return values

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = self.strategy == "most_frequent"
        tags.input_tags.categorical = self.strategy == "most_frequent"
        return tags

    def _change(self, X: ArrayLike, sample_weight: ArrayLike | None, sign: int) -> Self:
        check_is_fitted(self)
        values = self._validated(X, reset=False)
        return self._set(
            self._sums, values, checked_weights(sample_weight, values), self.n_retained_, sign
        )

    def _validated(self, X: Any, *, reset: bool) -> Any:
        if self.strategy == "mean":
            return validated_numbers(self, X, reset=reset)
        X = plain_objects(X)
        return validate_data(self, X, dtype=None, ensure_all_finite="allow-nan", reset=reset)

    def _set(self, sums: Any, X: Any, weights: FloatArray, n_before: int, sign: int) -> Self:
        self.n_retained_ = n_before + len(X) if sign > 0 else n_left(n_before, len(X))
        if self.strategy == "mean":
            self._sums = changed_moments(sums, X, weights, sign)
            if (self._sums[0, :, -1] < 0).any():
                raise ValueError(
                    "X contains samples that were never learned: they have more values than were "
                    "learned. Check X and sample_weight."
                )
            self.statistics_ = np.nan_to_num(mean_and_variance(self._sums)[0])
            return self
        self._sums = [_counts(sums[j], X[:, j], weights, sign) for j in range(X.shape[1])]
        empty: Any = 0 if X.dtype.kind in "biuf" else ""
        best = [
            min(counts, key=lambda value: (-counts[value], value)) if counts else empty
            for counts in self._sums
        ]
        self.statistics_ = np.array(best, dtype=X.dtype)
        return self


def _is_missing(column: Array) -> Any:
    if column.dtype.kind == "O":
        return np.array([value is None or value != value for value in column], dtype=bool)
    return np.isnan(column) if column.dtype.kind == "f" else np.zeros(len(column), dtype=bool)


def _counts(
    before: dict[Any, int], column: Array, weights: FloatArray, sign: int
) -> dict[Any, int]:
    """Return the total weights by value, as exact integers; values without samples are left out."""
    after, observed = dict(before), ~_is_missing(column)
    for value, weight in zip(column[observed].tolist(), weights[observed].tolist(), strict=True):
        numerator, denominator = weight.as_integer_ratio()
        total = after.get(value, 0) + sign * numerator * (_UNITS // denominator)
        if total < 0:
            raise ValueError(f"X contains {value!r} more often than it was learned.")
        after[value] = total
    return {value: total for value, total in sorted(after.items()) if total}
