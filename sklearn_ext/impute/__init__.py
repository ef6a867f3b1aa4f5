"""Imputation by a Gaussian model of features and labels, and kernels for missing values."""

from ._pooling import PooledEstimates, pool_estimates
from ._supervised_kernel import expected_gaussian_kernel
from ._supervised_kernel_classifier import SupervisedKernelClassifier
from ._supervised_kernel_imputer import SupervisedKernelImputer
from .gaussian import GaussianImputerConfig, conditional_gaussian, fit_gaussian_imputer
from .published import TwoStageConfig, correct_kernel, fit_two_stage_imputer

__all__ = [
    "GaussianImputerConfig",
    "PooledEstimates",
    "SupervisedKernelClassifier",
    "SupervisedKernelImputer",
    "TwoStageConfig",
    "conditional_gaussian",
    "correct_kernel",
    "expected_gaussian_kernel",
    "fit_gaussian_imputer",
    "fit_two_stage_imputer",
    "pool_estimates",
]
