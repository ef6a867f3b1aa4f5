from ._bad_teacher import BadTeacherUnlearner as BadTeacherUnlearner
from ._class_forgetter import SFRonClassForgetter as SFRonClassForgetter
from ._fine_tune import FineTuneUnlearner as FineTuneUnlearner
from ._forget_split import make_forget_split as make_forget_split
from ._gradient_ascent import GradientAscentUnlearner as GradientAscentUnlearner
from ._muso import MUSOUnlearner as MUSOUnlearner
from ._natmu import NatMUUnlearner as NatMUUnlearner
from ._random_label import RandomLabelUnlearner as RandomLabelUnlearner
from ._salun import SalUnUnlearner as SalUnUnlearner
from ._sfron import SFRonUnlearner as SFRonUnlearner
from .exact import (
    RandomFeatureClassifier as RandomFeatureClassifier,
    RandomFeatureRegressor as RandomFeatureRegressor,
)
