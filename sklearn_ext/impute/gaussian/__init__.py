"""The joint Gaussian model of features and labels: engines, expectation maximization, smoothing."""

from ._conditional import ConditionalGaussian, conditional_gaussian
from ._engine import GaussianEngine, make_engine
from ._gaussian_imputer import (
    Completion,
    GaussianImputation,
    GaussianImputerConfig,
    fit_gaussian_imputer,
)
from ._residual_smoothing import Smoothing

__all__ = [
    "Completion",
    "ConditionalGaussian",
    "GaussianEngine",
    "GaussianImputation",
    "GaussianImputerConfig",
    "Smoothing",
    "conditional_gaussian",
    "fit_gaussian_imputer",
    "make_engine",
]
