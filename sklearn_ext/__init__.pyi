from . import decentralized, impute, inspection, kernel_regression, metrics, neural, utils
from .decentralized import (
    DecentralizedRFClassifier,
    DecentralizedRFKRR,
    InProcessNetwork,
    TorchDistributedNetwork,
)
from .impute import SupervisedKernelClassifier, SupervisedKernelImputer
from .inspection import (
    ConsensusDisplay,
    ImputationDisplay,
    LABBandwidthDisplay,
    LossCurveDisplay,
    NetworkDisplay,
)
from .kernel_regression import LABRidgelessClassifier, LABRidgelessRegressor
from .utils import all_estimators
