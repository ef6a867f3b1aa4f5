"""Model soups: one network made from the weights of several fine-tuned networks.

A soup class (:class:`MEHLSoup`, ...) trains or opens its ingredients and calls a recipe. The
recipes are plain functions of a module, state dicts and arrays: :func:`learn_mehl_coefficients` and
:func:`learn_simplex_coefficients`. Both follow the gradient that :func:`coefficient_gradient`
computes.
"""

from ._greedy_soup import GreedySoup
from ._layerwise_linear import LayerwiseLinear
from ._learned_soup import LearnedSoup
from ._mehl_soup import MEHLSoup
from ._model_stock import ModelStock
from ._reg_mean import RegMean
from ._uniform_soup import UniformSoup
from .recipes import (
    LeadingDirections,
    LearnedConfig,
    MEHLConfig,
    StoredDirections,
    StreamedDirections,
    TaskVectorConfig,
    coefficient_gradient,
    learn_mehl_coefficients,
    learn_simplex_coefficients,
    merge_model_stock,
    merge_reg_mean,
    merged_task_vector,
    parameter_groups,
)
from .task_vectors import DARE, TIES, TaskArithmetic, WiSEFT

__all__ = [
    "DARE",
    "TIES",
    "GreedySoup",
    "LayerwiseLinear",
    "LeadingDirections",
    "LearnedConfig",
    "LearnedSoup",
    "MEHLConfig",
    "MEHLSoup",
    "ModelStock",
    "RegMean",
    "StoredDirections",
    "StreamedDirections",
    "TaskArithmetic",
    "TaskVectorConfig",
    "UniformSoup",
    "WiSEFT",
    "coefficient_gradient",
    "learn_mehl_coefficients",
    "learn_simplex_coefficients",
    "merge_model_stock",
    "merge_reg_mean",
    "merged_task_vector",
    "parameter_groups",
]
