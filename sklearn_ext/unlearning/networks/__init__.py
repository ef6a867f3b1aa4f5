"""Approximate unlearning for neural networks."""

from ._bad_teacher import BadTeacherUnlearner
from ._fine_tune import FineTuneUnlearner
from ._gradient_ascent import GradientAscentUnlearner
from ._muso import MUSOUnlearner
from ._natmu import NatMUUnlearner
from ._random_label import RandomLabelUnlearner
from ._salun import SalUnUnlearner
from ._sfron import SFRonUnlearner

__all__ = [
    "BadTeacherUnlearner",
    "FineTuneUnlearner",
    "GradientAscentUnlearner",
    "MUSOUnlearner",
    "NatMUUnlearner",
    "RandomLabelUnlearner",
    "SFRonUnlearner",
    "SalUnUnlearner",
]
