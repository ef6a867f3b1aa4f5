"""Baselines of approximate unlearning; names outside `__all__` are internal."""

from ._algorithm import (
    BaselineConfig,
    baseline,
    distillation as distillation,
    draw_wrong_labels as draw_wrong_labels,
    wrong_labels,
)
from ._fine_tuning import FineTuneUnlearner, GradientAscentUnlearner
from ._teachers import BadTeacherUnlearner
from ._wrong_labels import RandomLabelUnlearner, SalUnUnlearner

__all__ = [
    "BadTeacherUnlearner",
    "BaselineConfig",
    "FineTuneUnlearner",
    "GradientAscentUnlearner",
    "RandomLabelUnlearner",
    "SalUnUnlearner",
    "baseline",
    "wrong_labels",
]
