"""Networks fine-tuned on the digits, which the tests of soups share."""

import pytest
import torch

from sklearn_ext import GreedySoup, LearnedSoup, MEHLSoup, UniformSoup
from sklearn_ext.neural import NetClassifier
from tests.soup.problems import digits_parts, ingredients, small_mlp


@pytest.fixture(autouse=True, scope="session")
def one_torch_thread():
    """Tiny networks are slower with several threads."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture(scope="module")
def modules():
    return ingredients(small_mlp, 5)


@pytest.fixture(scope="module")
def mixing():
    return digits_parts()[1]


@pytest.fixture(scope="module")
def net():
    return NetClassifier(small_mlp(), random_state=0)


@pytest.fixture(scope="module")
def fitted(modules, mixing, net):
    """One fitted soup of each kind, by class."""
    kinds = (UniformSoup, GreedySoup, LearnedSoup, MEHLSoup)
    return {Soup: Soup(net, ingredients=modules, random_state=0).fit(*mixing) for Soup in kinds}
