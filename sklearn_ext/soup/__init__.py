"""Model soups: one network from the weights of many."""

from ._greedy_soup import GreedySoup
from ._learned_soup import LearnedSoup
from ._mehl_soup import MEHLSoup
from ._uniform_soup import UniformSoup

__all__ = ["GreedySoup", "LearnedSoup", "MEHLSoup", "UniformSoup"]
