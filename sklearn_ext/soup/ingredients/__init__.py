"""Ingredients of soups: their sources, training, evaluation and storage."""

from ._evaluation import (
    Evaluation as Evaluation,
    SoupNetwork as SoupNetwork,
    estimate_running_statistics as estimate_running_statistics,
    inputs_for_statistics as inputs_for_statistics,
    warn_of_separate_basins as warn_of_separate_basins,
)
from ._files import read_soup as read_soup, save_soup as save_soup
from ._networks import net_of as net_of, net_with_weights as net_with_weights
from ._preparation import (
    IngredientConfig as IngredientConfig,
    evaluated_ingredients as evaluated_ingredients,
    prepared_ingredients as prepared_ingredients,
)
from ._samples import as_computed as as_computed, samples_of as samples_of
from ._sources import open_ingredient as open_ingredient
from ._store import IngredientStore as IngredientStore, weights_by_tensor as weights_by_tensor
from ._training import parameter_points as parameter_points
from ._weighted_sums import (
    CHUNK as CHUNK,
    SMALL_CHUNK as SMALL_CHUNK,
    add_parts_ as add_parts_,
    as_real as as_real,
    chunks as chunks,
    like as like,
    weighted_sum_ as weighted_sum_,
)
