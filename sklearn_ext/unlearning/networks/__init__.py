"""Approximate unlearning for neural networks; names outside `__all__` are internal."""

from ._muso import MUSOUnlearner
from ._muso_algorithm import MUSOConfig, muso
from ._natmu import NatMUUnlearner
from ._natmu_algorithm import NatMUConfig, natmu
from ._natmu_blending import blend, gradual_masks
from ._net_data import NetData, loss_of as loss_of
from ._sfron import SFRonUnlearner
from ._sfron_algorithm import SFRonConfig, sfron
from ._trust_region import RetainedLimit
from .baselines import (
    BadTeacherUnlearner,
    BaselineConfig,
    CTUnlearner,
    FineTuneUnlearner,
    GradientAscentUnlearner,
    MSGUnlearner,
    RandomLabelUnlearner,
    SalUnUnlearner,
    SCRUBConfig,
    SCRUBUnlearner,
    SSDUnlearner,
    baseline,
    dampen,
    distillation as distillation,
    draw_wrong_labels as draw_wrong_labels,
    scrub,
    wrong_labels,
)
from .labels import LabelModelSummary, projected_scores

__all__ = [
    "BadTeacherUnlearner",
    "BaselineConfig",
    "CTUnlearner",
    "FineTuneUnlearner",
    "GradientAscentUnlearner",
    "LabelModelSummary",
    "MSGUnlearner",
    "MUSOConfig",
    "MUSOUnlearner",
    "NatMUConfig",
    "NatMUUnlearner",
    "NetData",
    "RandomLabelUnlearner",
    "RetainedLimit",
    "SCRUBConfig",
    "SCRUBUnlearner",
    "SFRonConfig",
    "SFRonUnlearner",
    "SSDUnlearner",
    "SalUnUnlearner",
    "baseline",
    "blend",
    "dampen",
    "gradual_masks",
    "muso",
    "natmu",
    "projected_scores",
    "scrub",
    "sfron",
    "wrong_labels",
]
