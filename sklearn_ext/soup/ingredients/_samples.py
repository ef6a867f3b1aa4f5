"""Samples in any form that a skorch net takes, cut into batches."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import skorch
import torch
from scipy.sparse import issparse
from skorch.dataset import get_len
from skorch.utils import multi_indexing, to_tensor
from torch.utils.data import Dataset, Subset, default_collate

from ...neural import class_codes, minibatches, torch_generator
from ...utils._typing import Array, IntArray


def bypasses_validation(X: Any) -> bool:
    """Return whether X is a tensor, mapping or dataset, which a net takes without validation."""
    # A sparse matrix in scipy's dictionary-of-keys format is a mapping, too.
    return isinstance(X, (Mapping, Dataset, torch.Tensor)) and not issparse(X)


def n_samples_of(X: Any) -> int:
    """Return the number of samples in anything that a skorch net takes."""
    return len(X) if isinstance(X, Dataset) else get_len(X)  # type: ignore[arg-type]


def select_samples(X: Any, index: IntArray) -> Any:
    """Return the selected samples of X, as the same type.

    Parameters
    ----------
    X : ndarray, tensor, mapping of them, or torch.utils.data.Dataset
    index : ndarray of int
    """
    return Subset(X, index.tolist()) if isinstance(X, Dataset) else multi_indexing(X, index)


def targets_of(net: skorch.NeuralNet, y: Array) -> torch.Tensor:
    """Return targets in the form that the loss of a fitted net takes.

    Parameters
    ----------
    net : skorch.NeuralNet
    y : ndarray of shape (n_samples,) or (n_samples, n_outputs)

    Returns
    -------
    tensor
        Class indices for a classifier, else float32 of shape (n_samples, n_outputs).
    """
    if isinstance(net, skorch.NeuralNetClassifier):
        return torch.as_tensor(class_codes(net, y))
    if isinstance(net, skorch.NeuralNetBinaryClassifier):
        return torch.as_tensor(class_codes(net, y), dtype=torch.float32)
    return torch.as_tensor(np.asarray(y, dtype=np.float32).reshape(len(y), -1))


class Samples:
    """Inputs and targets that are cut into batches.

    Parameters
    ----------
    X : ndarray, tensor, mapping of them, or torch.utils.data.Dataset
        The first entry of each item of a dataset is the input.
    targets : tensor of shape (n_samples, ...)
    """

    def __init__(self, X: Any, targets: torch.Tensor) -> None:
        self.X = X if isinstance(X, Dataset) else to_tensor(X, device="cpu")
        self.targets = targets

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, index: torch.Tensor) -> tuple[Any, torch.Tensor]:
        """Return the inputs and targets of the samples with the given indices."""
        if isinstance(self.X, Dataset):
            inputs = default_collate([self.X[k][0] for k in index.tolist()])
        else:
            inputs = multi_indexing(self.X, index.numpy())
        return inputs, self.targets[index]

    def shuffled(
        self, batch_size: int, generator: torch.Generator
    ) -> Iterator[tuple[Any, torch.Tensor]]:
        """Yield batches of all samples in a random order."""
        for index in minibatches(len(self), batch_size, generator):
            yield self.take(index)

    def in_order(self, batch_size: int) -> Iterator[tuple[Any, torch.Tensor]]:
        """Yield batches of all samples in the given order."""
        for index in torch.arange(len(self)).split(batch_size):
            yield self.take(index)

    def inputs_for_statistics(self, batch_size: int) -> Iterator[Any]:
        """Yield inputs in a fixed random order, because samples may be sorted."""
        for inputs, _ in self.shuffled(batch_size, torch_generator(0)):
            yield inputs
