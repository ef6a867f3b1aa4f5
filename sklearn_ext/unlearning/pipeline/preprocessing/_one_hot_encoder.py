"""One-hot encoding that forgets samples: it counts categories."""

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted, validate_data

from ....utils._atomic import atomic_fit
from ....utils._typing import Array, FloatArray, IntArray
from ._checks import n_left, plain_objects


class ForgettingOneHotEncoder(TransformerMixin, BaseEstimator):
    """One-hot encoding whose categories disappear with their last sample.

    Parameters
    ----------
    handle_unknown : {"ignore", "error"}, default="ignore"
        Whether `transform` encodes a category without samples by zeros, or raises an error.

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
        self.n_retained_ = n_left(self.n_retained_, len(columns[0]))
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
        objects = plain_objects(X)
        values = validate_data(
            self, objects, dtype=None, ensure_all_finite="allow-nan", reset=reset
        )
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
