"""Default networks."""

import torch

from sklearn_ext.neural import MLP, SmallCNN, default_module


def test_default_modules_match_the_input_shape():
    assert isinstance(default_module((5,), 2), MLP)
    for shape in ((8, 8), (3, 7, 9)):
        module = default_module(shape, 4, widths=(2, 3))
        assert isinstance(module, SmallCNN)
        assert module(torch.zeros(2, *shape)).shape == (2, 4)
