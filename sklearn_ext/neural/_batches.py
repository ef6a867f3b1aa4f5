"""Mini-batches of arrays."""

import math
from collections.abc import Iterator

import torch
from skorch.utils import data_from_dataset, to_tensor
from torch.utils.data import Dataset


def minibatches(
    n_samples: int, batch_size: int, generator: torch.Generator | None
) -> Iterator[torch.Tensor]:
    """Yield the indices of shuffled mini-batches; each sample appears exactly once.

    Parameters
    ----------
    n_samples : int
    batch_size : int
        The last batch may be smaller. A single leftover sample joins the previous batch, because
        batch normalization cannot train on one sample.
    generator : torch.Generator or None
        Source of the random order; None means torch's global generator.

    Yields
    ------
    tensor of int64
    """
    device = "cpu" if generator is None else generator.device  # a generator draws on its own device
    order = torch.randperm(n_samples, generator=generator, device=device).cpu()
    yield from _split(order, batch_size)


def n_minibatches(n_samples: int, batch_size: int) -> int:
    """Return the number of batches that `minibatches` yields."""
    n_batches = math.ceil(n_samples / batch_size)
    has_leftover = batch_size > 1 and n_batches > 1 and n_samples % batch_size == 1
    return n_batches - has_leftover


def _split(order: torch.Tensor, batch_size: int) -> Iterator[torch.Tensor]:
    n_batches = n_minibatches(len(order), batch_size)
    for k in range(n_batches):
        stop = (k + 1) * batch_size if k < n_batches - 1 else None
        yield order[k * batch_size : stop]


class TensorBatches:
    """Batch iterator for skorch nets that slices tensors held in memory.

    With small networks, it is many times faster than a data loader, which collects the samples of a
    batch one by one in Python.

    Parameters
    ----------
    dataset : torch.utils.data.Dataset
        A dataset with attributes X and y, such as skorch's own, or a subset of one.
    batch_size : int, default=128
    shuffle : bool, default=False
        Whether to draw a new order for each pass. Like a data loader, it draws from torch's
        global generator.

    Examples
    --------
    >>> import numpy as np
    >>> from skorch.dataset import Dataset
    >>> from sklearn_ext.neural import TensorBatches
    >>> data = Dataset(np.zeros((5, 3)), np.arange(5))
    >>> [len(y) for X, y in TensorBatches(data, batch_size=2)]
    [2, 3]
    """

    def __init__(self, dataset: Dataset, batch_size: int = 128, shuffle: bool = False) -> None:
        X, y = data_from_dataset(dataset)
        self.X: torch.Tensor = to_tensor(X, device="cpu")
        self.y: torch.Tensor = torch.zeros(len(X)) if y is None else to_tensor(y, device="cpu")
        self.batch_size = batch_size
        self.shuffle = shuffle

    def __len__(self) -> int:
        return n_minibatches(len(self.X), self.batch_size)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        order = torch.randperm(len(self.X)) if self.shuffle else torch.arange(len(self.X))
        for indices in _split(order, self.batch_size):
            yield self.X[indices], self.y[indices]
