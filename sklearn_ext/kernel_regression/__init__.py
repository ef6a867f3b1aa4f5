"""Kernel ridgeless regression with learned, locally adaptive bandwidths (LAB)."""

from ._lab_classifier import LABRidgelessClassifier, fit_temperature
from ._lab_config import LABConfig, LABExpansion
from ._lab_kernel import OuterLoss, dual_coefficients, outer_loss
from ._lab_regressor import LABRidgelessRegressor
from ._lab_training import train_lab
from .engines import LABEngine as LABEngine, make_engine
from .selection import HeldOut, HeldOutLoss as HeldOutLoss, LABSelection, select_lab

__all__ = [
    "HeldOut",
    "LABConfig",
    "LABExpansion",
    "LABRidgelessClassifier",
    "LABRidgelessRegressor",
    "LABSelection",
    "OuterLoss",
    "dual_coefficients",
    "fit_temperature",
    "make_engine",
    "outer_loss",
    "select_lab",
    "train_lab",
]
