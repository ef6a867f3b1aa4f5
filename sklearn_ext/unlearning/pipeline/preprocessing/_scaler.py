"""Standardization that forgets samples: its statistics are exact sums."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin, _fit_context
from sklearn.utils.validation import FLOAT_DTYPES, check_is_fitted, validate_data

from ....utils._atomic import atomic_fit
from ....utils._typing import FloatArray, IntArray
from ._checks import checked_weights, n_left, validated_numbers
from ._exact_sums import changed_moments, empty_moments, mean_and_variance


class ForgettingScaler(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    r"""Standardization that forgets samples exactly.

    Each feature is centered and divided by its standard deviation, as by
    :class:`~sklearn.preprocessing.StandardScaler`. The sums of weights, values and squares are
    exact integers. Mean and scale are rounded once from them, so after :meth:`forget` they equal,
    bit for bit, those of a fit without the forgotten samples, whatever the order of the requests.

    Parameters
    ----------
    with_mean : bool, default=True
        Whether to subtract the mean.
    with_std : bool, default=True
        Whether to divide by the standard deviation. A constant feature is divided by one.

    Attributes
    ----------
    mean_ : ndarray of shape (n_features,)
        Mean of each feature; zero for a feature without any value.
    var_ : ndarray of shape (n_features,)
        Variance of each feature.
    scale_ : ndarray of shape (n_features,)
        Divisor of each feature.
    n_retained_ : int
        Number of samples in the sums.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

    See Also
    --------
    ForgettingPipeline : Forgets samples in preprocessing, features and model together.

    Notes
    -----
    Missing values (NaN) are left out and stay missing. The sums take 1.6 kB per feature.

    References
    ----------
    .. [1] U. W. Kulisch, "Advanced Arithmetic for the Digital Computer", Springer, 2002 (exact
       accumulation in a register of fixed point).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext import ForgettingScaler
    >>> X = np.array([[1.0], [2.0], [1e12], [4.0]])
    >>> scaler = ForgettingScaler().fit(X).forget(X[[2]])
    >>> scaler.mean_ == X[[0, 1, 3]].mean()
    array([ True])
    >>> scaler.transform([[4.0]]).round(3)
    array([[1.336]])
    """

    _parameter_constraints: dict[str, Any] = {"with_mean": ["boolean"], "with_std": ["boolean"]}

    _moments: IntArray

    def __init__(self, *, with_mean: bool = True, with_std: bool = True) -> None:
        self.with_mean = with_mean
        self.with_std = with_std

    @atomic_fit
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: ArrayLike, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Compute the mean and the scale.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples.

        Returns
        -------
        self : ForgettingScaler
            The fitted scaler.

        Raises
        ------
        ValueError
            If X is infinite, has the wrong shape, or exceeds 1e100.
        """
        values = validated_numbers(self, X, reset=True)
        weights = checked_weights(sample_weight, values)
        return self._set(empty_moments(values.shape[1]), values, weights, 0, 1)

    @atomic_fit
    def forget(self, X: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Forget samples: become the scaler that never saw them.

        Parameters
        ----------
        X : array-like of shape (n_forget, n_features)
            Samples that were learned. The scaler stores none, so it cannot check this completely.
        sample_weight : array-like of shape (n_forget,), default=None
            Weights with which the samples were learned.

        Returns
        -------
        self : ForgettingScaler
            The scaler without the samples.

        Raises
        ------
        NotFittedError
            If the scaler is unfitted.
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
        self : ForgettingScaler
            The scaler with the new samples.

        Raises
        ------
        NotFittedError
            If the scaler is unfitted.
        ValueError
            If X is infinite, has the wrong shape, or exceeds 1e100.
        """
        return self._change(X, sample_weight, 1)

    def transform(self, X: ArrayLike) -> FloatArray:
        """Standardize samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
        """
        check_is_fitted(self)
        values = validate_data(
            self, X, dtype=FLOAT_DTYPES, ensure_all_finite="allow-nan", reset=False
        )
        return (values - self._center()) / self.scale_

    def inverse_transform(self, X: ArrayLike) -> FloatArray:
        """Undo the standardization.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Standardized samples.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
        """
        check_is_fitted(self)
        return np.asarray(X) * self.scale_ + self._center()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def _center(self) -> FloatArray:
        return self.mean_ if self.with_mean else np.zeros_like(self.mean_)

    def _change(self, X: ArrayLike, sample_weight: ArrayLike | None, sign: int) -> Self:
        check_is_fitted(self)
        values = validated_numbers(self, X, reset=False)
        return self._set(
            self._moments, values, checked_weights(sample_weight, values), self.n_retained_, sign
        )

    def _set(
        self, moments: IntArray, X: FloatArray, weights: FloatArray, n_before: int, sign: int
    ) -> Self:
        n = len(X)
        self.n_retained_ = n_before + n if sign > 0 else n_left(n_before, n)
        self._moments = changed_moments(moments, X, weights, sign)
        # The last digit has the sign of a sum. Sums of weights and squares are never negative.
        if (self._moments[[0, 2], :, -1] < 0).any():
            raise ValueError(
                "The samples cannot have been learned: without them, a sum of weights or of "
                "squares would be negative. Check X and sample_weight."
            )
        mean, variance = mean_and_variance(self._moments)
        self.mean_, self.var_ = np.nan_to_num(mean), np.nan_to_num(variance)
        spread = np.sqrt(self.var_)
        self.scale_ = np.where(spread > 0.0, spread, 1.0) if self.with_std else np.ones_like(spread)
        return self
