"""Detectors that score the outputs of a trained classifier and leave it as it is."""

from ._activation_detectors import (
    ReActOODDetector as ReActOODDetector,
    ViMOODDetector as ViMOODDetector,
)
from ._distance_detectors import (
    KNNOODDetector as KNNOODDetector,
    MahalanobisOODDetector as MahalanobisOODDetector,
)
from ._logit_detectors import (
    EnergyOODDetector as EnergyOODDetector,
    MaxLogitOODDetector as MaxLogitOODDetector,
    MSPOODDetector as MSPOODDetector,
)
