from . import inspection, kernel_regression, metrics, neural, utils
from .inspection import LABBandwidthDisplay, LossCurveDisplay
from .kernel_regression import LABRidgelessClassifier, LABRidgelessRegressor
from .utils import all_estimators
