"""Preprocessing steps that forget samples, and the exact sums that they keep."""

from ._exact_sums import changed_moments, empty_moments, integers, mean_and_variance
from ._imputer import ForgettingImputer
from ._one_hot_encoder import ForgettingOneHotEncoder
from ._scaler import ForgettingScaler

__all__ = [
    "ForgettingImputer",
    "ForgettingOneHotEncoder",
    "ForgettingScaler",
    "changed_moments",
    "empty_moments",
    "integers",
    "mean_and_variance",
]
