from . import exact as exact
from ._class_forgetter import SFRonClassForgetter as SFRonClassForgetter
from ._forget_request import (
    ForgetRequest as ForgetRequest,
    make_forget_split as make_forget_split,
)
from .exact import (
    RandomFeatureClassifier as RandomFeatureClassifier,
    RandomFeatureRegressor as RandomFeatureRegressor,
)
from .networks import (
    BadTeacherUnlearner as BadTeacherUnlearner,
    FineTuneUnlearner as FineTuneUnlearner,
    GradientAscentUnlearner as GradientAscentUnlearner,
    MUSOUnlearner as MUSOUnlearner,
    NatMUUnlearner as NatMUUnlearner,
    RandomLabelUnlearner as RandomLabelUnlearner,
    SalUnUnlearner as SalUnUnlearner,
    SFRonUnlearner as SFRonUnlearner,
)
