"""Ridge regression on random features that forgets samples exactly; works without torch."""

from ._classifier import RandomFeatureClassifier
from ._regressor import RandomFeatureRegressor

__all__ = ["RandomFeatureClassifier", "RandomFeatureRegressor"]
