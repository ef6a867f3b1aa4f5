"""Preprocessing that forgets samples: its statistics are sums, which lose no digits."""

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin, _fit_context
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import (
    FLOAT_DTYPES,
    _check_feature_names_in,
    _check_sample_weight,
    check_is_fitted,
    validate_data,
)

from ...utils._atomic import atomic_fit
from ...utils._typing import Array, FloatArray, IntArray
from ._exact_sums import changed_moments, empty_moments, mean_and_variance

_UNITS = 2**1074  # of one in the smallest positive float
_LARGEST = 1e100  # products of three values of this size are still finite


def _validated_numbers(estimator: Any, X: Any, *, reset: bool) -> FloatArray:
    X = validate_data(estimator, X, dtype=np.float64, ensure_all_finite="allow-nan", reset=reset)
    if X.size and np.nanmax(abs(X), initial=0.0) > _LARGEST:
        raise ValueError(
            f"X must have absolute values below {_LARGEST:.0e}, got {np.nanmax(abs(X)):.3g}; "
            "rescale it."
        )
    return X


def _weights(sample_weight: ArrayLike | None, X: Any) -> FloatArray:
    weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    if weights.max(initial=0.0) > _LARGEST:
        raise ValueError(f"sample_weight must be below {_LARGEST:.0e}, got {weights.max():.3g}.")
    return weights


def _left(n_learned: int, n_forgotten: int) -> int:
    """Return the number of samples left, which must be positive."""
    if n_forgotten >= n_learned:
        raise ValueError(
            f"X has {n_forgotten} samples to forget, but only {n_learned} were learned, and at "
            "least one must be retained."
        )
    return n_learned - n_forgotten


class ForgettingScaler(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    r"""Standardization that forgets samples exactly.

    Each feature is centered and divided by its standard deviation, as by
    :class:`~sklearn.preprocessing.StandardScaler`. The sums of weights, values and squares are
    exact integers. Mean and scale are rounded once from them, so after :meth:`forget` they equal,
    bit for bit, those of a fit without the forgotten samples, in whatever order samples came and
    went.

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
        values = _validated_numbers(self, X, reset=True)
        weights = _weights(sample_weight, values)
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
        values = _validated_numbers(self, X, reset=False)
        return self._set(
            self._moments, values, _weights(sample_weight, values), self.n_retained_, sign
        )

    def _set(
        self, moments: IntArray, X: FloatArray, weights: FloatArray, n_before: int, sign: int
    ) -> Self:
        n = len(X)
        self.n_retained_ = n_before + n if sign > 0 else _left(n_before, n)
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


class ForgettingImputer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Imputation by the mean or the most frequent value, that forgets samples exactly.

    Parameters
    ----------
    strategy : {"mean", "most_frequent"}, default="mean"
        Value that replaces missing ones. A median is not available: it is not a function of sums,
        so without all values it cannot be updated.

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
        return self._set(empty, values, _weights(sample_weight, values), 0, 1)

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
            self._sums, values, _weights(sample_weight, values), self.n_retained_, sign
        )

    def _validated(self, X: Any, *, reset: bool) -> Any:
        if self.strategy == "mean":
            return _validated_numbers(self, X, reset=reset)
        return validate_data(self, X, dtype=None, ensure_all_finite="allow-nan", reset=reset)

    def _set(self, sums: Any, X: Any, weights: FloatArray, n_before: int, sign: int) -> Self:
        self.n_retained_ = n_before + len(X) if sign > 0 else _left(n_before, len(X))
        if self.strategy == "mean":
            self._sums = changed_moments(sums, X, weights, sign)
            if (self._sums[0, :, -1] < 0).any():
                raise ValueError("The samples to forget have more values than were learned.")
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
    """Return the total weights by value, as exact integers, without values of no sample."""
    after, observed = dict(before), ~_is_missing(column)
    for value, weight in zip(column[observed].tolist(), weights[observed].tolist(), strict=True):
        numerator, denominator = weight.as_integer_ratio()
        total = after.get(value, 0) + sign * numerator * (_UNITS // denominator)
        if total < 0:
            raise ValueError(f"X contains {value!r} more often than it was learned.")
        after[value] = total
    return {value: total for value, total in sorted(after.items()) if total}


class ForgettingOneHotEncoder(TransformerMixin, BaseEstimator):
    """One-hot encoding whose categories disappear with their last sample.

    Parameters
    ----------
    handle_unknown : {"ignore", "error"}, default="ignore"
        What `transform` does with a category of which no sample is left: encode it by zeros, or
        raise an error.

    Attributes
    ----------
    categories_ : list of ndarray
        Categories of each feature, sorted.
    counts_ : list of ndarray of int
        Number of samples of each category.
    n_retained_ : int
        Number of samples that are counted.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

    See Also
    --------
    sklearn.preprocessing.OneHotEncoder : The same encoding, without forgetting.

    References
    ----------
    .. [1] L. Bourtoule et al., "Machine Unlearning", IEEE Symposium on Security and Privacy, 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext import ForgettingOneHotEncoder
    >>> X = np.array([["red"], ["blue"], ["red"]])
    >>> encoder = ForgettingOneHotEncoder().fit(X)
    >>> encoder.forget(X[[1]]).get_feature_names_out()
    array(['x0_red'], dtype=object)
    >>> encoder.transform([["red"], ["blue"]])
    array([[1.],
           [0.]])
    """

    _parameter_constraints: dict[str, Any] = {"handle_unknown": [StrOptions({"ignore", "error"})]}

    _encoder: OneHotEncoder
    _ENCODING: ClassVar[dict[str, Any]] = {"sparse_output": False, "handle_unknown": "error"}

    def __init__(self, *, handle_unknown: str = "ignore") -> None:
        self.handle_unknown = handle_unknown

    @atomic_fit
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Count the categories.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples of categories: strings, numbers or booleans. NaN and None are categories.
        y : None
            Ignored.

        Returns
        -------
        self : ForgettingOneHotEncoder
            The fitted encoder.

        Raises
        ------
        ValueError
            If X has the wrong shape.
        """
        columns = self._columns(X, reset=True)
        self.n_retained_ = len(columns[0])
        counted = [_category_counts(column) for column in columns]
        return self._set(counted)

    @atomic_fit
    def forget(self, X: ArrayLike) -> Self:
        """Forget samples: become the encoder that never saw them.

        Parameters
        ----------
        X : array-like of shape (n_forget, n_features)
            Samples that were learned.

        Returns
        -------
        self : ForgettingOneHotEncoder
            The encoder without the samples.

        Raises
        ------
        NotFittedError
            If the encoder is unfitted.
        ValueError
            If no sample would be left, or if the samples cannot have been learned.
        """
        check_is_fitted(self)
        columns = self._columns(X, reset=False)
        counted = []
        for column, known, counts in zip(columns, self.categories_, self.counts_, strict=True):
            encoder = OneHotEncoder(categories=[known], **self._ENCODING)
            left = counts - encoder.fit_transform(column[:, None]).sum(axis=0).astype(np.int64)
            if (left < 0).any():
                value = known.tolist()[int(left.argmin())]
                raise ValueError(f"X contains {value!r} more often than it was learned.")
            counted.append((known[left > 0], left[left > 0]))
        self.n_retained_ = _left(self.n_retained_, len(columns[0]))
        return self._set(counted)

    @atomic_fit
    def learn(self, X: ArrayLike) -> Self:
        """Learn more samples, as if they had been given to `fit`.

        Parameters
        ----------
        X : array-like of shape (n_new, n_features)
            New samples, which may have new categories.

        Returns
        -------
        self : ForgettingOneHotEncoder
            The encoder with the new samples.

        Raises
        ------
        NotFittedError
            If the encoder is unfitted.
        ValueError
            If X has the wrong shape.
        """
        check_is_fitted(self)
        columns = self._columns(X, reset=False)
        counted = []
        for column, known, counts in zip(columns, self.categories_, self.counts_, strict=True):
            everything = np.concatenate((known, column))
            categories, total = _category_counts(everything)
            encoder = OneHotEncoder(categories=[categories], **self._ENCODING)
            rows = encoder.fit_transform(known[:, None])
            # `everything` contains each old category once.
            counted.append((categories, total + (rows.T @ (counts - 1)).astype(np.int64)))
        self.n_retained_ += len(columns[0])
        return self._set(counted)

    def transform(self, X: ArrayLike) -> FloatArray:
        """Encode samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples of categories.

        Returns
        -------
        ndarray of shape (n_samples, n_categories)
            One column per category.
        """
        check_is_fitted(self)
        columns = self._columns(X, reset=False)
        encoded = []
        for column, categories in zip(columns, self.categories_, strict=True):
            encoder = OneHotEncoder(
                categories=[categories], sparse_output=False, handle_unknown=self.handle_unknown
            )
            encoded.append(encoder.fit(categories[:, None]).transform(column[:, None]))
        return np.hstack(encoded)

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> Array:
        """Return the names of the columns.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Names of the features; None uses those seen during fit.

        Returns
        -------
        ndarray of str
        """
        check_is_fitted(self)
        names = _check_feature_names_in(self, input_features)
        return np.array(
            [
                f"{name}_{category}"
                for name, categories in zip(names, self.categories_, strict=True)
                for category in categories
            ],
            dtype=object,
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        tags.input_tags.allow_nan = True
        return tags

    def _columns(self, X: Any, *, reset: bool) -> list[Array]:
        """Return the columns with the types that they have in a data frame."""
        values = validate_data(self, X, dtype=None, ensure_all_finite="allow-nan", reset=reset)
        if hasattr(X, "iloc"):
            return [np.asarray(X.iloc[:, j]) for j in range(values.shape[1])]
        return list(values.T)

    def _set(self, counted: list[tuple[Array, IntArray]]) -> Self:
        self.categories_ = [categories for categories, _ in counted]
        self.counts_ = [counts for _, counts in counted]
        return self


def _category_counts(column: Array) -> tuple[Array, IntArray]:
    """Return the sorted categories of a column and the number of samples of each."""
    encoder = OneHotEncoder(sparse_output=True)
    counts = np.asarray(encoder.fit_transform(column[:, None]).sum(axis=0)).ravel()
    return encoder.categories_[0], counts.astype(np.int64)
