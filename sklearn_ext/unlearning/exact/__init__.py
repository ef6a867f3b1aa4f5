"""Ridge regression on random features that forgets samples exactly; works without torch.

Names outside `__all__` are building blocks of the functions in it.
"""

from ._base import overwrite_memory as overwrite_memory
from ._classifier import RandomFeatureClassifier
from ._engine import (
    IllConditionedError as IllConditionedError,
    RidgeEngine as RidgeEngine,
    RidgeScipyEngine as RidgeScipyEngine,
)
from ._feature_map import FeatureMap as FeatureMap, draw_frequencies as draw_frequencies
from ._regressor import RandomFeatureRegressor
from ._ridge import (
    condition as condition,
    dual_bordering as dual_bordering,
    dual_downdate as dual_downdate,
    dual_elimination,
    dual_fit as dual_fit,
    primal_elimination,
    primal_fit as primal_fit,
    primal_update as primal_update,
)
from ._solver import (
    RandomFeatureConfig,
    fit_ridge,
    forget_samples,
    learn_samples as learn_samples,
    relabel_samples as relabel_samples,
    rescale_features as rescale_features,
)
from ._training_samples import (
    Request as Request,
    TrainingSamples as TrainingSamples,
    request_by_index as request_by_index,
)
from .solutions import (
    DualSolution as DualSolution,
    OneRidge as OneRidge,
    PrimalSolution as PrimalSolution,
    RidgePath as RidgePath,
    Solution as Solution,
    Sums as Sums,
)

__all__ = [
    "RandomFeatureClassifier",
    "RandomFeatureConfig",
    "RandomFeatureRegressor",
    "dual_elimination",
    "fit_ridge",
    "forget_samples",
    "primal_elimination",
]
