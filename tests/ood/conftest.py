import pytest
import torch


@pytest.fixture
def draw():
    """A function that draws seeded normal numbers in double precision."""
    generator = torch.Generator().manual_seed(1)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return normal
