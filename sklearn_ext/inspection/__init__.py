"""Displays: plots of fitted estimators and reports."""

from ._consensus_curve import ConsensusDisplay
from ._feature_cosines import FeatureCosineDisplay
from ._generated_samples import GeneratedSamplesDisplay
from ._imputation import ImputationDisplay
from ._lab_bandwidths import LABBandwidthDisplay
from ._loss_curve import LossCurveDisplay
from ._network import NetworkDisplay
from ._ood_scores import OODScoreDisplay
from ._soups import SoupCoefficientDisplay, SoupScoreDisplay
from ._unlearning_report import UnlearningReportDisplay

__all__ = [
    "ConsensusDisplay",
    "FeatureCosineDisplay",
    "GeneratedSamplesDisplay",
    "ImputationDisplay",
    "LABBandwidthDisplay",
    "LossCurveDisplay",
    "NetworkDisplay",
    "OODScoreDisplay",
    "SoupCoefficientDisplay",
    "SoupScoreDisplay",
    "UnlearningReportDisplay",
]
