"""Detectors of rows that belong to none of the known classes."""

from ._activation_detectors import ReActOODDetector, ViMOODDetector
from ._diffusion_detector import DiffusionOODDetector
from ._distance_detectors import KNNOODDetector, MahalanobisOODDetector
from ._logit_detectors import EnergyOODDetector, MaxLogitOODDetector, MSPOODDetector
from ._orthloss import OrthLossOODDetector
from ._separation_net import SeparationNet

__all__ = [
    "DiffusionOODDetector",
    "EnergyOODDetector",
    "KNNOODDetector",
    "MSPOODDetector",
    "MahalanobisOODDetector",
    "MaxLogitOODDetector",
    "OrthLossOODDetector",
    "ReActOODDetector",
    "SeparationNet",
    "ViMOODDetector",
]
