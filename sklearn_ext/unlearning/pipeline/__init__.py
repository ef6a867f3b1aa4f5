"""Pipelines from which samples are deleted as from a database; they work without torch.

Names outside `__all__` are building blocks of the estimators.
"""

from ._certificate import DeletionCertificate
from ._exact_sums import (
    changed_moments as changed_moments,
    empty_moments as empty_moments,
    integers as integers,
    mean_and_variance as mean_and_variance,
)
from ._files import LockedError as LockedError, RequestFolder as RequestFolder
from ._intervals import jackknife_plus as jackknife_plus, leave_one_out as leave_one_out
from ._kernel_features import LearnedKernelFeatures, local_kernel as local_kernel
from ._pipeline import ForgettingPipeline, make_forgetting_pipeline
from ._preprocessing import ForgettingImputer, ForgettingOneHotEncoder, ForgettingScaler
from ._serialization import (
    NotStorableError as NotStorableError,
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
