"""Imputation by a Gaussian model of features and labels, and kernels on rows with holes."""

from ._supervised_kernel_classifier import SupervisedKernelClassifier
from ._supervised_kernel_imputer import SupervisedKernelImputer

__all__ = ["SupervisedKernelClassifier", "SupervisedKernelImputer"]
