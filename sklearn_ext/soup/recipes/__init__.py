"""Recipes, which choose or learn the coefficients of a soup.

This is the way from the class of a soup to its algorithm, and to the formula in `_gradient` that it
follows:

- ``UniformSoup`` -> the mean, in the class itself
- ``GreedySoup`` -> `select_greedily` in `_greedy` -> the mean of the members
- ``LearnedSoup`` -> `learn_simplex_coefficients` in `_learned` -> `coefficient_gradient`, then
  `softmax_gradient`
- ``MEHLSoup`` -> `learn_mehl_coefficients` in `_mehl` -> `coefficient_gradient`, then
  `hyperplane_gradient`
- ``WiSEFT``, ``TaskArithmetic``, ``TIES``, ``DARE`` -> `merged_task_vector` in `_task_vectors`
- ``ModelStock`` -> `merge_model_stock` in `_model_stock`
- ``RegMean`` -> `merge_reg_mean` in `_reg_mean`
- ``LayerwiseLinear`` -> weighted sums, in the class itself

`_groups` divides the parameters into groups that share their coefficients.
"""

from ._directions import (
    LeadingDirections as LeadingDirections,
    StoredDirections as StoredDirections,
    StreamedDirections as StreamedDirections,
    leading_combinations as leading_combinations,
    n_directions_that_fit as n_directions_that_fit,
)
from ._gradient import (
    coefficient_gradient as coefficient_gradient,
    coefficients_after_step as coefficients_after_step,
    direction_scales as direction_scales,
    hyperplane_gradient as hyperplane_gradient,
    softmax_gradient as softmax_gradient,
)
from ._greedy import by_quality as by_quality, select_greedily as select_greedily
from ._groups import (
    LAYERWISE_CONSTRAINT as LAYERWISE_CONSTRAINT,
    GroupingRule as GroupingRule,
    parameter_groups as parameter_groups,
)
from ._learned import (
    LearnedConfig as LearnedConfig,
    learn_simplex_coefficients as learn_simplex_coefficients,
)
from ._mehl import MEHLConfig as MEHLConfig, learn_mehl_coefficients as learn_mehl_coefficients
from ._model_stock import (
    interpolation_ratio as interpolation_ratio,
    merge_model_stock as merge_model_stock,
    task_vector_cosines as task_vector_cosines,
)
from ._reg_mean import merge_reg_mean as merge_reg_mean
from ._task_vectors import (
    TaskVectorConfig as TaskVectorConfig,
    add_task_vector_ as add_task_vector_,
    merged_task_vector as merged_task_vector,
)
