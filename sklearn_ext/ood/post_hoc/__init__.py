"""Detectors that score the outputs of a trained classifier and leave it as it is."""

from .._scores import (
    ash_score as ash_score,
    energy_score as energy_score,
    fdbd_score as fdbd_score,
    gen_score as gen_score,
    knn_score as knn_score,
    mahalanobis_score as mahalanobis_score,
    max_logit_score as max_logit_score,
    msp_score as msp_score,
    nnguide_score as nnguide_score,
    react_score as react_score,
    scale_score as scale_score,
    vim_score as vim_score,
)
from ._activation_detectors import (
    ASHOODDetector as ASHOODDetector,
    FDBDOODDetector as FDBDOODDetector,
    ReActOODDetector as ReActOODDetector,
    SCALEOODDetector as SCALEOODDetector,
    ViMOODDetector as ViMOODDetector,
)
from ._base import BasePostHocDetector as BasePostHocDetector, known_codes as known_codes
from ._distance_detectors import (
    KNNOODDetector as KNNOODDetector,
    MahalanobisOODDetector as MahalanobisOODDetector,
    NNGuideOODDetector as NNGuideOODDetector,
)
from ._fused_detector import (
    FusedOODDetector as FusedOODDetector,
    FusedScore as FusedScore,
    default_detectors as default_detectors,
    split_held_out as split_held_out,
)
from ._logit_detectors import (
    EnergyOODDetector as EnergyOODDetector,
    GENOODDetector as GENOODDetector,
    MaxLogitOODDetector as MaxLogitOODDetector,
    MSPOODDetector as MSPOODDetector,
)
