"""Default networks and parameter vectors."""

import pytest
import torch

from sklearn_ext.neural import (
    MLP,
    SmallCNN,
    default_module,
    parameter_dict,
    parameter_vector,
    set_parameter_vector,
)


def test_parameter_vectors_round_trip():
    net, other = MLP(3, 2), MLP(3, 2)
    set_parameter_vector(other, parameter_vector(net))
    for name, tensor in parameter_dict(net).items():
        assert torch.equal(tensor, parameter_dict(other)[name])
    with pytest.raises(ValueError, match="one entry per parameter"):
        set_parameter_vector(net, torch.zeros(3))


def test_default_modules_match_the_input_shape():
    assert isinstance(default_module((5,), 2), MLP)
    for shape in ((8, 8), (3, 7, 9)):
        module = default_module(shape, 4, widths=(2, 3))
        assert isinstance(module, SmallCNN)
        assert module(torch.zeros(2, *shape)).shape == (2, 4)
