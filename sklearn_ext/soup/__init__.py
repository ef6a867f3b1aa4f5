"""Model soups: one network made from the weights of several fine-tuned networks.

A soup class (:class:`MEHLSoup`, ...) trains or opens its ingredients and calls a recipe. The
recipes are plain functions of a module, state dicts and arrays: :func:`learn_mehl_coefficients` and
:func:`learn_simplex_coefficients`. Both follow the gradient that :func:`coefficient_gradient`
computes.
"""

from ._greedy_soup import GreedySoup
from ._learned_soup import LearnedSoup
from ._mehl_soup import MEHLSoup
from ._uniform_soup import UniformSoup
from .recipes import (
    LearnedConfig,
    MEHLConfig,
    StoredDirections,
    StreamedDirections,
    coefficient_gradient,
    learn_mehl_coefficients,
    learn_simplex_coefficients,
    parameter_groups,
)

__all__ = [
    "GreedySoup",
    "LearnedConfig",
    "LearnedSoup",
    "MEHLConfig",
    "MEHLSoup",
    "StoredDirections",
    "StreamedDirections",
    "UniformSoup",
    "coefficient_gradient",
    "learn_mehl_coefficients",
    "learn_simplex_coefficients",
    "parameter_groups",
]
