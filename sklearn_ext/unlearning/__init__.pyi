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
    FineTuneUnlearner as FineTuneUnlearner,
    GradientAscentUnlearner as GradientAscentUnlearner,
    MUSOUnlearner as MUSOUnlearner,
    NatMUUnlearner as NatMUUnlearner,
    RandomLabelUnlearner as RandomLabelUnlearner,
    SalUnUnlearner as SalUnUnlearner,
    SFRonUnlearner as SFRonUnlearner,
)
from .pipeline import (
    ForgettingImputer as ForgettingImputer,
    ForgettingOneHotEncoder as ForgettingOneHotEncoder,
    ForgettingPipeline as ForgettingPipeline,
    ForgettingScaler as ForgettingScaler,
    LearnedKernelFeatures as LearnedKernelFeatures,
    make_forgetting_pipeline as make_forgetting_pipeline,
)
