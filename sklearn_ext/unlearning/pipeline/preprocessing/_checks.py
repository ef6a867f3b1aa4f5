"""Checks of the samples that a preprocessing step learns or forgets."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import _check_sample_weight, validate_data

from ....utils._typing import FloatArray

_LARGEST = 1e100  # products of three values of this size are still finite


def validated_numbers(estimator: Any, X: Any, *, reset: bool) -> FloatArray:
    """Return samples in float64. They may contain NaN, but no huge values."""
    X = validate_data(estimator, X, dtype=np.float64, ensure_all_finite="allow-nan", reset=reset)
    if X.size and np.nanmax(abs(X), initial=0.0) > _LARGEST:
        raise ValueError(
            f"X must have absolute values below {_LARGEST:.0e}, got {np.nanmax(abs(X)):.3g}; "
            "rescale it."
        )
    return X


def plain_objects(X: Any) -> Any:
    """Return a data frame that is not numeric with columns of plain objects; None is missing.

    NumPy cannot combine a categorical column with one of numbers.
    """
    if (
        hasattr(X, "columns")
        and hasattr(X, "iloc")
        and any(dtype.kind not in "biuf" for dtype in X.dtypes)
    ):
        return X.astype(object).where(X.notna(), None)
    return X


def checked_weights(sample_weight: ArrayLike | None, X: Any) -> FloatArray:
    """Return weights that are neither negative nor huge."""
    weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    if weights.max(initial=0.0) > _LARGEST:
        raise ValueError(f"sample_weight must be below {_LARGEST:.0e}, got {weights.max():.3g}.")
    return weights


def n_left(n_learned: int, n_forgotten: int) -> int:
    """Return the number of samples left, which must be positive."""
    if n_forgotten >= n_learned:
        raise ValueError(
            f"X has {n_forgotten} samples to forget, but only {n_learned} were learned, and at "
            "least one must be retained."
        )
    return n_learned - n_forgotten
