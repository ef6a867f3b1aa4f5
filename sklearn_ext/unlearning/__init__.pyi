from ._forget_split import make_forget_split as make_forget_split
from ._random_feature_classifier import RandomFeatureClassifier as RandomFeatureClassifier
from ._random_feature_regressor import RandomFeatureRegressor as RandomFeatureRegressor
from ._report import (
    UnlearningReport as UnlearningReport,
    unlearning_report as unlearning_report,
)
