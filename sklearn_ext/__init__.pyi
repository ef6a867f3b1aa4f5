__all__: list[str]
__version__: str

from . import (
    decentralized as decentralized,
    generative as generative,
    impute as impute,
    inspection as inspection,
    kernel_regression as kernel_regression,
    lora as lora,
    metrics as metrics,
    neural as neural,
    ood as ood,
    soup as soup,
    unlearning as unlearning,
    utils as utils,
)
from .decentralized import (
    DecentralizedRFClassifier as DecentralizedRFClassifier,
    DecentralizedRFKRR as DecentralizedRFKRR,
    InProcessNetwork as InProcessNetwork,
    TorchDistributedNetwork as TorchDistributedNetwork,
)
from .generative import ConditionalDDPM as ConditionalDDPM
from .impute import (
    SupervisedKernelClassifier as SupervisedKernelClassifier,
    SupervisedKernelImputer as SupervisedKernelImputer,
)
from .inspection import (
    ConsensusDisplay as ConsensusDisplay,
    FeatureCosineDisplay as FeatureCosineDisplay,
    GeneratedSamplesDisplay as GeneratedSamplesDisplay,
    ImputationDisplay as ImputationDisplay,
    LABBandwidthDisplay as LABBandwidthDisplay,
    LossCurveDisplay as LossCurveDisplay,
    NetworkDisplay as NetworkDisplay,
    OODScoreDisplay as OODScoreDisplay,
    SoupCoefficientDisplay as SoupCoefficientDisplay,
    SoupScoreDisplay as SoupScoreDisplay,
    UnlearningReportDisplay as UnlearningReportDisplay,
)
from .kernel_regression import (
    LABRidgelessClassifier as LABRidgelessClassifier,
    LABRidgelessRegressor as LABRidgelessRegressor,
)
from .lora import (
    FlatLoRACallback as FlatLoRACallback,
    FlatLoRAClassifier as FlatLoRAClassifier,
    FlatLoRARegressor as FlatLoRARegressor,
    FlatLoRATrainerCallback as FlatLoRATrainerCallback,
    flat_lora as flat_lora,
)
from .metrics import (
    generation_report as generation_report,
    imputation_report as imputation_report,
    ood_report as ood_report,
    select_outliers as select_outliers,
    unlearning_report as unlearning_report,
)
from .neural import (
    NetClassifier as NetClassifier,
    NetRegressor as NetRegressor,
    net_from_module as net_from_module,
)
from .ood import (
    ASHOODDetector as ASHOODDetector,
    DiffusionOODDetector as DiffusionOODDetector,
    EnergyOODDetector as EnergyOODDetector,
    FDBDOODDetector as FDBDOODDetector,
    FusedOODDetector as FusedOODDetector,
    GENOODDetector as GENOODDetector,
    KNNOODDetector as KNNOODDetector,
    MahalanobisOODDetector as MahalanobisOODDetector,
    MaxLogitOODDetector as MaxLogitOODDetector,
    MSPOODDetector as MSPOODDetector,
    NNGuideOODDetector as NNGuideOODDetector,
    OrthLossOODDetector as OrthLossOODDetector,
    ReActOODDetector as ReActOODDetector,
    SCALEOODDetector as SCALEOODDetector,
    SeparationNet as SeparationNet,
    ViMOODDetector as ViMOODDetector,
)
from .soup import (
    DARE as DARE,
    TIES as TIES,
    GreedySoup as GreedySoup,
    LayerwiseLinear as LayerwiseLinear,
    LearnedSoup as LearnedSoup,
    MEHLSoup as MEHLSoup,
    ModelStock as ModelStock,
    RegMean as RegMean,
    TaskArithmetic as TaskArithmetic,
    UniformSoup as UniformSoup,
    WiSEFT as WiSEFT,
)
from .unlearning import (
    BadTeacherUnlearner as BadTeacherUnlearner,
    CTUnlearner as CTUnlearner,
    FineTuneUnlearner as FineTuneUnlearner,
    ForgettingImputer as ForgettingImputer,
    ForgettingOneHotEncoder as ForgettingOneHotEncoder,
    ForgettingPipeline as ForgettingPipeline,
    ForgettingScaler as ForgettingScaler,
    GradientAscentUnlearner as GradientAscentUnlearner,
    LearnedKernelFeatures as LearnedKernelFeatures,
    MSGUnlearner as MSGUnlearner,
    MUSOUnlearner as MUSOUnlearner,
    NatMUUnlearner as NatMUUnlearner,
    RandomFeatureClassifier as RandomFeatureClassifier,
    RandomFeatureRegressor as RandomFeatureRegressor,
    RandomLabelUnlearner as RandomLabelUnlearner,
    SalUnUnlearner as SalUnUnlearner,
    SCRUBUnlearner as SCRUBUnlearner,
    SFRonClassForgetter as SFRonClassForgetter,
    SFRonUnlearner as SFRonUnlearner,
    SSDUnlearner as SSDUnlearner,
    make_forget_split as make_forget_split,
    make_forgetting_pipeline as make_forgetting_pipeline,
)
from .utils import all_estimators as all_estimators
