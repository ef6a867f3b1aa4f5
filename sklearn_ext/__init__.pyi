from . import decentralized, inspection, kernel_regression, metrics, neural, utils
from .decentralized import (
    DecentralizedRFClassifier,
    DecentralizedRFKRR,
    InProcessNetwork,
    TorchDistributedNetwork,
)
from .inspection import LABBandwidthDisplay, LossCurveDisplay
from .kernel_regression import LABRidgelessClassifier, LABRidgelessRegressor
from .utils import all_estimators
