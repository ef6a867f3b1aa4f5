"""Mini-batches contain every sample once."""

import pytest
import torch

from sklearn_ext.neural import minibatches, n_minibatches, torch_generator


@pytest.mark.parametrize(("n", "size"), [(10, 3), (10, 10), (11, 5), (1, 4), (9, 1), (7, 20)])
def test_minibatches_partition_the_samples(n, size):
    batches = list(minibatches(n, size, torch_generator(0)))
    assert len(batches) == n_minibatches(n, size)
    assert torch.cat(batches).sort().values.tolist() == list(range(n))
    if size > 1 and n > 1:
        assert min(map(len, batches)) > 1
