"""Kernel regression with learned bandwidths."""

from ._lab_classifier import LABRidgelessClassifier
from ._lab_regressor import LABRidgelessRegressor

__all__ = ["LABRidgelessClassifier", "LABRidgelessRegressor"]
