"""Approximate unlearning for neural networks; names outside `__all__` are internal."""

from ._muso import MUSOConfig, MUSOUnlearner, muso
from ._muso_labels import projected_scores
from ._natmu import NatMUConfig, NatMUUnlearner, natmu
from ._natmu_blending import blend, gradual_masks
from ._net_data import NetData, loss_of as loss_of
from ._sfron import SFRonUnlearner
from ._sfron_algorithm import SFRonConfig, sfron
from .baselines import (
    BadTeacherUnlearner,
    BaselineConfig,
    FineTuneUnlearner,
    GradientAscentUnlearner,
    RandomLabelUnlearner,
    SalUnUnlearner,
    baseline,
    distillation as distillation,
    draw_wrong_labels as draw_wrong_labels,
    wrong_labels,
)

__all__ = [
    "BadTeacherUnlearner",
    "BaselineConfig",
    "FineTuneUnlearner",
    "GradientAscentUnlearner",
    "MUSOConfig",
    "MUSOUnlearner",
    "NatMUConfig",
    "NatMUUnlearner",
    "NetData",
    "RandomLabelUnlearner",
    "SFRonConfig",
    "SFRonUnlearner",
    "SalUnUnlearner",
    "baseline",
    "blend",
    "gradual_masks",
    "muso",
    "natmu",
    "projected_scores",
    "sfron",
    "wrong_labels",
]
