"""Detectors of inputs that belong to none of the known classes."""

from ._diffusion_detector import DiffusionOODDetector
from .orthloss import OrthLossOODDetector, SeparationNet
from .post_hoc import (
    EnergyOODDetector,
    KNNOODDetector,
    MahalanobisOODDetector,
    MaxLogitOODDetector,
    MSPOODDetector,
    ReActOODDetector,
    ViMOODDetector,
)

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
