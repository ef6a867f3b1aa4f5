"""Mini-batches of arrays, cut by slicing."""

import math
from collections.abc import Iterator

import torch
from skorch.utils import data_from_dataset, to_tensor


def minibatches(
    n_samples: int, batch_size: int, generator: torch.Generator | None
) -> Iterator[torch.Tensor]:
    """Yield the indices of shuffled mini-batches; each index comes once.

    Parameters
    ----------
    n_samples : int
    batch_size : int
        The last batch may be smaller. If a single row would be left over it joins the batch
        before, because batch normalisation cannot train on one row.
    generator : torch.Generator or None
        Source of the order; None is torch's global generator.

    Yields
    ------
    tensor of int64
    """
    device = "cpu" if generator is None else generator.device  # a generator draws on its own device
    order = torch.randperm(n_samples, generator=generator, device=device).cpu()
    yield from _pieces(order, batch_size)


def n_minibatches(n_samples: int, batch_size: int) -> int:
    """Return how many batches `minibatches` yields."""
    n_batches = math.ceil(n_samples / batch_size)
    return n_batches - (batch_size > 1 and n_batches > 1 and n_samples % batch_size == 1)


def _pieces(order, batch_size):
    n_batches = n_minibatches(len(order), batch_size)
    for k in range(n_batches):
        stop = (k + 1) * batch_size if k < n_batches - 1 else None
        yield order[k * batch_size : stop]


class TensorBatches:
    """An iterator for skorch nets that slices tensors, for data that fit into memory.

    Where the network is small it is many times faster than a data loader, which collects each
    row in Python.

    Parameters
    ----------
    dataset : torch.utils.data.Dataset
        With attributes X and y, such as skorch's own, or a subset of one.
    batch_size : int, default=128
    shuffle : bool, default=False
        Draw a new order each time, from torch's global generator as a data loader does.

    Examples
    --------
    >>> import numpy as np
    >>> from skorch.dataset import Dataset
    >>> from sklearn_ext.neural import TensorBatches
    >>> data = Dataset(np.zeros((5, 3)), np.arange(5))
    >>> [len(y) for X, y in TensorBatches(data, batch_size=2)]
    [2, 3]
    """

    def __init__(self, dataset, batch_size: int = 128, shuffle: bool = False):
        X, y = data_from_dataset(dataset)
        self.X = to_tensor(X, device="cpu")
        self.y = torch.zeros(len(X)) if y is None else to_tensor(y, device="cpu")
        self.batch_size = batch_size
        self.shuffle = shuffle

    def __len__(self):
        return n_minibatches(len(self.X), self.batch_size)

    def __iter__(self):
        order = torch.randperm(len(self.X)) if self.shuffle else torch.arange(len(self.X))
        for rows in _pieces(order, self.batch_size):
            yield self.X[rows], self.y[rows]
