from . import (
    diffusion as diffusion,
    exact as exact,
    networks as networks,
    pipeline as pipeline,
    steps as steps,
)
from ._forget_request import (
    ForgetRequest as ForgetRequest,
    make_forget_split as make_forget_split,
)
from .diffusion import SFRonClassForgetter as SFRonClassForgetter
from .exact import (
    RandomFeatureClassifier as RandomFeatureClassifier,
    RandomFeatureRegressor as RandomFeatureRegressor,
)
from .networks import (
    BadTeacherUnlearner as BadTeacherUnlearner,
    CTUnlearner as CTUnlearner,
    FineTuneUnlearner as FineTuneUnlearner,
    GradientAscentUnlearner as GradientAscentUnlearner,
    MSGUnlearner as MSGUnlearner,
    MUSOUnlearner as MUSOUnlearner,
    NatMUUnlearner as NatMUUnlearner,
    RandomLabelUnlearner as RandomLabelUnlearner,
    SalUnUnlearner as SalUnUnlearner,
    SCRUBUnlearner as SCRUBUnlearner,
    SFRonUnlearner as SFRonUnlearner,
    SSDUnlearner as SSDUnlearner,
)
from .pipeline import (
    ForgettingImputer as ForgettingImputer,
    ForgettingOneHotEncoder as ForgettingOneHotEncoder,
    ForgettingPipeline as ForgettingPipeline,
    ForgettingScaler as ForgettingScaler,
    LearnedKernelFeatures as LearnedKernelFeatures,
    make_forgetting_pipeline as make_forgetting_pipeline,
)
