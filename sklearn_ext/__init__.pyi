from . import inspection, kernel_regression, metrics, neural, utils
from .kernel_regression import LABRidgelessClassifier, LABRidgelessRegressor
from .utils import all_estimators
