"""Pipelines from which samples are deleted as from a database; they work without torch.

Names outside `__all__` are building blocks of the estimators.
"""

from ._certificate import DeletionCertificate
from ._intervals import jackknife_plus as jackknife_plus, leave_one_out as leave_one_out
from ._kernel_features import LearnedKernelFeatures, local_kernel as local_kernel
from ._model import (
    PipelineConfig as PipelineConfig,
    PipelineModel as PipelineModel,
    fit_pipeline as fit_pipeline,
)
from ._pipeline import ForgettingPipeline, make_forgetting_pipeline
from .preprocessing import (
    ForgettingImputer,
    ForgettingOneHotEncoder,
    ForgettingScaler,
    changed_moments as changed_moments,
    empty_moments as empty_moments,
    integers as integers,
    mean_and_variance as mean_and_variance,
)
from .storage import (
    LockedError as LockedError,
    NotStorableError as NotStorableError,
    RequestFolder as RequestFolder,
    decode as decode,
    encode as encode,
)

__all__ = [
    "DeletionCertificate",
    "ForgettingImputer",
    "ForgettingOneHotEncoder",
    "ForgettingPipeline",
    "ForgettingScaler",
    "LearnedKernelFeatures",
    "make_forgetting_pipeline",
]
