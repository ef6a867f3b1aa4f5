"""Baselines of approximate unlearning; names outside `__all__` are internal."""

from ._algorithm import (
    BaselineConfig,
    baseline,
    distillation as distillation,
    draw_wrong_labels as draw_wrong_labels,
    wrong_labels,
)
from ._dampening import SSDUnlearner, dampen
from ._fine_tuning import FineTuneUnlearner, GradientAscentUnlearner
from ._new_weights import (
    CTUnlearner,
    MSGUnlearner,
    renew_small_gradients as renew_small_gradients,
    transpose_convolutions as transpose_convolutions,
)
from ._teachers import BadTeacherUnlearner, SCRUBConfig, SCRUBUnlearner, scrub
from ._wrong_labels import RandomLabelUnlearner, SalUnUnlearner

__all__ = [
    "BadTeacherUnlearner",
    "BaselineConfig",
    "CTUnlearner",
    "FineTuneUnlearner",
    "GradientAscentUnlearner",
    "MSGUnlearner",
    "RandomLabelUnlearner",
    "SCRUBConfig",
    "SCRUBUnlearner",
    "SSDUnlearner",
    "SalUnUnlearner",
    "baseline",
    "dampen",
    "scrub",
    "wrong_labels",
]
