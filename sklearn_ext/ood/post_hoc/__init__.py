"""Detectors that score the outputs of a trained classifier and leave it as it is."""

from .._scores import (
    energy_score as energy_score,
    knn_score as knn_score,
    mahalanobis_score as mahalanobis_score,
    max_logit_score as max_logit_score,
    msp_score as msp_score,
    react_score as react_score,
    vim_score as vim_score,
)
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
