"""The two-stage method of the paper: a kernel corrected by labels, and samples that fit it."""

from ._kernel_correction import CorrectedKernel, DualSolver, correct_kernel
from ._kernel_machines import (
    least_squares_machines,
    ridge_duals,
    squared_hinge_machines,
    svm_duals,
)
from ._two_stage import (
    MAX_SAMPLES,
    TwoStageConfig,
    TwoStageImputation,
    fit_centered_two_stage_imputer,
    fit_two_stage_imputer,
)

__all__ = [
    "MAX_SAMPLES",
    "CorrectedKernel",
    "DualSolver",
    "TwoStageConfig",
    "TwoStageImputation",
    "correct_kernel",
    "fit_centered_two_stage_imputer",
    "fit_two_stage_imputer",
    "least_squares_machines",
    "ridge_duals",
    "squared_hinge_machines",
    "svm_duals",
]
