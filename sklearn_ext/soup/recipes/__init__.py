"""Recipes, which choose or learn the coefficients of a soup."""

from ._directions import (
    StoredDirections as StoredDirections,
    StreamedDirections as StreamedDirections,
)
from ._gradient import (
    coefficient_gradient as coefficient_gradient,
    coefficients_after_step as coefficients_after_step,
    direction_scales as direction_scales,
    softmax_gradient as softmax_gradient,
)
from ._greedy import by_quality as by_quality, select_greedily as select_greedily
from ._groups import (
    LAYERWISE_CONSTRAINT as LAYERWISE_CONSTRAINT,
    GroupingRule as GroupingRule,
    parameter_groups as parameter_groups,
)
from ._hyperplane import MEHLConfig as MEHLConfig, learn_coefficients as learn_coefficients
from ._learned import (
    LearnedConfig as LearnedConfig,
    learn_simplex_coefficients as learn_simplex_coefficients,
)
