"""Displays: plots of fitted estimators and of their results."""

from ._imputation import ImputationDisplay
from ._lab_bandwidths import LABBandwidthDisplay
from ._loss_curve import LossCurveDisplay

__all__ = ["ImputationDisplay", "LABBandwidthDisplay", "LossCurveDisplay"]
