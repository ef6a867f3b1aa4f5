"""Approximate unlearning for neural networks."""

from ._baselines import (
    BadTeacherUnlearner,
    FineTuneUnlearner,
    GradientAscentUnlearner,
    RandomLabelUnlearner,
    SalUnUnlearner,
)
from ._muso import MUSOConfig, MUSOUnlearner, muso
from ._muso_labels import projected_scores
from ._natmu import NatMUConfig, NatMUUnlearner, natmu
from ._natmu_blending import blend, gradual_masks
from ._sfron import SFRonUnlearner
from ._sfron_algorithm import SFRonConfig, sfron

__all__ = [
    "BadTeacherUnlearner",
    "FineTuneUnlearner",
    "GradientAscentUnlearner",
    "MUSOConfig",
    "MUSOUnlearner",
    "NatMUConfig",
    "NatMUUnlearner",
    "RandomLabelUnlearner",
    "SFRonConfig",
    "SFRonUnlearner",
    "SalUnUnlearner",
    "blend",
    "gradual_masks",
    "muso",
    "natmu",
    "projected_scores",
    "sfron",
]
